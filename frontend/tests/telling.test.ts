import assert from "node:assert/strict";
import { test } from "node:test";
import { Freshness } from "../src/freshness.ts";
import { Happened } from "../src/happened.ts";

test("one part that answers does not take back that another has stopped", () => {
  const page = new Freshness(100);
  page.answered("b", 150);
  page.unanswered("a", false);
  page.unanswered("b", false);
  page.answered("b", 200);
  assert.equal(page.staleSince, null, "once may happen");
  page.unanswered("a", false);
  page.answered("b", 300);
  assert.equal(page.staleSince, 100, "a has not answered since the page was served");
  page.unanswered("b", false);
  page.unanswered("b", false);
  assert.equal(page.staleSince, 100, "the oldest");
  page.answered("a", 400);
  assert.equal(page.staleSince, 300);
  page.answered("b", 500);
  assert.equal(page.staleSince, null);
});

test("two parts that miss one round each are not stale", () => {
  const page = new Freshness(0);
  page.unanswered("a", false);
  page.unanswered("b", false);
  assert.equal(page.staleSince, null);
});

test("who is signed out of one part hears of it at once, until it answers", () => {
  const page = new Freshness(0);
  page.unanswered("a", true);
  page.answered("b", 1);
  assert.equal(page.signedOut, true);
  page.answered("a", 2);
  assert.equal(page.signedOut, false);
});

const said = (...seqs: number[]) => (seq: number): boolean => seqs.includes(seq);

test("what the page has said is not said again; what has no entry is", () => {
  const happened = new Happened();
  assert.equal(happened.told(happened.sofar(), said()), true, "nobody else says it");
  happened.add([1, 2]);
  assert.equal(happened.told(happened.sofar(), said(1, 2)), false);
  happened.add([3, 4]);
  assert.equal(happened.told(happened.sofar(), said(3)), true);
  assert.deepEqual(happened.sofar(), [], "each once");
});

test("what an answer was to tell of waits when that does not come", () => {
  const happened = new Happened();
  happened.add([1]);
  happened.sofar(); // asked, and not answered
  happened.add([2]);
  assert.equal(happened.told(happened.sofar(), said(2)), true, "1 was never said");
});

test("answers that overtake each other tell of everything once", () => {
  const happened = new Happened();
  happened.add([1]);
  const first = happened.sofar();
  happened.add([2]);
  const second = happened.sofar();
  happened.add([3]);
  assert.equal(happened.told(first, said(1)), false);
  assert.equal(happened.told(second, said(1)), true, "2");
  assert.equal(happened.told(happened.sofar(), said(3)), false, "2 has been told of");
});

test("what waits for an answer that never comes is bounded", () => {
  const happened = new Happened();
  for (let seq = 0; seq < 600; seq += 1) happened.add([seq]);
  assert.deepEqual([happened.sofar().length, happened.sofar().at(-1)], [500, 599]);
});
