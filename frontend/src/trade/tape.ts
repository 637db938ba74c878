import { html } from "lit";
import { clockSeconds, energy } from "../format";
import { t } from "../messages";
import { comparePrices } from "../store";
import { PageElement } from "./element";
import { state } from "./state";

const SHOWN = 20;

class Tape extends PageElement {
  protected readonly parts = ["trades" as const, "contract" as const];

  protected override render() {
    const rows = state.trades.slice(-SHOWN - 1);
    if (!rows.length) return html`<p class="empty">${t("No trades in this interval yet.")}</p>`;
    const moves = rows.map((row, index) => (index ? Math.sign(comparePrices(row.sell_price, rows[index - 1].sell_price)) : 0));
    const shown = rows.map((row, index) => ({ row, move: moves[index] })).slice(-SHOWN).reverse();
    return html`<table>
      <thead>
        <tr>
          <th scope="col">${t("Time")}</th>
          <th scope="col" class="number">${t("Per kWh")}</th>
          <th scope="col" class="number">${t("Energy")}</th>
        </tr>
      </thead>
      <tbody>
        ${shown.map(
          ({ row, move }) => html`<tr>
            <th scope="row">${clockSeconds(Date.parse(row.at))}</th>
            <td class="number">
              ${row.recalled
                ? html`<span class="tag warn">${t("taken back")}</span> <s>${row.sell_price}</s>`
                : html`<span class="move ${move > 0 ? "rise" : move < 0 ? "fall" : ""}" aria-hidden="true">${move > 0 ? "↑" : move < 0 ? "↓" : ""}</span> ${row.sell_price}`}
            </td>
            <td class="number">${energy(row.energy_wh)}</td>
          </tr>`,
        )}
      </tbody>
    </table>`;
  }
}
customElements.define("market-tape", Tape);
