// Hash tiles (https://c2sp.org/tlog-tiles): 256 hashes a file, from which every node of the tree follows.
import { HASH_BYTES, nodeHash, type NodeReader } from "./merkle.ts";

const WIDTH = 256;
const HEIGHT = 8;

/** The bytes at a path of the log, null where the log has no such file; throws when it cannot be asked. */
export type Read = (path: string) => Promise<Uint8Array | null>;

/** The log does not serve what it must have. */
export class Withheld extends Error {}

export function tilePath(level: number, number: number, width: number): string {
  const digits = String(number);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/.../g) ?? [];
  const name = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join("/");
  return `tile/${level}/${name}${width === WIDTH ? "" : `.p/${width}`}`;
}

/** A reader of the nodes of a log at a size. It asks for every tile once. */
export function nodeReader(size: number, read: Read): NodeReader {
  const tiles = new Map<string, Promise<Uint8Array>>();

  async function fetchTile(level: number, number: number, width: number): Promise<Uint8Array> {
    const path = tilePath(level, number, width);
    // A log may drop a partial tile once it is full.
    const data = (await read(path)) ?? (width < WIDTH ? await read(tilePath(level, number, WIDTH)) : null);
    if (!data || data.length < width * HASH_BYTES) throw new Withheld(path);
    return data;
  }

  return async (height, index) => {
    const level = Math.floor(height / HEIGHT);
    const count = 2 ** (height % HEIGHT);
    const first = index * count; // among the hashes of the level
    const number = Math.floor(first / WIDTH);
    const width = Math.min(WIDTH, Math.floor(size / 2 ** (HEIGHT * level)) - number * WIDTH);
    const key = `${level}/${number}`;
    const tile = tiles.get(key) ?? fetchTile(level, number, width);
    tiles.set(key, tile);
    const data = await tile;
    const at = (first % WIDTH) * HASH_BYTES;
    let row: Uint8Array[] = Array.from({ length: count }, (_, i) => data.slice(at + i * HASH_BYTES, at + (i + 1) * HASH_BYTES));
    while (row.length > 1) row = row.filter((_, i) => i % 2 === 0).map((left, i) => nodeHash(left, row[2 * i + 1]));
    return row[0];
  };
}
