// Which answer to "what is it like now?" may be shown. Pure.
export class Rounds {
  private asked = 0;
  private valid = 0; // answers to earlier rounds say what was
  private open = 0;

  /** Whether one is on its way. */
  get waits(): boolean {
    return this.open > 0;
  }

  begin(): number {
    this.open += 1;
    return ++this.asked;
  }

  end(): void {
    this.open -= 1;
  }

  /** Something was done: what was asked before it knows nothing of it. */
  overtake(): void {
    this.valid = this.asked + 1;
  }

  /** Whether the answer to a round is news: no later one has come, and nothing was done since it was asked. */
  take(round: number): boolean {
    if (round < this.valid) return false;
    this.valid = round;
    return true;
  }
}
