import assert from "node:assert/strict";
import { test } from "node:test";
import { all } from "../src/paging.ts";

/** A list in pages, and what was asked of it. */
function listing(pages: Record<string, { results: number[]; next: string | null }>) {
  const asked: string[] = [];
  const get = async (path: string) => {
    asked.push(path);
    return pages[path];
  };
  return { asked, get };
}

test("a list is followed to its end", async () => {
  const { asked, get } = listing({
    "/o?state=open": { results: [5, 4], next: "a+b" },
    "/o?state=open&cursor=a%2Bb": { results: [3], next: null },
  });
  assert.deepEqual(await all(get, "/o?state=open", 9), [5, 4, 3]);
  assert.equal(asked.length, 2);
});

test("but not beyond so many pages", async () => {
  const get = async () => ({ results: [1], next: "more" });
  assert.deepEqual(await all(get, "/o?state=open", 3), [1, 1, 1]);
});
