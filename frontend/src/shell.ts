// Connection and ledger state, on every page.
import { take } from "./left";
import { socket, store, type SocketState } from "./live";
import { t } from "./messages";
import { announce } from "./status";
import type { Block, Log } from "./store";

const WORDS: Record<SocketState, string> = {
  connecting: "Connecting",
  live: "Live",
  paused: "Prices paused",
  stopped: "Prices paused",
};

let before: SocketState | "" = "";

function show(state: SocketState): void {
  const pulse = document.getElementById("pulse");
  if (!pulse) return;
  pulse.dataset.state = state === "stopped" ? "paused" : state;
  pulse.textContent = t(WORDS[state]);
  document.documentElement.dataset.connection = state;
  if (state === "paused") {
    announce(t("Prices paused: the connection to the market is silent. Nothing can be sold until it is back."));
  } else if (state === "live" && before === "paused") {
    announce(t("Prices are live again."));
  }
  // A short break on the way back is no news.
  if (state !== "connecting") before = state;
}

export function startShell(): void {
  socket.watch(show);
  store.watch<Log<Block>>("blocks", (log) => {
    const block = log?.items.at(-1);
    const place = document.querySelector("#ledger-state span");
    if (block && place) place.textContent = t("Block {height}", { height: block.height });
  });
}

/** Say on any page but home, which has a place of its own for it, that what waited there was not sent. */
export function sayWhatWasLeft(): void {
  if (document.getElementById("home")) return;
  const note = take();
  if (!note) return;
  const text =
    note.side === "sell"
      ? t("You left the page before your sale was sent: nothing was sold.")
      : t("You left the page before your purchase was sent: nothing was bought.");
  const place = document.createElement("div");
  place.className = "notices";
  const line = document.createElement("p");
  line.className = "notice warning";
  line.id = "left";
  line.textContent = text;
  place.append(line);
  document.getElementById("main")?.before(place);
  announce(text);
}
