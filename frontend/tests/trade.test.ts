import assert from "node:assert/strict";
import { test } from "node:test";
import { hours, moved, priceOf, shades, standing } from "../src/trade/heat.ts";
import { action } from "../src/trade/keys.ts";
import { cumulated, drift, frame, grouped, outline, stepOf, type Rung } from "../src/trade/levels.ts";
import { advance, MAX_TAPE, mended } from "../src/trade/prints.ts";
import { takenBack } from "../src/trade/takeback.ts";

const rung = (e4: number, wh: number, feeE4 = 0): Rung => ({ e4, wh, feeE4 });
const e4 = (text: string): number => Math.round(Number(text) * 10_000);

test("price steps never make a price better than it is", () => {
  const asks = [rung(2001, 100), rung(2010, 300, 40), rung(2011, 100)];
  assert.deepEqual(grouped(asks, 10, "ask"), [rung(2010, 400, 30), rung(2020, 100)]);
  assert.deepEqual(grouped([rung(1999, 5), rung(1990, 5), rung(1989, 5)], 10, "bid"), [rung(1990, 10), rung(1980, 5)]);
  assert.deepEqual(grouped(asks, 1, "ask"), asks);
  assert.equal(stepOf(2001, 10, "ask"), 2010);
  assert.equal(stepOf(2009, 10, "bid"), 2000);
});

test("while the ladder is frozen it knows how far the market went", () => {
  assert.deepEqual(drift({ ask: 2000, bid: 1900 }, { ask: 1985, bid: 1900 }), { ask: -15, bid: 0 });
  assert.deepEqual(drift({ ask: null, bid: 1900 }, { ask: 1985, bid: null }), { ask: null, bid: null });
});

test("the depth chart climbs in steps away from the middle", () => {
  const asks = cumulated([rung(2000, 100), rung(2100, 300)]);
  const bids = cumulated([rung(1900, 200)]);
  assert.deepEqual(asks.map((step) => step.sumWh), [100, 400]);
  const of = frame(asks, bids);
  assert.deepEqual(of, { lowE4: 1890, highE4: 2110, mostWh: 400 });
  assert.equal(outline(asks, "ask", of!, 220, 100), "M110.0,100V75.0H210.0V0.0H220V100Z");
  assert.equal(outline(bids, "bid", of!, 220, 100), "M10.0,100V50.0H0V100Z");
  assert.equal(outline([], "ask", of!, 220, 100), "");
  assert.equal(frame([], []), null);
});

test("the strip is darker where energy is dearer, and says nothing where there is no price", () => {
  const line = (bid: string | null, ask: string | null, last: string | null = null) => ({ bid, ask, last, volume_wh: 0, state: "open" as const });
  assert.equal(priceOf(line("0.1000", "0.1003"), e4), 1001);
  assert.equal(priceOf(line("0.1000", null), e4), 1000);
  assert.equal(priceOf(line(null, null, "0.3000"), e4), 3000);
  assert.equal(priceOf(line(null, null), e4), null);
  assert.equal(priceOf(undefined, e4), null);
  assert.deepEqual(shades([1000, null, 1700, 1350]), [1, 0, 8, 4]);
  assert.deepEqual(shades([5, 5]), [1, 1]);
  assert.deepEqual(shades([null]), [0]);
});

test("hours are those of the market's clock, whatever its offset", () => {
  const start = (name: string): number => Date.parse(name);
  const names = ["2026-06-06T12:15Z", "2026-06-06T12:30Z", "2026-06-06T12:45Z", "2026-06-06T13:00Z"];
  const at = (offset: number) => hours(names, start, (ms) => (new Date(ms).getUTCMinutes() + offset) % 60).map((hour) => hour.names.length);
  assert.deepEqual(at(0), [3, 1]);
  assert.deepEqual(at(30), [1, 3], "half an hour east of UTC");
});

test("a strip that stays open for days keeps no yesterday", () => {
  const startOf = (name: string): number => Number(name) * 3_600_000;
  assert.deepEqual(standing(["5", "4", "3", "2", "1", "5"], "1", 4 * 3_600_000, startOf), ["1", "4", "5"]);
});

test("arrow keys stay in the strip", () => {
  assert.deepEqual(["ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft", "Home", "End"].map((key) => moved(key, 5, 8, 4)), [6, 4, 7, 1, 0, 7]);
  assert.equal(moved("x", 5, 8, 4), null);
});

test("a letter is a shortcut only where nobody types, and only while they are on", () => {
  const press = (key: string, more = {}) => ({ key, ctrlKey: false, altKey: false, metaKey: false, isComposing: false, repeat: false, ...more });
  const at = (tagName: string, isContentEditable = false) => ({ tagName, isContentEditable });
  assert.equal(action(press("f"), at("BUTTON"), true), "freeze");
  assert.equal(action(press("?"), null, true), "help");
  for (const tag of ["INPUT", "SELECT", "TEXTAREA"]) assert.equal(action(press("s"), at(tag), true), null, tag);
  assert.equal(action(press("s"), at("DIV", true), true), null);
  for (const held of ["ctrlKey", "altKey", "metaKey", "isComposing", "repeat"]) assert.equal(action(press("c", { [held]: true }), null, true), null, held);
  assert.equal(action(press("f"), null, false), null);
  assert.equal(action(press("Escape"), null, true), null);
});

test("cancel all says what it takes back, a block as one", () => {
  const order = (id: number, side: "buy" | "sell", contract: string, remaining_wh: number, more = {}) => ({ id, side, contract, remaining_wh, ...more });
  const block = { kind: "block", group: 7 };
  assert.deepEqual(
    takenBack([order(1, "sell", "a", 300), order(7, "buy", "a", 100, block), order(8, "buy", "b", 100, block), order(9, "buy", "b", 50, { kind: "basket", group: 9 })]),
    { orders: 3, buyWh: 250, sellWh: 300, intervals: 2 },
  );
});

const trade = (seq: number, contract = "c") => ({ seq, at: "", contract, price: "0.2000", energy_wh: 5, buy_price: "0.2000", sell_price: "0.2000" });

test("the tape takes what is new of its own contract, once, and marks what was taken back", () => {
  const tape = [trade(3), trade(5)];
  assert.equal(advance(tape, [trade(3), trade(5), trade(6, "d")], "c"), tape, "nothing new, nothing to draw");
  const recall = { seq: 8, at: "", contract: "c", energy_wh: 5, recalled_trade: 5, reason: "error" };
  const after = advance(tape, [trade(3), trade(5), trade(7), recall], "c");
  assert.deepEqual(after.map((one) => [one.seq, one.recalled ?? false]), [[3, false], [5, true], [7, false]]);
  assert.equal(advance([], Array.from({ length: 90 }, (_, seq) => trade(seq)), "c").length, MAX_TAPE);
});

test("what the stream could not bring is put where it belongs", () => {
  const latest = [trade(9), { ...trade(5), recalled: true }, trade(4)]; // newest first, as REST tells them
  assert.deepEqual(mended([trade(3), trade(5), trade(10)], latest).map((one) => [one.seq, one.recalled ?? false]), [
    [3, false], [4, false], [5, true], [9, false], [10, false],
  ]);
  assert.equal(mended([], Array.from({ length: 90 }, (_, seq) => trade(seq))).at(-1)?.seq, 89);
});
