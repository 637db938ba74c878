// Keeps served parts of a page up to date: fetches the page again and swaps its [data-live] parts.
import { meta } from "./meta";
import { answered, unanswered } from "./stale";

export const REFRESH_MS = 5000;
const TIMEOUT_MS = 10_000;
const PAGE = "page"; // its address may change with what is chosen on it

async function fetchText(url: string, what = url): Promise<string | null> {
  let response: Response | null = null;
  try {
    response = await fetch(url, { credentials: "same-origin", redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.ok) {
      const text = await response.text();
      answered(what);
      return text;
    }
  } catch {
    // said below
  }
  unanswered(response, what); // the next round will do, but not for ever
  return null;
}

function busy(part: Element): boolean {
  if (part.contains(document.activeElement)) return true; // somebody reads here with the keyboard
  const selection = window.getSelection();
  return selection !== null && !selection.isCollapsed && selection.anchorNode !== null && part.contains(selection.anchorNode);
}

function swap(shown: Element, fresh: Element): void {
  if (shown.innerHTML === fresh.innerHTML || busy(shown)) return;
  shown.replaceChildren(...Array.from(fresh.childNodes));
}

async function refreshPage(): Promise<void> {
  const text = await fetchText(window.location.href, PAGE);
  if (text === null) return;
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const shown of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const match = fresh.querySelector(`[data-live="${shown.dataset.live}"]`);
    if (match) swap(shown, match);
  }
}

async function refreshParts(): Promise<void> {
  for (const shown of document.querySelectorAll<HTMLElement>("[data-refresh]")) {
    const text = await fetchText(shown.dataset.refresh ?? "");
    if (text === null) continue;
    const fresh = new DOMParser().parseFromString(text, "text/html");
    swap(shown, fresh.body);
  }
}

async function round(): Promise<void> {
  if (!document.hidden) {
    if (document.querySelector("[data-live]")) await refreshPage();
    await refreshParts();
  }
  window.setTimeout(() => void round(), REFRESH_MS);
}

/** Start the rounds, one after the other; without a running market nothing changes. */
export function startRefresh(): void {
  if (meta.running) window.setTimeout(() => void round(), REFRESH_MS);
}
