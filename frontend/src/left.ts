// What waited to be sent when the home page was left. The note outlives the page, so that the page one lands on, whichever
// it is, says once that nothing was sent.

const PENDING = "sunledger.pending"; // side and the moment it would have gone
const GRACE_MS = 1000; // timers of another tab may be late

export interface Note {
  side: "buy" | "sell";
  until: number; // ms, by the browser's clock
}

/** Note that a press waits for so many milliseconds. */
export function remember(side: Note["side"], waitMs: number): void {
  try {
    const note = JSON.stringify({ side, until: Date.now() + waitMs });
    localStorage.setItem(PENDING, note);
    sessionStorage.setItem(PENDING, note);
  } catch {
    // no storage: then it is only said while the page is open
  }
}

export function forget(): void {
  try {
    localStorage.removeItem(PENDING);
    sessionStorage.removeItem(PENDING);
  } catch {
    // see above
  }
}

/** Take the note of what was left, if there is one; who takes it says it. */
export function take(): Note | null {
  try {
    const here = sessionStorage.getItem(PENDING) !== null;
    const note = JSON.parse(localStorage.getItem(PENDING) ?? "null") as Note | null;
    // Within the five seconds another tab may still be counting.
    if (!note || (!here && Date.now() < note.until + GRACE_MS)) return null;
    forget();
    return { side: note.side === "buy" ? "buy" : "sell", until: note.until };
  } catch {
    forget();
    return null;
  }
}
