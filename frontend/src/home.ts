// The household's home: the served page kept up to date, two buttons with five seconds to take a tap back, the price strip.
import { call, newKey, plain, Problem, signsHere } from "./api";
import { energy, money, moneyE7, priceE4, sentences, unitPrice } from "./format";
import { type Answer, type BatchItem, Keys, type Placed, type Plan, read, reasons, type Side, send, sum } from "./home/placing";
import { Rounds } from "./home/rounds";
import { type Part, Upkeep } from "./home/upkeep";
import { isTold, news, receipts, stretch } from "./home/telling";
import { type Phase, type Reason, SECONDS, TakeBack } from "./home/takeback";
import { forget, remember, take } from "./left";
import { connect, mayTrade, socket, store } from "./live";
import { meta } from "./meta";
import { t } from "./messages";
import { answered, unanswered } from "./stale";
import { announce, saidAloud } from "./status";
import type { Flow, Log, OwnItem, Ticker } from "./store";

const TIMEOUT_MS = 10_000;
const TOLD_MS = 2000; // after a press its receipt says what was traded; the stream says it as well

const page = document.getElementById("home");
const rounds = new Rounds();
let upkeep: Upkeep | null = null;
let reportedAt = -Infinity;

// --- keep the page up to date ------------------------------------------------------------------------------------

function sync(fresh: Element, shown: HTMLElement): void {
  // The hours of the strip are kept as they are until one is over: each hour's content is a part of its own.
  if (shown.dataset.first !== undefined && shown.dataset.first === fresh.getAttribute("data-first")) return;
  const same = shown.innerHTML === fresh.innerHTML;
  // Somebody reads here with the keyboard; the next round will do. Attributes wait, too: they belong to these words.
  if (!same && shown.contains(document.activeElement)) return;
  for (const { name, value } of Array.from(fresh.attributes)) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  if (same) return;
  const open = shown.querySelector("details")?.open ?? false;
  shown.replaceChildren(...Array.from(fresh.childNodes));
  const details = shown.querySelector("details");
  if (details) details.open = open;
}

function address(part: Part): string {
  const hour = page?.dataset.hour;
  return (page?.dataset.url ?? "") + (part === "power" ? "?part=power" : hour ? `?hour=${hour}` : "");
}

/** Ask what it is like now and show that; whether there was an answer. */
async function refresh(part: Part = "all"): Promise<boolean> {
  if (!page) return false;
  const [round, where] = [rounds.begin(), address(part)];
  const parts: Part[] = part === "all" ? ["all", "power"] : [part]; // of which this tells
  let response: Response | null = null;
  let text: string | null = null;
  try {
    response = await fetch(where, { credentials: "same-origin", redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.ok) text = await response.text();
  } catch {
    // said below
  }
  if (text === null) {
    unanswered(response, ...parts);
    return false;
  }
  if (where !== address(part)) return true; // another hour was chosen meanwhile
  if (!rounds.take(round, part === "all")) return true;
  answered(...parts);
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const shown of page.querySelectorAll<HTMLElement>("[data-live]")) {
    if (cards.some(({ side, taking }) => taking.phase !== "idle" && shown.id === `${side}-plan`)) continue; // it says what is being sent
    const match = fresh.querySelector(`[data-live="${shown.dataset.live}"]`);
    if (match) sync(match, shown);
  }
  for (const { side, keys, taking } of cards) if (taking.phase === "idle") keys.shown(planOf(side));
  arm();
  return true;
}

/** Ask at once, whatever was asked a moment ago: somebody waits for it. */
async function refreshNow(): Promise<void> {
  upkeep?.asked();
  await refresh();
}

// --- the price strip -----------------------------------------------------------------------------------------------

function hours(): HTMLAnchorElement[] {
  return Array.from(document.querySelectorAll<HTMLAnchorElement>("#strip a"));
}

async function choose(hour: string): Promise<void> {
  if (!page) return;
  page.dataset.hour = hour;
  for (const link of hours()) {
    if (hour && link.dataset.hour === hour) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  await refreshNow();
  announce(document.getElementById("slot-say")?.textContent?.replace(/\s+/g, " ").trim() ?? "");
}

function step(event: KeyboardEvent): void {
  const all = hours();
  const at = all.indexOf(event.target as HTMLAnchorElement);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || next === undefined) return;
  event.preventDefault();
  all[Math.min(all.length - 1, Math.max(0, next))]?.focus();
}

function watchStrip(): void {
  page?.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("#strip a, a.any-hour");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    if (waiting()) return; // what was pressed is what will be sent
    const hour = link.dataset.hour ?? "";
    void choose(hour === page.dataset.hour ? "" : hour);
    if (!hour) hours()[0]?.focus({ preventScroll: true }); // the link that was pressed goes away
  });
  document.getElementById("strip")?.addEventListener("keydown", step);
}

// --- sell and buy --------------------------------------------------------------------------------------------------

interface Card {
  side: Side;
  button: HTMLButtonElement;
  label: string;
  taking: TakeBack<Plan>;
  keys: Keys;
}

const cards: Card[] = [];
const waiting = (): boolean => cards.some((card) => card.taking.phase !== "idle");

function planOf(side: Side): Plan | null {
  return read(side, document.getElementById(`${side}-plan`)?.dataset.legs ?? "");
}

function arm(): void {
  const paused = !mayTrade(socket.state);
  for (const note of document.querySelectorAll<HTMLElement>(".paused-note")) note.hidden = !paused;
  for (const { side, button, taking } of cards) {
    const off = taking.phase === "idle" ? waiting() || paused || !planOf(side) : taking.phase === "sending";
    button.ariaDisabled = off ? "true" : null;
    button.disabled = off && button !== document.activeElement; // who has just pressed it by keyboard stays where they are
  }
}

const COUNTDOWN = [
  "Will be sent now.",
  "Will be sent in one second.",
  "Will be sent in two seconds.",
  "Will be sent in three seconds.",
  "Will be sent in four seconds.",
  "Will be sent in five seconds.",
];

function show(card: Card, phase: Phase, seconds: number): void {
  const { side, button } = card;
  button.dataset.phase = phase;
  const word = phase === "idle" ? card.label : phase === "waiting" ? t("Take back") : t("Sending …");
  if (phase === "waiting" && seconds < SECONDS) {
    const count = document.getElementById(`${side}-countdown`);
    if (count) count.textContent = t(COUNTDOWN[seconds]);
  } else if (phase === "waiting") {
    // The seconds are for the eye: whoever listens has heard how many there are, and would hear nothing else.
    const label = document.createElement("span");
    label.textContent = word;
    const count = document.createElement("small");
    count.id = `${side}-countdown`;
    count.ariaHidden = "true";
    count.textContent = t(COUNTDOWN[seconds]);
    button.replaceChildren(label, count);
  } else button.textContent = word;
  if (phase === "waiting" && seconds === SECONDS) {
    tell(side, [], false);
    remember(side, SECONDS * 1000);
    announce(t("Will be sent in five seconds. Press the button again to take it back."));
  } else if (phase !== "waiting") forget();
  arm();
}

function tell(side: Side, lines: (string | Node)[], refused: boolean): void {
  const place = document.getElementById(`${side}-receipt`);
  if (!place) return;
  place.replaceChildren(
    ...lines.map((line) => {
      if (line instanceof HTMLDetailsElement) return line;
      const paragraph = document.createElement("p");
      paragraph.append(line);
      return paragraph;
    }),
  );
  place.classList.toggle("refused", refused);
  place.hidden = !lines.length;
}

function say(side: Side, text: string, refused = true): void {
  tell(side, [text], refused);
  announce(text);
}

function dropped(side: Side, reason: Reason): void {
  if (reason === "paused") say(side, t("Taken back because prices are paused: nothing was sent."));
  else if (reason === "left") {
    say(side, t("You left the page before it was sent: nothing was sent."));
    if (document.hidden) remember(side, SECONDS * 1000); // it may be another page that this person comes back to
  }
  else say(side, t("Taken back: nothing was sent."), false);
}

function report(side: Side, placed: Placed[]): void {
  const found = sum(placed, moneyE7);
  const lines: (string | Node)[] = [];
  const values = {
    all: energy(found.energyWh),
    slot: found.contracts.length ? stretch(found.contracts) : "",
    done: energy(found.doneWh),
    rest: energy(found.restWh),
    amount: money(found.doneE7),
  };
  if (found.contracts.length) {
    if (found.doneWh === 0) {
      lines.push(
        side === "sell"
          ? t("On offer: {all} for {slot}. You will see here when a neighbour buys.", values)
          : t("Asked for: {all} for {slot}. You will see here when a neighbour sells.", values),
      );
    } else if (found.restWh === 0) {
      lines.push(side === "sell" ? t("Sold: {done} for {slot}, {amount}.", values) : t("Bought: {done} for {slot}, {amount}.", values));
    } else {
      lines.push(
        side === "sell"
          ? t("Sold: {done} for {amount}, {slot}. {rest} wait for a buyer.", values)
          : t("Bought: {done} for {amount}, {slot}. {rest} wait for a seller.", values),
      );
    }
  }
  for (const { energyWh, contracts, problem } of reasons(found.failed, plain)) {
    lines.push(t("Not placed: {energy} for {slot}. {reason}", { energy: energy(energyWh), slot: stretch(contracts), reason: problem }));
  }
  announce(sentences(lines as string[]));
  reportedAt = performance.now();
  if (found.ids.length) lines.push(receipts(found.ids));
  tell(side, lines, !found.contracts.length);
}

/** Whether nobody knows what became of it: silence, or a market that failed. */
function unsure(error: unknown): boolean {
  return !(error instanceof Problem) || error.status === 0 || error.status >= 500;
}

function refused(error: unknown): string {
  return error instanceof Problem ? error.message : t("Something went wrong. Look at “What became of it” before you try again.");
}

async function place(plan: Plan, keys: Keys): Promise<void> {
  let known = false; // whether the market has answered for all of it
  try {
    const placed = await send(plan, {
      one: (body, key) => call<Answer>("POST", "/api/v1/orders", body, key),
      batch: (orders, key) => call<{ results: BatchItem[] }>("POST", "/api/v1/orders/batch", { orders }, key),
      signs: signsHere(),
      refused,
      unsure,
      key: keys.of(plan),
    });
    known = placed.every((one) => !one.unsure);
    report(plan.side, placed);
  } catch (error) {
    known = !unsure(error);
    say(plan.side, refused(error));
  } finally {
    if (known) keys.used();
    rounds.overtake();
    await refreshNow();
  }
}

function sayWhatWaited(): void {
  const note = take();
  if (note) dropped(note.side, "left");
}

function watchButtons(): void {
  for (const side of ["sell", "buy"] as const) {
    const button = document.getElementById(side) as HTMLButtonElement | null;
    if (!button) continue;
    const card = { side, button, label: button.textContent ?? "", keys: new Keys(newKey) } as Card;
    card.taking = new TakeBack<Plan>({
      now: () => performance.now(),
      every: (ms, run) => window.setInterval(run, ms),
      stop: (id) => window.clearInterval(id),
      show: (phase, seconds) => show(card, phase, seconds),
      send: (plan) => place(plan, card.keys),
      dropped: (reason) => dropped(side, reason),
    });
    cards.push(card);
    button.addEventListener("click", () => button.ariaDisabled !== "true" && card.taking.press(planOf(side)));
    button.addEventListener("blur", arm);
    button.addEventListener("keydown", (event) => {
      if (event.key === "Escape") card.taking.drop("person");
    });
  }
  const leave = (): void => cards.forEach(({ taking }) => taking.drop("left"));
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : forget()));
  // Gone for good: the note stays, and the page one lands on says that nothing was sent.
  window.addEventListener("pageshow", (event) => event.persisted && leave());
  socket.watch((state) => {
    if (!mayTrade(state)) cards.forEach(({ taking }) => taking.drop("paused"));
    arm();
  });
}

// --- first steps ---------------------------------------------------------------------------------------------------

function watchGuide(): void {
  const guide = document.getElementById("guide");
  const asked = document.getElementById("guide-form") as HTMLFormElement | null;
  asked?.addEventListener("submit", (event) => {
    event.preventDefault();
    const body = new FormData(asked);
    void fetch(asked.action, { method: "POST", body, credentials: "same-origin", redirect: "manual" }).catch(() => undefined);
    guide?.remove();
    document.getElementById("main")?.focus({ preventScroll: true });
  });
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

/** Prices in place, what happened to this account in words, and the page asked for again when something of it has changed. */
function watchMarket(keep: Upkeep): void {
  let lines: Ticker["contracts"] = {};
  if (meta.area) {
    store.watch<Ticker>(`ticker:${meta.area}`, (ticker) => {
      if (!ticker) return;
      const [before, name] = [lines, document.getElementById("prices")?.dataset.contract];
      lines = ticker.contracts;
      const line = name ? lines[name] : undefined;
      if (line) {
        quote("quote-sell", line.bid);
        quote("quote-buy", line.ask);
      }
      const planned = cards.flatMap(({ side }) => planOf(side)?.legs.map((leg) => leg.contract) ?? []);
      if (planned.some((one) => lines[one]?.state !== before[one]?.state)) keep.shared();
      else if (planned.some((one) => lines[one] !== before[one])) keep.market();
    });
  }
  let seen = Infinity; // the snapshot holds what happened before this page was opened
  let missed: Log["missed"] | undefined = null;
  store.watch<Log<OwnItem>>("me", (log) => {
    const fresh = (log?.items ?? []).filter((item) => item.seq > seen);
    // A press may trade in a dozen intervals at once: what came together is said together.
    const told = cards.some(({ taking }) => taking.phase === "sending") || performance.now() < reportedAt + TOLD_MS;
    const text = news(fresh.filter((item) => !(told && item.type === "trade")));
    if (text) announce(text);
    saidAloud(fresh.filter(isTold));
    seen = Math.max(log?.items.at(-1)?.seq ?? -1, seen === Infinity ? -1 : seen);
    if (log?.missed !== missed || fresh.some((item) => item.type !== "settle")) keep.own();
    else if (fresh.length) keep.shared();
    missed = log?.missed;
  });
  let flow: Flow | undefined;
  store.watch<Flow | undefined>("flow:me", (now) => {
    if (flow && (now?.readings !== flow.readings || now?.halts !== flow.halts)) keep.shared();
    else if (flow && now?.power !== flow.power) keep.power();
    flow = now;
  });
  socket.watch((state) => keep.hears(state === "live"));
  document.addEventListener("visibilitychange", () => keep.looked());
  window.addEventListener("pageshow", (event) => event.persisted && keep.looked());
}

watchGuide();
if (page && meta.running) {
  watchButtons();
  watchStrip();
  sayWhatWaited();
  watchMarket(
    (upkeep = new Upkeep({
      now: () => performance.now(),
      after: (ms, run) => window.setTimeout(run, ms),
      stop: (id) => window.clearTimeout(id),
      random: () => Math.random(),
      hidden: () => document.hidden,
      ask: refresh,
    })),
  );
  connect();
  arm();
}

