import assert from "node:assert/strict";
import { test } from "node:test";
import { Keys, read, reasons, send, sum, type Answer, type Body } from "../src/home/placing.ts";
import { Rounds } from "../src/home/rounds.ts";
import { TakeBack, type Phase, type Reason } from "../src/home/takeback.ts";

/** A button whose time a test moves. */
function button() {
  let now = 1_000;
  let tick: (() => void) | null = null;
  let finish: () => void = () => undefined;
  const log: string[] = [];
  const taking = new TakeBack<string>({
    now: () => now,
    every: (_ms, run) => ((tick = run), 1),
    stop: () => (tick = null),
    show: (phase: Phase, seconds: number) => log.push(`${phase} ${seconds}`),
    send: (plan) => {
      log.push(`send ${plan}`);
      return new Promise((resolve) => (finish = resolve));
    },
    dropped: (reason: Reason) => log.push(`dropped ${reason}`),
  });
  const pass = (ms: number): void => {
    now += ms;
    tick?.();
  };
  return { taking, log, pass, sleep: (ms: number) => (now += ms), finish: () => finish() };
}

test("it is sent after five seconds, counted down one by one", async () => {
  const { taking, log, pass, finish } = button();
  taking.press("plan");
  for (let i = 0; i < 24; i += 1) pass(200);
  assert.deepEqual(log, ["waiting 5", "waiting 4", "waiting 3", "waiting 2", "waiting 1"]);
  pass(200);
  assert.deepEqual(log.slice(5), ["sending 0", "send plan"]);
  taking.press("another"); // on its way: nothing can be taken back or sent twice
  taking.drop("left");
  finish();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(log.slice(7), ["idle 0"]);
  assert.equal(taking.phase, "idle");
});

test("a second press takes it back, but not the second half of a double tap", () => {
  const { taking, log, pass } = button();
  taking.press("plan");
  pass(300);
  taking.press("plan");
  assert.equal(taking.phase, "waiting");
  pass(300);
  taking.press("plan");
  assert.deepEqual(log, ["waiting 5", "idle 0", "dropped person"]);
  pass(10_000);
  assert.equal(log.length, 3);
});

test("a page that slept through the five seconds has sent nothing", () => {
  const { taking, log, pass } = button();
  taking.press("plan");
  pass(60_000);
  assert.deepEqual(log, ["waiting 5", "idle 0", "dropped left"]);
});

test("without a plan nothing begins, and what is not waiting cannot be dropped", () => {
  const { taking, log } = button();
  taking.press(null);
  taking.drop("paused");
  assert.deepEqual(log, []);
});

const answer = (id: number, contract: string, filled: number, rest: number, amount: string): Answer => ({
  order: { id, contract, filled_wh: filled, remaining_wh: rest, price: "0.2000" },
  trades: filled ? [{ price: "0.2000", energy_wh: filled, amount }] : [],
});
const PLAN = read("sell", "2026-06-06T10:15Z 450 0.1500;2026-06-06T10:30Z 400 0.2400");

test("a plan is read from the page", () => {
  assert.deepEqual(PLAN, {
    side: "sell",
    legs: [
      { contract: "2026-06-06T10:15Z", energyWh: 450, price: "0.1500" },
      { contract: "2026-06-06T10:30Z", energyWh: 400, price: "0.2400" },
    ],
  });
  assert.equal(read("buy", ""), null);
});

test("several orders are one batch, and each one's fate is told", async () => {
  const sent: [Body[], string][] = [];
  const placed = await send(PLAN!, {
    one: () => assert.fail("not one by one"),
    batch: async (orders, key) => {
      sent.push([orders, key]);
      const first = answer(7, "2026-06-06T10:15Z", 450, 0, "0.0675000");
      return { results: [{ status: 201, ...first }, { status: 409, problem: { detail: "The gate has closed." } }] };
    },
    signs: false,
    refused: String,
    unsure: () => false,
    key: "k",
  });
  assert.equal(sent.length, 1);
  assert.deepEqual(sent[0][0].map((order) => [order.contract, order.side, order.energy_wh, order.price, order.time_in_force]), [
    ["2026-06-06T10:15Z", "sell", 450, "0.1500", "gtg"],
    ["2026-06-06T10:30Z", "sell", 400, "0.2400", "gtg"],
  ]);
  const found = sum(placed, (text) => Number(text.replace(".", "")));
  assert.deepEqual([found.energyWh, found.doneWh, found.restWh, found.doneE7, found.ids], [450, 450, 0, 675_000, [7]]);
  assert.deepEqual(found.failed.map((one) => [one.leg.contract, one.problem]), [["2026-06-06T10:30Z", "The gate has closed."]]);
});

test("signed orders go one by one, each with a key of its own", async () => {
  const keys: string[] = [];
  const placed = await send(PLAN!, {
    one: async (body, key) => {
      keys.push(key);
      if (keys.length === 2) throw new Error("refused");
      return answer(8, body.contract, 0, body.energy_wh, "");
    },
    batch: () => assert.fail("a signature is for one order"),
    signs: true,
    refused: (error) => (error as Error).message,
    unsure: () => true,
    key: "k",
  });
  assert.deepEqual(keys, ["k-0", "k-1"]);
  assert.deepEqual(placed.map((one) => one.unsure ?? false), [false, true]);
  const found = sum(placed, Number);
  assert.deepEqual([found.restWh, found.failed.length, found.failed[0].problem], [450, 1, "refused"]);
});

test("a batch that fails as a whole is an error, not a receipt", async () => {
  const ways = { one: () => assert.fail(), signs: false, refused: String, unsure: () => true, key: "k" };
  await assert.rejects(send(PLAN!, { ...ways, batch: () => Promise.reject(new Error("busy")) }), /busy/);
});

test("who presses again after silence does not sell twice; after an answer the same orders are new ones", () => {
  let made = 0;
  const keys = new Keys(() => `key ${(made += 1)}`);
  const other = { ...PLAN!, legs: PLAN!.legs.slice(1) };
  assert.equal(keys.of(PLAN!), "key 1");
  keys.shown(PLAN); // the page could not be told otherwise
  assert.equal(keys.of(PLAN!), "key 1");
  assert.equal(keys.of(other), "key 2");
  keys.used();
  assert.equal(keys.of(other), "key 3");
  keys.shown(null); // the page knows that it is sold: should it be on offer again, it is another sale
  assert.equal(keys.of(other), "key 4");
});

test("what was not placed for the same reason is said once", () => {
  const [one, two] = PLAN!.legs;
  const failed = [one, two, one].map((leg, i) => ({ leg, answer: null, problem: i < 2 ? "halted" : "closed" }));
  assert.deepEqual(reasons(failed, (text) => `${text}!`), [
    { energyWh: 850, contracts: [one.contract, two.contract], problem: "halted!" },
    { energyWh: 450, contracts: [one.contract], problem: "closed!" },
  ]);
});

test("an answer that was asked for before a sale is not shown after it", () => {
  const rounds = new Rounds();
  const [slow, quick] = [rounds.begin(), rounds.begin()];
  assert.ok(rounds.take(quick) && !rounds.take(slow));
  const before = rounds.begin();
  rounds.overtake();
  const after = rounds.begin();
  assert.ok(!rounds.take(before) && rounds.take(after));
  const [whole, part] = [rounds.begin(), rounds.begin()];
  assert.ok(rounds.take(part, false) && rounds.take(whole), "a part does not make the whole old");
  rounds.overtake();
  assert.ok(!rounds.take(part, false));
});
