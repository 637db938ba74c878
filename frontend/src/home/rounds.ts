// Which answer to "what is it like now?" may be shown. Pure.
export class Rounds {
  private asked = 0;
  private valid = 0; // answers to earlier rounds say what was

  begin(): number {
    return ++this.asked;
  }

  /** Something was done: what was asked before it knows nothing of it. */
  overtake(): void {
    this.valid = this.asked + 1;
  }

  /**
   * Whether the answer to a round is news: no later one has come, and nothing was done since it was asked.
   * One that tells only a part does not make older answers about the whole worthless.
   */
  take(round: number, whole = true): boolean {
    if (round < this.valid) return false;
    if (whole) this.valid = round;
    return true;
  }
}
