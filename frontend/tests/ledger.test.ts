import assert from "node:assert/strict";
import { createHash, sign } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fromBase64, fromUtf8, same, toHex, utf8 } from "../src/ledger/bytes.ts";
import { checkGrowth, checkReceipt, relate } from "../src/ledger/checker.ts";
import { consistencyPath, leafHash, nodeHash, rootFromPath, verifyConsistency } from "../src/ledger/merkle.ts";
import { cosignedBy, parseCheckpoint, parseKey, parseNote, signedBy } from "../src/ledger/note.ts";
import { fieldsOf } from "../src/ledger/receipt.ts";
import { sha256 } from "../src/ledger/sha256.ts";
import { nodeReader, tilePath, type Read } from "../src/ledger/tiles.ts";
import { chance, ORIGIN, keyOf, base64, LOG_KEY, WITNESS, Log, log, fork, nobody, task, codes } from "./log.ts";

const VECTORS = join(import.meta.dirname, "..", "..", "tests", "vectors");
const TILE_LOG = join(VECTORS, "tile-log");
const TILE_LOG_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

// --- vectors of others
interface Vector {
  leafIdx: number;
  treeSize: number;
  size1: number;
  size2: number;
  root1: string;
  root2: string;
  root: string;
  leafHash: string;
  proof: string[] | null;
  wantErr: boolean;
}

function vectors(folder: string): [string, Vector][] {
  const found: [string, Vector][] = [];
  const visit = (path: string): void => {
    for (const name of readdirSync(path)) {
      const inside = join(path, name);
      if (statSync(inside).isDirectory()) visit(inside);
      else if (name.endsWith(".json")) found.push([inside, JSON.parse(readFileSync(inside, "utf8")) as Vector]);
    }
  };
  visit(join(VECTORS, folder));
  return found;
}

const hashes = (proof: string[] | null): Uint8Array[] => (proof ?? []).map((text) => fromBase64(text));

test("SHA-256 is Node's, at every length around a block", () => {
  for (let length = 0; length < 200; length++) {
    const data = Uint8Array.from({ length }, () => chance(256));
    assert.equal(toHex(sha256(data.slice(0, 7), data.slice(7))), createHash("sha256").update(data).digest("hex"));
  }
});

test("inclusion proofs of the published vectors", () => {
  const all = vectors("merkle-inclusion");
  assert.equal(all.length, 98);
  for (const [name, vector] of all) {
    let good: boolean;
    try {
      const root = rootFromPath(vector.leafIdx, vector.treeSize, fromBase64(vector.leafHash ?? ""), hashes(vector.proof));
      good = same(root, fromBase64(vector.root ?? ""));
    } catch {
      good = false;
    }
    assert.equal(good, !vector.wantErr, name);
  }
});

test("consistency proofs of the published vectors", () => {
  const all = vectors("merkle-consistency");
  assert.equal(all.length, 98);
  for (const [name, vector] of all) {
    let good = true;
    try {
      verifyConsistency(vector.size1, vector.size2, fromBase64(vector.root1 ?? ""), fromBase64(vector.root2 ?? ""), hashes(vector.proof));
    } catch {
      good = false;
    }
    assert.equal(good, !vector.wantErr, name);
  }
});

const readTileLog: Read = async (path) => {
  try {
    return new Uint8Array(readFileSync(join(TILE_LOG, path)));
  } catch {
    return null;
  }
};

test("checkpoints of a log that nobody here wrote: signed, and each goes on from each before", async () => {
  const key = parseKey(TILE_LOG_KEY);
  const heads = await Promise.all(
    Array.from({ length: 15 }, async (_, i) => {
      const note = parseNote(readFileSync(join(TILE_LOG, `checkpoint.${i + 1}`), "utf8"));
      assert.equal(await signedBy(note, key), true);
      return parseCheckpoint(note.body);
    }),
  );
  for (const old of heads) {
    for (const fresh of heads) {
      assert.equal(await relate(old, fresh, readTileLog), old.size === fresh.size ? "same" : "grown");
    }
    const bent = { ...old, root: old.root.map((byte, i) => (i === 5 ? byte ^ 1 : byte)) };
    for (const other of heads) {
      // A larger head that the tiles do not lead to may be a fork or damage: both heads are shown, and no more is claimed.
      assert.equal(await relate(bent, other, readTileLog), bent.size > other.size ? "withheld" : "forked");
    }
  }
});

test("every flipped bit of a foreign checkpoint is noticed", async () => {
  const key = parseKey(TILE_LOG_KEY);
  const data = new Uint8Array(readFileSync(join(TILE_LOG, "checkpoint.15")));
  for (let at = 0; at < data.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const bent = data.slice();
      bent[at] ^= 1 << bit;
      let good: boolean | null = false;
      try {
        const note = parseNote(fromUtf8(bent));
        good = (await signedBy(note, key)) && parseCheckpoint(note.body).origin === key.name;
      } catch {
        good = false;
      }
      assert.equal(good, false, `byte ${at}, bit ${bit}`);
    }
  }
});

test("paths of tiles are those of the specification", () => {
  assert.equal(tilePath(0, 1234067, 256), "tile/0/x001/x234/067");
  assert.equal(tilePath(1, 0, 3), "tile/1/000.p/3");
});

test("consistency is computed from tiles alone, for all kinds of sizes, and each tile is asked for once", async () => {
  for (let round = 0; round < 200; round++) {
    const size = 2 + chance(999);
    const old = 1 + chance(size - 1);
    const asked: string[] = [];
    const path = await consistencyPath(old, size, nodeReader(parseCheckpoint(parseNote(log.head(size)).body), log.reader(size, asked)));
    verifyConsistency(old, size, log.range(0, old), log.range(0, size), path);
    assert.equal(new Set(asked).size, asked.length);
    assert.ok(asked.length <= 4, String(asked));
  }
});

test("a receipt that holds its entry", async () => {
  const answer = await checkReceipt(task({ kept: log.head(900), given: utf8(log.head(650)) }), log.reader(1000), log.reader(1000));
  assert.equal(answer.verdict, "good");
  assert.deepEqual(codes(answer), ["hash", "named", "path", "signed", "given_grown", "kept_grown"]);
  assert.equal(answer.entry?.seq, 412);
  assert.equal(answer.conflict, null);
});

test("flipped bits of a receipt with its entry, wherever they are, are found", async () => {
  const good = log.receipt(412, 700);
  for (let at = 0; at < good.length; at += 1 + chance(3)) {
    const bent = good.slice();
    bent[at] ^= 1 << chance(8);
    const answer = await checkReceipt(task({ receipt: bent }), nobody, nobody);
    assert.equal(answer.verdict, "bad", `byte ${at}: ${codes(answer)}`);
  }
});

test("flipped bits of an entry given beside its receipt are found, and of a checkpoint from elsewhere", async () => {
  const bare = log.receipt(412, 700, new Uint8Array());
  const leaf = log.leaves[412];
  assert.equal((await checkReceipt(task({ receipt: bare, leaf }), nobody, nobody)).verdict, "good");
  assert.deepEqual(codes(await checkReceipt(task({ receipt: bare }), nobody, nobody)), ["no_entry", "signed", "nothing_kept"]);
  for (let at = 0; at < leaf.length; at += 1 + chance(2)) {
    const bent = leaf.slice();
    bent[at] ^= 1 << chance(8);
    assert.equal((await checkReceipt(task({ receipt: bare, leaf: bent }), nobody, nobody)).verdict, "bad");
    assert.equal((await checkReceipt(task({ leaf: bent }), nobody, nobody)).verdict, "bad");
  }
  const given = utf8(log.head(700));
  assert.equal((await checkReceipt(task({ given }), nobody, nobody)).verdict, "good");
  for (let at = 0; at < given.length; at += 1 + chance(2)) {
    const bent = given.slice();
    bent[at] ^= 1 << chance(8);
    assert.equal((await checkReceipt(task({ given: bent }), nobody, nobody)).verdict, "bad", `byte ${at}`);
  }
});

test("the receipt of a row, and flipped bits of it", async () => {
  const rows = Array.from({ length: 11 }, (_, i) => utf8(`{"account":${i},"payout_e7":${i * 5},"salt":"00"}`));
  const nodes = rows.map(leafHash);
  const range = (start: number, end: number): Uint8Array => {
    if (end - start === 1) return nodes[start];
    const half = end - start > 8 ? 8 : end - start > 4 ? 4 : end - start > 2 ? 2 : 1;
    return nodeHash(range(start, start + half), range(start + half, end));
  };
  const leaf = utf8(`{"count":11,"root":"${toHex(range(0, 11))}","seq":3,"type":"settle"}`);
  const small = new Log(3);
  small.leaves.push(leaf);
  (small as unknown as { levels: Uint8Array[][] }).levels[0].push(leafHash(leaf));
  const path = [nodes[8], nodes[10], range(0, 8)]; // of row 9 among 11
  const extra = utf8([fromUtf8(leaf), fromUtf8(rows[9]), "row 9", ...path.map(base64)].join("\n"));
  const receipt = small.receipt(3, 4, extra);
  const answer = await checkReceipt(task({ receipt }), nobody, nobody);
  assert.equal(answer.verdict, "good", String(codes(answer)));
  assert.deepEqual(answer.row, { account: 9, payout_e7: 45, salt: "00" });
  for (let at = 0; at < receipt.length; at += 1 + chance(3)) {
    const bent = receipt.slice();
    bent[at] ^= 1 << chance(8);
    assert.equal((await checkReceipt(task({ receipt: bent }), nobody, nobody)).verdict, "bad", `byte ${at}`);
  }
  for (const number of [0, 8, 10, 11, 25]) {
    const other = utf8(fromUtf8(extra).replace("row 9", `row ${number}`));
    assert.equal((await checkReceipt(task({ receipt: small.receipt(3, 4, other) }), nobody, nobody)).verdict, "bad");
  }
});

test("an entry that names another place than its own, or is not canonical, is refused though it is signed", async () => {
  for (const [text, code] of [['{"seq":4,"type":"order"}', "misnamed"], ['{"type":"order","seq":3}', "not_canonical"]]) {
    const small = new Log(3);
    small.leaves.push(utf8(text));
    (small as unknown as { levels: Uint8Array[][] }).levels[0].push(leafHash(utf8(text)));
    const answer = await checkReceipt(task({ receipt: small.receipt(3, 4) }), nobody, nobody);
    assert.equal(answer.verdict, "bad");
    assert.ok(codes(answer).includes(code));
    assert.ok(codes(answer).includes("path"));
  }
});

test("a receipt of another history contradicts what is kept, and both heads are kept as evidence", async () => {
  const receipt = fork.receipt(412, 700);
  const answer = await checkReceipt(task({ receipt, kept: log.head(900) }), log.reader(1000), log.reader(1000));
  assert.equal(answer.verdict, "bad");
  assert.ok(codes(answer).includes("kept_forked"));
  assert.deepEqual(answer.conflict, { code: "forked", origin: ORIGIN, first: log.head(900), second: fork.head(700) });
  const stranger = keyOf(ORIGIN, 1);
  const forged = fork.receipt(412, 700, fork.leaves[412], fork.head(700, stranger));
  const refused = await checkReceipt(task({ receipt: forged, kept: log.head(900) }), log.reader(1000), log.reader(1000));
  assert.equal(refused.verdict, "bad");
  assert.equal(refused.conflict, null, "what the key has not signed is no evidence");
  const offline = await checkReceipt(task({ kept: log.head(900) }), nobody, nobody);
  assert.equal(offline.verdict, "open");
  assert.equal(offline.conflict, null);
});

test("cosignatures: of a known witness checked, of others counted", async () => {
  const head = log.head(700);
  const body = parseNote(head).body;
  const at = Buffer.alloc(8);
  at.writeBigUInt64BE(1780747200n);
  const signature = sign(null, utf8(`cosignature/v1\ntime 1780747200\n${body}`), WITNESS.key);
  const line = `— witness.example/one ${base64(Uint8Array.of(...WITNESS.id, ...at, ...signature))}\n`;
  const receipt = log.receipt(412, 700, log.leaves[412], head + line);
  const known = await checkReceipt(task({ receipt, keys: [LOG_KEY.text, WITNESS.text] }), nobody, nobody);
  assert.deepEqual(known.findings.find((finding) => finding.code === "cosigned")?.values, { name: "witness.example/one", at: 1780747200 });
  assert.equal(known.verdict, "good");
  const unknown = await checkReceipt(task({ receipt }), nobody, nobody);
  assert.deepEqual(unknown.findings.find((finding) => finding.code === "further")?.values, { count: 1 });
  assert.equal(unknown.verdict, "good");
  at[7] ^= 1;
  const late = `— witness.example/one ${base64(Uint8Array.of(...WITNESS.id, ...at, ...signature))}\n`;
  assert.equal(await cosignedBy(parseNote(head + late), parseKey(WITNESS.text)), false);
  const bent = await checkReceipt(task({ receipt: log.receipt(412, 700, log.leaves[412], head + late), keys: [LOG_KEY.text, WITNESS.text] }), nobody, nobody);
  assert.equal(bent.verdict, "bad");
});

test("keys that are weak, not reduced or not their own id are refused", () => {
  const make = (hex: string, id?: string): string => {
    const data = Uint8Array.of(1, ...Buffer.from(hex, "hex"));
    return `n+${id ?? toHex(sha256(utf8("n\n"), data).slice(0, 4))}+${base64(data)}`;
  };
  const fine = toHex(parseKey(LOG_KEY.text).publicKey);
  assert.equal(parseKey(make(fine)).name, "n");
  assert.throws(() => parseKey(make(fine, "00000000")));
  for (const weak of ["00".repeat(32), "01" + "00".repeat(31), "00".repeat(31) + "80", "ec" + "ff".repeat(30) + "7f", "ed" + "ff".repeat(30) + "7f", "f0" + "ff".repeat(31)]) {
    assert.throws(() => parseKey(make(weak)), weak);
  }
});

test("entries are read in the one way they can be written", () => {
  assert.deepEqual(fieldsOf(utf8('{"a":"x","b":-3}')), { a: "x", b: -3 });
  for (const bad of ['{"b":1,"a":2}', '{"a":1.0}', '{"a":1,"a":1}', '{ "a":1}', '{"a":null}', "[1]", '{"a":-0}', '{"a":1}\n', '{"a":[1]}']) {
    assert.throws(() => fieldsOf(utf8(bad)), bad);
  }
});

test("a browser without Ed25519 calls nothing verified and keeps nothing", async () => {
  const real = crypto.subtle.importKey;
  crypto.subtle.importKey = async () => Promise.reject(new DOMException("no such algorithm", "NotSupportedError"));
  try {
    const answer = await checkReceipt(task(), nobody, nobody);
    assert.equal(answer.verdict, "open");
    assert.ok(codes(answer).includes("no_ed25519"));
    assert.ok(codes(answer).includes("path"));
    const visit = await checkGrowth({ kept: "", keys: [LOG_KEY.text], old: [] }, [], async () => utf8(log.head(500)), nobody, nobody);
    assert.equal(visit.state, "unable");
  } finally {
    crypto.subtle.importKey = real;
  }
});
