// What this browser keeps of the log from visit to visit: the keys it believes, the newest checkpoint it verified, and
// evidence of every failure. It lies in localStorage, so whoever clears the site's data clears it.
import type { Conflict, GrowthAnswer } from "./checker.ts";

export interface Kept {
  origin: string;
  keys: string[]; // that may sign
  old: string[]; // revoked since
  since: number; // ms since epoch, this machine's clock
  seen: number;
  size: number;
  note: string;
}

export interface Alarm extends Conflict {
  at: number;
}

const KEPT = "sunledger.log";
export const ALARMS = "sunledger.alarms";
const MAX_ALARMS = 8; // the first ones: what came later follows from them

function load<T>(name: string): T | null {
  try {
    const text = localStorage.getItem(name);
    return text ? (JSON.parse(text) as T) : null;
  } catch {
    return null; // no storage, or not ours
  }
}

function save(name: string, value: unknown): void {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // full or forbidden: then this visit is all there is
  }
}

export function kept(): Kept | null {
  const found = load<Kept>(KEPT);
  return found && typeof found.note === "string" && Array.isArray(found.keys) && Array.isArray(found.old) ? found : null;
}

/** Keep a head that has been verified to go on from the kept one; another tab may have been faster. */
export function keep(answer: GrowthAnswer): void {
  const { origin, keys, old, size, note } = answer;
  const before = kept();
  if (before && before.size > size) return;
  const now = Date.now();
  save(KEPT, { origin, keys, old, since: before?.since ?? now, seen: now, size, note } satisfies Kept);
}

export function alarms(): Alarm[] {
  const found = load<Alarm[]>(ALARMS);
  return Array.isArray(found) ? found : [];
}

/** Keep evidence; the same once only. */
export function raise(conflict: Conflict): void {
  const before = alarms();
  if (before.some((alarm) => alarm.code === conflict.code && alarm.first === conflict.first)) return;
  if (before.length < MAX_ALARMS) save(ALARMS, [...before, { ...conflict, at: Date.now() }]);
}

/** Forget everything and begin with what the log shows next. Only ever by a person's own decision. */
export function startAfresh(): void {
  localStorage.removeItem(KEPT);
  localStorage.removeItem(ALARMS);
}
