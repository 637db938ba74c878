import assert from "node:assert/strict";
import { test } from "node:test";
import { type Part, Upkeep } from "../src/home/upkeep.ts";

/** A page whose time a test moves. Questions are answered at once unless the test holds the answer. */
function page({ hold = false, answers = true } = {}) {
  let now = 0;
  let due: { at: number; run: () => void } | null = null;
  let timers = 0;
  let release: (() => void) | null = null;
  const asked: [number, Part][] = [];
  const world = { hidden: false, hold, answers };
  const upkeep = new Upkeep({
    now: () => now,
    after: (ms, run) => ((due = { at: now + ms, run }), ++timers),
    stop: () => (due = null),
    random: () => 0.5,
    hidden: () => world.hidden,
    ask: (part) => {
      asked.push([now, part]);
      if (!world.hold) return Promise.resolve(world.answers);
      return new Promise((done) => (release = () => done(world.answers)));
    },
  });
  /** Let time pass, timers fire in order, and what they began settle. */
  const pass = async (ms: number): Promise<void> => {
    const until = now + ms;
    for (;;) {
      await Promise.resolve().then(() => undefined);
      for (let n = 0; n < 5; n++) await Promise.resolve();
      const next: { at: number; run: () => void } | null = due;
      if (!next || next.at > until) break;
      now = next.at;
      due = null;
      next.run();
    }
    now = until;
  };
  return { upkeep, world, asked, pass, answer: () => release?.(), idle: () => due === null };
}

const live = async (options = {}) => {
  const made = page(options);
  made.upkeep.hears(true);
  await made.pass(2_000); // what happened before the streams were heard
  made.answer();
  await made.pass(0);
  made.asked.length = 0;
  return made;
};

test("while nothing happens a page asks twice a minute, and every five seconds without the streams", async () => {
  const quiet = await live();
  await quiet.pass(60_000);
  assert.equal(quiet.asked.length, 2);
  const deaf = page();
  await deaf.pass(60_000);
  assert.equal(deaf.asked.length, 12);
});

test("what happens to the account is asked for at once, and a burst of it once more", async () => {
  const { upkeep, asked, pass } = await live();
  await pass(10_000);
  for (let n = 0; n < 12; n++) upkeep.own();
  await pass(10);
  assert.deepEqual(asked, [[12_000, "all"]]);
  for (let n = 0; n < 12; n++) upkeep.own();
  await pass(900);
  assert.equal(asked.length, 1);
  await pass(200);
  assert.deepEqual(asked[1], [13_000, "all"]);
});

test("what concerns every home at once is not asked by all at once", async () => {
  const { upkeep, asked, pass } = await live();
  await pass(10_000);
  upkeep.shared();
  await pass(1_400);
  assert.equal(asked.length, 0);
  await pass(200);
  assert.deepEqual(asked, [[13_500, "all"]]);
});

test("power is a part, every ten seconds at most; a busy market asks every fifteen", async () => {
  const { upkeep, asked, pass } = await live();
  for (let n = 0; n < 24; n++) {
    upkeep.power();
    await pass(1_000);
  }
  assert.deepEqual(asked.map(([, part]) => part), ["power", "power"]);
  asked.length = 0;
  for (let n = 0; n < 60; n++) {
    upkeep.market();
    await pass(1_000);
  }
  assert.ok(asked.length >= 3 && asked.length <= 5 && asked.every(([, part]) => part === "all"), String(asked));
});

test("a wish while an answer is under way is asked afterwards, never beside it", async () => {
  const { upkeep, asked, pass, answer, world } = await live();
  world.hold = true;
  await pass(5_000);
  upkeep.own();
  await pass(10);
  upkeep.own(); // the answer under way may know nothing of this
  upkeep.power();
  await pass(5_000);
  assert.equal(asked.length, 1);
  answer();
  await pass(10);
  assert.equal(asked.length, 2);
  assert.equal(asked[1][1], "all");
});

test("nobody looks, nothing is asked; on coming back at once", async () => {
  const { upkeep, asked, pass, world, idle } = await live();
  world.hidden = true;
  upkeep.looked();
  upkeep.own();
  await pass(600_000);
  assert.deepEqual([asked.length, idle()], [0, true]);
  world.hidden = false;
  upkeep.looked();
  await pass(1);
  assert.equal(asked.length, 1);
});

test("no answer is asked again in five seconds, and a lost stream is made up for when it is back", async () => {
  const { upkeep, asked, pass, world } = await live();
  await pass(10_000);
  world.answers = false;
  upkeep.own();
  await pass(16_000);
  assert.equal(asked.length, 4);
  world.answers = true;
  await pass(5_000);
  asked.length = 0;
  upkeep.hears(false);
  await pass(11_000);
  assert.ok(asked.length >= 2, "as often as before there were streams");
  asked.length = 0;
  upkeep.hears(true);
  await pass(1_001);
  assert.equal(asked.length, 1);
});

test("what was asked by hand counts", async () => {
  const { upkeep, asked, pass } = await live();
  await pass(20_000);
  upkeep.market();
  upkeep.asked();
  await pass(29_000);
  assert.equal(asked.length, 0);
});
