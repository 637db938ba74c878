import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

/** As much of a browser as the note needs. */
function storage() {
  const kept = new Map<string, string>();
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
}
const tab = () => Object.assign(globalThis, { sessionStorage: storage() });
Object.assign(globalThis, { document: { getElementById: () => null } });
const { forget, remember, take } = await import("../src/left.ts");

beforeEach(() => {
  Object.assign(globalThis, { localStorage: storage() });
  tab();
});

test("the page one lands on in the same tab takes the note at once, and nobody says it twice", () => {
  remember("buy", 5_000);
  assert.equal(take()?.side, "buy");
  assert.equal(take(), null);
});

test("another tab leaves it alone while it may still be sent", () => {
  remember("sell", 5_000);
  tab();
  assert.equal(take(), null);
  remember("sell", -2_000); // over for two seconds
  tab();
  assert.equal(take()?.side, "sell");
});

test("what was sent, taken back or is no note leaves nothing to say", () => {
  remember("sell", 5_000);
  forget();
  assert.equal(take(), null);
  localStorage.setItem("sunledger.pending", "{");
  assert.equal(take(), null);
  assert.equal(localStorage.getItem("sunledger.pending"), null);
});
