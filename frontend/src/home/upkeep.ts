// When the home page asks what it is like now: when the streams say that something of its own has changed, and now and then
// in any case. Pure: time, timers and the asking itself come in.
//
// One question at a time. What is wished while one is under way, or while nobody looks, is asked afterwards, once.

export const NET_MS = 30_000; // prices and plans move without anything of one's own
export const DEAF_NET_MS = 5_000; // without the streams nothing is told
export const RETRY_MS = 5_000; // after no answer
const OWN_GAP_MS = 1_000; // from one question to the next: a press may trade in a dozen intervals
const MARKET_GAP_MS = 15_000; // a busy market would have every open page ask all the time
const POWER_GAP_MS = 10_000; // a picture to look at, not a gauge to steer by
const SPREAD_MS = 3_000; // what concerns every home at once is not asked by all of them at once

/** All of the page, or only what the home makes and uses at this moment, which costs half. */
export type Part = "all" | "power";

export interface Hooks {
  now(): number;
  after(ms: number, run: () => void): number;
  stop(timer: number): void;
  random(): number;
  hidden(): boolean;
  /** Ask, and show the answer; whether there was one. */
  ask(part: Part): Promise<boolean>;
}

export class Upkeep {
  private readonly hooks: Hooks;
  private live = false;
  private asking = false;
  private timer = 0;
  private allDue: number;
  private powerDue = Infinity;
  private allAt = -Infinity; // when it was asked last
  private powerAt = -Infinity;

  constructor(hooks: Hooks) {
    this.hooks = hooks;
    this.allAt = this.powerAt = hooks.now(); // the page has just been served
    this.allDue = this.allAt + DEAF_NET_MS;
    this.arm();
  }

  /** Something of this account happened. */
  own(): void {
    this.wish(this.allAt + OWN_GAP_MS);
  }

  /** Something happened to many homes at once, this one among them. */
  shared(): void {
    this.wish(Math.max(this.hooks.now(), this.allAt + OWN_GAP_MS) + this.hooks.random() * SPREAD_MS);
  }

  /** Prices that this page's sentences are made of have moved. */
  market(): void {
    this.wish(this.allAt + MARKET_GAP_MS);
  }

  /** What the home makes and uses has changed. */
  power(): void {
    this.powerDue = Math.min(this.powerDue, this.powerAt + POWER_GAP_MS);
    this.arm();
  }

  /** Whether the streams are heard. */
  hears(live: boolean): void {
    if (live === this.live) return;
    this.live = live;
    // What was told meanwhile was not heard.
    if (live) this.own();
    else this.wish(this.allAt + DEAF_NET_MS);
  }

  /** The page is looked at again, or no longer. */
  looked(): void {
    this.arm();
  }

  /** All of the page was asked for by other means. */
  asked(): void {
    this.allAt = this.powerAt = this.hooks.now();
    this.allDue = this.allAt + this.net();
    this.powerDue = Infinity;
    this.arm();
  }

  private net(): number {
    return this.live ? NET_MS : DEAF_NET_MS;
  }

  private wish(at: number): void {
    this.allDue = Math.min(this.allDue, at);
    this.arm();
  }

  private arm(): void {
    this.hooks.stop(this.timer);
    if (this.asking || this.hooks.hidden()) return;
    const wait = Math.max(0, Math.min(this.allDue, this.powerDue) - this.hooks.now());
    this.timer = this.hooks.after(wait, () => void this.go());
  }

  private async go(): Promise<void> {
    if (this.asking || this.hooks.hidden()) return;
    const all = this.allDue <= this.hooks.now();
    this.asking = true;
    this.powerDue = Infinity;
    this.powerAt = this.hooks.now();
    if (all) {
      this.allAt = this.powerAt;
      this.allDue = this.allAt + this.net();
    }
    let answered = false;
    try {
      answered = await this.hooks.ask(all ? "all" : "power");
    } finally {
      this.asking = false;
      if (!answered) this.allDue = Math.min(this.allDue, this.hooks.now() + RETRY_MS);
      this.arm();
    }
  }
}
