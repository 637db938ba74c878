import { html, nothing, type TemplateResult } from "lit";
import { energy, price, priceE4 } from "../format";
import { t } from "../messages";
import { announce } from "../status";
import type { Level } from "../store";
import { PageElement } from "./element";
import { drift, grouped, stepOf, type Best, type Half, type Rung } from "./levels";
import { contractState, ownPrices, served, state, type Side } from "./state";

const ROWS = 8; // a side; market/pages/tradeview.py serves as many
const STEPS_E4 = [1, 10, 50, 100];

/** A click on a price fills the ticket and never sends: the price, and the side that would take it. */
export interface Picked {
  side: Side;
  price: string;
}

/** The book as it stood when somebody stopped the ladder. */
interface Frozen {
  asks: Level[];
  bids: Level[];
}

export const rungs = (levels: Level[]): Rung[] => levels.map(([text, wh, fee]) => ({ e4: priceE4(text), wh, feeE4: priceE4(fee) }));

const best = (book: Frozen): Best => ({
  ask: book.asks.length ? priceE4(book.asks[0][0]) : null,
  bid: book.bids.length ? priceE4(book.bids[0][0]) : null,
});

class Ladder extends PageElement {
  protected readonly parts = ["book" as const, "orders" as const, "ticker" as const, "contract" as const, "trades" as const];
  private frozen: Frozen | null = null;
  private contract = served.contract;
  private stepE4 = 1;
  private at = -1; // place of the price that the keyboard reaches; below zero none was chosen yet

  protected override willUpdate(): void {
    if (this.contract === state.contract) return;
    this.contract = state.contract;
    this.frozen = null;
    this.at = -1;
  }

  /** Stop the ladder, or let it go on. */
  toggle(): void {
    this.frozen = this.frozen ? null : { asks: state.book.asks, bids: state.book.bids };
    announce(this.frozen ? t("The order book is frozen: it stands still until you let it go on.") : t("The order book moves again."));
    this.requestUpdate();
  }

  /** Give the keyboard to the prices. */
  override focus(): void {
    (this.querySelector<HTMLElement>('.pick[tabindex="0"]') ?? this.querySelector<HTMLElement>(".pick"))?.focus();
  }

  private pick(picked: Picked): void {
    this.dispatchEvent(new CustomEvent<Picked>("picked", { detail: picked, bubbles: true }));
  }

  private key(event: KeyboardEvent): void {
    const picks = [...this.querySelectorAll<HTMLElement>(".pick")];
    const now = picks.indexOf(event.target as HTMLElement);
    const steps: Record<string, number> = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
    if (now < 0 || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const to = picks[Math.min(picks.length - 1, Math.max(0, now + steps[event.key]))];
    this.at = Number(to.dataset.place);
    to.focus();
    this.requestUpdate();
  }

  private row(rung: Rung, half: Half, place: number, reach: number, largest: number, own: Set<number>, lastE4: number): TemplateResult {
    const text = price(rung.e4);
    const share = Math.round((rung.wh * 100) / largest); // drawn, because a style attribute is against the page's policy
    const take = half === "ask" ? "buy" : "sell";
    const label = take === "buy" ? t("Fill in: buy at {price}", { price: text }) : t("Fill in: sell at {price}", { price: text });
    const mine = own.has(rung.e4);
    const fee = price(rung.feeE4);
    return html`<tr class="${half} ${mine ? "own" : ""}">
      <th scope="row">
        <span class=${take}>${half === "ask" ? t("ask") : t("bid")}</span>${mine ? html` <span class="tag own">${t("mine")}</span>` : nothing}${rung.e4 === lastE4
          ? html` <span class="tag last">${t("last")}</span>`
          : nothing}
      </th>
      <td class="number">
        <button type="button" class="pick" data-place=${place} tabindex=${place === reach ? 0 : -1} aria-label=${label}
          @focus=${() => (this.at = place)} @click=${() => this.pick({ side: take, price: text })}>${text}</button>
      </td>
      <td class="number depth"><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect x=${100 - share} width=${share} height="1" /></svg><span>${energy(rung.wh)}</span></td>
      <td class="number fee">${!rung.feeE4 ? "–" : half === "ask" ? t("incl. {fee}", { fee }) : t("less {fee}", { fee })}</td>
    </tr>`;
  }

  private pads(count: number): TemplateResult[] {
    return Array.from({ length: count }, () => html`<tr class="pad" aria-hidden="true"><td colspan="4"></td></tr>`);
  }

  /** What stands between the two sides: how far they are apart, and the last trade. */
  private middle(asks: Level[], bids: Level[]): string {
    if (!asks.length && !bids.length) {
      return contractState() === "closed"
        ? t("Trading has ended; the book is empty.")
        : t("Nobody offers or asks for energy in this interval yet. Yours can be the first order.");
    }
    const spread = asks.length && bids.length ? priceE4(asks[0][0]) - priceE4(bids[0][0]) : null;
    const apart =
      spread === null
        ? asks.length
          ? t("nobody buys yet")
          : t("nobody sells yet")
        : spread < 0
          ? t("crossed, but the grid cannot carry it")
          : t("{spread} apart", { spread: price(spread) });
    const last = state.ticker[served.contract]?.last;
    return last ? `${apart} · ${t("last trade at {price}", { price: last })}` : apart;
  }

  private moves(then: Frozen): string {
    const { ask, bid } = drift(best(then), best(state.book));
    const word = (e4: number | null): string => (e4 === null ? t("gone or new") : e4 === 0 ? t("unchanged") : `${e4 > 0 ? "↑" : "↓"} ${price(Math.abs(e4))}`);
    return t("Since then: ask {ask}, bid {bid}.", { ask: word(ask), bid: word(bid) });
  }

  private tools(): TemplateResult {
    return html`<div class="ladder-tools">
        <button type="button" class="small" id="ladder-freeze" aria-pressed=${this.frozen ? "true" : "false"} @click=${() => this.toggle()}>${this.frozen ? t("Go on") : t("Freeze")}</button>
        <label for="ladder-step">${t("Price steps")}</label>
        <select id="ladder-step" @change=${(event: Event) => {
          this.stepE4 = Number((event.target as HTMLSelectElement).value);
          this.at = -1;
          this.requestUpdate();
        }}>${STEPS_E4.map((step) => html`<option value=${step} .selected=${step === this.stepE4}>${price(step)}</option>`)}</select>
      </div>
      <p class="ladder-frozen">${this.frozen
        ? html`<span class="tag warn">${t("Frozen")}</span> ${this.moves(this.frozen)}`
        : contractState() === "halted"
          ? html`<span class="tag warn">${t("halted")}</span> ${t("Nothing trades until the halt ends.")}`
          : nothing}</p>`;
  }

  protected override render() {
    const book = this.frozen ?? state.book;
    const asks = grouped(rungs(book.asks), this.stepE4, "ask").slice(0, ROWS);
    const bids = grouped(rungs(book.bids), this.stepE4, "bid").slice(0, ROWS);
    const own = [...ownPrices()].map((name) => name.split(" "));
    const ownOf = (side: Side, half: Half): Set<number> =>
      new Set(own.filter(([whose]) => whose === side).map(([, text]) => stepOf(priceE4(text), this.stepE4, half)));
    const [ownAsks, ownBids] = [ownOf("sell", "ask"), ownOf("buy", "bid")];
    const lastE4 = priceE4(state.ticker[served.contract]?.last ?? "");
    const largest = Math.max(1, ...asks.map((rung) => rung.wh), ...bids.map((rung) => rung.wh));
    // Places count from the top, empty ones included, so that the keyboard stays where it is while prices come and go.
    const places = [...asks.map((_, index) => ROWS - 1 - index), ...bids.map((_, index) => ROWS + 1 + index)];
    const reach = places.includes(this.at) ? this.at : (places[0] ?? -1);
    return html`${this.tools()}
      <table class="ladder" @keydown=${(event: KeyboardEvent) => this.key(event)}>
        <thead>
          <tr>
            <th scope="col">${t("Side")}</th>
            <th scope="col" class="number">${t("Per kWh")}</th>
            <th scope="col" class="number">${t("Energy")}</th>
            <th scope="col" class="number">${t("Grid fee")}</th>
          </tr>
        </thead>
        <tbody>
          ${this.pads(ROWS - asks.length)}
          ${asks.map((rung, index) => this.row(rung, "ask", ROWS - 1 - index, reach, largest, ownAsks, lastE4)).reverse()}
          <tr class="spread"><td colspan="4">${this.middle(book.asks, book.bids)}</td></tr>
          ${bids.map((rung, index) => this.row(rung, "bid", ROWS + 1 + index, reach, largest, ownBids, lastE4))}
          ${this.pads(ROWS - bids.length)}
        </tbody>
      </table>`;
  }
}
customElements.define("market-ladder", Ladder);

export type { Ladder };
