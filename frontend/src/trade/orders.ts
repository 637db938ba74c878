import { html, nothing, type TemplateResult } from "lit";
import { asProblem, call, plain, Problem } from "../api";
import { clock, energy, GAP, interval, money, moneyE7, priceE4, sentences } from "../format";
import { t } from "../messages";
import { announce } from "../status";
import { PageElement } from "./element";
import { stretch } from "./preview";
import { isOpen, refreshOwn, state, type Order } from "./state";
import { takenBack } from "./takeback";
import { kwhToWh, type Errors } from "./wish";

/** What the list shows in one row: an order, or the legs of a block. */
interface Row {
  order: Order; // the first of the legs
  legs: Order[];
  energyWh: number;
  filledWh: number;
  remainingWh: number;
}

/** A change that is being typed. */
interface Change {
  id: number;
  price: string;
  kwh: string;
  errors: Errors;
}

function rows(orders: Order[]): Row[] {
  const found = new Map<number, Order[]>();
  for (const order of orders) {
    const name = order.kind === "block" && order.group ? order.group : order.id;
    found.set(name, [...(found.get(name) ?? []), order]);
  }
  const total = (legs: Order[], of: "energy_wh" | "filled_wh" | "remaining_wh"): number => legs.reduce((sum, leg) => sum + leg[of], 0);
  return [...found.values()].map((group) => {
    const legs = group.sort((a, b) => a.id - b.id);
    return { order: legs[0], legs, energyWh: total(legs, "energy_wh"), filledWh: total(legs, "filled_wh"), remainingWh: total(legs, "remaining_wh") };
  });
}

function endText(order: Order): string {
  const ends: Record<string, string> = {
    owner: t("cancelled by you"),
    ioc: t("rest not available at once"),
    expired: t("time ran out"),
    gate: t("the gate closed"),
    self_trade: t("would have met your own order"),
    account_closed: t("the account was closed"),
    kill: t("taken back when trading was stopped"),
  };
  if (order.status === "filled") return t("filled");
  if (order.status === "hibernated") return t("asleep");
  if (order.status !== "open") return ends[order.reason ?? ""] ?? t("cancelled by the market operator");
  return order.expires_at ? t("until {time}", { time: clock(Date.parse(order.expires_at)) }) : t("until the gate closes");
}

function kindText(order: Order): string {
  if (order.kind === "iceberg") return t("iceberg");
  if (order.kind === "sweep") return t("sweep");
  if (order.kind === "block") return t("block");
  return order.kind === "basket" ? t("basket") : "";
}

class Orders extends PageElement {
  protected readonly parts = ["orders" as const];
  private readonly busy = new Set<number>();
  private change: Change | null = null;
  private asking = false; // whether all of them shall go
  private held = ""; // set aside for all of them, as a text of REST; "" until it is known

  /** Do something to an order, say what became of it, and leave the keyboard where it finds its way on. */
  private async act(order: Order, method: string, path: string, said: string, body?: unknown): Promise<void> {
    this.busy.add(order.id);
    this.requestUpdate();
    try {
      await call(method, `/api/v1/orders/${order.id}${path}`, body);
      this.change = null;
      announce(said);
      this.querySelector<HTMLElement>("h3")?.focus(); // the pressed button may go away with its row
    } catch (error) {
      this.refused(order, asProblem(error));
    } finally {
      this.busy.delete(order.id);
      refreshOwn();
      this.requestUpdate();
    }
  }

  private refused(order: Order, problem: Problem): void {
    announce(problem.message);
    if (this.change?.id !== order.id) return;
    const field = problem.field === "price" || problem.field === "energy_wh" ? problem.field : "";
    this.change.errors = { [field]: problem.message };
    this.focusError(field);
  }

  private focusError(field: string): void {
    void this.updateComplete.then(() => this.querySelector<HTMLElement>(field === "energy_wh" ? "#change-energy" : "#change-price")?.focus());
  }

  private cancel(row: Row): Promise<void> {
    const said = row.legs.length > 1 ? t("Block no. {number} is cancelled.", { number: row.order.id }) : t("Order {number} is cancelled.", { number: row.order.id });
    return this.act(row.legs.find(isOpen) ?? row.order, "DELETE", "", said);
  }

  private sleep(order: Order): Promise<void> {
    return order.status === "hibernated"
      ? this.act(order, "POST", "/reactivate", t("Order {number} takes part again.", { number: order.id }))
      : this.act(order, "POST", "/hibernate", t("Order {number} sleeps: nothing is set aside for it, and nothing trades.", { number: order.id }));
  }

  /** Say what cancelling all would take back; the button that does it comes with that. */
  async askAll(): Promise<void> {
    if (!state.orders.some(isOpen)) return announce(t("No open orders."));
    this.asking = true;
    this.held = "";
    this.requestUpdate();
    await this.updateComplete;
    this.querySelector<HTMLElement>("#keep-all")?.focus();
    try {
      this.held = (await call<{ held: string }>("GET", "/api/v1/me/balance")).held;
      this.requestUpdate();
    } catch {
      // The orders are said; the money would only come on top.
    }
  }

  private leaveAll(): void {
    this.asking = false;
    this.requestUpdate();
    this.querySelector<HTMLElement>("h3")?.focus();
  }

  private async cancelAll(): Promise<void> {
    if (!this.asking) return; // the second half of a double click
    this.asking = false;
    this.requestUpdate();
    try {
      const answer = await call<{ cancelled: number[] }>("DELETE", "/api/v1/orders");
      announce(t("Orders cancelled: {count}.", { count: answer.cancelled.length }));
    } catch (error) {
      announce(error instanceof Problem ? error.message : t("The order could not be cancelled."));
    } finally {
      this.querySelector<HTMLElement>("h3")?.focus();
      refreshOwn();
    }
  }

  private question(): TemplateResult {
    const back = takenBack(state.orders.filter(isOpen));
    const values = { count: back.orders, buy: energy(back.buyWh), sell: energy(back.sellWh), intervals: back.intervals };
    const free = this.held && t("{money} that is set aside for them becomes free.", { money: money(moneyE7(this.held)) });
    const question = sentences([
      t("This takes back all open orders: {count}, buying {buy}, selling {sell}; intervals: {intervals}.", values),
      free,
    ]);
    return html`<div class="ask-all" role="group" aria-labelledby="ask-all-title">
      <p id="ask-all-title">${question}</p>
      <div class="row">
        <button type="button" class="small danger" @click=${() => void this.cancelAll()}>${t("Cancel all {count}", values)}</button>
        <button type="button" class="small" id="keep-all" @click=${() => this.leaveAll()}>${t("Keep them")}</button>
      </div>
    </div>`;
  }

  // --- changing an order
  private begin(order: Order): void {
    this.change = { id: order.id, price: order.price, kwh: String(order.energy_wh / 1000), errors: {} };
    this.requestUpdate();
    void this.updateComplete.then(() => this.querySelector<HTMLElement>("#change-price")?.focus());
  }

  private save(event: Event, order: Order): void {
    event.preventDefault();
    const change = this.change;
    if (!change || this.busy.has(order.id)) return;
    const e4 = priceE4(change.price.replace(",", "."));
    const wh = kwhToWh(change.kwh);
    change.errors = {};
    if (!(e4 > 0)) change.errors.price = t("Enter a price such as 0.2850.");
    else if (!(wh > 0)) change.errors.energy_wh = t("Enter an energy such as 0.5, in kWh.");
    else if (e4 === priceE4(order.price) && wh === order.energy_wh) change.errors.price = t("This would change nothing.");
    const wrong = Object.keys(change.errors)[0];
    this.requestUpdate();
    if (wrong !== undefined) return this.focusError(wrong);
    const body = {
      ...(e4 === priceE4(order.price) ? {} : { price: (e4 / 10_000).toFixed(4) }),
      ...(wh === order.energy_wh ? {} : { energy_wh: wh }),
    };
    void this.act(order, "PATCH", "", t("Order {number} is changed.", { number: order.id }), body);
  }

  private changeRow(order: Order, change: Change): TemplateResult {
    const later = change.price !== order.price || !(kwhToWh(change.kwh) <= order.energy_wh);
    const input = (id: string, field: "price" | "energy_wh", label: string, value: string, type: (text: string) => void): TemplateResult => html`<div class="field">
      <label for=${id}>${label}</label>
      <input id=${id} inputmode="decimal" autocomplete="off" .value=${value} aria-describedby="${id}-error"
        aria-invalid=${change.errors[field] ? "true" : nothing} @input=${(event: InputEvent) => {
          type((event.target as HTMLInputElement).value);
          change.errors = {};
          this.requestUpdate();
        }} />
      <p class="error" id="${id}-error">${change.errors[field] ?? ""}</p>
    </div>`;
    return html`<tr class="more">
      <td colspan="5">
        <form class="change" novalidate @submit=${(event: Event) => this.save(event, order)}>
          ${input("change-price", "price", t("Price limit per kWh"), change.price, (text) => (change.price = text))}
          ${input("change-energy", "energy_wh", t("Energy in kWh, what has traded included"), change.kwh, (text) => (change.kwh = text))}
          <p class="muted">
            ${later
              ? t("It goes behind the orders that wait at its price already, and may trade at once.")
              : t("It keeps its place among the orders that wait.")}
          </p>
          ${change.errors[""] ? html`<p class="error">${change.errors[""]}</p>` : nothing}
          <div class="row">
            <button class="small" ?disabled=${this.busy.has(order.id)}>${t("Change the order")}</button>
            <button type="button" class="small" @click=${() => {
              this.change = null;
              this.requestUpdate();
              this.querySelector<HTMLElement>("h3")?.focus();
            }}>${t("Leave it")}</button>
          </div>
        </form>
      </td>
    </tr>`;
  }

  // --- the list
  private actions(row: Row): TemplateResult {
    const { order } = row;
    const values = {
      side: order.side === "buy" ? t("buy") : t("sell"),
      energy: energy(row.remainingWh),
      slot: stretch(order.contract, row.legs[row.legs.length - 1].contract),
    };
    const busy = row.legs.some((leg) => this.busy.has(leg.id));
    const single = order.kind !== "block";
    return html`<div class="row">
      ${single && order.status === "open"
        ? html`<button type="button" class="small" aria-label=${t("Change: {side} {energy} for {slot}", values)} ?disabled=${busy} @click=${() => this.begin(order)}>
            ${t("Change")}
          </button>`
        : nothing}
      ${single
        ? html`<button type="button" class="small" aria-label=${order.status === "open" ? t("Put to sleep: {side} {energy} for {slot}", values) : t("Bring back: {side} {energy} for {slot}", values)} ?disabled=${busy} @click=${() => void this.sleep(order)}>
            ${order.status === "open" ? t("Put to sleep") : t("Bring back")}
          </button>`
        : nothing}
      <button type="button" class="small" aria-label=${t("Cancel: {side} {energy} for {slot}", values)} ?disabled=${busy} @click=${() => void this.cancel(row)}>
        ${t("Cancel")}
      </button>
    </div>`;
  }

  private detail(row: Row): string {
    const { order } = row;
    if (order.kind === "block") return row.legs.length === 1 ? "" : t("{energy} in each of {count} intervals", { energy: energy(order.energy_wh), count: row.legs.length });
    if (order.kind === "basket") return t("{leg} of {legs}", { leg: order.leg ?? 1, legs: order.legs ?? 1 });
    if (order.kind !== "iceberg") return "";
    const values = { shown: energy(order.visible_wh ?? 0), hidden: energy(Math.max(0, order.remaining_wh - (order.visible_wh ?? 0))), part: energy(order.display_wh ?? 0) };
    return order.visible_wh === undefined ? t("{part} at a time", values) : t("{shown} shown, {hidden} hidden", values);
  }

  /** The receipt of an order; of a block, of each of its legs, since each is an entry of the ledger. */
  private receipts(row: Row): TemplateResult {
    const link = (id: number, text: string): TemplateResult =>
      html`<a href="/receipts/${id}" aria-label=${t("Receipt of order {number}", { number: id })}>${text}</a>`;
    if (row.legs.length === 1) return link(row.order.id, t("Receipt"));
    return html`<details><summary>${t("Receipts")}</summary><span class="row">${row.legs.map((leg) => link(leg.id, String(leg.id)))}</span></details>`;
  }

  private row(row: Row): TemplateResult {
    const { order } = row;
    const open = row.legs.some(isOpen);
    const side = order.side === "buy" ? t("buy") : t("sell");
    const kind = kindText(order);
    const detail = this.detail(row);
    const last = order.kind === "sweep" ? (order.last ?? order.contract) : row.legs[row.legs.length - 1].contract;
    const changing = open && this.change?.id === order.id ? this.change : null;
    const why = open ? plain(order.waiting?.detail ?? "") : "";
    return html`<tbody class=${open ? "" : "done"}>
      <tr class=${open ? "first" : ""}>
        <th scope="row">
          <span
            ><span class="tag ${order.side}">${side}</span>${kind ? html` <span class="tag">${kind}</span>` : nothing}
            <small class="muted">${t("no. {number}", { number: order.id })}</small> <small>${this.receipts(row)}</small></span
          >
        </th>
        <td data-label=${t("Interval")}>${last === order.contract ? interval(order.contract) : stretch(order.contract, last)}</td>
        <td class="number" data-label=${t("Per kWh")}>${order.price}</td>
        <td class="number" data-label=${t("Filled")}>
          <span>${t("{part} of {whole}", { part: energy(row.filledWh), whole: energy(row.energyWh) })}${detail ? html`<br /><small class="muted">${detail}</small>` : nothing}</span>
        </td>
        <td data-label=${t("State")}>${order.status === "hibernated" ? html`<span class="tag warn">${endText(order)}</span>` : endText(order)}</td>
      </tr>
      ${open
        ? html`<tr class="more">
            <td colspan="5"><div class="under"><p class="why">${why ? html`<b>${t("Why not yet?")}</b>${GAP}${why}` : nothing}</p>${this.actions(row)}</div></td>
          </tr>`
        : nothing}
      ${changing ? this.changeRow(order, changing) : nothing}
    </tbody>`;
  }

  private table(found: Row[]): TemplateResult {
    return html`<table class="stacked">
      <thead>
        <tr>
          <th scope="col">${t("Order")}</th>
          <th scope="col">${t("Interval")}</th>
          <th scope="col" class="number">${t("Per kWh")}</th>
          <th scope="col" class="number">${t("Filled")}</th>
          <th scope="col">${t("State")}</th>
        </tr>
      </thead>
      ${found.map((row) => this.row(row))}
    </table>`;
  }

  /** What was asked about has traded or gone meanwhile: a later order is another question. */
  protected override willUpdate(): void {
    if (!this.asking || state.orders.some(isOpen)) return;
    const here = this.querySelector(".ask-all")?.contains(document.activeElement);
    this.asking = false;
    announce(t("No open orders."));
    if (here) void this.updateComplete.then(() => this.focus());
  }

  /** Give the keyboard to the list. */
  override focus(): void {
    this.querySelector<HTMLElement>("h3")?.focus();
  }

  protected override render() {
    const found = rows(state.orders);
    const open = found.filter((row) => row.legs.some(isOpen));
    const done = found.filter((row) => !row.legs.some(isOpen));
    return html`<div class="card-head">
        <h3 tabindex="-1">${t("Open: {count}", { count: open.length })}</h3>
        ${open.length && !this.asking
          ? html`<button type="button" class="small danger" @click=${() => void this.askAll()}>${t("Cancel all")} …</button>`
          : nothing}
      </div>
      ${this.asking && open.length ? this.question() : nothing}
      ${open.length ? this.table(open) : html`<p class="empty">${t("No open orders.")}</p>`}
      ${done.length ? html`<details><summary>${t("Finished")}</summary>${this.table(done)}</details>` : nothing}`;
  }
}
customElements.define("market-orders", Orders);

export type { Orders };
