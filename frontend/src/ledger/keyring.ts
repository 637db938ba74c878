// Which keys may sign, as the log's own entries change them: the same rules as ledger/core/keyring.py.
import { fromBase64, utf8 } from "./bytes.ts";
import { parseKey, verifies, type VerifierKey } from "./note.ts";
import { fieldsOf, type Fields } from "./receipt.ts";

/** Keys this browser believes: `valid` ones may sign new checkpoints, `old` ones have been revoked since. */
export interface Keys {
  valid: string[];
  old: string[];
}

async function approves(key: VerifierKey, entry: Fields, field: string, vkey: VerifierKey): Promise<boolean> {
  try {
    const signature = fromBase64(String(entry[field]));
    return (await verifies(key.publicKey, signature, utf8(`sunledger-key/v1\n${vkey.name}\n${vkey.text}\n`))) === true;
  } catch {
    return false;
  }
}

/**
 * Follow the log's keys from those believed so far; nobody yet = the founder. A new key is believed when it signs its own
 * possession and a believed, valid one approves of it; what the server leaves out can take keys away, never bring one in.
 */
export async function followKeys(believed: Keys, lines: string[]): Promise<Keys> {
  const valid = new Set(believed.valid);
  const old = new Set(believed.old);
  for (const line of lines) {
    const entry = fieldsOf(utf8(line));
    const vkey = parseKey(String(entry.vkey));
    if (vkey.witness) throw new Error("not a log's key");
    if (entry.type === "genesis") {
      if (!believed.valid.length) valid.add(vkey.text);
    } else if (entry.action === "revoke") {
      if (valid.has(vkey.text) && valid.size > 1) {
        valid.delete(vkey.text);
        old.add(vkey.text);
      }
    } else if (entry.action === "add" && !valid.has(vkey.text) && !old.has(vkey.text)) {
      const approvers = [...valid].map(parseKey).filter((key) => key.name === vkey.name);
      const approved = await Promise.all(approvers.map((key) => approves(key, entry, "approval", vkey)));
      if (approved.includes(true) && (await approves(vkey, entry, "possession", vkey))) valid.add(vkey.text);
    }
  }
  return { valid: [...valid], old: [...old] };
}
