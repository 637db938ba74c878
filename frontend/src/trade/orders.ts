import { html, nothing, type TemplateResult } from "lit";
import { call, Problem } from "../api";
import { clock, energy, interval } from "../format";
import { t } from "../messages";
import { announce } from "../status";
import { PageElement } from "./element";
import { refreshOwn, state, type Order } from "./state";

const ENDS: Record<string, string> = {
  owner: "cancelled by you",
  ioc: "rest not available at once",
  expired: "time ran out",
  gate: "the gate closed",
  self_trade: "would have met your own order",
  account_closed: "the account was closed",
};

class Orders extends PageElement {
  protected readonly parts = ["orders" as const];
  private readonly leaving = new Set<number>();

  private async cancel(order: Order): Promise<void> {
    this.leaving.add(order.id);
    this.requestUpdate();
    try {
      await call("DELETE", `/api/v1/orders/${order.id}`);
      announce(t("Order {number} is cancelled.", { number: order.id }));
    } catch (error) {
      announce(error instanceof Problem ? error.message : t("The order could not be cancelled."));
    } finally {
      this.leaving.delete(order.id);
      this.querySelector<HTMLElement>("h3")?.focus(); // the pressed button goes away with its row
      refreshOwn();
      this.requestUpdate();
    }
  }

  private async cancelAll(): Promise<void> {
    try {
      const answer = await call<{ cancelled: number[] }>("DELETE", "/api/v1/orders");
      announce(t("{count} orders are cancelled.", { count: answer.cancelled.length }));
    } catch (error) {
      announce(error instanceof Problem ? error.message : t("The order could not be cancelled."));
    } finally {
      this.querySelector<HTMLElement>("h3")?.focus();
      refreshOwn();
    }
  }

  private ends(order: Order): string {
    if (order.status === "filled") return t("filled");
    if (order.status === "open") {
      return order.expires_at
        ? t("until {time}", { time: clock(Date.parse(order.expires_at)) })
        : t("until the gate closes");
    }
    return t(ENDS[order.reason ?? ""] ?? "cancelled by the market operator");
  }

  private row(order: Order): TemplateResult {
    const open = order.status === "open";
    const side = order.side === "buy" ? t("buy") : t("sell");
    const label = t("Cancel: {side} {energy} for {slot}", {
      side,
      energy: energy(order.remaining_wh),
      slot: interval(order.contract),
    });
    return html`<tr class=${open ? "" : "done"}>
      <th scope="row"><span class="tag ${order.side}">${side}</span> <small class="muted">${t("no. {number}", { number: order.id })}</small></th>
      <td data-label=${t("Interval")}>${interval(order.contract)}</td>
      <td class="number" data-label=${t("Per kWh")}>${order.price}</td>
      <td class="number" data-label=${t("Filled")}>${t("{part} of {whole}", { part: energy(order.filled_wh), whole: energy(order.energy_wh) })}</td>
      <td data-label=${t("State")}>${this.ends(order)}</td>
      <td class="act">
        ${open
          ? html`<button type="button" class="small" aria-label=${label} ?disabled=${this.leaving.has(order.id)} @click=${() => void this.cancel(order)}>
              ${t("Cancel")}
            </button>`
          : nothing}
      </td>
    </tr>`;
  }

  private table(orders: Order[]): TemplateResult {
    return html`<table class="stacked">
      <thead>
        <tr>
          <th scope="col">${t("Order")}</th>
          <th scope="col">${t("Interval")}</th>
          <th scope="col" class="number">${t("Per kWh")}</th>
          <th scope="col" class="number">${t("Filled")}</th>
          <th scope="col">${t("State")}</th>
          <th scope="col"><span class="quiet">${t("Action")}</span></th>
        </tr>
      </thead>
      <tbody>
        ${orders.map((order) => this.row(order))}
      </tbody>
    </table>`;
  }

  protected override render() {
    const open = state.orders.filter((order) => order.status === "open");
    const done = state.orders.filter((order) => order.status !== "open");
    return html`<div class="card-head">
        <h3 tabindex="-1">${t("Open: {count}", { count: open.length })}</h3>
        ${open.length
          ? html`<button type="button" class="small danger" @click=${() => void this.cancelAll()}>${t("Cancel all")}</button>`
          : nothing}
      </div>
      ${open.length ? this.table(open) : html`<p class="empty">${t("No open orders.")}</p>`}
      ${done.length ? html`<details><summary>${t("Finished")}</summary>${this.table(done)}</details>` : nothing}`;
  }
}
customElements.define("market-orders", Orders);
