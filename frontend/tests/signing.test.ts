import assert from "node:assert/strict";
import { test } from "node:test";
import { keyText, standingOf } from "../src/signing.ts";

test("a browser knows whether the key it holds is the one the market names", () => {
  assert.equal(standingOf("", undefined), "off");
  assert.equal(standingOf("ab", undefined), "elsewhere");
  assert.equal(standingOf("ab", "ab"), "mine");
  assert.equal(standingOf("cd", "ab"), "replaced");
  assert.equal(standingOf("", "ab"), "replaced", "a key that was taken out of force is not the same as none");
});

test("what a key signs names account, market, rulebook, the key before and how many there were", () => {
  const known = { account_id: "00ff", public_key: "ab", rules: "01", origin: "market.example/city", changes: 3 };
  assert.equal(
    keyText(known, "cd"),
    'sunledger/key/v2\n{"account":"00ff","before":"ab","changes":3,"origin":"market.example/city","public_key":"cd","rules":"01"}',
  );
});
