import { html, nothing, type TemplateResult } from "lit";
import { call, newKey, Problem } from "../api";
import { clock, energy, interval, money, moneyE7, priceE4, unitPrice } from "../format";
import { mayTrade, socket } from "../live";
import { marketNow } from "../meta";
import { t } from "../messages";
import { announce } from "../status";
import { PageElement } from "./element";
import type { Picked } from "./ladder";
import { describe, type Wish } from "./preview";
import { contractState, refreshOwn, served, state } from "./state";

const MINUTE_MS = 60_000;
const MINUTES_A_DAY = 1440;

type Side = Wish["side"];
type TimeInForce = Wish["timeInForce"];

interface Answer {
  order: { id: number; side: Side; filled_wh: number; remaining_wh: number; price: string; status: string };
  trades: { amount: string }[];
}

/** "0.5" kWh -> 500; NaN for anything but a decimal number with at most three places. */
function kwhToWh(text: string): number {
  const match = /^(\d{1,9})(?:\.(\d{1,3}))?$/.exec(text.trim().replace(",", "."));
  return match ? Number(match[1]) * 1000 + Number((match[2] ?? "").padEnd(3, "0")) : NaN;
}

/** The next instant at which the market's clock shows "HH:MM". */
function nextInstant(text: string): number {
  const [hours, minutes] = text.split(":").map(Number);
  if (!Number.isInteger(hours) || !Number.isInteger(minutes)) return NaN;
  const now = Math.floor(marketNow() / MINUTE_MS) * MINUTE_MS;
  const [nowHours, nowMinutes] = clock(now).split(":").map(Number);
  const ahead = (hours * 60 + minutes - nowHours * 60 - nowMinutes + MINUTES_A_DAY) % MINUTES_A_DAY;
  return now + (ahead || MINUTES_A_DAY) * MINUTE_MS;
}

class Ticket extends PageElement {
  protected readonly parts = ["book" as const, "position" as const, "ticker" as const];
  private side: Side = "buy";
  private price = "";
  private kwh = "0.5";
  private timeInForce: TimeInForce = "gtg";
  private until = "";
  private errors: Record<string, string> = {};
  private result = "";
  private sending = false;
  private key = newKey(); // of this intention: a second click must not be a second order
  private unwatch = (): void => undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.price = state.book.asks[0]?.[0] ?? state.book.bids[0]?.[0] ?? served.topup;
    this.unwatch = socket.watch(() => this.requestUpdate());
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.unwatch();
  }

  /** Take over a price from the ladder. */
  pick(picked: Picked): void {
    this.side = picked.side;
    this.price = picked.price;
    this.touched();
    this.querySelector<HTMLInputElement>("#ticket-energy")?.focus({ preventScroll: false });
  }

  private touched(): void {
    this.errors = {};
    this.result = "";
    this.key = newKey();
    this.requestUpdate();
  }

  private wish(): Wish {
    return {
      contract: served.contract,
      side: this.side,
      priceE4: priceE4(this.price.replace(",", ".")),
      energyWh: kwhToWh(this.kwh),
      timeInForce: this.timeInForce,
      expiresMs: this.timeInForce === "gtd" && this.until ? nextInstant(this.until) : 0,
    };
  }

  private problems(wish: Wish): Record<string, string> {
    const found: Record<string, string> = {};
    if (!(wish.priceE4 > 0)) found.price = t("Enter a price such as 0.2850.");
    else if (wish.priceE4 > served.max_price_e4) {
      found.price = t("The highest price is {price} per kWh.", { price: unitPrice(served.max_price_e4) });
    }
    if (!(wish.energyWh > 0)) found.energy_wh = t("Enter an energy such as 0.5, in kWh.");
    else if (wish.energyWh > served.max_order_wh) {
      found.energy_wh = t("One order can have {energy} at most.", { energy: energy(served.max_order_wh) });
    }
    if (wish.timeInForce === "gtd" && !wish.expiresMs) found.expires_at = t("Enter a time before trading ends.");
    return found;
  }

  private async send(event: Event): Promise<void> {
    event.preventDefault();
    if (this.sending || !mayTrade(socket.state)) return;
    const wish = this.wish();
    this.errors = this.problems(wish);
    this.result = "";
    if (Object.keys(this.errors).length) return this.showErrors();
    this.sending = true;
    this.requestUpdate();
    try {
      const answer = await call<Answer>(
        "POST",
        "/api/v1/orders",
        {
          contract: wish.contract,
          side: wish.side,
          price: (wish.priceE4 / 10_000).toFixed(4),
          energy_wh: wish.energyWh,
          time_in_force: wish.timeInForce,
          ...(wish.expiresMs ? { expires_at: new Date(wish.expiresMs).toISOString() } : {}),
        },
        this.key,
      );
      this.key = newKey();
      this.result = this.outcome(answer);
      announce(this.result);
      refreshOwn();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // After an answer that is certain the next click is a new intention; after silence it must be the same one.
      if (error.status >= 400 && error.status < 500) this.key = newKey();
      this.errors = { [error.field in FIELDS ? error.field : ""]: error.message };
      this.showErrors();
    } finally {
      this.sending = false;
      this.requestUpdate();
    }
  }

  private showErrors(): void {
    this.requestUpdate();
    void this.updateComplete.then(() => {
      const first = Object.keys(this.errors)[0];
      const input = FIELDS[first] ? this.querySelector<HTMLElement>(FIELDS[first]) : null;
      input?.focus();
      announce(this.errors[first]);
    });
  }

  private outcome({ order, trades }: Answer): string {
    const values = {
      number: order.id,
      done: energy(order.filled_wh),
      amount: money(trades.reduce((sum, trade) => sum + moneyE7(trade.amount), 0)),
      rest: energy(order.remaining_wh),
      price: unitPrice(priceE4(order.price)),
    };
    if (order.status === "filled") {
      return order.side === "buy"
        ? t("Bought {done} for {amount}. Order no. {number}.", values)
        : t("Sold {done} for {amount}. Order no. {number}.", values);
    }
    if (order.status === "cancelled") {
      return order.filled_wh
        ? t("{done} traded for {amount}, the rest was dropped. Order no. {number}.", values)
        : t("Nothing could be traded at once, the order was dropped. No. {number}.", values);
    }
    return order.filled_wh
      ? t("{done} traded for {amount}; {rest} wait at {price} per kWh. Order no. {number}.", values)
      : t("Order no. {number} waits: {rest} at {price} per kWh.", values);
  }

  private error(field: string): TemplateResult {
    return html`<p class="error" id="error-${field || "order"}">${this.errors[field] ?? ""}</p>`;
  }

  private step(ticks: number): void {
    const now = priceE4(this.price);
    const next = Math.min(served.max_price_e4, Math.max(served.tick_e4, (Number.isNaN(now) ? 0 : now) + ticks * 10 * served.tick_e4));
    this.price = (next / 10_000).toFixed(4);
    this.touched();
  }

  private radio(side: Side, label: string): TemplateResult {
    return html`<label class="side ${side}"
      ><input type="radio" name="side" value=${side} .checked=${this.side === side} @change=${() => {
        this.side = side;
        this.touched();
      }} /><span>${label}</span></label
    >`;
  }

  private preview(): TemplateResult {
    const wish = this.wish();
    if (Object.keys(this.problems(wish)).length) return html`<p class="muted">${t("Price and energy say what the order will do.")}</p>`;
    const levels = wish.side === "buy" ? state.book.asks : state.book.bids;
    return html`${describe(wish, levels, priceE4(served.topup), served.gate_ms).map((line) => html`<p>${line}</p>`)}`;
  }

  protected override render() {
    const open = contractState() === "open";
    const paused = !mayTrade(socket.state);
    const position = state.position;
    return html`<form @submit=${(event: Event) => void this.send(event)} novalidate>
      <fieldset class="sides">
        <legend class="quiet">${t("Side")}</legend>
        ${this.radio("buy", t("Buy"))}${this.radio("sell", t("Sell"))}
      </fieldset>
      <div class="field">
        <label for="ticket-price">${t("Price limit per kWh")}</label>
        <div class="stepper">
          <button type="button" aria-label=${t("Lower price")} @click=${() => this.step(-1)}>−</button>
          <input id="ticket-price" inputmode="decimal" autocomplete="off" .value=${this.price} aria-describedby="error-price"
            aria-invalid=${this.errors.price ? "true" : nothing} @input=${(event: InputEvent) => {
              this.price = (event.target as HTMLInputElement).value;
              this.touched();
            }} />
          <button type="button" aria-label=${t("Higher price")} @click=${() => this.step(1)}>+</button>
        </div>
        ${this.error("price")}
      </div>
      <div class="field">
        <label for="ticket-energy">${t("Energy in kWh")}</label>
        <input id="ticket-energy" inputmode="decimal" autocomplete="off" .value=${this.kwh} aria-describedby="error-energy_wh"
          aria-invalid=${this.errors.energy_wh ? "true" : nothing} @input=${(event: InputEvent) => {
            this.kwh = (event.target as HTMLInputElement).value;
            this.touched();
          }} />
        ${this.error("energy_wh")}
      </div>
      <div class="field">
        <label for="ticket-tif">${t("Valid")}</label>
        <select id="ticket-tif" aria-describedby="error-time_in_force" @change=${(event: Event) => {
          this.timeInForce = (event.target as HTMLSelectElement).value as TimeInForce;
          this.touched();
        }}>
          <option value="gtg">${t("until trading ends")}</option>
          <option value="gtd">${t("until a time")}</option>
          <option value="ioc">${t("at once, drop the rest")}</option>
          <option value="fok">${t("at once and all of it, or nothing")}</option>
        </select>
        ${this.error("time_in_force")}
      </div>
      ${this.timeInForce === "gtd"
        ? html`<div class="field">
            <label for="ticket-until">${t("Market time")}</label>
            <input id="ticket-until" type="time" .value=${this.until} aria-describedby="error-expires_at"
              aria-invalid=${this.errors.expires_at ? "true" : nothing} @input=${(event: InputEvent) => {
                this.until = (event.target as HTMLInputElement).value;
                this.touched();
              }} />
            ${this.error("expires_at")}
          </div>`
        : nothing}
      <div class="preview" id="preview">${this.preview()}</div>
      ${this.error("")}
      <button class="main" ?disabled=${!open || paused || this.sending}>
        ${paused
          ? t("Prices paused")
          : !open
            ? t("Not open for trading")
            : this.side === "buy"
              ? t("Place buy order")
              : t("Place sell order")}
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

/** Field of a problem -> where it is entered; anything else is shown above the button. */
const FIELDS: Record<string, string> = {
  price: "#ticket-price",
  energy_wh: "#ticket-energy",
  time_in_force: "#ticket-tif",
  expires_at: "#ticket-until",
};

customElements.define("market-ticket", Ticket);

export function listenToLadder(root: HTMLElement): void {
  root.addEventListener("picked", (event) => {
    root.querySelector<Ticket>("market-ticket")?.pick((event as CustomEvent<Picked>).detail);
  });
}
