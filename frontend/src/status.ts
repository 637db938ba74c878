// The page's one polite status region. Everything that happens without a new page is said here, once.
const CLEAR_MS = 8000;
const MAX_SAID = 500; // as many as a log keeps
let timer = 0;
const said = new Set<number>();

export function announce(text: string): void {
  const region = document.getElementById("status");
  if (!region) return;
  region.textContent = text;
  window.clearTimeout(timer);
  timer = window.setTimeout(() => (region.textContent = ""), CLEAR_MS);
}

/** Note that what these ledger entries did to the account is said by the page itself: nobody need say it again. */
export function saidAloud(items: { seq: number }[]): void {
  for (const { seq } of items) said.add(seq);
  for (const seq of said) {
    if (said.size <= MAX_SAID) break;
    said.delete(seq);
  }
}

export const wasSaid = (seq: number): boolean => said.has(seq);
