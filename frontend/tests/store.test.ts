import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Handler } from "../src/socket.ts";
import { applyBook, applyLog, applyTicker, comparePrices, Store, type Book, type Log, type Trade } from "../src/store.ts";
import { setup } from "./fakes.ts";

const book: Book = {
  contract: "c",
  area: "a",
  bids: [["0.2850", 1200, "0.0100"], ["0.2800", 10, "0.0000"]],
  asks: [["9.0000", 5, "0.0000"], ["10.0000", 5, "0.0000"]],
};

test("levels are absolute, 0 removes, the best comes first", () => {
  const after = applyBook(book, {
    bids: [["0.2850", 0, "0.0000"], ["0.2900", 7, "0.0000"]],
    asks: [["9.5000", 1, "0.0100"]],
  });
  assert.deepEqual(after.bids, [["0.2900", 7, "0.0000"], ["0.2800", 10, "0.0000"]]);
  assert.deepEqual(after.asks.map((level) => level[0]), ["9.0000", "9.5000", "10.0000"]);
  assert.equal(book.bids[0][1], 1200, "the book before is as it was");
});

test("prices compare as numbers do", () => {
  assert.ok(comparePrices("9.5000", "10.0000") < 0);
  assert.ok(comparePrices("0.2850", "0.2849") > 0);
  assert.equal(comparePrices("0.2850", "0.2850"), 0);
});

test("a ticker's line is replaced, null takes it away", () => {
  const line = { bid: null, ask: "0.3000", last: null, volume_wh: 0, state: "open" as const };
  const after = applyTicker({ area: "a", contracts: { x: line, y: line } }, { contracts: { x: null, z: line } });
  assert.deepEqual(Object.keys(after.contracts), ["y", "z"]);
});

test("a log keeps its newest items", () => {
  const items = Array.from({ length: 600 }, (_, seq) => ({ seq, at: "" }));
  const log = applyLog({ items: [], missed: null }, { items });
  assert.equal(log.items.length, 500);
  assert.equal(log.items[499].seq, 599);
});

test("many watchers share a subscription; the last one ends it", () => {
  const asked: string[] = [];
  let handler: Handler | undefined;
  const store = new Store({
    subscribe: (channel, given) => {
      asked.push(`+${channel}`);
      handler = given;
    },
    unsubscribe: (channel) => asked.push(`-${channel}`),
  });
  const seen: Log<Trade>[] = [];
  const leave = store.watchTrades((log) => seen.push(log));
  handler?.snapshot({ items: [{ seq: 1, at: "" }] }, 1);
  const late: Log<Trade>[] = [];
  const leaveLate = store.watchTrades((log) => late.push(log));
  assert.equal(late.length, 1, "who comes later knows at once");
  handler?.delta({ items: [{ seq: 2, at: "" }] }, 2);
  assert.deepEqual(seen.at(-1)?.items.map((item) => item.seq), [1, 2]);
  handler?.resync(2, 9, "slow");
  assert.deepEqual(late.at(-1)?.missed, { after: 2, upto: 9 });
  leave();
  leaveLate();
  assert.deepEqual(asked, ["+trades", "-trades"]);
});

test("a channel that is not for us says why", () => {
  let handler: Handler | undefined;
  const store = new Store({ subscribe: (_, given) => (handler = given), unsubscribe: () => undefined });
  const errors: string[] = [];
  store.watchMe((_, error) => errors.push(error));
  handler?.failed("not_signed_in");
  store.watchMe((_, error) => errors.push(error));
  assert.deepEqual(errors, ["not_signed_in", "not_signed_in"]);
});

// What a server said to clients that were slow and lost their connections, recorded by tests/streaming/test_frontend.py;
// in the end this client must know what the server knew, having asked what the model client asked.
const path = process.env.TRANSCRIPTS;
test("plays recorded streams to the server's state", { skip: path ? false : "no transcripts given" }, () => {
  const transcripts = JSON.parse(readFileSync(path as string, "utf8"));
  for (const { channels, connections, expected } of transcripts) {
    const { socket, wires } = setup(0);
    const store = new Store(socket);
    for (const channel of channels) store.watch(channel, () => undefined);
    for (const { asked, said } of connections) {
      socket.start();
      const wire = wires.at(-1);
      assert.ok(wire);
      for (const message of said) wire.say(message);
      assert.deepEqual(wire.heard().filter((message) => message.type === "subscribe"), said.length ? asked : []);
      socket.stop();
    }
    for (const channel of channels) {
      const state = store.get<any>(channel);
      assert.deepEqual(channel === "trades" ? state.items : state, expected[channel], channel);
    }
  }
});

test("what the meters say is taken over name by name", () => {
  let channel!: Handler;
  const store = new Store({ subscribe: (_name, handler) => (channel = handler), unsubscribe: () => undefined } as never);
  store.watch("flow:me", () => undefined);
  channel.snapshot({ power: { produced_w: 900, used_w: 400, battery_w: 0 }, readings: 7 }, 10);
  channel.delta({ power: { produced_w: 950, used_w: 400, battery_w: 0 } }, 11);
  assert.deepEqual(store.get("flow:me"), { power: { produced_w: 950, used_w: 400, battery_w: 0 }, readings: 7 });
  channel.delta({ halts: 12, readings: 12 }, 12);
  assert.deepEqual(store.get("flow:me"), { power: { produced_w: 950, used_w: 400, battery_w: 0 }, readings: 12, halts: 12 });
});
