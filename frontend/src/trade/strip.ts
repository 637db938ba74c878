// All open intervals, an hour a column, dark where energy is dear; the words are in the line below and in the table.
import { html, nothing, type TemplateResult } from "lit";
import { clock, contractStart, day, energy, interval, priceE4 } from "../format";
import { meta } from "../meta";
import { t } from "../messages";
import { announce } from "../status";
import { PageElement } from "./element";
import { hours, moved, priceOf, shades, type Measure } from "./heat";
import type { TickerLine } from "../store";
import { contracts, listen, served, show, state } from "./state";

const AN_HOUR = Math.max(1, 60 / meta.interval_min);
const REDRAW_MS = 200;

interface Said {
  line: TickerLine | undefined;
  net: number;
  waits: boolean;
  text: string;
}

const minutes = new Map<number, number>();
/** The minute on the market's clock; remembered, because asking the calendar is slow. */
function minute(atMs: number): number {
  const known = minutes.get(atMs) ?? Number(clock(atMs).slice(3));
  minutes.set(atMs, known);
  return known;
}

class Strip extends PageElement {
  protected readonly parts = ["net" as const, "orders" as const, "contract" as const];
  private measure: Measure = "price";
  private at = ""; // where the keyboard stands
  private seen = ""; // what the pointer or the keyboard looks at
  private tableOpen = false;
  private said = new Map<string, Said>();
  private timer = 0;
  private unlisten = (): void => undefined;

  /** Shades are for a look now and then: the ladder follows every update, the strip a few times a second. */
  override connectedCallback(): void {
    super.connectedCallback();
    this.unlisten = listen("ticker", () => {
      this.timer ||= window.setTimeout(() => {
        this.timer = 0;
        this.requestUpdate();
      }, REDRAW_MS);
    });
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.unlisten();
    window.clearTimeout(this.timer);
  }

  /** Give the keyboard to the strip. */
  override focus(): void {
    this.querySelector<HTMLElement>('a.cell[tabindex="0"]')?.focus();
  }

  private async pick(event: MouseEvent, name: string): Promise<void> {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return; // another tab is the browser's business
    event.preventDefault();
    this.at = name;
    if (await show(name)) announce(t("Shown: {slot}, {day}.", { slot: interval(name), day: day(contractStart(name)) }));
  }

  private key(event: KeyboardEvent, names: string[]): void {
    const name = (event.target as HTMLElement).closest<HTMLElement>("[data-name]")?.dataset.name;
    const to = name === undefined || event.ctrlKey || event.altKey || event.metaKey ? null : moved(event.key, names.indexOf(name), names.length, AN_HOUR);
    if (to === null) return;
    event.preventDefault();
    this.at = names[to];
    const cell = this.querySelector<HTMLElement>(`[data-name="${names[to]}"]`);
    cell?.focus();
    this.requestUpdate();
  }

  private look(event: Event): void {
    const name = (event.target as HTMLElement).closest<HTMLElement>("[data-name]")?.dataset.name;
    if (!name || name === this.seen) return;
    this.seen = name;
    if (event.type === "focusin") this.at = name;
    this.requestUpdate();
  }

  /** Signs for what cannot be a shade: own energy, own orders, a halt. */
  private marks(name: string, own: Set<string>): string {
    const net = state.net[name] ?? 0;
    return (net > 0 ? "+" : net < 0 ? "−" : own.has(name) ? "○" : "") + (state.ticker[name]?.state === "halted" ? "‖" : "");
  }

  /** The words of an interval, made anew only when something in them changed. */
  private words(name: string, own: Set<string>): string {
    const [line, net, waits] = [state.ticker[name], state.net[name] ?? 0, own.has(name)];
    const before = this.said.get(name);
    if (before && before.line === line && before.net === net && before.waits === waits) return before.text;
    const text = this.sentence(name, line, net, waits);
    this.said.set(name, { line, net, waits, text });
    return text;
  }

  private sentence(name: string, line: TickerLine | undefined, net: number, waits: boolean): string {
    const found = [interval(name)];
    if (!line || line.state === "closed") found.push(t("closed"));
    else {
      if (line.state === "halted") found.push(t("halted"));
      found.push(t("bid {bid}, ask {ask}", { bid: line.bid ?? "–", ask: line.ask ?? "–" }));
    }
    if (line?.volume_wh) found.push(t("{energy} traded, last at {price}", { energy: energy(line.volume_wh), price: line.last ?? "–" }));
    if (net) found.push(net > 0 ? t("I bought {energy}", { energy: energy(net) }) : t("I sold {energy}", { energy: energy(-net) }));
    if (waits) found.push(t("my orders wait"));
    return found.join(" · ");
  }

  private tab(measure: Measure, label: string): TemplateResult {
    return html`<button type="button" class="small" aria-pressed=${this.measure === measure} @click=${() => {
      this.measure = measure;
      this.requestUpdate();
    }}>${label}</button>`;
  }

  private cell(name: string, shade: number, own: Set<string>): TemplateResult {
    const gone = (state.ticker[name]?.state ?? "closed") === "closed";
    return html`<a href="/trade/${name}" data-name=${name} class="cell ${gone ? "gone" : `h${shade}`}" tabindex=${name === this.at ? 0 : -1}
      aria-current=${name === served.contract ? "page" : nothing} @click=${(event: MouseEvent) => void this.pick(event, name)}
      ><span aria-hidden="true">${this.marks(name, own)}</span><span class="quiet">${this.words(name, own)}</span></a>`;
  }

  private table(names: string[]): TemplateResult {
    return html`<div class="scroll tall" tabindex="0" role="region" aria-label="${t("Intervals")}: ${t("As a table")}">
      <table>
        <thead><tr><th scope="col">${t("Interval")}</th><th scope="col" class="number">${t("Bid")}</th><th scope="col" class="number">${t("Ask")}</th><th scope="col" class="number">${t("Last")}</th><th scope="col" class="number">${t("Traded")}</th><th scope="col" class="number">${t("My energy")}</th><th scope="col">${t("State")}</th></tr></thead>
        <tbody>${names.map((name) => {
          const line = state.ticker[name];
          const net = state.net[name] ?? 0;
          const word = line?.state === "open" ? t("open") : line?.state === "halted" ? t("halted") : t("closed");
          return html`<tr><th scope="row">${day(contractStart(name))} ${interval(name)}</th><td class="number">${line?.bid ?? "–"}</td><td class="number">${line?.ask ?? "–"}</td><td class="number">${line?.last ?? "–"}</td><td class="number">${energy(line?.volume_wh ?? 0)}</td><td class="number">${net > 0 ? "+" : ""}${energy(net)}</td><td>${word}</td></tr>`;
        })}</tbody>
      </table>
    </div>`;
  }

  protected override render() {
    const names = contracts();
    if (!names.includes(this.at)) this.at = served.contract;
    for (const name of this.said.keys()) if (!names.includes(name)) this.said.delete(name);
    const own = new Set(state.orders.filter((order) => order.status === "open").map((order) => order.contract));
    const values = names.map((name) => {
      const line = state.ticker[name];
      return this.measure === "price" ? priceOf(line, priceE4) : line?.volume_wh || null;
    });
    const dark = new Map(shades(values).map((shade, place) => [names[place], shade]));
    const columns = hours(names, contractStart, minute);
    let before = "";
    return html`<nav class="heat" aria-label=${t("Intervals")}>
      <div class="heat-scroll" @keydown=${(event: KeyboardEvent) => this.key(event, names)} @focusin=${(event: Event) => this.look(event)} @pointerover=${(event: Event) => this.look(event)}>
        <div class="heat-minutes" aria-hidden="true">${Array.from({ length: AN_HOUR }, (_, place) => html`<span>:${String(place * meta.interval_min).padStart(2, "0")}</span>`)}</div>
        ${columns.map((hour) => {
          const label = day(hour.startMs);
          const begins = label !== before;
          before = label;
          const blanks = Math.round(minute(contractStart(hour.names[0])) / meta.interval_min);
          return html`<div class="heat-hour ${begins ? "begins" : ""}">
            <span class="heat-day">${begins ? label : ""}</span><span class="heat-label">${clock(hour.startMs).slice(0, 2)}</span>
            ${Array.from({ length: blanks }, () => html`<span class="heat-gap"></span>`)}${hour.names.map((name) => this.cell(name, dark.get(name) ?? 0, own))}
          </div>`;
        })}
      </div>
      <p class="heat-words" aria-hidden="true">${this.words(names.includes(this.seen) ? this.seen : served.contract, own)}</p>
      <div class="heat-foot">
        <div class="row tabs" role="group" aria-label=${t("Shade by")}>${this.tab("price", t("Price"))}${this.tab("volume", t("Volume"))}</div>
        <p class="muted heat-key"><span>${this.measure === "price" ? t("cheap") : t("little")}</span> <span class="scale" aria-hidden="true">${[1, 3, 5, 8].map((shade) => html`<i class="h${shade}"></i>`)}</span> <span>${this.measure === "price" ? t("dear") : t("much")}</span> <span>+ ${t("bought")}</span> <span>− ${t("sold")}</span> <span>○ ${t("my orders wait")}</span> <span>‖ ${t("halted")}</span></p>
        <details @toggle=${(event: Event) => {
          this.tableOpen = (event.target as HTMLDetailsElement).open;
          this.requestUpdate();
        }}><summary>${t("As a table")}</summary>${this.tableOpen ? this.table(names) : nothing}</details>
      </div>
    </nav>`;
  }

  protected override firstUpdated(): void {
    const list = this.querySelector<HTMLElement>(".heat-scroll");
    const current = this.querySelector<HTMLElement>("[aria-current]");
    if (list && current) list.scrollLeft = Math.max(0, (current.parentElement?.offsetLeft ?? 0) - list.offsetLeft - 96);
  }
}
customElements.define("market-strip", Strip);
