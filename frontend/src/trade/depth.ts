// How much energy there is up to which price, as steps: what an order of some size would reach.
import { html, nothing, svg, type TemplateResult } from "lit";
import { energy, price, sentences } from "../format";
import { t } from "../messages";
import { PageElement } from "./element";
import { rungs } from "./ladder";
import { cumulated, frame, outline, type Frame, type Step } from "./levels";
import { state } from "./state";

const WIDTH = 360;
const HEIGHT = 150;
const TOP = 18; // room for the words above
const BOTTOM = 20; // and for prices below

class Depth extends PageElement {
  protected readonly parts = ["book" as const, "contract" as const];
  private tableOpen = false;

  private picture(asks: Step[], bids: Step[], of: Frame): TemplateResult {
    const middle = asks.length && bids.length ? (asks[0].e4 + bids[0].e4) / 2 : (asks[0] ?? bids[0]).e4;
    const x = ((middle - of.lowE4) * WIDTH) / (of.highE4 - of.lowE4);
    return html`<svg class="depth-steps" viewBox="0 0 ${WIDTH} ${HEIGHT + TOP + BOTTOM}" aria-hidden="true">
      <g transform="translate(0 ${TOP})">
        ${svg`<path class="bids" d=${outline(bids, "bid", of, WIDTH, HEIGHT)} /><path class="asks" d=${outline(asks, "ask", of, WIDTH, HEIGHT)} />
        <line x1="0" x2=${WIDTH} y1=${HEIGHT} y2=${HEIGHT} />`}
      </g>
      ${svg`<text x="0" y="12">← ${t("buyers")}</text><text x=${WIDTH} y="12" text-anchor="end">${t("sellers")} →</text>
      <text x="0" y=${HEIGHT + TOP + 15}>${price(of.lowE4)}</text><text x=${Math.min(WIDTH - 90, Math.max(90, x))} y=${HEIGHT + TOP + 15} text-anchor="middle">${price(Math.round(middle))}</text><text x=${WIDTH} y=${HEIGHT + TOP + 15} text-anchor="end">${price(of.highE4)}</text>`}
    </svg>`;
  }

  /** The ends of the picture in words. */
  private words(ask: Step | undefined, bid: Step | undefined): string {
    const offered = ask ? t("{energy} on offer up to {price}.", { energy: energy(ask.sumWh), price: price(ask.e4) }) : "";
    const wanted = bid ? t("{energy} wanted down to {price}.", { energy: energy(bid.sumWh), price: price(bid.e4) }) : "";
    return sentences([offered, wanted]);
  }

  private table(asks: Step[], bids: Step[]): TemplateResult {
    const row = (step: Step, word: string, side: string): TemplateResult => html`<tr>
      <th scope="row"><span class=${side}>${word}</span></th><td class="number">${price(step.e4)}</td><td class="number">${energy(step.wh)}</td><td class="number">${energy(step.sumWh)}</td>
    </tr>`;
    return html`<div class="scroll tall" tabindex="0" role="region" aria-label="${t("Depth")}: ${t("As a table")}">
      <table>
        <thead><tr><th scope="col">${t("Side")}</th><th scope="col" class="number">${t("Per kWh")}</th><th scope="col" class="number">${t("Energy")}</th><th scope="col" class="number">${t("Up to here")}</th></tr></thead>
        <tbody>${[...asks].reverse().map((step) => row(step, t("ask"), "buy"))}${bids.map((step) => row(step, t("bid"), "sell"))}</tbody>
      </table>
    </div>`;
  }

  protected override render() {
    const asks = cumulated(rungs(state.book.asks));
    const bids = cumulated(rungs(state.book.bids));
    const of = frame(asks, bids);
    return html`<div class="depth-place">${of ? this.picture(asks, bids, of) : html`<p class="empty">${t("The book is empty.")}</p>`}</div>
      <p class="muted depth-words"><small>${this.words(asks.at(-1), bids.at(-1))}</small></p>
      <details @toggle=${(event: Event) => {
        this.tableOpen = (event.target as HTMLDetailsElement).open;
        this.requestUpdate();
      }}><summary>${t("As a table")}</summary>${this.tableOpen ? this.table(asks, bids) : nothing}</details>`;
  }
}
customElements.define("market-depth", Depth);
