// Prices over time. The drawing library is large, so it comes only when the chart is in sight; the table needs none.
import { html, type TemplateResult } from "lit";
import { call } from "../api";
import { clock, energy, GAP } from "../format";
import { t } from "../messages";
import { PageElement } from "./element";
import type { Drawing } from "./drawing";
import { served, state } from "./state";

const REFETCH_MS = 10_000;
const TABLE_ROWS = 60;

export interface Candle {
  start: string;
  open: string;
  high: string;
  low: string;
  close: string;
  volume_wh: number;
}

type Scope = "contract" | "market";

class Chart extends PageElement {
  protected readonly parts = ["trades" as const, "contract" as const];
  private scope: Scope = "contract";
  private candles: Candle[] | null = null;
  private failed = false;
  private drawing: Drawing | null = null;
  private lastFetch = -Infinity;
  private timer = 0;
  private newest = -1;
  private contract = served.contract;
  private observer: IntersectionObserver | null = null;

  override connectedCallback(): void {
    super.connectedCallback();
    this.observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.observer?.disconnect();
      void this.begin();
    });
    this.observer.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.observer?.disconnect();
    this.drawing?.remove();
    window.clearTimeout(this.timer);
  }

  private async begin(): Promise<void> {
    const [{ draw }] = await Promise.all([import("./drawing"), this.fetch()]);
    const place = this.querySelector<HTMLElement>(".chart-place");
    if (!place || !this.isConnected) return;
    this.drawing = draw(place);
    this.drawing.show(this.candles ?? []);
  }

  private async fetch(): Promise<void> {
    window.clearTimeout(this.timer);
    this.timer = 0;
    this.lastFetch = performance.now();
    const { scope, contract } = this;
    const query = scope === "contract" ? `contract=${contract}&resolution=1m&limit=500` : "resolution=15m&limit=200";
    try {
      const answer = await call<{ results: Candle[] }>("GET", `/api/v1/candles?${query}`);
      if (scope !== this.scope || contract !== this.contract) return;
      this.candles = answer.results;
      this.failed = false;
      this.drawing?.show(answer.results);
    } catch {
      if (scope !== this.scope || contract !== this.contract) return; // what is shown now is on its way
      this.failed = this.candles === null;
    }
    this.requestUpdate();
  }

  protected override willUpdate(): void {
    if (this.contract !== state.contract) {
      this.contract = state.contract;
      this.newest = state.trades.at(-1)?.seq ?? -1;
      if (this.scope === "contract" && this.lastFetch > -Infinity) {
        this.candles = null;
        this.drawing?.show([]);
        void this.fetch();
      }
    }
    const newest = state.trades.at(-1)?.seq ?? -1;
    if (newest !== this.newest && this.lastFetch > -Infinity && !this.timer) {
      const wait = Math.max(0, this.lastFetch + REFETCH_MS - performance.now());
      this.timer = window.setTimeout(() => void this.fetch(), wait);
    }
    this.newest = newest;
  }

  private choose(scope: Scope): void {
    this.scope = scope;
    this.candles = null;
    void this.fetch();
    this.requestUpdate();
  }

  private tab(scope: Scope, label: string): TemplateResult {
    return html`<button type="button" class="small" aria-pressed=${this.scope === scope} @click=${() => this.choose(scope)}>${label}</button>`;
  }

  protected override render() {
    const candles = this.candles ?? [];
    return html`<div class="row tabs">${this.tab("contract", t("This interval"))}${this.tab("market", t("Whole market"))}</div>
      <div class="chart-place" aria-hidden="true"></div>
      ${this.failed ? html`<p class="empty">${t("The prices could not be loaded.")}</p>` : ""}
      ${this.candles && !candles.length ? html`<p class="empty">${t("No trades in this interval yet.")}</p>` : ""}
      <p class="muted"><small>${t("Chart drawn with")}${GAP}<a href="https://www.tradingview.com/" rel="noreferrer">TradingView Lightweight Charts™</a></small></p>
      <details>
        <summary>${t("As a table")}</summary>
        <div class="scroll tall" tabindex="0" role="region" aria-label="${t("Prices")}: ${t("As a table")}">
          <table>
            <thead>
              <tr>
                <th scope="col">${t("From")}</th>
                <th scope="col" class="number">${t("First")}</th>
                <th scope="col" class="number">${t("Highest")}</th>
                <th scope="col" class="number">${t("Lowest")}</th>
                <th scope="col" class="number">${t("Last")}</th>
                <th scope="col" class="number">${t("Energy")}</th>
              </tr>
            </thead>
            <tbody>
              ${[...candles].reverse().slice(0, TABLE_ROWS).map(
                (candle) => html`<tr>
                  <th scope="row">${clock(Date.parse(candle.start))}</th>
                  <td class="number">${candle.open}</td>
                  <td class="number">${candle.high}</td>
                  <td class="number">${candle.low}</td>
                  <td class="number">${candle.close}</td>
                  <td class="number">${energy(candle.volume_wh)}</td>
                </tr>`,
              )}
            </tbody>
          </table>
        </div>
      </details>`;
  }
}
customElements.define("market-chart", Chart);
