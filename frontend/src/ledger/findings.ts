// The sentences of what the Worker finds.
import { t } from "../messages";
import type { Finding } from "./checker.ts";
import { dateTime } from "../format";

type Values = Record<string, string | number>;

const SENTENCES: Record<string, (values: Values) => string> = {
  unreadable: () => t("This is no receipt, or it was changed: a receipt begins with c2sp.org/tlog-proof@v1."),
  bad_key: () => t("A key that was entered is no verifier key."),
  no_entry: () => t("The receipt holds no entry. Add the entry's bytes below to check more than the signature."),
  other_bytes: () => t("The bytes you added are not those in the receipt."),
  hash: (values) => t("Hash of the bytes: {hash}", values),
  named: (values) => t("The bytes name themselves entry {seq}.", values),
  misnamed: () => t("The bytes belong to another entry."),
  not_canonical: () => t("The bytes are not written as the ledger writes entries."),
  path: (values) => t("The path of {count} hashes leads to the root over {size} entries.", values),
  no_path: () => t("The path does not lead to the signed root."),
  row: (values) => t("The line is number {number} of the {count} that the entry commits to.", values),
  no_row: () => t("The line is not among those the entry commits to."),
  signed: (values) => t("The signature under the checkpoint is by {name}, key {key}.", values),
  signed_old: (values) => t("The signature under the checkpoint is by {name}, key {key}, which has been revoked since.", values),
  unsigned: () => t("The signature under the checkpoint is not by this log's key."),
  keys_unread: () => t("The site did not say which keys sign its ledger now, and those this browser knows have not signed this."),
  other_log: () => t("The checkpoint belongs to another log."),
  no_key: () => t("No key is known for this log: the signature was not checked."),
  no_ed25519: () => t("This browser cannot check Ed25519 signatures. Check the receipt on the command line."),
  key_entered: () => t("That is a key you entered."),
  key_kept: (values) => t("That is the key this browser has known since {at}.", values),
  key_named: () => t("That is the key this site names now; this browser meets it for the first time. Compare it with one you got elsewhere."),
  cosigned: (values) => t("The witness {name} has signed it, too, on {at}.", { ...values, at: dateTime(Number(values.at) * 1000) }),
  cosigned_not: (values) => t("The signature of the witness {name} does not fit.", values),
  further: (values) => t("{count} further signatures are not known to this browser.", values),
  nothing_kept: () => t("This browser has seen no other checkpoint of this log yet, so it cannot compare."),
  kept_same: () => t("It is the very checkpoint this browser keeps."),
  kept_grown: (values) => t("It belongs to the same history as the checkpoint over {size} entries that this browser keeps.", values),
  kept_forked: (values) => t("It contradicts the checkpoint over {size} entries that this browser keeps: two histories.", values),
  kept_withheld: (values) => t("The ledger does not show how it fits the checkpoint over {size} entries that this browser keeps.", values),
  kept_unknown: () => t("It could not be compared with the checkpoint this browser keeps: the ledger did not answer."),
  kept_other_log: () => t("The checkpoint this browser keeps is of another log."),
  kept_unreadable: () => t("What this browser keeps is not a checkpoint."),
  given_same: () => t("It is the very checkpoint you added."),
  given_grown: (values) => t("It belongs to the same history as the checkpoint over {size} entries that you added.", values),
  given_forked: (values) => t("It contradicts the checkpoint over {size} entries that you added: two histories.", values),
  given_withheld: (values) => t("The ledger does not show how it fits the checkpoint over {size} entries that you added.", values),
  given_unknown: () => t("It could not be compared with the checkpoint you added: the ledger did not answer."),
  given_other_log: () => t("The checkpoint you added is of another log."),
  given_unreadable: () => t("What you added is not a checkpoint."),
  given_unsigned: () => t("The checkpoint you added is not signed by this log's key."),
};

export function sentence(finding: Finding): string {
  return SENTENCES[finding.code]?.(finding.values ?? {}) ?? finding.code;
}
