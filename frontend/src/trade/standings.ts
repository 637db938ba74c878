// The table of positions comes from the server, where a shared connection is known; asked for again when something is new.
import { meta } from "../meta";
import { Rounds } from "../home/rounds";
import { listen, served, setHalt, state } from "./state";

const SOON_MS = 400; // a burst of fills is one look
const POLL_MS = 15_000;
const TIMEOUT_MS = 10_000;

const rounds = new Rounds();
let timer = 0;

async function look(place: HTMLElement): Promise<void> {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => void look(place), POLL_MS);
  if (document.hidden) return;
  const round = rounds.begin();
  try {
    const response = await fetch("/trade/positions", { credentials: "same-origin", redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) return;
    const text = await response.text();
    if (!rounds.take(round)) return; // a later look was quicker
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    setHalt(fresh.querySelector<HTMLElement>("[data-halt]")?.dataset.halt ?? "");
    // Where somebody reads with the keyboard nothing is taken away; the next look will do.
    if (place.innerHTML === fresh.innerHTML || place.contains(document.activeElement)) return;
    place.replaceChildren(...Array.from(fresh.childNodes));
  } catch {
    // The connection's state is said by the shell.
  }
}

/** What the table goes by: open orders, and energy bought or sold. */
const standing = (): string => JSON.stringify([state.orders.map((order) => [order.id, order.status, order.remaining_wh]), state.net]);

export function startStandings(): void {
  const place = document.getElementById("positions");
  if (!place || !meta.running || !served.account) return;
  let known = standing();
  const soon = (): void => {
    const now = standing();
    if (now === known) return; // orders are looked at whenever the book moves; they are rarely others
    known = now;
    window.clearTimeout(timer);
    timer = window.setTimeout(() => void look(place), SOON_MS);
  };
  listen("orders", soon);
  listen("net", soon);
  timer = window.setTimeout(() => void look(place), POLL_MS);
}
