// From visit to visit of a browser: the log goes on from what was seen before, and so do the keys it is believed by.
import assert from "node:assert/strict";
import { sign } from "node:crypto";
import { test } from "node:test";
import { fromUtf8, same, utf8 } from "../src/ledger/bytes.ts";
import { checkGrowth, checkReceipt } from "../src/ledger/checker.ts";
import { followKeys } from "../src/ledger/keyring.ts";
import type { Read } from "../src/ledger/tiles.ts";
import { chance, ORIGIN, keyOf, base64, LOG_KEY, log, fork, nobody, task, codes } from "./log.ts";

test("from visit to visit: first, same, grown; forked, shrunk, unsigned and withheld are failures with evidence", async () => {
  const keys = [LOG_KEY.text];
  const visit = (kept: string, note: string | null, read: Read, fresh: Read = read) =>
    checkGrowth({ kept, keys, old: [] }, [], async () => (note === null ? null : utf8(note)), read, fresh);
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
  assert.equal((await visit(log.head(500), log.head(1000), damaged)).conflict?.code, "withheld");
});

test("flipped bits of every tile that a visit reads are found, used or not", async () => {
  const visit = (read: Read) => checkGrowth({ kept: log.head(300), keys: [LOG_KEY.text], old: [] }, [fromUtf8(log.leaves[7])], async () => utf8(log.head(1000)), read, read);
  const asked: string[] = [];
  assert.equal((await visit(log.reader(1000, asked))).state, "grown");
  const paths = [...new Set(asked)];
  assert.deepEqual(paths.slice().sort(), ["tile/0/000", "tile/0/001", "tile/0/003.p/232", "tile/1/000.p/3"]);
  for (let round = 0; round < 400; round++) {
    const path = paths[round % paths.length];
    const bent: Read = async (wanted) => {
      const data = await log.reader(1000)(wanted);
      if (data && wanted === path) data[chance(data.length)] ^= 1 << chance(8);
      return data;
    };
    assert.equal((await visit(bent)).conflict?.code, "withheld", path);
  }
});

test("the entries that name the keys must be on the log", async () => {
  const visit = (named: string[], read = log.reader(1000), kept = "") =>
    checkGrowth({ kept, keys: [LOG_KEY.text], old: [] }, named, async () => utf8(log.head(1000)), read, read);
  const named = [3, 512, 999].map((seq) => fromUtf8(log.leaves[seq]));
  assert.equal((await visit(named)).state, "first");
  assert.equal((await visit(named, log.reader(1000), log.head(700))).state, "grown");
  assert.equal((await visit([...named, fromUtf8(log.leaves[3]).replace('"seq":3', '"seq":1000')])).state, "first", "not sealed yet");
  assert.equal((await visit(named, nobody)).state, "unknown");
  for (const bad of ["", "{}", "x", '{"seq":-1}', named[0].replace('"seq":3', '"seq":4'), named[0].replace("order", "ordes"), `${named[0]}\r`]) {
    assert.equal((await visit([named[1], bad])).conflict?.code, "withheld", bad);
  }
  const nothing = await checkGrowth({ kept: "", keys: [], old: [] }, [], async () => utf8(log.head(1000)), nobody, nobody);
  assert.equal(nothing.state, "unknown", "told no key: nothing to check by");
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
  const visit = await checkGrowth({ kept: log.head(900, next), ...late }, [], async () => utf8(log.head(950)), log.reader(1000), log.reader(1000));
  assert.equal(visit.conflict?.code, "unsigned");
});

// --- the Worker
type Work = { id: number; answer?: { state?: string; verdict?: string; conflict?: { code: string } | null; findings?: { code: string }[] }; error?: string };

test("keys that a site does not name for a moment are no alarm, and no bad receipt; keys that it names wrongly are", async () => {
  const next = keyOf(ORIGIN, 1);
  const text = utf8(`sunledger-key/v1\n${ORIGIN}\n${next.text}\n`);
  const [possession, approval] = [next, LOG_KEY].map((key) => base64(sign(null, text, key.key)));
  const rotated = [
    // Behind the end of the heads below: whether the log holds them is not what this asks.
    `{"seq":1000,"type":"genesis","vkey":${JSON.stringify(LOG_KEY.text)}}`,
    `{"action":"add","approval":"${approval}","possession":"${possession}","seq":1001,"type":"key","vkey":${JSON.stringify(next.text)}}`,
    `{"action":"revoke","seq":1002,"type":"key","vkey":${JSON.stringify(LOG_KEY.text)}}`,
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
