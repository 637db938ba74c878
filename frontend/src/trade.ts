// The trade page: its parts, and what connects them.
import "./trade/strip";
import "./trade/ladder";
import "./trade/orders";
import "./trade/tape";
import "./trade/chart";
import "./trade/depth";
import { connect } from "./live";
import { clock, interval } from "./format";
import { t } from "./messages";
import type { Action } from "./trade/keys";
import type { Ladder } from "./trade/ladder";
import type { Orders } from "./trade/orders";
import { startStandings } from "./trade/standings";
import { startShortcuts } from "./trade/shortcuts";
import { contractState, contracts, listen, served, show, start, state } from "./trade/state";
import { listenToLadder, type Ticket } from "./trade/ticket";

/** The line beside the heading: until when this interval trades, or that it is over and where to go on. */
function showGate(): void {
  const line = document.getElementById("gate");
  if (!line) return;
  const now = contractState();
  if (line.dataset.state === now) return;
  line.dataset.state = now;
  if (now === "open") {
    line.textContent = t("trading until {time}", { time: clock(served.gate_ms) });
    return;
  }
  const tag = document.createElement("span");
  tag.className = now === "halted" ? "tag warn" : "tag";
  tag.textContent = now === "halted" ? t("halted") : t("Trading has ended");
  line.replaceChildren(tag);
  const next = contracts().find((name) => name > served.contract && state.ticker[name]?.state === "open");
  if (now === "closed" && next) {
    const link = document.createElement("a");
    link.href = `/trade/${next}`;
    link.textContent = t("Go to {slot}", { slot: interval(next) });
    line.append(" ", link);
  }
}

/** What a key stands for, done where it belongs. */
function act(root: HTMLElement, wanted: Exclude<Action, "help">): void {
  const part = <T extends HTMLElement>(name: string): T | null => root.querySelector<T>(`market-${name}`);
  if (wanted === "buy" || wanted === "sell") part<Ticket>("ticket")?.turn(wanted);
  else if (wanted === "freeze") part<Ladder>("ladder")?.toggle();
  else if (wanted === "ladder") part("ladder")?.focus();
  else if (wanted === "intervals") part("strip")?.focus();
  else if (wanted === "orders") part("orders")?.focus();
  else void part<Orders>("orders")?.askAll();
}

/** A later interval is shown in place as well; without scripts the form asks for its page. */
function listenToLater(root: HTMLElement): void {
  const choice = root.querySelector<HTMLSelectElement>("#later");
  choice?.form?.addEventListener("submit", (event) => {
    event.preventDefault();
    void show(choice.value);
  });
}

const root = document.querySelector<HTMLElement>(".trade");
if (root) {
  start();
  listen("ticker", showGate);
  listen("contract", showGate);
  connect();
  listenToLadder(root);
  listenToLater(root);
  startStandings();
  startShortcuts((wanted) => act(root, wanted));
  const first = served.contract; // "/trade" names none
  window.addEventListener("popstate", () => void show(window.location.pathname.split("/")[2] || first, false));
}
