import assert from "node:assert/strict";
import { test } from "node:test";
import { pace } from "../src/pace.ts";

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

test("many wishes are one run at once and one after the gap", async () => {
  const starts: number[] = [];
  const ask = pace(async () => {
    starts.push(performance.now());
  }, 50);
  for (let n = 0; n < 20; n++) ask();
  assert.equal(starts.length, 1);
  while (starts.length < 2) await pause(5);
  assert.ok(starts[1] - starts[0] >= 45);
  await pause(80);
  assert.equal(starts.length, 2);
  ask();
  assert.equal(starts.length, 3);
});

test("a run that takes long or fails is not doubled and does not end it", async () => {
  let running = 0;
  let most = 0;
  let runs = 0;
  const ask = pace(async () => {
    running += 1;
    runs += 1;
    most = Math.max(most, running);
    await pause(20);
    running -= 1;
  }, 1);
  ask();
  ask();
  while (runs < 2) await pause(5);
  await pause(40);
  ask();
  await pause(40);
  assert.deepEqual([most, runs], [1, 3]);
});
