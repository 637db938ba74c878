import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fromBase64, fromUtf8, same, toHex, utf8 } from "../src/ledger/bytes.ts";
import { checkGrowth, checkReceipt, relate, type ReceiptTask } from "../src/ledger/checker.ts";
import { followKeys } from "../src/ledger/keyring.ts";
import { consistencyPath, leafHash, nodeHash, rootFromPath, verifyConsistency } from "../src/ledger/merkle.ts";
import { cosignedBy, parseCheckpoint, parseKey, parseNote, signedBy } from "../src/ledger/note.ts";
import { fieldsOf } from "../src/ledger/receipt.ts";
import { sha256 } from "../src/ledger/sha256.ts";
import { nodeReader, tilePath, type Read } from "../src/ledger/tiles.ts";

const VECTORS = join(import.meta.dirname, "..", "..", "tests", "vectors");
const TILE_LOG = join(VECTORS, "tile-log");
const TILE_LOG_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

// --- chance that comes out the same every time
let seed = 7;
function chance(below: number): number {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
}

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
    for (const fresh of heads) assert.equal(await relate(bent, fresh, readTileLog), "forked");
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

// --- a log of our own, large enough for two levels of tiles
const ORIGIN = "sunledger.example/test";

function keyOf(name: string, type: number): { key: KeyObject; text: string; id: Uint8Array } {
  const pair = generateKeyPairSync("ed25519");
  const raw = new Uint8Array(pair.publicKey.export({ type: "spki", format: "der" })).slice(-32);
  const data = Uint8Array.of(type, ...raw);
  const id = sha256(utf8(name + "\n"), data).slice(0, 4);
  return { key: pair.privateKey, text: `${name}+${toHex(id)}+${base64(data)}`, id };
}

const base64 = (data: Uint8Array): string => Buffer.from(data).toString("base64");
const LOG_KEY = keyOf(ORIGIN, 1);
const WITNESS = keyOf("witness.example/one", 4);

class Log {
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

const log = new Log(1000);
const fork = new Log(1000, "another");
const nobody: Read = async () => Promise.reject(new Error("offline"));

const task = (change: Partial<ReceiptTask> = {}): ReceiptTask => ({
  receipt: log.receipt(412, 700), leaf: null, keys: [LOG_KEY.text], old: [], kept: "", given: null, here: ORIGIN, ...change,
});
const codes = (answer: { findings: { code: string }[] }): string[] => answer.findings.map((finding) => finding.code);

test("paths of tiles are those of the specification", () => {
  assert.equal(tilePath(0, 1234067, 256), "tile/0/x001/x234/067");
  assert.equal(tilePath(1, 0, 3), "tile/1/000.p/3");
});

test("consistency is computed from tiles alone, for all kinds of sizes, and each tile is asked for once", async () => {
  for (let round = 0; round < 200; round++) {
    const size = 2 + chance(999);
    const old = 1 + chance(size - 1);
    const asked: string[] = [];
    const path = await consistencyPath(old, size, nodeReader(size, log.reader(size, asked)));
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

test("from visit to visit: first, same, grown; forked, shrunk, unsigned and withheld are failures with evidence", async () => {
  const keys = [LOG_KEY.text];
  const visit = (kept: string, note: string | null, read: Read, fresh: Read = read) =>
    checkGrowth({ kept, keys, old: [] }, async () => (note === null ? null : utf8(note)), read, fresh);
  assert.equal((await visit("", log.head(500), nobody)).state, "first");
  assert.equal((await visit(log.head(500), log.head(500), nobody)).state, "same");
  assert.equal((await visit(log.head(500), log.head(1000), log.reader(1000))).state, "grown");
  assert.equal((await visit(log.head(500), log.head(1000), nobody)).state, "unknown");
  const forked = await visit(log.head(500), fork.head(1000), fork.reader(1000));
  assert.deepEqual(forked.conflict, { code: "forked", origin: ORIGIN, first: log.head(500), second: fork.head(1000) });
  assert.equal((await visit(log.head(500), fork.head(500), nobody)).conflict?.code, "forked");
  assert.equal((await visit(log.head(500), log.head(499), log.reader(499))).conflict?.code, "shrunk");
  assert.equal((await visit(log.head(500), log.head(1000), log.reader(400))).conflict?.code, "withheld");
  assert.equal((await visit(log.head(500), log.head(600, keyOf(ORIGIN, 1)), log.reader(600))).conflict?.code, "unsigned");
  assert.equal((await visit(log.head(500), "nonsense", log.reader(600))).conflict?.code, "unsigned");
  assert.equal((await visit(log.head(500), null, log.reader(600))).conflict?.code, "withheld");
  const damaged: Read = async (path) => (await log.reader(1000)(path))?.map((byte) => byte ^ 1) ?? null;
  assert.equal((await visit(log.head(500), log.head(1000), damaged, log.reader(1000))).state, "grown", "a bad copy in a cache");
  assert.equal((await visit(log.head(500), log.head(1000), damaged)).conflict?.code, "forked");
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
    const visit = await checkGrowth({ kept: "", keys: [LOG_KEY.text], old: [] }, async () => utf8(log.head(500)), nobody, nobody);
    assert.equal(visit.state, "unable");
  } finally {
    crypto.subtle.importKey = real;
  }
});

test("keys are followed from those believed: approved ones come in, revoked ones go, nobody else's", async () => {
  const next = keyOf(ORIGIN, 1);
  const thief = keyOf(ORIGIN, 1);
  const line = (fields: Record<string, string | number>): string =>
    `{${Object.keys(fields).sort().map((name) => `${JSON.stringify(name)}:${JSON.stringify(fields[name])}`).join(",")}}`;
  const add = (key: typeof next, approver: typeof next, owner = key): string => {
    const text = utf8(`sunledger-key/v1\n${ORIGIN}\n${key.text}\n`);
    return line({ type: "key", action: "add", vkey: key.text, possession: base64(sign(null, text, owner.key)), approval: base64(sign(null, text, approver.key)) });
  };
  const revoke = (key: typeof next): string => line({ type: "key", action: "revoke", vkey: key.text });
  const genesis = line({ type: "genesis", vkey: LOG_KEY.text });
  const nobodyYet = { valid: [], old: [] };
  const known = { valid: [LOG_KEY.text], old: [] };
  assert.deepEqual(await followKeys(nobodyYet, [genesis]), known);
  assert.deepEqual(await followKeys(known, []), known);
  assert.deepEqual(await followKeys(known, [genesis, add(next, LOG_KEY)]), { valid: [LOG_KEY.text, next.text], old: [] });
  const rotated = { valid: [next.text], old: [LOG_KEY.text] };
  assert.deepEqual(await followKeys(known, [genesis, add(next, LOG_KEY), revoke(LOG_KEY)]), rotated);
  assert.deepEqual(await followKeys(rotated, [genesis, add(next, LOG_KEY), revoke(LOG_KEY)]), rotated);
  assert.deepEqual(await followKeys(rotated, [genesis, add(thief, LOG_KEY)]), rotated, "the old key approves of nobody any more");
  assert.deepEqual(await followKeys(known, [genesis, add(thief, thief)]), known);
  assert.deepEqual(await followKeys(known, [genesis, add(thief, LOG_KEY, next)]), known, "without possession");
  assert.deepEqual(await followKeys(known, [line({ type: "genesis", vkey: thief.text })]), known);
  assert.deepEqual(await followKeys(known, [genesis, revoke(LOG_KEY)]), known, "the last one stays");

  const late = { keys: [next.text], old: [LOG_KEY.text] };
  const alone = await checkReceipt(task(late), nobody, nobody);
  assert.equal(alone.verdict, "open", "a revoked key alone proves nothing");
  const within = await checkReceipt(task({ ...late, kept: log.head(900, next) }), log.reader(1000), log.reader(1000));
  assert.equal(within.verdict, "good", String(codes(within)));
  const beyond = await checkReceipt(task({ ...late, receipt: log.receipt(412, 950), kept: log.head(900, next) }), log.reader(1000), log.reader(1000));
  assert.equal(beyond.verdict, "open");
  const visit = await checkGrowth({ kept: log.head(900, next), ...late }, async () => utf8(log.head(950)), log.reader(1000), log.reader(1000));
  assert.equal(visit.conflict?.code, "unsigned");
});

// --- the Worker
type Work = { id: number; answer?: { state?: string; verdict?: string; conflict?: { code: string } | null; findings?: { code: string }[] }; error?: string };

test("keys that a site does not name for a moment are no alarm, and no bad receipt; keys that it names wrongly are", async () => {
  const next = keyOf(ORIGIN, 1);
  const text = utf8(`sunledger-key/v1\n${ORIGIN}\n${next.text}\n`);
  const [possession, approval] = [next, LOG_KEY].map((key) => base64(sign(null, text, key.key)));
  const rotated = [
    `{"seq":2000,"type":"genesis","vkey":${JSON.stringify(LOG_KEY.text)}}`,
    `{"action":"add","approval":"${approval}","possession":"${possession}","seq":2001,"type":"key","vkey":${JSON.stringify(next.text)}}`,
    `{"action":"revoke","seq":2002,"type":"key","vkey":${JSON.stringify(LOG_KEY.text)}}`,
  ].join("\n");
  let listener: (event: unknown) => void = () => undefined;
  let posted: (data: Work) => void = () => undefined;
  const site: Record<string, () => Response> = {};
  const scope = { addEventListener: (_: string, on: typeof listener) => (listener = on), postMessage: (data: Work) => posted(data) };
  Object.assign(globalThis, {
    self: scope,
    fetch: async (path: string) => (site[path.replace("/ledger/", "")] ?? (() => new Response("", { status: 404 })))(),
  });
  await import("../src/ledger/worker.ts");
  const ask = (message: object): Promise<Work> => new Promise((resolve) => ((posted = resolve), listener({ data: { id: 1, ...message } })));
  const growth = async (kept: string, keys: string[]): Promise<string> => {
    const { answer } = await ask({ kind: "growth", task: { kept, keys, old: [] } });
    return answer?.conflict?.code ?? answer?.state ?? "none";
  };
  const receipt = async (): Promise<string[]> => {
    const one = { ...task({ receipt: log.receipt(412, 700, log.leaves[412], log.head(700, next)) }), entered: false };
    const { answer } = await ask({ kind: "receipt", task: one });
    return [answer?.verdict ?? "none", ...(answer?.findings ?? []).map((finding) => finding.code)];
  };
  const failures: (() => Response)[] = [
    () => new Response("busy", { status: 503 }),
    () => {
      throw new TypeError("offline");
    },
  ];
  site.checkpoint = () => new Response(log.head(500, next));
  for (site.keys of failures) {
    assert.equal(await growth(log.head(500), [LOG_KEY.text]), "unknown");
    assert.equal(await growth("", []), "unknown", "at the first visit");
    const [verdict, ...found] = await receipt();
    assert.equal(verdict, "open");
    assert.ok(found.includes("keys_unread") && !found.includes("unsigned"), String(found));
  }
  site.checkpoint = () => new Response(log.head(500));
  assert.equal(await growth(log.head(500), [LOG_KEY.text]), "same", "a key that is known needs no list");
  site.checkpoint = () => new Response(log.head(500, next));
  site.keys = () => new Response(rotated);
  assert.equal(await growth(log.head(500), [LOG_KEY.text]), "same");
  for (site.keys of [() => new Response(""), () => new Response(rotated.split("\n")[0])]) {
    assert.equal(await growth(log.head(500), [LOG_KEY.text]), "unsigned", "the site has named its keys, and this is none of them");
    assert.ok((await receipt()).includes("unsigned"));
  }
});
