// Receipts (https://c2sp.org/tlog-proof) that carry their entry, and a row's proof, in the line `extra` (docs/ledger.md).
import { fromBase64, fromUtf8, utf8 } from "./bytes.ts";
import { HASH_BYTES } from "./merkle.ts";

const HEADER = "c2sp.org/tlog-proof@v1";
const MAX_RECEIPT = 1 << 20;

export interface RowProof {
  row: Uint8Array;
  number: number;
  path: Uint8Array[];
}

export interface Receipt {
  index: number;
  path: Uint8Array[];
  note: string;
  leaf: Uint8Array | null; // what the receipt itself carries
  row: RowProof | null;
}

export type Fields = Record<string, string | number>;

function hashOf(line: string): Uint8Array {
  const hash = fromBase64(line);
  if (hash.length !== HASH_BYTES) throw new Error("not a hash");
  return hash;
}

function numberOf(line: string | undefined, what: string): number {
  const match = new RegExp(`^${what} (0|[1-9]\\d{0,15})$`).exec(line ?? "");
  if (!match || !Number.isSafeInteger(Number(match[1]))) throw new Error(`expected the line '${what} N'`);
  return Number(match[1]);
}

export function parseReceipt(text: string): Receipt {
  const gap = text.indexOf("\n\n");
  const lines = text.slice(0, gap).split("\n");
  if (gap < 0 || text.length > MAX_RECEIPT || lines[0] !== HEADER) throw new Error("not a receipt");
  const extra = lines[1]?.startsWith("extra ") ? fromBase64(lines[1].slice(6)) : null;
  const rest = lines.slice(extra ? 2 : 1);
  const carried = extra ? fromUtf8(extra).split("\n") : [];
  return {
    index: numberOf(rest[0], "index"),
    path: rest.slice(1).map(hashOf),
    note: text.slice(gap + 2),
    leaf: extra && utf8(carried[0]),
    row: carried.length > 1 ? { row: utf8(carried[1]), number: numberOf(carried[2], "row"), path: carried.slice(3).map(hashOf) } : null,
  };
}

/** Fields of a ledger entry or row; throws unless the bytes are canonical JSON (RFC 8785) of texts and integers. */
export function fieldsOf(bytes: Uint8Array): Fields {
  const text = fromUtf8(bytes);
  const fields = JSON.parse(text) as Fields;
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) throw new Error("not an object");
  const right = (value: unknown): boolean => typeof value === "string" || (Number.isSafeInteger(value) && !Object.is(value, -0));
  if (!Object.values(fields).every(right)) throw new Error("neither text nor integer");
  const pairs = Object.keys(fields).sort().map((name) => `${JSON.stringify(name)}:${JSON.stringify(fields[name])}`);
  if (`{${pairs.join(",")}}` !== text) throw new Error("not canonical");
  return fields;
}
