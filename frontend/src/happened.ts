// The ledger entries that a list will tell of when it has been asked for: they wait until an answer has come. Pure.
const MAX_WAITING = 500; // as many as a log keeps

export class Happened {
  private entries: number[] = [];

  add(seqs: number[]): void {
    this.entries = [...this.entries, ...seqs].slice(-MAX_WAITING);
  }

  /** Those that an answer asked for now will know of. */
  sofar(): readonly number[] {
    return this.entries;
  }

  /**
   * An answer came that knows of these; they wait no longer. Whether something is news to who listens: unless there are
   * entries and the page has said all of them itself. What has no entry nobody else says.
   */
  told(known: readonly number[], wasSaid: (seq: number) => boolean): boolean {
    const here = new Set(known);
    const told = this.entries.filter((seq) => here.has(seq));
    this.entries = this.entries.filter((seq) => !here.has(seq));
    return !told.length || !told.every(wasSaid);
  }
}
