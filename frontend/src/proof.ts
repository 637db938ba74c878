// Checks an entry against a signed checkpoint with nothing but the browser's own cryptography.
// RFC 6962 hashes, RFC 9162 inclusion, C2SP signed notes and checkpoints. Pure but for WebCrypto.

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
  name: string;
  keyId: Uint8Array;
  publicKey: Uint8Array;
}

const ED25519 = 1;
const HASH_BYTES = 32;
const MAX_PATH = 64;

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

export function fromHex(text: string): Uint8Array {
  if (!/^([0-9a-f]{2})*$/.test(text)) throw new Error("not hex");
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

async function sha256(...parts: Uint8Array[]): Promise<Uint8Array> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
}

/** Hash of an entry's bytes: SHA-256(0x00 || leaf). */
export function leafHash(leaf: Uint8Array): Promise<Uint8Array> {
  return sha256(Uint8Array.of(0), leaf);
}

/** Root that a leaf's hash and its path lead to in a tree of `size` leaves; throws where the path has the wrong length. */
export async function rootFromPath(index: number, size: number, leaf: Uint8Array, path: Uint8Array[]): Promise<Uint8Array> {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size || path.length > MAX_PATH) throw new Error("no such entry");
  let first = index;
  let last = size - 1;
  let hash = leaf;
  for (const sibling of path) {
    if (sibling.length !== HASH_BYTES || last === 0) throw new Error("the path is too long");
    if (first % 2 === 1 || first === last) {
      hash = await sha256(Uint8Array.of(1), sibling, hash);
      while (first % 2 === 0 && first !== 0) {
        first = Math.floor(first / 2);
        last = Math.floor(last / 2);
      }
    } else {
      hash = await sha256(Uint8Array.of(1), hash, sibling);
    }
    first = Math.floor(first / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("the path is too short");
  return hash;
}

export function parseNote(text: string): Note {
  const gap = text.lastIndexOf("\n\n");
  if (gap < 0 || !text.endsWith("\n")) throw new Error("not a signed note");
  const signatures = text
    .slice(gap + 2, -1)
    .split("\n")
    .map((line) => {
      const [dash, name, encoded, rest] = line.split(" ");
      if (dash !== "—" || !name || !encoded || rest !== undefined) throw new Error("not a signature line");
      const bytes = fromBase64(encoded);
      return { name, keyId: bytes.slice(0, 4), signature: bytes.slice(4) };
    });
  return { body: text.slice(0, gap + 1), signatures };
}

export function parseCheckpoint(body: string): Checkpoint {
  const [origin, size, root, end, more] = body.split("\n");
  if (!origin || !/^(0|[1-9]\d{0,15})$/.test(size ?? "") || end !== "" || more !== undefined) throw new Error("not a checkpoint");
  const bytes = fromBase64(root);
  if (bytes.length !== HASH_BYTES) throw new Error("not a root");
  return { origin, size: Number(size), root: bytes };
}

/** Read `name+id+base64`; throws unless the id is the key's own. */
export async function parseKey(text: string): Promise<VerifierKey> {
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text);
  if (!match) throw new Error("not a verifier key");
  const data = fromBase64(match[3]);
  if (data.length !== 33 || data[0] !== ED25519) throw new Error("not an Ed25519 key");
  const id = (await sha256(new TextEncoder().encode(match[1] + "\n"), data)).slice(0, 4);
  if (toHex(id) !== match[2]) throw new Error("the key's id is not its own");
  return { name: match[1], keyId: id, publicKey: data.slice(1) };
}

/** Whether the key signed the note; null where this browser knows no Ed25519. */
export async function signedBy(note: Note, key: VerifierKey): Promise<boolean | null> {
  const line = note.signatures.find((found) => found.name === key.name && same(found.keyId, key.keyId));
  if (!line) return false;
  let imported: CryptoKey;
  try {
    imported = await crypto.subtle.importKey("raw", key.publicKey.slice(), { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotSupportedError") return null;
    throw error;
  }
  const body = new TextEncoder().encode(note.body);
  return crypto.subtle.verify({ name: "Ed25519" }, imported, line.signature.slice(), body);
}
