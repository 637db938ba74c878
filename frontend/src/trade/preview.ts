// What an order would do, in words and before it is sent. Pure: the market and the wish go in, sentences come out.
import { clock, contractStart, energy, interval, money, price, priceE4, unitPrice } from "../format";
import { meta } from "../meta";
import { t } from "../messages";
import type { Level, TickerLine } from "../store";
import type { Leg, Wish } from "./wish";

export interface Fill {
  wh: number;
  amountE7: number;
}

/** What the preview knows of the market. `topupE4` is what missing energy costs: a seller's money is held against it. */
export interface Market {
  levels: Level[]; // the other side of the shown contract, best first
  ticker: Record<string, TickerLine>;
  topupE4: number;
  gateMs: (contract: string) => number;
}

/** What the levels of the other side would give at once. */
export function fill(wish: Pick<Wish, "side" | "priceE4" | "energyWh">, levels: Level[]): Fill {
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

/** The contracts from the first to the last one, 0 when they are no run. */
export function count(first: string, last: string): number {
  const steps = (contractStart(last) - contractStart(first)) / (meta.interval_min * 60_000);
  return Number.isInteger(steps) && steps >= 0 ? steps + 1 : 0;
}

/** "12:00–13:15": from the start of the first to the end of the last. */
export function stretch(first: string, last: string): string {
  return `${clock(contractStart(first))}–${clock(contractStart(last) + meta.interval_min * 60_000)}`;
}

/** The sentences of the preview. */
export function describe(wish: Wish, market: Market): string[] {
  if (wish.kind === "sweep") return describeSweep(wish, market);
  if (wish.kind === "block") return describeBlock(wish, market);
  if (wish.kind === "basket") return describeBasket(wish.legs);
  return describeLimit(wish, market);
}

function held(wish: Wish, energyWh: number, market: Market): string[] {
  const perKwhE4 = wish.side === "buy" ? wish.priceE4 : Math.max(0, market.topupE4 - wish.priceE4);
  if (perKwhE4 * energyWh <= 0) return [];
  const values = { held: money(perKwhE4 * energyWh) };
  return [
    wish.side === "buy"
      ? t("{held} of your money is set aside while it waits.", values)
      : t("{held} is set aside while it waits, in case the energy is not delivered.", values),
  ];
}

function describeLimit(wish: Wish, market: Market): string[] {
  const found = fill(wish, market.levels);
  const restWh = wish.energyWh - found.wh;
  const gateMs = market.gateMs(wish.contract);
  const values = {
    energy: energy(wish.energyWh),
    slot: interval(wish.contract),
    price: unitPrice(wish.priceE4),
    limit: price(wish.priceE4),
    most: money(wish.priceE4 * wish.energyWh),
    now: energy(found.wh),
    amount: money(found.amountE7),
    rest: energy(restWh),
    shown: energy(Math.min(restWh, wish.showWh)),
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
    if (wish.kind === "iceberg") {
      lines.push(t("Others see {shown} at a time. When that has traded, the next part shows, behind those who waited before.", values));
    }
  }
  if (restWh > 0 && !rests) {
    lines.push(found.wh ? t("The other {rest} are dropped.", values) : t("Nothing can be traded at once: nothing would happen."));
  }
  if (rests && restWh > 0) lines.push(...held(wish, restWh, market));
  return lines;
}

function describeSweep(wish: Wish, market: Market): string[] {
  const values = {
    energy: energy(wish.energyWh),
    stretch: stretch(wish.contract, wish.last),
    price: unitPrice(wish.priceE4),
    most: money(wish.priceE4 * wish.energyWh),
  };
  const within = Object.entries(market.ticker)
    .filter(([name, line]) => name >= wish.contract && name <= wish.last && line.state === "open")
    .map(([name, line]) => ({ name, bestE4: priceE4((wish.side === "buy" ? line.ask : line.bid) ?? "") }))
    .filter(({ bestE4 }) => (wish.side === "buy" ? bestE4 <= wish.priceE4 : bestE4 >= wish.priceE4))
    .sort((a, b) => (wish.side === "buy" ? a.bestE4 - b.bestE4 : b.bestE4 - a.bestE4));
  const lines = [
    wish.side === "buy"
      ? t("You buy up to {energy} at once, wherever in {stretch} it is cheapest, for {price} per kWh at most: {most} in all.", values)
      : t("You sell up to {energy} at once, wherever in {stretch} it brings most, for {price} per kWh at least.", values),
    within.length
      ? t("Right now {some} of {all} intervals have something for you; the best price is {best} at {at}.", {
          some: within.length,
          all: count(wish.contract, wish.last),
          best: unitPrice(within[0].bestE4),
          at: interval(within[0].name),
        })
      : t("Right now no interval has anything within your limit: nothing would happen."),
    t("What cannot be had at once is dropped."),
  ];
  return lines;
}

function describeBlock(wish: Wish, market: Market): string[] {
  const intervals = count(wish.contract, wish.last);
  const wholeWh = wish.energyWh * intervals;
  const gateMs = market.gateMs(wish.contract);
  const values = {
    energy: energy(wish.energyWh),
    whole: energy(wholeWh),
    count: intervals,
    stretch: stretch(wish.contract, wish.last),
    slot: interval(wish.contract),
    price: unitPrice(wish.priceE4),
    most: money(wish.priceE4 * wholeWh),
    gate: clock(gateMs),
    until: clock(wish.expiresMs || gateMs),
  };
  const lines = [
    intervals === 1
      ? wish.side === "buy"
        ? t("You buy {energy} for {slot} and pay {price} per kWh at most: {most} in all.", values)
        : t("You sell {energy} for {slot} and get {price} per kWh at least: {most} in all.", values)
      : wish.side === "buy"
        ? t("You buy {energy} in each of {count} intervals, {stretch}, {whole} together, and pay {price} per kWh at most: {most} in all.", values)
        : t("You sell {energy} in each of {count} intervals, {stretch}, {whole} together, and get {price} per kWh at least: {most} in all.", values),
    t("All of it trades or nothing does."),
  ];
  if (wish.timeInForce === "fok") return [...lines, t("If that is not possible at once, nothing happens.")];
  lines.push(
    wish.timeInForce === "gtd"
      ? t("If that is not possible at once, the block waits until {until}.", values)
      : t("If that is not possible at once, the block waits until trading of its first interval ends at {gate}.", values),
    ...held(wish, wholeWh, market),
  );
  return lines;
}

function describeBasket(legs: Leg[]): string[] {
  const balanceE7 = legs.reduce((sum, leg) => sum + (leg.side === "sell" ? 1 : -1) * leg.priceE4 * leg.energyWh, 0);
  const lines = legs.map((leg) => {
    const values = {
      energy: energy(leg.energyWh),
      slot: interval(leg.contract),
      price: unitPrice(leg.priceE4),
      amount: money(leg.priceE4 * leg.energyWh),
    };
    return leg.side === "buy"
      ? t("Buy {energy} for {slot} at {price} per kWh at most: {amount}.", values)
      : t("Sell {energy} for {slot} at {price} per kWh at least: {amount}.", values);
  });
  return [
    t("All of these orders trade in full at once, or none does:"),
    ...lines,
    balanceE7 >= 0
      ? t("Together you are left with {amount} or more.", { amount: money(balanceE7) })
      : t("Together they cost {amount} at most.", { amount: money(-balanceE7) }),
  ];
}
