// A log of our own, large enough for two levels of tiles, its keys, and chance that comes out the same every time.
import assert from "node:assert/strict";
import { generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { toHex, utf8 } from "../src/ledger/bytes.ts";
import type { ReceiptTask } from "../src/ledger/checker.ts";
import { leafHash, nodeHash } from "../src/ledger/merkle.ts";
import { sha256 } from "../src/ledger/sha256.ts";
import type { Read } from "../src/ledger/tiles.ts";

let seed = 7;
export function chance(below: number): number {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
}

export const ORIGIN = "sunledger.example/test";

export function keyOf(name: string, type: number): { key: KeyObject; text: string; id: Uint8Array } {
  const pair = generateKeyPairSync("ed25519");
  const raw = new Uint8Array(pair.publicKey.export({ type: "spki", format: "der" })).slice(-32);
  const data = Uint8Array.of(type, ...raw);
  const id = sha256(utf8(name + "\n"), data).slice(0, 4);
  return { key: pair.privateKey, text: `${name}+${toHex(id)}+${base64(data)}`, id };
}

export const base64 = (data: Uint8Array): string => Buffer.from(data).toString("base64");
export const LOG_KEY = keyOf(ORIGIN, 1);
export const WITNESS = keyOf("witness.example/one", 4);

export class Log {
  readonly leaves: Uint8Array[] = [];
  private readonly levels: Uint8Array[][] = [[]];

  constructor(count: number, mark = "") {
    for (let seq = 0; seq < count; seq++) this.add(seq, mark);
  }

  add(seq: number, mark: string): void {
    const leaf = utf8(`{"account":${seq % 7},"note":"${seq > 300 ? mark : ""}","seq":${seq},"type":"order","v":1}`);
    this.leaves.push(leaf);
    this.levels[0].push(leafHash(leaf));
    for (let height = 0; this.levels[height].length % 2 === 0; height++) {
      const row = this.levels[height];
      (this.levels[height + 1] ??= []).push(nodeHash(row[row.length - 2], row[row.length - 1]));
    }
  }

  node(height: number, index: number): Uint8Array {
    return this.levels[height][index];
  }

  range(start: number, end: number): Uint8Array {
    if (end - start === 1) return this.levels[0][start];
    let half = 1;
    while (half * 2 < end - start) half *= 2;
    return nodeHash(this.range(start, start + half), this.range(start + half, end));
  }

  path(index: number, start: number, end: number): Uint8Array[] {
    if (end - start === 1) return [];
    let half = 1;
    while (half * 2 < end - start) half *= 2;
    const middle = start + half;
    return index < middle
      ? [...this.path(index, start, middle), this.range(middle, end)]
      : [...this.path(index, middle, end), this.range(start, middle)];
  }

  head(size: number, key = LOG_KEY): string {
    const body = `${ORIGIN}\n${size}\n${base64(this.range(0, size))}\n`;
    return `${body}\n— ${ORIGIN} ${base64(Uint8Array.of(...key.id, ...sign(null, utf8(body), key.key)))}\n`;
  }

  receipt(index: number, size: number, extra: Uint8Array = this.leaves[index], note = this.head(size)): Uint8Array {
    const lines = ["c2sp.org/tlog-proof@v1", ...(extra.length ? [`extra ${base64(extra)}`] : []), `index ${index}`, ...this.path(index, 0, size).map(base64)];
    return utf8(`${lines.join("\n")}\n\n${note}`);
  }

  reader(size: number, asked: string[] = []): Read {
    return async (path) => {
      asked.push(path);
      const match = /^tile\/(\d)\/((?:x\d{3}\/)*\d{3})(?:\.p\/(\d+))?$/.exec(path);
      assert.ok(match, path);
      const height = Number(match[1]) * 8;
      const first = Number(match[2].replace(/[x/]/g, "")) * 256;
      const width = match[3] === undefined ? 256 : Number(match[3]);
      if (first + width > Math.floor(size / 2 ** height)) return null;
      return Uint8Array.from(Array.from({ length: width }, (_, i) => [...this.node(height, first + i)]).flat());
    };
  }
}

export const log = new Log(1000);
export const fork = new Log(1000, "another");
export const nobody: Read = async () => Promise.reject(new Error("offline"));

export const task = (change: Partial<ReceiptTask> = {}): ReceiptTask => ({
  receipt: log.receipt(412, 700), leaf: null, keys: [LOG_KEY.text], old: [], kept: "", given: null, here: ORIGIN, ...change,
});
export const codes = (answer: { findings: { code: string }[] }): string[] => answer.findings.map((finding) => finding.code);
