// C2SP signed notes, checkpoints, verifier keys and cosignatures, read in the one right way they can be written.
import { fromBase64, same, toHex, utf8 } from "./bytes.ts";
import { HASH_BYTES } from "./merkle.ts";
import { sha256 } from "./sha256.ts";

export interface Checkpoint {
  origin: string;
  size: number;
  root: Uint8Array;
}

export interface Signature {
  name: string;
  keyId: Uint8Array;
  signature: Uint8Array;
}

export interface Note {
  body: string;
  signatures: Signature[];
}

export interface VerifierKey {
  text: string;
  name: string;
  keyId: Uint8Array;
  publicKey: Uint8Array;
  witness: boolean; // whether it cosigns (type 0x04) or signs as a log (0x01)
}

const ED25519 = 1;
const COSIGNATURE = 4;
const ID_BYTES = 4;
const TIME_BYTES = 8;
const SIGNATURE_BYTES = 64;
const MAX_NOTE = 1 << 20;
const MAX_SIGNATURES = 64;
const NAME = /^[^+\s\p{C}]{1,255}$/u;
// y of the points whose order divides 8, little-endian: with such a key one signature fits every message.
const LOW_ORDER = new Set([
  "00".repeat(32),
  "01" + "00".repeat(31),
  "ec" + "ff".repeat(30) + "7f",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]);

export function parseNote(text: string): Note {
  const gap = text.lastIndexOf("\n\n");
  if (gap < 0 || !text.endsWith("\n") || text.length > MAX_NOTE) throw new Error("not a signed note");
  if (/[\x00-\x09\x0b-\x1f]/.test(text)) throw new Error("control characters");
  const lines = text.slice(gap + 2, -1).split("\n");
  if (lines.length > MAX_SIGNATURES) throw new Error("too many signatures");
  const signatures = lines.map((line) => {
    const [dash, name, encoded, rest] = line.split(" ");
    if (dash !== "—" || !NAME.test(name ?? "") || !encoded || rest !== undefined) throw new Error("not a signature line");
    const bytes = fromBase64(encoded);
    if (bytes.length <= ID_BYTES) throw new Error("not a signature");
    return { name, keyId: bytes.slice(0, ID_BYTES), signature: bytes.slice(ID_BYTES) };
  });
  return { body: text.slice(0, gap + 1), signatures };
}

export function parseCheckpoint(body: string): Checkpoint {
  const [origin, size, root, end, more] = body.split("\n");
  if (!origin || !/^(0|[1-9]\d{0,15})$/.test(size ?? "") || end !== "" || more !== undefined) throw new Error("not a checkpoint");
  if (!Number.isSafeInteger(Number(size))) throw new Error("too large");
  const bytes = fromBase64(root);
  if (bytes.length !== HASH_BYTES) throw new Error("not a root");
  return { origin, size: Number(size), root: bytes };
}

function checkPoint(publicKey: Uint8Array): void {
  const y = publicKey.slice();
  y[31] &= 0x7f;
  if (LOW_ORDER.has(toHex(y))) throw new Error("a weak key");
  if (y[31] === 0x7f && y[0] >= 0xed && y.slice(1, 31).every((byte) => byte === 0xff)) throw new Error("a key that is not reduced");
}

/** Read `name+id+base64`; throws unless the id is the key's own. */
export function parseKey(text: string): VerifierKey {
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text);
  if (!match || !NAME.test(match[1])) throw new Error("not a verifier key");
  const data = fromBase64(match[3]);
  if (data.length !== 33 || (data[0] !== ED25519 && data[0] !== COSIGNATURE)) throw new Error("not an Ed25519 key");
  const id = sha256(utf8(match[1] + "\n"), data).slice(0, ID_BYTES);
  if (toHex(id) !== match[2]) throw new Error("the key's id is not its own");
  checkPoint(data.slice(1));
  return { text, name: match[1], keyId: id, publicKey: data.slice(1), witness: data[0] === COSIGNATURE };
}

/** Whether it is the key's signature of these bytes; null where this browser knows no Ed25519. */
export async function verifies(publicKey: Uint8Array, signature: Uint8Array, message: Uint8Array): Promise<boolean | null> {
  if (typeof crypto === "undefined" || !crypto.subtle) return null;
  let key: CryptoKey;
  try {
    key = await crypto.subtle.importKey("raw", publicKey.slice(), { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotSupportedError") return null;
    return false;
  }
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature.slice(), message.slice());
}

function linesOf(note: Note, key: VerifierKey): Signature[] {
  return note.signatures.filter((line) => line.name === key.name && same(line.keyId, key.keyId));
}

/** Whether a log's key signed the note, in just one line; null where this browser knows no Ed25519. */
export async function signedBy(note: Note, key: VerifierKey): Promise<boolean | null> {
  const lines = linesOf(note, key);
  if (lines.length !== 1 || key.witness || lines[0].signature.length !== SIGNATURE_BYTES) return false;
  return verifies(key.publicKey, lines[0].signature, utf8(note.body));
}

/** When (seconds since 1970) a witness cosigned the note; 0 = it did not, false = its line does not fit, null = no Ed25519. */
export async function cosignedBy(note: Note, key: VerifierKey): Promise<number | false | null> {
  let newest = 0;
  for (const { signature } of linesOf(note, key)) {
    if (signature.length !== TIME_BYTES + SIGNATURE_BYTES) return false;
    const at = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
    if (at > BigInt(Number.MAX_SAFE_INTEGER)) return false;
    const message = utf8(`cosignature/v1\ntime ${at}\n${note.body}`);
    const fits = await verifies(key.publicKey, signature.slice(TIME_BYTES), message);
    if (!fits) return fits === null ? null : false;
    newest = Math.max(newest, Number(at));
  }
  return newest;
}
