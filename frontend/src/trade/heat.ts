// How dark an interval is in the strip, and where the arrow keys lead in it. Pure; market/pages/tradeview.py has the same rules.
import type { TickerLine } from "../store";

export const SHADES = 8;
export type Measure = "price" | "volume";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** What an interval costs about: between bid and ask, or the one there is, or the last trade's price; null for none. */
export function priceOf(line: TickerLine | undefined, e4: (text: string) => number): number | null {
  const bid = line?.bid ? e4(line.bid) : null;
  const ask = line?.ask ? e4(line.ask) : null;
  if (bid !== null && ask !== null) return Math.floor((bid + ask) / 2);
  return ask ?? bid ?? (line?.last ? e4(line.last) : null);
}

/** Shades 1 … SHADES from the least to the most, 0 where there is nothing; equal values are the lightest. */
export function shades(values: (number | null)[]): number[] {
  const known = values.filter((value): value is number => value !== null);
  const low = Math.min(...known);
  const span = Math.max(...known) - low;
  return values.map((value) => (value === null ? 0 : span ? 1 + Math.floor(((value - low) * (SHADES - 1)) / span) : 1));
}

/** The intervals that stand in the strip, each once and in order: a page that stays open does not keep those of yesterday. */
export function standing(names: string[], shown: string, nowMs: number, startOf: (name: string) => number): string[] {
  return [...new Set(names)].filter((name) => name === shown || startOf(name) > nowMs - HOUR_MS).sort();
}

/** Columns of an hour each: their first minute, and the intervals in it, in order. */
export interface Hour {
  startMs: number;
  names: string[];
}

/** The intervals (by start) in hours; `minute` is the minute on the market's clock at which one starts. */
export function hours(names: string[], startOf: (name: string) => number, minute: (atMs: number) => number): Hour[] {
  const found: Hour[] = [];
  for (const name of names) {
    const start = startOf(name);
    const hour = start - minute(start) * MINUTE_MS;
    if (found.at(-1)?.startMs !== hour) found.push({ startMs: hour, names: [] });
    found[found.length - 1].names.push(name);
  }
  return found;
}

/** Where a key leads from place `at` of `length`: a column holds an hour, so up and down are one interval, left and right an hour. */
export function moved(key: string, at: number, length: number, anHour: number): number | null {
  const steps: Record<string, number> = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -anHour, ArrowRight: anHour, Home: -Infinity, End: Infinity };
  if (!(key in steps)) return null;
  return Math.min(length - 1, Math.max(0, at + steps[key]));
}
