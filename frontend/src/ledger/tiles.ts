// Hash tiles (https://c2sp.org/tlog-tiles): 256 hashes a file, from which every node of the tree follows.
// Every tile is proven whole under a signed root before anything of it is used: what does not fit was not signed.
import { same } from "./bytes.ts";
import { HASH_BYTES, nodeHash, type NodeReader } from "./merkle.ts";
import type { Checkpoint } from "./note.ts";

const WIDTH = 256;
const HEIGHT = 8;

/** The bytes at a path of the log, null where the log has no such file; throws when it cannot be asked. */
export type Read = (path: string) => Promise<Uint8Array | null>;

/** The log does not serve what it must have: nothing, or something else than what is signed. */
export class Withheld extends Error {}

export function tilePath(level: number, number: number, width: number): string {
  const digits = String(number);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/.../g) ?? [];
  const name = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join("/");
  return `tile/${level}/${name}${width === WIDTH ? "" : `.p/${width}`}`;
}

/** The root over a power of two of hashes. */
function rootOf(hashes: Uint8Array[]): Uint8Array {
  let row = hashes;
  while (row.length > 1) row = row.filter((_, i) => i % 2 === 0).map((left, i) => nodeHash(left, row[2 * i + 1]));
  return row[0];
}

/** Roots of the whole subtrees in a partial tile, the largest first. */
function peaks(hashes: Uint8Array[]): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0, size = WIDTH / 2; size >= 1; size /= 2) {
    if (at + size > hashes.length) continue;
    found.push(rootOf(hashes.slice(at, at + size)));
    at += size;
  }
  return found;
}

/** A reader of the nodes of a log under a signed head. It asks for every tile once and throws `Withheld` for what is not proven. */
export function nodeReader({ size, root }: Checkpoint, read: Read): NodeReader {
  const tiles = new Map<string, Promise<Uint8Array[]>>();
  let edges: Promise<Uint8Array[][]> | null = null;
  const count = (level: number): number => Math.floor(size / 2 ** (HEIGHT * level));

  async function fetchTile(level: number, number: number, width: number): Promise<Uint8Array[]> {
    const path = tilePath(level, number, width);
    // A log may drop a partial tile once it is full.
    const data = (await read(path)) ?? (width < WIDTH ? await read(tilePath(level, number, WIDTH)) : null);
    if (!data || data.length < width * HASH_BYTES) throw new Withheld(path);
    return Array.from({ length: width }, (_, i) => data.slice(i * HASH_BYTES, (i + 1) * HASH_BYTES));
  }

  /** The partial tiles of the right edge by level: they are proven together, by the root itself. */
  async function fetchEdges(): Promise<Uint8Array[][]> {
    const wanted: Promise<Uint8Array[]>[] = [];
    for (let level = 0; count(level) > 0; level++) {
      const width = count(level) % WIDTH;
      wanted.push(width ? fetchTile(level, Math.floor(count(level) / WIDTH), width) : Promise.resolve([]));
    }
    const found = await Promise.all(wanted);
    const parts = found.slice().reverse().flatMap(peaks);
    if (!parts.length || !same(parts.reduceRight((right, left) => nodeHash(left, right)), root)) throw new Withheld("the right edge");
    return found;
  }

  async function provenTile(level: number, number: number): Promise<Uint8Array[]> {
    if ((number + 1) * WIDTH > count(level)) return (await (edges ??= fetchEdges()))[level] ?? [];
    const hashes = await fetchTile(level, number, WIDTH);
    // By its root in the tile above, which is proven the same way.
    const above = await tileAt(level + 1, Math.floor(number / WIDTH));
    if (!same(rootOf(hashes), above[number % WIDTH])) throw new Withheld(tilePath(level, number, WIDTH));
    return hashes;
  }

  function tileAt(level: number, number: number): Promise<Uint8Array[]> {
    const key = `${level}/${number}`;
    const tile = tiles.get(key) ?? provenTile(level, number);
    tiles.set(key, tile);
    return tile;
  }

  return async (height, index) => {
    const width = 2 ** (height % HEIGHT);
    const first = index * width; // among the hashes of the level
    const tile = await tileAt(Math.floor(height / HEIGHT), Math.floor(first / WIDTH));
    const hashes = tile.slice(first % WIDTH, (first % WIDTH) + width);
    if (hashes.length !== width) throw new Withheld(`node ${height}/${index}`);
    return rootOf(hashes);
  };
}
