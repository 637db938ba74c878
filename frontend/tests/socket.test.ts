import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Notes, setup, type Setup } from "./fakes.ts";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

/** Let time pass for timers and for the clock alike. */
function pass(world: Setup, ms: number): void {
  for (let left = ms; left > 0; left -= 250) {
    world.clock.now += Math.min(250, left);
    mock.timers.tick(Math.min(250, left));
  }
}

function live(): Setup & { notes: Notes } {
  const world = setup();
  const notes = new Notes();
  world.socket.subscribe("trades", notes);
  world.socket.start();
  world.wires[0].welcome();
  return { ...world, notes };
}

test("asks for its channels after the welcome and hands on what comes", () => {
  const { wires, notes, states } = live();
  assert.deepEqual(wires[0].heard(), [{ type: "subscribe", channel: "trades" }]);
  wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  wires[0].say({ type: "delta", channel: "trades", prev: 10, seq: 12, data: "more" });
  assert.deepEqual(notes.heard(), [["snapshot", "all", 10], ["delta", "more", 12]]);
  assert.deepEqual(states, ["stopped", "connecting", "live"]);
});

test("a delta that does not fit is not applied: the channel is asked for anew, without a place", () => {
  const { wires, notes } = live();
  wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  wires[0].heard();
  notes.heard();
  wires[0].say({ type: "delta", channel: "trades", prev: 11, seq: 12, data: "lost one" });
  wires[0].say({ type: "delta", channel: "trades", prev: 12, seq: 13, data: "under way" });
  assert.deepEqual(wires[0].heard(), [{ type: "subscribe", channel: "trades" }]);
  assert.deepEqual(notes.heard(), []);
  wires[0].say({ type: "snapshot", channel: "trades", seq: 13, data: "all again" });
  assert.deepEqual(notes.heard(), [["snapshot", "all again", 13]]);
});

test("resumes on a new connection from where it was, once", () => {
  const world = live();
  world.wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  world.notes.heard();
  world.wires[0].onclose?.({ code: 1006 });
  pass(world, 500);
  const wire = world.wires[1];
  wire.welcome("8d2");
  assert.deepEqual(wire.heard(), [{ type: "subscribe", channel: "trades", epoch: "7c1", seq: 10 }]);
  wire.say({ type: "resumed", channel: "trades", seq: 10 });
  wire.say({ type: "delta", channel: "trades", prev: 10, seq: 14, data: "missed" });
  assert.deepEqual(world.notes.heard(), [["delta", "missed", 14]]);
  wire.say({ type: "delta", channel: "trades", prev: 1, seq: 15, data: "?" });
  assert.deepEqual(wire.heard(), [{ type: "subscribe", channel: "trades" }]);
});

test("an answer to another place is not taken for this one", () => {
  const world = live();
  world.wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  world.wires[0].onclose?.({ code: 1006 });
  pass(world, 500);
  world.wires[1].welcome();
  world.wires[1].heard();
  world.wires[1].say({ type: "resumed", channel: "trades", seq: 7 });
  assert.deepEqual(world.wires[1].heard(), [{ type: "subscribe", channel: "trades" }]);
});

test("a resync names what is missing and goes on from there", () => {
  const { wires, notes } = live();
  wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  wires[0].say({ type: "resync", channel: "trades", seq: 90, reason: "slow" });
  wires[0].say({ type: "delta", channel: "trades", prev: 90, seq: 91, data: "next" });
  assert.deepEqual(notes.heard().slice(1), [["resync", 10, 90, "slow"], ["delta", "next", 91]]);
});

test("answers heartbeats, and asks again for a channel whose head is not its own", () => {
  const { wires } = live();
  wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  wires[0].heard();
  wires[0].say({ type: "ping", n: 1, heads: { trades: 10, "book:x:y": 3 } });
  assert.deepEqual(wires[0].heard(), [{ type: "pong", n: 1 }]);
  wires[0].say({ type: "ping", n: 2, heads: { trades: 11 } });
  assert.deepEqual(wires[0].heard(), [{ type: "pong", n: 2 }, { type: "subscribe", channel: "trades" }]);
});

test("after two silent heartbeats prices are paused and a new connection is tried", () => {
  const world = live();
  pass(world, 29_000);
  assert.equal(world.socket.state, "live");
  pass(world, 1_250);
  assert.equal(world.socket.state, "paused");
  assert.equal(world.wires[0].closedWith, 4000);
  pass(world, 1_000);
  assert.equal(world.wires.length, 2);
  assert.equal(world.socket.state, "paused");
  world.wires[1].welcome();
  assert.equal(world.socket.state, "live");
});

test("heartbeats keep it live", () => {
  const world = live();
  for (let n = 1; n < 9; n += 1) {
    pass(world, 15_000);
    world.wires[0].say({ type: "ping", n, heads: {} });
  }
  assert.equal(world.socket.state, "live");
  assert.equal(world.wires.length, 1);
});

test("a lost connection is connecting at first, paused when it lasts, and the waits grow to 20 s", () => {
  const world = live();
  world.wires[0].onclose?.({ code: 1012 });
  assert.equal(world.socket.state, "connecting");
  const waits: number[] = [];
  for (let i = 0; i < 8; i += 1) {
    const before = world.clock.now;
    while (world.wires.length < i + 2) pass(world, 250);
    waits.push(world.clock.now - before);
    world.wires[i + 1].onclose?.({ code: 1006 });
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]);
  assert.equal(world.socket.state, "paused");
});

test("a handshake that takes long and fails is no good connection: the waits grow", () => {
  const world = live();
  world.wires[0].onclose?.({ code: 1006 });
  for (const [place, wait] of [500, 1000, 2000, 4000].entries()) {
    pass(world, wait - 250);
    assert.equal(world.wires.length, place + 1);
    pass(world, 250);
    assert.equal(world.wires.length, place + 2);
    pass(world, 6_000); // the server takes its time, and then refuses
    world.wires[place + 1].onclose?.({ code: 1006 });
  }
});

test("the wait is jittered over its whole length", () => {
  const world = setup(0.1);
  world.socket.start();
  world.wires[0].onclose?.({ code: 1006 });
  pass(world, 50);
  assert.equal(world.wires.length, 2);
});

test("a connection that lived a while starts the waits over; our own fault does not", () => {
  const world = live();
  pass(world, 6_000);
  world.wires[0].onclose?.({ code: 1006 });
  pass(world, 500);
  assert.equal(world.wires.length, 2);
  pass(world, 6_000);
  world.wires[1].onclose?.({ code: 4429 });
  pass(world, 19_500);
  assert.equal(world.wires.length, 2);
  pass(world, 500);
  assert.equal(world.wires.length, 3);
});

test("a refusal with a time is tried again then, one without is final", () => {
  const world = live();
  world.wires[0].heard();
  world.wires[0].say({ type: "error", channel: "trades", code: "unavailable", retry: 5 });
  pass(world, 4_750);
  assert.deepEqual(world.wires[0].heard(), []);
  pass(world, 250);
  assert.deepEqual(world.wires[0].heard(), [{ type: "subscribe", channel: "trades" }]);
  world.wires[0].say({ type: "error", channel: "trades", code: "forbidden", retry: null });
  assert.deepEqual(world.notes.heard(), [["failed", "forbidden"]]);
});

test("what comes after leaving a channel, or after stopping, is not heard", () => {
  const world = live();
  world.wires[0].say({ type: "snapshot", channel: "trades", seq: 10, data: "all" });
  world.wires[0].heard();
  world.notes.heard();
  world.socket.unsubscribe("trades");
  assert.deepEqual(world.wires[0].heard(), [{ type: "unsubscribe", channel: "trades" }]);
  world.wires[0].say({ type: "delta", channel: "trades", prev: 10, seq: 11, data: "late" });
  assert.deepEqual(world.notes.heard(), []);
  world.socket.stop();
  assert.equal(world.wires[0].closedWith, 1000);
  pass(world, 60_000);
  assert.equal(world.wires.length, 1);
  assert.equal(world.socket.state, "stopped");
});
