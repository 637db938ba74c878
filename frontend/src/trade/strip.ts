import { html, nothing } from "lit";
import { clock, contractStart } from "../format";
import { t } from "../messages";
import { PageElement } from "./element";
import { served, state } from "./state";

class Strip extends PageElement {
  protected readonly parts = ["ticker" as const];

  protected override render() {
    return html`<nav class="strip" aria-label=${t("Intervals")}>
      <ol>
        ${served.strip.map((name) => {
          const line = state.ticker[name];
          const gone = !line || line.state === "closed";
          return html`<li>
            <a href="/trade/${name}" aria-current=${name === served.contract ? "page" : nothing} class=${gone ? "gone" : ""}>
              <b>${clock(contractStart(name))}</b>
              ${gone
                ? html`<span>${t("closed")}</span>`
                : line.state === "halted"
                  ? html`<span>${t("halted")}</span>`
                  : html`<span class="sell"><span class="quiet">${t("Bid")} </span>${line.bid ?? "–"}</span
                      ><span class="buy"><span class="quiet">${t("Ask")} </span>${line.ask ?? "–"}</span>`}
            </a>
          </li>`;
        })}
      </ol>
    </nav>`;
  }

  protected override firstUpdated(): void {
    const list = this.querySelector("ol");
    const current = this.querySelector<HTMLElement>("[aria-current]");
    if (list && current) list.scrollLeft = current.offsetLeft - list.offsetLeft - 16;
  }
}
customElements.define("market-strip", Strip);
