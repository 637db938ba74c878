// What the home page says of what happened, and where its receipts are.
import { clock, contractStart, energy, money, moneyE7, sentences } from "../format";
import { meta } from "../meta";
import { t } from "../messages";
import type { OwnItem } from "../store";

/** "11:00–12:00": from the first to the end of the last interval. */
export function stretch(contracts: string[]): string {
  const starts = contracts.map(contractStart);
  return `${clock(Math.min(...starts))}–${clock(Math.max(...starts) + meta.interval_min * 60_000)}`;
}

function receiptLink(id: number): HTMLAnchorElement {
  const link = document.createElement("a");
  link.href = `/ledger/check#receipt-${id}`;
  link.textContent = t("Receipt of order {number}", { number: id });
  return link;
}

/** One link, or a list that opens: a press may place a dozen orders. */
export function receipts(ids: number[]): HTMLElement {
  const links = document.createElement("span");
  links.className = "receipts";
  links.append(...ids.map(receiptLink));
  if (ids.length === 1) return links;
  const all = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = t("Receipts");
  all.append(summary, links);
  return all;
}

const isPaid = (item: OwnItem): boolean => item.type === "settle" && moneyE7(String(item.payout)) > 0;

/** Whether the page itself says that this happened, by a sentence or by the receipt of a press. */
export const isTold = (item: OwnItem): boolean => item.type === "trade" || isPaid(item);

/** What happened to this account, in one sentence a kind; "" for nothing to say. */
export function news(items: OwnItem[]): string {
  const total = (found: OwnItem[], field: string): number => found.reduce((sum, item) => sum + moneyE7(String(item[field])), 0);
  const paid = items.filter(isPaid);
  const lines = ["sell", "buy"].flatMap((side) => {
    const traded = items.filter((item) => item.type === "trade" && item.side === side);
    const wh = traded.reduce((sum, item) => sum + Number(item.energy_wh), 0);
    const values = { energy: energy(wh), amount: money(total(traded, "amount")) };
    return wh ? [side === "sell" ? t("Sold {energy} for {amount}.", values) : t("Bought {energy} for {amount}.", values)] : [];
  });
  if (paid.length) lines.push(t("Delivered and paid: {amount} for {slot}.", { amount: money(total(paid, "payout")), slot: stretch(paid.map((item) => String(item.contract))) }));
  return sentences(lines);
}
