// The bell: how much is new, live by the account's own stream, and the newest few in a list that opens under it.
import { call } from "./api";
import { Happened } from "./happened";
import { store } from "./live";
import { t } from "./messages";
import { announce, wasSaid } from "./status";
import { Rounds } from "./home/rounds";
import type { Log, OwnItem } from "./store";

const TIMEOUT_MS = 10_000;
const SETTLE_MS = 700; // a trade's entries come one after the other
const TELLING = new Set(["trade", "recall", "fund", "settle", "adjust", "cancel", "account"]);

const bell = document.getElementById("bell") as HTMLDetailsElement | null;
const count = document.getElementById("bell-count");
const list = document.getElementById("bell-list");
let timer = 0;
let known = 0; // what was new when this was last said aloud
const happened = new Happened(); // since then
const rounds = new Rounds();

function show(unread: number): void {
  if (!count) return;
  count.hidden = unread === 0;
  const quiet = count.querySelector(".quiet");
  count.replaceChildren(String(unread), ...(quiet ? [quiet] : []));
}

async function load(): Promise<void> {
  if (!bell || !list) return;
  const [round, since] = [rounds.begin(), happened.sofar()];
  let text: string;
  try {
    const answer = await fetch(bell.dataset.latest ?? "", {
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!answer.ok) return;
    text = await answer.text();
  } catch {
    return; // the connection's state is said elsewhere
  }
  if (!rounds.take(round)) return; // the list was asked for again meanwhile, and has come
  const fresh = new DOMParser().parseFromString(text, "text/html").body;
  const part = fresh.querySelector<HTMLElement>("[data-unread]");
  const unread = Number(part?.dataset.unread ?? 0);
  const unsaid = happened.told(since, wasSaid);
  if (unread > known && !bell.open && unsaid) announce(t("{count} new notifications.", { count: unread }));
  known = unread;
  show(unread);
  if (list.contains(document.activeElement)) return; // somebody reads here with the keyboard
  list.replaceChildren(...Array.from(fresh.childNodes));
  if (bell.open) await seen(part?.dataset.mark);
}

/** What was shown has been seen; the list keeps saying "new" until it is opened again. */
async function seen(mark: string | undefined): Promise<void> {
  if (!mark || !known) return;
  try {
    const left = await call<{ unread: number }>("POST", "/api/v1/me/notifications/read", { mark });
    known = left.unread;
    show(left.unread);
  } catch {
    // the next opening will do
  }
}

export function startBell(): void {
  if (!bell) return;
  known = Number(count?.firstChild?.textContent ?? 0) || 0;
  bell.addEventListener("toggle", () => {
    if (bell.open) void load();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !bell.open) return;
    bell.open = false;
    bell.querySelector("summary")?.focus();
  });
  document.addEventListener("click", (event) => {
    if (bell.open && !bell.contains(event.target as Node)) bell.open = false;
  });
  let last = Infinity; // the snapshot holds what happened before this page was opened
  store.watch<Log<OwnItem>>("me", (log) => {
    const newest = log?.items.at(-1)?.seq ?? -1;
    const telling = (log?.items ?? []).filter((item) => item.seq > last && TELLING.has(item.type));
    last = newest;
    happened.add(telling.map((item) => item.seq));
    if (!telling.length || timer) return;
    timer = window.setTimeout(() => {
      timer = 0;
      void load();
    }, SETTLE_MS);
  });
}
