// What a page asks again and again, and which of it has stopped answering: one that answers says nothing of another. Pure.
export const STALE_AFTER = 2; // rounds without an answer until the page says so

interface Asked {
  failures: number;
  signedOut: boolean;
  at: number; // when it answered last
}

export class Freshness {
  private readonly asked = new Map<string, Asked>();
  private readonly since: number;

  /** `since`: when the page was served. */
  constructor(since: number) {
    this.since = since;
  }

  /** What is shown of this is what the market says now. */
  answered(what: string, at: number): void {
    this.asked.set(what, { failures: 0, signedOut: false, at });
  }

  unanswered(what: string, signedOut: boolean): void {
    const before = this.asked.get(what);
    this.asked.set(what, { failures: (before?.failures ?? 0) + 1, signedOut, at: before?.at ?? this.since });
  }

  /** Whether a page would have to be signed in to again; such a one is stale at once. */
  get signedOut(): boolean {
    return [...this.asked.values()].some((one) => one.signedOut);
  }

  /** From when the oldest of it is that does not answer any more; null while all of it does. */
  get staleSince(): number | null {
    const stale = [...this.asked.values()].filter((one) => one.failures >= STALE_AFTER);
    return stale.length ? Math.min(...stale.map((one) => one.at)) : null;
  }
}
