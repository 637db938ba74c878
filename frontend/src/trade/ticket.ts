import { html, nothing, type TemplateResult } from "lit";
import { asProblem, call, newKey } from "../api";
import { contractStart, day, energy, interval, priceE4 } from "../format";
import { mayTrade, socket } from "../live";
import { t } from "../messages";
import { announce, saidAloud } from "../status";
import { PageElement } from "./element";
import type { Picked } from "./ladder";
import { outcome, type Answer } from "./outcome";
import { describe } from "./preview";
import { contractState, gateMs, refreshOwn, served, state, tradable, type Side } from "./state";
import { FORCES, MAX_LEGS, problems, request, wishOf, type Draft, type Errors, type Kind, type LegDraft, type TimeInForce } from "./wish";

const AN_HOUR = 3; // intervals after the first one
const BATTERY = 16; // intervals between charging and selling that a new basket proposes: four hours

const KINDS: Kind[] = ["limit", "iceberg", "sweep", "block", "basket"];

class Ticket extends PageElement {
  protected readonly parts = ["book" as const, "position" as const, "ticker" as const, "contract" as const, "halt" as const];
  private contract = served.contract; // the shown one
  private chosen = false; // whether the price is one that somebody chose
  private draft: Draft = {
    kind: "limit",
    side: "buy",
    contract: served.contract,
    last: served.contract,
    price: "",
    kwh: "0.5",
    showKwh: "0.1",
    timeInForce: "gtg",
    until: "",
    legs: [],
  };
  private errors: Errors = {};
  private result = "";
  private sending = false;
  private key = newKey(); // of this intention: a second click must not be a second order
  private unwatch = (): void => undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.propose();
    this.unwatch = socket.watch(() => this.requestUpdate());
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.unwatch();
  }

  /** A price to begin with: what it would take to buy now. */
  private propose(): void {
    this.draft.price = state.book.asks[0]?.[0] ?? state.book.bids[0]?.[0] ?? served.topup;
  }

  /** Another interval is shown: a plain order is for that one, and a price that nobody chose is one of its own. */
  protected override willUpdate(): void {
    if (this.contract === state.contract) return;
    this.contract = state.contract;
    if (this.draft.kind === "limit" || this.draft.kind === "iceberg") this.draft.contract = state.contract;
    if (!this.chosen) this.propose();
    this.errors = {};
    this.result = "";
    this.key = newKey();
  }

  /** Turn to one side, for who comes by keyboard. */
  turn(side: Side): void {
    if (this.draft.kind !== "basket") this.set({ side });
    this.querySelector<HTMLInputElement>("#ticket-energy, #leg-0-energy")?.focus();
  }

  /** Take over a price from the ladder. */
  pick(picked: Picked): void {
    if (this.draft.kind === "basket") {
      const place = Math.max(0, this.draft.legs.findIndex((leg) => leg.contract === served.contract && leg.side === picked.side));
      this.draft.legs[place].price = picked.price;
      this.touched();
      this.querySelector<HTMLInputElement>(`#leg-${place}-energy`)?.focus();
      return;
    }
    this.draft.side = picked.side;
    this.draft.price = picked.price;
    this.chosen = true;
    this.touched();
    this.querySelector<HTMLInputElement>("#ticket-energy")?.focus({ preventScroll: false });
  }

  private touched(): void {
    this.errors = {};
    this.result = "";
    this.key = newKey();
    this.requestUpdate();
  }

  private set(changes: Partial<Draft>): void {
    Object.assign(this.draft, changes);
    if ("price" in changes) this.chosen = true;
    this.touched();
  }

  /** Another kind of order keeps what was typed; what it asks in addition gets a sensible beginning. */
  private choose(kind: Kind): void {
    const names = tradable();
    const first = names.includes(this.draft.contract) ? this.draft.contract : (names[0] ?? served.contract);
    const after = (steps: number): string => names[Math.min(names.indexOf(first) + steps, names.length - 1)] ?? first;
    const spans = kind === "sweep" || kind === "block";
    this.draft.contract = spans ? first : served.contract;
    if (spans && this.draft.last <= first) this.draft.last = after(AN_HOUR);
    if (kind === "basket" && !this.draft.legs.length) {
      const { price, kwh } = this.draft;
      this.draft.legs = [
        { side: "buy", contract: first, price, kwh },
        { side: "sell", contract: after(BATTERY), price: state.ticker[after(BATTERY)]?.bid ?? price, kwh },
      ];
    }
    this.set({ kind });
  }

  private async send(event: Event): Promise<void> {
    event.preventDefault();
    if (this.sending || !mayTrade(socket.state)) return;
    const wish = wishOf(this.draft);
    this.errors = problems(wish, served);
    this.result = "";
    if (Object.keys(this.errors).length) return this.showErrors();
    this.sending = true;
    this.requestUpdate();
    const { path, body } = request(wish);
    try {
      const answer = await call<Answer>("POST", path, body, this.key);
      this.key = newKey();
      this.result = outcome(wish.kind, answer);
      announce(this.result);
      saidAloud(answer.trades);
      refreshOwn();
    } catch (raised) {
      const error = asProblem(raised);
      // After an answer that is certain the next click is a new intention; after silence it must be the same one.
      if (error.status >= 400 && error.status < 500) this.key = newKey();
      this.errors = { [this.input(error.field) ? error.field : ""]: error.message };
      this.showErrors();
    } finally {
      this.sending = false;
      this.requestUpdate();
    }
  }

  /** The input that a field of the REST call is entered in; there is none for a field that this kind does not ask for. */
  private input(field: string): HTMLElement | null {
    const leg = /^legs\[(\d+)\]\.(\w+)$/.exec(field);
    const id = leg ? LEG_INPUTS[leg[2]] && `leg-${leg[1]}-${LEG_INPUTS[leg[2]]}` : INPUTS[field];
    return id ? this.querySelector<HTMLElement>(`#${id}`) : null;
  }

  private showErrors(): void {
    this.requestUpdate();
    void this.updateComplete.then(() => {
      const first = Object.keys(this.errors)[0];
      this.input(first)?.focus();
      announce(this.errors[first]);
    });
  }

  private step(ticks: number): void {
    const now = priceE4(this.draft.price);
    const next = Math.min(served.max_price_e4, Math.max(served.tick_e4, (Number.isNaN(now) ? 0 : now) + ticks * 10 * served.tick_e4));
    this.set({ price: (next / 10_000).toFixed(4) });
  }

  // --- pieces of the form
  private error(field: string): TemplateResult {
    return html`<p class="error" id="error-${errorId(field)}">${this.errors[field] ?? ""}</p>`;
  }

  private text(id: string, field: string, label: string, value: string, change: (text: string) => void): TemplateResult {
    return html`<div class="field">
      <label for=${id}>${label}</label>
      <input id=${id} inputmode="decimal" autocomplete="off" .value=${value} aria-describedby="error-${errorId(field)}"
        aria-invalid=${this.errors[field] ? "true" : nothing} @input=${(event: InputEvent) => change((event.target as HTMLInputElement).value)} />
      ${this.error(field)}
    </div>`;
  }

  private contracts(id: string, field: string, label: string, value: string, change: (name: string) => void): TemplateResult {
    const days = new Map<string, string[]>();
    for (const name of tradable()) {
      const label = day(contractStart(name));
      days.set(label, [...(days.get(label) ?? []), name]);
    }
    return html`<div class="field">
      <label for=${id}>${label}</label>
      <select id=${id} aria-describedby="error-${errorId(field)}" aria-invalid=${this.errors[field] ? "true" : nothing}
        @change=${(event: Event) => change((event.target as HTMLSelectElement).value)}>
        ${[...days].map(
          ([label, names]) => html`<optgroup label=${label}>
            ${names.map((name) => html`<option value=${name} ?selected=${name === value} .selected=${name === value}>${interval(name)}</option>`)}
          </optgroup>`,
        )}
      </select>
      ${this.error(field)}
    </div>`;
  }

  private sides(name: string, value: Side, change: (side: Side) => void): TemplateResult {
    const radio = (side: Side, label: string): TemplateResult => html`<label class="side ${side}"
      ><input type="radio" name=${name} value=${side} .checked=${value === side} @change=${() => change(side)} /><span>${label}</span></label
    >`;
    return html`<fieldset class="sides">
      <legend class="quiet">${t("Side")}</legend>
      ${radio("buy", t("Buy"))}${radio("sell", t("Sell"))}
    </fieldset>`;
  }

  private kind(): TemplateResult {
    return html`<div class="field">
      <label for="ticket-kind">${t("Kind of order")}</label>
      <select id="ticket-kind" @change=${(event: Event) => this.choose((event.target as HTMLSelectElement).value as Kind)}>
        ${KINDS.map((kind) => html`<option value=${kind} ?selected=${kind === this.draft.kind}>${kindLabel(kind)}</option>`)}
      </select>
      ${this.draft.kind === "limit" ? nothing : html`<p class="help">${kindHelp(this.draft.kind)}</p>`}
    </div>`;
  }

  private validity(): TemplateResult | typeof nothing {
    const forces = FORCES[this.draft.kind];
    if (!forces.length) return nothing;
    const { timeInForce } = wishOf(this.draft);
    return html`<div class="field">
        <label for="ticket-tif">${t("Valid")}</label>
        <select id="ticket-tif" aria-describedby="error-time_in_force" @change=${(event: Event) =>
          this.set({ timeInForce: (event.target as HTMLSelectElement).value as TimeInForce })}>
          ${forces.map((force) => html`<option value=${force} .selected=${force === timeInForce}>${forceLabel(force)}</option>`)}
        </select>
        ${this.error("time_in_force")}
      </div>
      ${timeInForce === "gtd"
        ? html`<div class="field">
            <label for="ticket-until">${t("Market time")}</label>
            <input id="ticket-until" type="time" .value=${this.draft.until} aria-describedby="error-expires_at"
              aria-invalid=${this.errors.expires_at ? "true" : nothing}
              @input=${(event: InputEvent) => this.set({ until: (event.target as HTMLInputElement).value })} />
            ${this.error("expires_at")}
          </div>`
        : nothing}`;
  }

  private one(): TemplateResult {
    const { draft } = this;
    const spans = draft.kind === "sweep" || draft.kind === "block";
    return html`${this.sides("side", draft.side, (side) => this.set({ side }))}
      ${spans
        ? html`<div class="pair">
            ${this.contracts("ticket-first", "contract", t("From interval"), draft.contract, (contract) => this.set({ contract }))}
            ${this.contracts("ticket-last", "last", t("To interval"), draft.last, (last) => this.set({ last }))}
          </div>`
        : nothing}
      <div class="field">
        <label for="ticket-price">${t("Price limit per kWh")}</label>
        <div class="stepper">
          <button type="button" aria-label=${t("Lower price")} @click=${() => this.step(-1)}>−</button>
          <input id="ticket-price" inputmode="decimal" autocomplete="off" .value=${draft.price} aria-describedby="error-price"
            aria-invalid=${this.errors.price ? "true" : nothing}
            @input=${(event: InputEvent) => this.set({ price: (event.target as HTMLInputElement).value })} />
          <button type="button" aria-label=${t("Higher price")} @click=${() => this.step(1)}>+</button>
        </div>
        ${this.error("price")}
      </div>
      ${this.text("ticket-energy", "energy_wh", energyLabel(draft.kind), draft.kwh, (kwh) => this.set({ kwh }))}
      ${draft.kind === "iceberg"
        ? this.text("ticket-display", "display_wh", t("Show at a time, in kWh"), draft.showKwh, (showKwh) => this.set({ showKwh }))
        : nothing}
      ${this.validity()}`;
  }

  private leg(leg: LegDraft, place: number): TemplateResult {
    const change = (changes: Partial<LegDraft>): void => {
      Object.assign(leg, changes);
      this.touched();
    };
    const at = `legs[${place}].`;
    return html`<fieldset class="leg">
      <legend>${t("Order {number}", { number: place + 1 })}</legend>
      ${this.draft.legs.length > 2
        ? html`<button type="button" class="plain drop" @click=${() => this.drop(place)}>${t("Leave out")}<span class="quiet"> ${place + 1}</span></button>`
        : nothing}
      ${this.sides(`side-${place}`, leg.side, (side) => change({ side }))}
      ${this.contracts(`leg-${place}-contract`, `${at}contract`, t("Interval"), leg.contract, (contract) => change({ contract }))}
      <div class="pair">
        ${this.text(`leg-${place}-price`, `${at}price`, t("Limit per kWh"), leg.price, (price) => change({ price }))}
        ${this.text(`leg-${place}-energy`, `${at}energy_wh`, t("Energy in kWh"), leg.kwh, (kwh) => change({ kwh }))}
      </div>
    </fieldset>`;
  }

  private drop(place: number): void {
    this.set({ legs: this.draft.legs.filter((_, index) => index !== place) });
    this.querySelector<HTMLElement>("#ticket-add")?.focus(); // the pressed button went away with its order
  }

  private basket(): TemplateResult {
    const { legs } = this.draft;
    return html`${legs.map((leg, place) => this.leg(leg, place))}
      ${this.error("legs")}
      ${legs.length < MAX_LEGS
        ? html`<p><button type="button" class="small" id="ticket-add" @click=${() => this.set({ legs: [...legs, { ...legs[legs.length - 1] }] })}>${t("One more order")}</button></p>`
        : nothing}`;
  }

  private preview(): TemplateResult {
    const wish = wishOf(this.draft);
    if (Object.keys(problems(wish, served)).length) return html`<p class="muted">${t("Price and energy say what the order will do.")}</p>`;
    const levels = wish.side === "buy" ? state.book.asks : state.book.bids;
    const market = { levels, ticker: state.ticker, topupE4: priceE4(served.topup), gateMs };
    return html`${describe(wish, market).map((line) => html`<p>${line}</p>`)}`;
  }

  /** Why nothing can be sent at all, said before anybody presses. */
  private halted(named: boolean): string {
    if (state.halt === "market_halted") return t("The whole market is halted: no order is taken until the halt ends.");
    if (state.halt === "account_halted") return t("Your account is halted: no order is taken until the halt ends. Ask the market operator.");
    if (state.halt === "area_halted") return t("Your grid area is halted: no order is taken until the halt ends.");
    return !named && contractState() === "halted" ? t("This interval is halted: no order is taken until the halt ends.") : "";
  }

  private buttonLabel(): string {
    const { kind, side } = this.draft;
    if (kind === "basket") return t("Place the basket");
    if (kind === "block") return side === "buy" ? t("Place block to buy") : t("Place block to sell");
    if (kind === "sweep") return side === "buy" ? t("Buy at once") : t("Sell at once");
    return side === "buy" ? t("Place buy order") : t("Place sell order");
  }

  protected override render() {
    const { kind } = this.draft;
    // An order that names its own intervals does not need the shown one to be open.
    const named = kind !== "limit" && kind !== "iceberg";
    const halt = this.halted(named);
    const open = !halt && (named ? tradable().length > 0 : contractState() === "open");
    const paused = !mayTrade(socket.state);
    const position = state.position;
    return html`<form @submit=${(event: Event) => void this.send(event)} novalidate>
      ${this.kind()} ${kind === "basket" ? this.basket() : this.one()}
      <div class="preview" id="preview">${this.preview()}</div>
      ${halt ? html`<p class="notice warning" id="ticket-halt">${halt}</p>` : nothing} ${this.error("")}
      <button class="main" ?disabled=${!open || paused} aria-disabled=${this.sending ? "true" : nothing}>
        ${paused ? t("Prices paused") : open ? this.buttonLabel() : t("Not open for trading")}
      </button>
      ${this.result ? html`<p class="receipt" id="ticket-result">${this.result}</p>` : nothing}
      ${position && (position.bought_wh || position.sold_wh)
        ? html`<p class="muted"><small
            >${t("So far for {slot}: bought {bought}, sold {sold}.", {
              slot: interval(served.contract),
              bought: energy(position.bought_wh),
              sold: energy(position.sold_wh),
            })}</small
          ></p>`
        : nothing}
    </form>`;
  }
}

function kindLabel(kind: Kind): string {
  if (kind === "iceberg") return t("In small parts (iceberg)");
  if (kind === "sweep") return t("Cheapest of several intervals, at once");
  if (kind === "block") return t("Several intervals, all or none (block)");
  if (kind === "basket") return t("Buy and sell together (basket)");
  return t("Simple: one interval, one price");
}

function kindHelp(kind: Kind): string {
  if (kind === "iceberg") return t("The book shows only a part of it at a time; a large order then moves the price less.");
  if (kind === "sweep") return t("Takes the best prices in all these intervals; nothing is left waiting.");
  if (kind === "block") return t("For what must run through, such as a long charge or a heat pump.");
  return t("For a battery: charge when it is cheap and sell later, both or neither.");
}

function energyLabel(kind: Kind): string {
  if (kind === "sweep") return t("Energy in kWh, all together");
  if (kind === "block") return t("Energy in kWh, in each interval");
  return t("Energy in kWh");
}

function forceLabel(force: TimeInForce): string {
  if (force === "gtd") return t("until a time");
  if (force === "ioc") return t("at once, drop the rest");
  if (force === "fok") return t("at once and all of it, or nothing");
  return t("until trading ends");
}

/** Field of a problem -> id of where it is entered; anything else is shown above the button. */
const INPUTS: Record<string, string> = {
  price: "ticket-price",
  energy_wh: "ticket-energy",
  display_wh: "ticket-display",
  contract: "ticket-first",
  last: "ticket-last",
  time_in_force: "ticket-tif",
  expires_at: "ticket-until",
  legs: "ticket-add",
};
const LEG_INPUTS: Record<string, string> = { price: "price", energy_wh: "energy", contract: "contract" };

/** "legs[0].price" -> "leg-0-price": what an element's id may be made of. */
const errorId = (field: string): string => (field || "order").replace(/^legs\[(\d+)\]\.(\w+)$/, "leg-$1-$2");

customElements.define("market-ticket", Ticket);

export type { Ticket };

export function listenToLadder(root: HTMLElement): void {
  root.addEventListener("picked", (event) => {
    root.querySelector<Ticket>("market-ticket")?.pick((event as CustomEvent<Picked>).detail);
  });
}
