// What an order would do, in words and before it is sent. Pure: the book and the wish go in, sentences come out.
import { clock, energy, interval, money, price, priceE4, unitPrice } from "../format";
import { t } from "../messages";
import type { Level } from "../store";

export interface Wish {
  contract: string;
  side: "buy" | "sell";
  priceE4: number;
  energyWh: number;
  timeInForce: "gtg" | "gtd" | "ioc" | "fok";
  expiresMs: number;
}

export interface Fill {
  wh: number;
  amountE7: number;
}

/** What the levels of the other side would give at once. */
export function fill(wish: Wish, levels: Level[]): Fill {
  let left = wish.energyWh;
  let amountE7 = 0;
  for (const [text, wh] of levels) {
    const levelE4 = priceE4(text);
    const beyond = wish.side === "buy" ? levelE4 > wish.priceE4 : levelE4 < wish.priceE4;
    if (beyond || left === 0) break;
    const taken = Math.min(left, wh);
    left -= taken;
    amountE7 += taken * levelE4;
  }
  return { wh: wish.energyWh - left, amountE7 };
}

/** The sentences of the preview. `topupE4` is what missing energy costs: a seller's money is set aside against it. */
export function describe(wish: Wish, levels: Level[], topupE4: number, gateMs: number): string[] {
  const found = fill(wish, levels);
  const restWh = wish.energyWh - found.wh;
  const values = {
    energy: energy(wish.energyWh),
    slot: interval(wish.contract),
    price: unitPrice(wish.priceE4),
    limit: price(wish.priceE4),
    most: money(wish.priceE4 * wish.energyWh),
    now: energy(found.wh),
    amount: money(found.amountE7),
    rest: energy(restWh),
    gate: clock(gateMs),
    until: clock(wish.expiresMs || gateMs),
  };
  const lines = [
    wish.side === "buy"
      ? t("You buy {energy} for {slot} and pay {price} per kWh at most: {most} in all.", values)
      : t("You sell {energy} for {slot} and get {price} per kWh at least: {most} in all.", values),
  ];
  const rests = wish.timeInForce === "gtg" || wish.timeInForce === "gtd";
  if (wish.timeInForce === "fok" && restWh > 0) {
    lines.push(t("Right now only {now} of it can be traded, so nothing would happen.", values));
    return lines;
  }
  if (found.wh > 0) lines.push(t("{now} trade at once for {amount}.", values));
  if (restWh > 0 && rests) {
    lines.push(
      wish.timeInForce === "gtd"
        ? t("{rest} wait for a neighbour until {until}.", values)
        : t("{rest} wait for a neighbour until trading ends at {gate}.", values),
    );
  }
  if (restWh > 0 && !rests) {
    lines.push(found.wh ? t("The other {rest} are dropped.", values) : t("Nothing can be traded at once: nothing would happen."));
  }
  if (rests && restWh > 0) {
    const perKwhE4 = wish.side === "buy" ? wish.priceE4 : Math.max(0, topupE4 - wish.priceE4);
    if (perKwhE4 * restWh > 0) {
      const held = { held: money(perKwhE4 * restWh) };
      lines.push(
        wish.side === "buy"
          ? t("{held} of your money is set aside while it waits.", held)
          : t("{held} is set aside while it waits, in case the energy is not delivered.", held),
      );
    }
  }
  return lines;
}
