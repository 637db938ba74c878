// Five seconds to take a tap back before anything is sent. Pure: time and timers come in.
//
// Only what somebody looks at is sent: who leaves the page, hides it or loses the market within the five seconds has
// sent nothing, and is told so on the page they land on or on coming back.
export const SECONDS = 5;
const DOUBLE_TAP_MS = 500; // a second tap so soon belongs to the first
const LATE_MS = 2000; // a timer that comes so much too late slept: nobody has been looking
const TICK_MS = 200;

export type Phase = "idle" | "waiting" | "sending";
/** Why nothing was sent. */
export type Reason = "person" | "left" | "paused";

export interface Hooks<P> {
  now(): number;
  every(ms: number, run: () => void): number;
  stop(timer: number): void;
  /** The phase or the seconds left have changed. */
  show(phase: Phase, seconds: number): void;
  send(plan: P): Promise<void>;
  /** It was taken back. */
  dropped(reason: Reason): void;
}

export class TakeBack<P> {
  phase: Phase = "idle";
  private plan: P | null = null;
  private pressedAt = 0;
  private timer = 0;
  private shown = 0;
  private readonly hooks: Hooks<P>;

  constructor(hooks: Hooks<P>) {
    this.hooks = hooks;
  }

  /** The button was pressed: begin with a plan, or take the running one back. */
  press(plan: P | null): void {
    if (this.phase === "sending") return;
    if (this.phase === "waiting") {
      if (this.hooks.now() - this.pressedAt >= DOUBLE_TAP_MS) this.drop("person");
      return;
    }
    if (plan === null) return;
    this.plan = plan;
    this.phase = "waiting";
    this.pressedAt = this.hooks.now();
    this.shown = SECONDS;
    this.hooks.show("waiting", SECONDS);
    this.timer = this.hooks.every(TICK_MS, () => this.tick());
  }

  /** Take it back unless it is on its way already. */
  drop(reason: Reason): void {
    if (this.phase !== "waiting") return;
    this.end();
    this.hooks.dropped(reason);
  }

  private end(): void {
    this.hooks.stop(this.timer);
    this.plan = null;
    this.phase = "idle";
    this.hooks.show("idle", 0);
  }

  private tick(): void {
    const leftMs = this.pressedAt + SECONDS * 1000 - this.hooks.now();
    if (leftMs <= -LATE_MS) return this.drop("left");
    if (leftMs <= 0) return void this.go();
    const seconds = Math.ceil(leftMs / 1000);
    if (seconds === this.shown) return;
    this.shown = seconds;
    this.hooks.show("waiting", seconds);
  }

  private async go(): Promise<void> {
    const plan = this.plan as P;
    this.hooks.stop(this.timer);
    this.phase = "sending";
    this.hooks.show("sending", 0);
    try {
      await this.hooks.send(plan);
    } finally {
      this.end();
    }
  }
}
