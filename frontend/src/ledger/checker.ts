// What the Worker does: check a receipt, and check that a log has only grown. No page, no storage; the log is read by `read`.
import { fromHex, fromUtf8, same, toHex, utf8 } from "./bytes.ts";
import { consistencyPath, leafHash, rootFromPath, verifyConsistency } from "./merkle.ts";
import { cosignedBy, parseCheckpoint, parseKey, parseNote, signedBy, type Checkpoint, type Note, type VerifierKey } from "./note.ts";
import { fieldsOf, parseReceipt, type Fields, type Receipt } from "./receipt.ts";
import { nodeReader, Withheld, type Read } from "./tiles.ts";

/** good and bad speak for themselves; open: this browser cannot tell; note: neither. */
export type Verdict = "good" | "bad" | "open" | "note";

export interface Finding {
  verdict: Verdict;
  code: string; // findings.ts has the sentence
  values?: Record<string, string | number>;
}

/** Two signed heads of one log that cannot both be true, or one that breaks what this browser knew. */
export interface Conflict {
  code: "forked" | "shrunk" | "unsigned" | "withheld";
  origin: string;
  first: string;
  second: string;
}

export interface ReceiptTask {
  receipt: Uint8Array;
  leaf: Uint8Array | null; // given beside the receipt
  keys: string[]; // of the log and of witnesses
  old: string[]; // of the log, revoked since
  kept: string; // the newest checkpoint this browser has verified, "" for none
  given: Uint8Array | null; // a checkpoint from elsewhere
  here: string; // the log that `read` reads, "" when that is not known yet
  unread?: boolean; // the site did not say which keys sign now: another signature than by `keys` tells nothing
}

export interface ReceiptAnswer {
  verdict: "good" | "bad" | "open";
  findings: Finding[];
  entry: Fields | null;
  row: Fields | null;
  conflict: Conflict | null;
}

export interface GrowthTask {
  kept: string; // "" at the first visit
  keys: string[];
  old: string[];
  unread?: boolean; // as above
}

export interface GrowthAnswer {
  state: "first" | "same" | "grown" | "failed" | "unable" | "unknown"; // unable: no Ed25519; unknown: no answer
  size: number;
  origin: string;
  note: string;
  keys: string[]; // that may sign now
  old: string[];
  conflict: Conflict | null;
}

type Relation = "same" | "grown" | "forked" | "withheld" | "unknown";

/** How two heads of one log relate, as far as its tiles tell. */
export async function relate(a: Checkpoint, b: Checkpoint, read: Read): Promise<Relation> {
  const [old, fresh] = a.size <= b.size ? [a, b] : [b, a];
  if (old.size === fresh.size) return same(old.root, fresh.root) ? "same" : "forked";
  if (old.size === 0) return "grown";
  let path: Uint8Array[];
  try {
    path = await consistencyPath(old.size, fresh.size, nodeReader(fresh, read));
  } catch (error) {
    return error instanceof Withheld ? "withheld" : "unknown";
  }
  try {
    verifyConsistency(old.size, fresh.size, old.root, fresh.root, path);
    return "grown";
  } catch {
    return "forked";
  }
}

/** Like `relate`, but a stale or damaged copy on the way is no reason for an alarm: once more past all caches. */
async function relateTwice(a: Checkpoint, b: Checkpoint, read: Read, fresh: Read): Promise<Relation> {
  const found = await relate(a, b, read);
  return found === "forked" || found === "withheld" ? relate(a, b, fresh) : found;
}

/** Whether the log under a head holds these entries; null when it cannot be asked. Those behind its end are not looked at. */
async function holds(lines: string[], head: Checkpoint, read: Read): Promise<boolean | null> {
  const node = nodeReader(head, read);
  for (const line of lines) {
    let seq: unknown;
    try {
      seq = fieldsOf(utf8(line)).seq;
    } catch {
      return false;
    }
    if (typeof seq !== "number" || seq < 0) return false;
    try {
      if (seq < head.size && !same(await node(0, seq), leafHash(utf8(line)))) return false;
    } catch (error) {
      return error instanceof Withheld ? false : null;
    }
  }
  return true;
}

// --- a receipt
interface Parsed {
  note: Note;
  head: Checkpoint;
}

function open(text: string): Parsed {
  const note = parseNote(text);
  return { note, head: parseCheckpoint(note.body) };
}

function entryFindings(receipt: Receipt, given: Uint8Array | null, head: Checkpoint, findings: Finding[]): [Fields | null, Fields | null] {
  const leaf = receipt.leaf ?? given;
  if (!leaf) {
    findings.push({ verdict: "open", code: "no_entry" });
    return [null, null];
  }
  if (receipt.leaf && given && !same(receipt.leaf, given)) findings.push({ verdict: "bad", code: "other_bytes" });
  const hash = leafHash(leaf);
  findings.push({ verdict: "good", code: "hash", values: { hash: toHex(hash) } });
  let entry: Fields | null = null;
  try {
    entry = fieldsOf(leaf);
    const own = entry.seq === receipt.index;
    findings.push(own ? { verdict: "good", code: "named", values: { seq: receipt.index } } : { verdict: "bad", code: "misnamed" });
  } catch {
    findings.push({ verdict: "bad", code: "not_canonical" });
  }
  const values = { count: receipt.path.length, size: head.size };
  findings.push(leads(receipt.index, head.size, leaf, receipt.path, head.root) ? { verdict: "good", code: "path", values } : { verdict: "bad", code: "no_path" });
  return [entry, entry && rowFindings(receipt, entry, findings)];
}

function leads(index: number, size: number, leaf: Uint8Array, path: Uint8Array[], root: Uint8Array): boolean {
  try {
    return same(rootFromPath(index, size, leafHash(leaf), path), root);
  } catch {
    return false;
  }
}

function rowFindings(receipt: Receipt, entry: Fields, findings: Finding[]): Fields | null {
  if (!receipt.row) return null;
  const { row, number, path } = receipt.row;
  const { count, root } = entry;
  try {
    if (typeof count !== "number" || typeof root !== "string") throw new Error("an entry without rows");
    if (!leads(number, count, row, path, fromHex(root))) throw new Error("another root");
    const fields = fieldsOf(row);
    findings.push({ verdict: "good", code: "row", values: { number: number + 1, count } });
    return fields;
  } catch {
    findings.push({ verdict: "bad", code: "no_row" });
    return null;
  }
}

async function signatureFinding(note: Note, head: Checkpoint, keys: VerifierKey[], old: VerifierKey[], unread = false): Promise<Finding> {
  const own = keys.filter((key) => key.name === head.origin && !key.witness);
  if (!own.length) return keys.some((key) => !key.witness) ? { verdict: "bad", code: "other_log" } : { verdict: "open", code: "no_key" };
  for (const key of own) {
    const signed = await signedBy(note, key);
    if (signed === null) return { verdict: "open", code: "no_ed25519" };
    if (signed) return { verdict: "good", code: "signed", values: { name: key.name, key: toHex(key.keyId) } };
  }
  for (const key of old) {
    // Who stole it can sign with it still: it counts only for what the history since then includes.
    if (key.name === head.origin && (await signedBy(note, key))) return { verdict: "open", code: "signed_old", values: { name: key.name, key: toHex(key.keyId) } };
  }
  return unread ? { verdict: "open", code: "keys_unread" } : { verdict: "bad", code: "unsigned" };
}

async function cosignatureFindings(note: Note, head: Checkpoint, keys: VerifierKey[]): Promise<Finding[]> {
  const findings: Finding[] = [];
  const named = (key: VerifierKey): boolean => note.signatures.some((line) => line.name === key.name && same(line.keyId, key.keyId));
  for (const key of keys.filter((key) => key.witness && named(key))) {
    const at = await cosignedBy(note, key);
    if (at === false) findings.push({ verdict: "bad", code: "cosigned_not", values: { name: key.name } });
    else if (at) findings.push({ verdict: "good", code: "cosigned", values: { name: key.name, at } });
  }
  const known = (name: string, id: Uint8Array): boolean => keys.some((key) => key.name === name && same(key.keyId, id));
  const others = note.signatures.filter((line) => !known(line.name, line.keyId) && line.name !== head.origin).length;
  if (others) findings.push({ verdict: "note", code: "further", values: { count: others } });
  return findings;
}

function conclude(findings: Finding[]): ReceiptAnswer["verdict"] {
  if (findings.some((finding) => finding.verdict === "bad")) return "bad";
  return findings.some((finding) => finding.verdict === "open") ? "open" : "good";
}

const RELATIONS: Record<Relation, Verdict> = { same: "good", grown: "good", forked: "bad", withheld: "bad", unknown: "open" };

/** Check a receipt with everything there is to check it against. Whatever it is given, it answers. */
export async function checkReceipt(task: ReceiptTask, read: Read, fresh: Read): Promise<ReceiptAnswer> {
  const findings: Finding[] = [];
  const answer: ReceiptAnswer = { verdict: "bad", findings, entry: null, row: null, conflict: null };
  let receipt: Receipt;
  let own: Parsed;
  try {
    receipt = parseReceipt(fromUtf8(task.receipt));
    own = open(receipt.note);
  } catch {
    findings.push({ verdict: "bad", code: "unreadable" });
    return answer;
  }
  let keys: VerifierKey[];
  let old: VerifierKey[];
  try {
    keys = task.keys.map(parseKey);
    old = task.old.map(parseKey);
  } catch {
    findings.push({ verdict: "bad", code: "bad_key" });
    return answer;
  }
  [answer.entry, answer.row] = entryFindings(receipt, task.leaf, own.head, findings);
  const signature = await signatureFinding(own.note, own.head, keys, old, task.unread);
  findings.push(signature, ...(await cosignatureFindings(own.note, own.head, keys)));

  /** Hold the receipt's head against another signed one, "" where there is none. */
  async function compare(text: string, prefix: "given" | "kept"): Promise<void> {
    let other: Parsed;
    try {
      other = open(text);
    } catch {
      findings.push({ verdict: "bad", code: `${prefix}_unreadable` });
      return;
    }
    if (other.head.origin !== own.head.origin) {
      findings.push({ verdict: prefix === "given" ? "bad" : "note", code: `${prefix}_other_log` });
      return;
    }
    const theirs = prefix === "kept" ? null : await signatureFinding(other.note, other.head, keys, old, task.unread);
    if (theirs?.verdict === "bad") {
      findings.push({ verdict: "bad", code: `${prefix}_unsigned` });
      return;
    }
    const near: boolean = !task.here || own.head.origin === task.here || own.head.size === other.head.size;
    const relation = near ? await relateTwice(own.head, other.head, read, fresh) : "unknown";
    findings.push({ verdict: RELATIONS[relation], code: `${prefix}_${relation}`, values: { size: other.head.size } });
    const within = (relation === "same" || relation === "grown") && own.head.size <= other.head.size;
    if (prefix === "kept" && within && signature.code === "signed_old") signature.verdict = "good";
    // Only what the log's key has signed is evidence against the log; a bent receipt is none.
    if ((relation === "forked" || relation === "withheld") && signature.verdict === "good") {
      answer.conflict = { code: relation, origin: own.head.origin, first: text, second: receipt.note };
    }
  }

  if (signature.verdict !== "bad") {
    if (task.given) {
      let text = "";
      try {
        text = fromUtf8(task.given);
      } catch {
        // not UTF-8: unreadable, as "" is
      }
      await compare(text, "given");
    }
    if (task.kept) await compare(task.kept, "kept");
    else findings.push({ verdict: "note", code: "nothing_kept" });
  }
  answer.verdict = conclude(findings);
  return answer;
}

// --- the log's growth from visit to visit
/**
 * Check that the log as it is now goes on from what this browser saw last. `named`: the entries that say who may sign, as they
 * are served beside it, which must be on it; `head` gives its newest checkpoint.
 */
export async function checkGrowth(task: GrowthTask, named: string[], head: () => Promise<Uint8Array | null>, read: Read, fresh: Read): Promise<GrowthAnswer> {
  const answer: GrowthAnswer = { state: "unknown", size: 0, origin: "", note: "", keys: task.keys, old: task.old, conflict: null };
  const kept = task.kept ? open(task.kept) : null;
  const fail = (code: Conflict["code"]): GrowthAnswer => ({
    ...answer,
    state: "failed",
    conflict: { code, origin: kept?.head.origin ?? answer.origin, first: task.kept, second: answer.note },
  });
  let data: Uint8Array | null;
  try {
    data = await head();
  } catch {
    return answer;
  }
  if (!data) return kept ? fail("withheld") : answer;
  let now: Parsed;
  try {
    answer.note = fromUtf8(data);
    now = open(answer.note);
  } catch {
    return kept ? fail("unsigned") : answer;
  }
  answer.size = now.head.size;
  answer.origin = now.head.origin;
  let good = false;
  for (const key of task.keys.map(parseKey)) {
    if (key.witness || key.name !== now.head.origin) continue;
    const signed = await signedBy(now.note, key);
    if (signed === null) return { ...answer, state: "unable" };
    good ||= signed;
  }
  // Signed by a key that nobody has named to us yet, maybe; and who knows no key and was told none has nothing to check by.
  if (!good && task.unread) return answer;
  if (!good) return task.keys.length || named.length ? fail("unsigned") : answer;
  let state: GrowthAnswer["state"] = "first";
  if (kept) {
    if (now.head.origin !== kept.head.origin) return fail("unsigned");
    if (now.head.size < kept.head.size) return fail("shrunk");
    const relation = await relateTwice(kept.head, now.head, read, fresh);
    if (relation === "forked" || relation === "withheld") return fail(relation);
    state = relation;
  }
  let there = await holds(named, now.head, read);
  if (there === false) there = await holds(named, now.head, fresh);
  if (there === false) return fail("withheld");
  return { ...answer, state: there === null ? "unknown" : state };
}
