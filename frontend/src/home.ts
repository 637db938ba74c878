// The household's home: the served page kept up to date, and one button.
import { call, newKey, Problem } from "./api";
import { energy, interval, money, moneyE7, priceE4, unitPrice } from "./format";
import { connect, mayTrade, socket, store } from "./live";
import { meta } from "./meta";
import { t } from "./messages";
import { announce } from "./status";
import type { Log, OwnItem, Ticker } from "./store";

const REFRESH_MS = 5000; // power and money of today have no channel of their own
const MIN_GAP_MS = 1000;

interface Answer {
  order: { id: number; status: string; filled_wh: number; remaining_wh: number; price: string; contract: string };
  trades: { price: string; energy_wh: number; amount: string }[];
}

const page = document.getElementById("home");
const button = document.getElementById("sell") as HTMLButtonElement | null;
const receipt = document.getElementById("receipt");
let sending = false;
let lastRefresh = 0;
let timer = 0;

// --- keep the page up to date ------------------------------------------------------------------------------------

function sync(fresh: Element, shown: HTMLElement): void {
  for (const { name, value } of Array.from(fresh.attributes)) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  if (shown.innerHTML === fresh.innerHTML) return;
  const open = shown.querySelector("details")?.open ?? false;
  if (shown.contains(document.activeElement)) return; // somebody reads here with the keyboard; the next round will do
  shown.replaceChildren(...Array.from(fresh.childNodes));
  const details = shown.querySelector("details");
  if (details) details.open = open;
}

async function refresh(): Promise<void> {
  lastRefresh = performance.now();
  if (!page || document.hidden) return;
  let text: string;
  try {
    const response = await fetch(page.dataset.url ?? "", { credentials: "same-origin", redirect: "error" });
    if (!response.ok) return;
    text = await response.text();
  } catch {
    return; // the connection's state is said elsewhere
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const shown of page.querySelectorAll<HTMLElement>("[data-live]")) {
    const match = fresh.querySelector(`[data-live="${shown.dataset.live}"]`);
    if (match) sync(match, shown);
  }
  arm();
}

function soon(): void {
  if (timer) return;
  const wait = Math.max(0, lastRefresh + MIN_GAP_MS - performance.now());
  timer = window.setTimeout(() => {
    timer = 0;
    void refresh();
  }, wait);
}

// --- sell ----------------------------------------------------------------------------------------------------------

function offer(): { contract: string; energyWh: number; price: string } | null {
  const data = document.getElementById("offer")?.dataset;
  const energyWh = Number(data?.energy ?? 0);
  if (!data?.contract || !energyWh) return null;
  return { contract: data.contract, energyWh, price: data.price ?? "" };
}

function arm(): void {
  if (button) button.disabled = sending || !offer() || !mayTrade(socket.state);
}

function tell(text: string, refused: boolean): void {
  if (!receipt) return;
  const line = document.createElement("p");
  line.textContent = text;
  receipt.replaceChildren(line);
  receipt.classList.toggle("refused", refused);
  receipt.hidden = false;
  announce(text);
}

function outcome(answer: Answer): string {
  const { order, trades } = answer;
  const paid = trades.reduce((sum, trade) => sum + moneyE7(trade.amount), 0);
  const values = {
    sold: energy(order.filled_wh),
    amount: money(paid),
    rest: energy(order.remaining_wh),
    price: unitPrice(priceE4(order.price)),
    slot: interval(order.contract),
    number: order.id,
  };
  if (order.remaining_wh === 0) return t("Sold: {sold} for {slot}, {amount}. Receipt no. {number}.", values);
  if (order.filled_wh === 0) {
    return t("On offer: {rest} for {slot} at {price} per kWh. You will see here when a neighbour buys. No. {number}.", values);
  }
  return t("Sold: {sold} for {amount}; {rest} wait for a buyer at {price} per kWh. No. {number}.", values);
}

async function sell(): Promise<void> {
  const wish = offer();
  if (!wish || sending) return;
  sending = true;
  arm();
  try {
    const answer = await call<Answer>(
      "POST",
      "/api/v1/orders",
      { contract: wish.contract, side: "sell", price: wish.price, energy_wh: wish.energyWh, time_in_force: "gtg" },
      newKey(),
    );
    tell(outcome(answer), false);
  } catch (error) {
    tell(error instanceof Problem ? error.message : t("Something went wrong. Nothing was sold."), true);
  } finally {
    sending = false;
    await refresh();
    arm();
  }
}

// --- autopilot -----------------------------------------------------------------------------------------------------

async function setAutomatic(form: HTMLFormElement, box: HTMLInputElement): Promise<void> {
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      credentials: "same-origin",
    });
    if (!response.ok) throw new Error(String(response.status));
    announce(await response.text());
  } catch {
    box.checked = !box.checked;
    announce(t("The autopilot could not be switched. Try again."));
  }
}

const form = document.getElementById("automatic") as HTMLFormElement | null;
const box = form?.querySelector<HTMLInputElement>("input[name=automatic]");
if (form && box) box.addEventListener("change", () => void setAutomatic(form, box));

// --- live ----------------------------------------------------------------------------------------------------------

function quote(id: string, text: string | null): void {
  const place = document.getElementById(id);
  const value = text === null ? "–" : unitPrice(priceE4(text));
  if (place && place.textContent?.trim() !== value) place.textContent = value;
}

if (page && meta.running) {
  button?.addEventListener("click", () => void sell());
  socket.watch(arm);
  if (meta.area) {
    store.watch<Ticker>(`ticker:${meta.area}`, (ticker) => {
      const name = document.getElementById("prices")?.dataset.contract;
      const line = name ? ticker?.contracts[name] : undefined;
      if (!line) return;
      quote("quote-sell", line.bid);
      quote("quote-buy", line.ask);
      soon();
    });
  }
  let seen = Infinity; // the snapshot holds what happened before this page was opened
  store.watch<Log<OwnItem>>("me", (log) => {
    const newest = log?.items.at(-1)?.seq ?? -1;
    for (const item of log?.items ?? []) {
      if (item.seq <= seen || item.type !== "trade") continue;
      const values = { energy: energy(Number(item.energy_wh)), amount: money(moneyE7(String(item.amount))) };
      announce(item.side === "sell" ? t("Sold {energy} for {amount}.", values) : t("Bought {energy} for {amount}.", values));
    }
    seen = newest;
    soon();
  });
  window.setInterval(() => void refresh(), REFRESH_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) soon();
  });
  connect();
  arm();
}

