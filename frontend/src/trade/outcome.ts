// What became of an order that was sent, in one sentence.
import { energy, money, moneyE7, priceE4, unitPrice } from "../format";
import { t } from "../messages";
import type { Order } from "./state";
import type { Kind } from "./wish";

export interface Answer {
  order?: Order;
  orders?: Order[]; // of a block or basket, first leg first
  trades: { seq: number; amount: string; energy_wh: number; contract?: string; order?: number }[];
}

const sum = (trades: Answer["trades"]): number => trades.reduce((total, trade) => total + moneyE7(trade.amount), 0);

export function outcome(kind: Kind, answer: Answer): string {
  const first = answer.order ?? answer.orders?.[0];
  if (!first) return "";
  if (kind === "sweep") return ofSweep(first, answer);
  if (kind === "block") return ofBlock(first, answer);
  if (kind === "basket") return ofBasket(answer.orders ?? [], answer);
  return ofLimit(first, answer);
}

function ofLimit(order: Order, { trades }: Answer): string {
  const values = {
    number: order.id,
    done: energy(order.filled_wh),
    amount: money(sum(trades)),
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

function ofSweep(order: Order, { trades }: Answer): string {
  if (!order.filled_wh) return t("Nothing could be traded at once, the order was dropped. No. {number}.", { number: order.id });
  const values = {
    number: order.id,
    done: energy(order.filled_wh),
    amount: money(sum(trades)),
    count: new Set(trades.map((trade) => trade.contract)).size,
  };
  return order.side === "buy"
    ? t("Bought {done} in {count} intervals for {amount}. Order no. {number}.", values)
    : t("Sold {done} in {count} intervals for {amount}. Order no. {number}.", values);
}

function ofBlock(first: Order, { orders = [], trades }: Answer): string {
  const values = {
    number: first.id,
    count: orders.length,
    done: energy(orders.reduce((total, leg) => total + leg.filled_wh, 0)),
    amount: money(sum(trades)),
  };
  if (first.status === "open") return t("Block no. {number} waits until all {count} intervals can trade.", values);
  return first.side === "buy"
    ? t("Bought {done} in {count} intervals for {amount}. Block no. {number}.", values)
    : t("Sold {done} in {count} intervals for {amount}. Block no. {number}.", values);
}

function ofBasket(legs: Order[], { trades }: Answer): string {
  const sells = new Set(legs.filter((leg) => leg.side === "sell").map((leg) => leg.id));
  return t("All {count} orders traded: bought for {paid}, sold for {got}. Basket no. {number}.", {
    number: legs[0].id,
    count: legs.length,
    paid: money(sum(trades.filter((trade) => !sells.has(trade.order ?? 0)))),
    got: money(sum(trades.filter((trade) => sells.has(trade.order ?? 0)))),
  });
}
