// The trade page: its parts, and what connects them.
import "./trade/strip";
import "./trade/ladder";
import "./trade/orders";
import "./trade/tape";
import "./trade/chart";
import { connect } from "./live";
import { clock, interval } from "./format";
import { t } from "./messages";
import { contractState, listen, served, start, state } from "./trade/state";
import { listenToLadder } from "./trade/ticket";

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
  const next = served.strip.find((name) => name > served.contract && state.ticker[name]?.state === "open");
  if (now === "closed" && next) {
    const link = document.createElement("a");
    link.href = `/trade/${next}`;
    link.textContent = t("Go to {slot}", { slot: interval(next) });
    line.append(" ", link);
  }
}

const root = document.querySelector<HTMLElement>(".trade");
if (root) {
  start();
  listen("ticker", showGate);
  connect();
  listenToLadder(root);
}
