// Proofs in the tree of RFC 6962: making and checking them. Numbers go up to 2^53, so no bit operations.
import { same } from "./bytes.ts";
import { sha256 } from "./sha256.ts";

export const HASH_BYTES = 32;
const MAX_HEIGHT = 64;
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** The node of the tree over 2^height leaves, the index-th of that height. */
export type NodeReader = (height: number, index: number) => Promise<Uint8Array>;

/** Hash of an entry's bytes: SHA-256(0x00 || leaf). */
export function leafHash(leaf: Uint8Array): Uint8Array {
  return sha256(LEAF, leaf);
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(NODE, left, right);
}

function checkHashes(hashes: Uint8Array[]): void {
  if (hashes.length > 2 * MAX_HEIGHT) throw new Error("the path is too long");
  if (hashes.some((hash) => hash.length !== HASH_BYTES)) throw new Error("not a hash");
}

/** Root that a leaf's hash and its path lead to in a tree of `size` leaves (RFC 9162 2.1.3.2); throws where it cannot fit. */
export function rootFromPath(index: number, size: number, leaf: Uint8Array, path: Uint8Array[]): Uint8Array {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) throw new Error("no such entry");
  checkHashes([leaf, ...path]);
  let node = index;
  let last = size - 1;
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0) throw new Error("the path is too long");
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      while (node % 2 === 0 && node !== 0) {
        node = Math.floor(node / 2);
        last = Math.floor(last / 2);
      }
    } else {
      hash = nodeHash(hash, sibling);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("the path is too short");
  return hash;
}

/** Throws unless the proof shows that the tree of `size` leaves begins with that of `oldSize` (RFC 9162 2.1.4.2). */
export function verifyConsistency(oldSize: number, size: number, oldRoot: Uint8Array, root: Uint8Array, path: Uint8Array[]): void {
  if (!Number.isSafeInteger(oldSize) || !Number.isSafeInteger(size) || oldSize < 1 || oldSize > size) throw new Error("not a growth");
  checkHashes(path);
  if (oldSize === size) {
    if (path.length || !same(oldRoot, root)) throw new Error("two roots over as many entries");
    return;
  }
  if (!path.length) throw new Error("the proof is too short");
  let node = oldSize - 1;
  let last = size - 1;
  while (node % 2 === 1) {
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  // Where the old tree is a whole subtree of the new one, the proof begins at its root.
  const rest = node === 0 ? path : path.slice(1);
  let old = node === 0 ? oldRoot : path[0];
  let fresh = old;
  for (const sibling of rest) {
    if (last === 0) throw new Error("the proof is too long");
    if (node % 2 === 1 || node === last) {
      old = nodeHash(sibling, old);
      fresh = nodeHash(sibling, fresh);
      while (node % 2 === 0 && node !== 0) {
        node = Math.floor(node / 2);
        last = Math.floor(last / 2);
      }
    } else {
      fresh = nodeHash(fresh, sibling);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("the proof is too short");
  if (!same(old, oldRoot)) throw new Error("the proof leads to another old root");
  if (!same(fresh, root)) throw new Error("the proof leads to another new root");
}

/** The largest power of two below `count` (two or more). */
function split(count: number): number {
  let half = 1;
  while (half * 2 < count) half *= 2;
  return half;
}

async function rangeRoot(start: number, end: number, node: NodeReader): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let at = start; at < end; ) {
    let height = 0;
    while (2 ** (height + 1) <= end - at) height++;
    parts.push(await node(height, at / 2 ** height));
    at += 2 ** height;
  }
  return parts.reduceRight((right, left) => nodeHash(left, right));
}

/** The proof that the tree of `size` leaves begins with that of `oldSize` (RFC 6962 2.1.2). */
export async function consistencyPath(oldSize: number, size: number, node: NodeReader): Promise<Uint8Array[]> {
  const path: Uint8Array[] = [];
  let start = 0;
  let end = size;
  while (oldSize !== end) {
    const middle = start + split(end - start);
    if (oldSize <= middle) {
      path.push(await rangeRoot(middle, end, node));
      end = middle;
    } else {
      path.push(await rangeRoot(start, middle, node));
      start = middle;
    }
  }
  if (start) path.push(await rangeRoot(start, end, node));
  return path.reverse();
}
