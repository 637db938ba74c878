import { html, nothing, type TemplateResult } from "lit";
import { energy, price, priceE4 } from "../format";
import { t } from "../messages";
import type { Level } from "../store";
import { PageElement } from "./element";
import { contractState, ownPrices, state } from "./state";

const LEVELS = 10;

/** A click on a price fills the ticket and never sends: the price, and the side that would take it. */
export interface Picked {
  side: "buy" | "sell";
  price: string;
}

class Ladder extends PageElement {
  protected readonly parts = ["book" as const, "orders" as const, "ticker" as const];

  private row(level: Level, side: "ask" | "bid", largest: number, own: Set<string>): TemplateResult {
    const [text, wh, fee] = level;
    const mine = own.has(`${side === "ask" ? "sell" : "buy"} ${text}`);
    const share = Math.round((wh * 100) / largest); // drawn, because a style attribute is against the page's policy
    const take = side === "ask" ? "buy" : "sell";
    const label = take === "buy" ? t("Fill in: buy at {price}", { price: text }) : t("Fill in: sell at {price}", { price: text });
    return html`<tr class=${side}>
      <th scope="row">
        <span class=${take}>${side === "ask" ? t("ask") : t("bid")}</span>${mine
          ? html` <span class="tag">${t("mine")}</span>`
          : nothing}
      </th>
      <td class="number">
        <button type="button" class="pick" aria-label=${label} @click=${() => this.pick({ side: take, price: text })}>
          ${text}
        </button>
      </td>
      <td class="number depth"><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect x=${100 - share} width=${share} height="1" /></svg><span>${energy(wh)}</span></td>
      <td class="number fee">${!priceE4(fee) ? "–" : side === "ask" ? t("incl. {fee}", { fee }) : t("less {fee}", { fee })}</td>
    </tr>`;
  }

  private pick(picked: Picked): void {
    this.dispatchEvent(new CustomEvent<Picked>("picked", { detail: picked, bubbles: true }));
  }

  protected override render() {
    const asks = state.book.asks.slice(0, LEVELS);
    const bids = state.book.bids.slice(0, LEVELS);
    if (!asks.length && !bids.length) {
      if (contractState() === "closed") return html`<p class="empty">${t("Trading has ended; the book is empty.")}</p>`;
      return html`<p class="empty">
        ${t("Nobody offers or asks for energy in this interval yet. Yours can be the first order.")}
      </p>`;
    }
    const own = ownPrices();
    const largest = Math.max(...asks.map((level) => level[1]), ...bids.map((level) => level[1]));
    const spread = asks.length && bids.length ? priceE4(asks[0][0]) - priceE4(bids[0][0]) : null;
    return html`<table class="ladder">
      <thead>
        <tr>
          <th scope="col">${t("Side")}</th>
          <th scope="col" class="number">${t("Per kWh")}</th>
          <th scope="col" class="number">${t("Energy")}</th>
          <th scope="col" class="number">${t("Grid fee")}</th>
        </tr>
      </thead>
      <tbody>
        ${[...asks].reverse().map((level) => this.row(level, "ask", largest, own))}
        <tr class="spread">
          <td colspan="4">
            ${spread === null
              ? asks.length
                ? t("nobody buys yet")
                : t("nobody sells yet")
              : spread < 0
                ? t("crossed, but the grid cannot carry it")
                : t("{spread} apart", { spread: price(spread) })}
          </td>
        </tr>
        ${bids.map((level) => this.row(level, "bid", largest, own))}
      </tbody>
    </table>`;
  }
}
customElements.define("market-ladder", Ladder);
