// From what is typed into the ticket to an order: drafts hold texts, wishes numbers; and how each kind is sent.
import { clock, energy, priceE4, unitPrice } from "../format";
import { marketNow } from "../meta";
import { t } from "../messages";
import { count } from "./preview";
import type { Side } from "./state";

const MINUTE_MS = 60_000;
const MINUTES_A_DAY = 1440;
const MAX_INTERVALS = 96; // contracts of a block or sweep (docs/market-rules.md 4.11, 4.12)
const MAX_CLIPS = 100; // an iceberg shows at least a hundredth of itself
export const MAX_LEGS = 8; // in this form; a program may send a hundred

export type Kind = "limit" | "iceberg" | "sweep" | "block" | "basket";
export type TimeInForce = "gtg" | "gtd" | "ioc" | "fok";

/** What may be chosen as validity; a sweep and a basket have none, they are over at once. */
export const FORCES: Record<Kind, TimeInForce[]> = {
  limit: ["gtg", "gtd", "ioc", "fok"],
  iceberg: ["gtg", "gtd"],
  sweep: [],
  block: ["gtg", "gtd", "fok"],
  basket: [],
};

export interface LegDraft {
  side: Side;
  contract: string;
  price: string;
  kwh: string;
}

export interface Draft {
  kind: Kind;
  side: Side;
  contract: string; // the first one of a sweep or block
  last: string;
  price: string;
  kwh: string;
  showKwh: string;
  timeInForce: TimeInForce;
  until: string; // "HH:MM" of the market's clock
  legs: LegDraft[];
}

export interface Leg {
  side: Side;
  contract: string;
  priceE4: number;
  energyWh: number;
}

export interface Wish {
  kind: Kind;
  side: Side;
  contract: string;
  last: string;
  priceE4: number;
  energyWh: number;
  showWh: number;
  timeInForce: TimeInForce;
  expiresMs: number;
  legs: Leg[];
}

export interface Limits {
  max_price_e4: number;
  max_order_wh: number;
}

/** Field -> what is wrong with it; fields are those of the REST call. */
export type Errors = Record<string, string>;

/** "0.5" kWh -> 500; NaN for anything but a decimal number with at most three places. */
export function kwhToWh(text: string): number {
  const match = /^(\d{1,9})(?:\.(\d{1,3}))?$/.exec(text.trim().replace(",", "."));
  return match ? Number(match[1]) * 1000 + Number((match[2] ?? "").padEnd(3, "0")) : NaN;
}

/** The next instant at which the market's clock shows "HH:MM". */
function nextInstant(text: string): number {
  const [hours, minutes] = text.split(":").map(Number);
  if (!Number.isInteger(hours) || !Number.isInteger(minutes)) return NaN;
  const now = Math.floor(marketNow() / MINUTE_MS) * MINUTE_MS;
  const [nowHours, nowMinutes] = clock(now).split(":").map(Number);
  const ahead = (hours * 60 + minutes - nowHours * 60 - nowMinutes + MINUTES_A_DAY) % MINUTES_A_DAY;
  return now + (ahead || MINUTES_A_DAY) * MINUTE_MS;
}

const typedPrice = (text: string): number => priceE4(text.replace(",", "."));

/** The order that a draft stands for; its numbers may be NaN, `problems` says which. */
export function wishOf(draft: Draft): Wish {
  const forces = FORCES[draft.kind];
  const timeInForce = forces.includes(draft.timeInForce) ? draft.timeInForce : "gtg";
  return {
    kind: draft.kind,
    side: draft.side,
    contract: draft.contract,
    last: draft.last,
    priceE4: typedPrice(draft.price),
    energyWh: kwhToWh(draft.kwh),
    showWh: draft.kind === "iceberg" ? kwhToWh(draft.showKwh) : 0,
    timeInForce,
    expiresMs: timeInForce === "gtd" && draft.until ? nextInstant(draft.until) : 0,
    legs: draft.legs.map((leg) => ({
      side: leg.side,
      contract: leg.contract,
      priceE4: typedPrice(leg.price),
      energyWh: kwhToWh(leg.kwh),
    })),
  };
}

function check(found: Errors, at: string, of: Pick<Leg, "priceE4" | "energyWh">, limits: Limits): void {
  if (!(of.priceE4 > 0)) found[`${at}price`] = t("Enter a price such as 0.2850.");
  else if (of.priceE4 > limits.max_price_e4) {
    found[`${at}price`] = t("The highest price is {price} per kWh.", { price: unitPrice(limits.max_price_e4) });
  }
  if (!(of.energyWh > 0)) found[`${at}energy_wh`] = t("Enter an energy such as 0.5, in kWh.");
  else if (of.energyWh > limits.max_order_wh) {
    found[`${at}energy_wh`] = t("One order can have {energy} at most.", { energy: energy(limits.max_order_wh) });
  }
}

/** What is wrong with a wish, as far as that can be said before the market is asked. */
export function problems(wish: Wish, limits: Limits): Errors {
  const found: Errors = {};
  if (wish.kind === "basket") {
    wish.legs.forEach((leg, place) => check(found, `legs[${place}].`, leg, limits));
    return found;
  }
  if (wish.kind === "sweep" || wish.kind === "block") {
    const intervals = count(wish.contract, wish.last);
    if (!intervals) found.last = t("The last interval must not come before the first.");
    else if (intervals > MAX_INTERVALS) found.last = t("There may be {most} intervals at most.", { most: MAX_INTERVALS });
  }
  check(found, "", wish, limits);
  if (wish.kind === "iceberg" && !found.energy_wh && !(wish.showWh * MAX_CLIPS >= wish.energyWh && wish.showWh < wish.energyWh)) {
    found.display_wh = t("Show less than all of it, and {least} or more.", { least: energy(Math.ceil(wish.energyWh / MAX_CLIPS)) });
  }
  if (wish.timeInForce === "gtd" && !wish.expiresMs) found.expires_at = t("Enter a time before trading ends.");
  return found;
}

/** Path and body of the REST call that places an order. */
export function request(wish: Wish): { path: string; body: Record<string, unknown> } {
  const text = (e4: number): string => (e4 / 10_000).toFixed(4);
  if (wish.kind === "basket") {
    const legs = wish.legs.map((leg) => ({ contract: leg.contract, side: leg.side, price: text(leg.priceE4), energy_wh: leg.energyWh }));
    return { path: "/api/v1/orders/basket", body: { legs } };
  }
  const body = { contract: wish.contract, side: wish.side, price: text(wish.priceE4), energy_wh: wish.energyWh };
  if (wish.kind === "sweep") return { path: "/api/v1/orders/sweep", body: { ...body, last: wish.last } };
  const force = {
    time_in_force: wish.timeInForce,
    ...(wish.expiresMs ? { expires_at: new Date(wish.expiresMs).toISOString() } : {}),
  };
  if (wish.kind === "block") return { path: "/api/v1/orders/block", body: { ...body, last: wish.last, ...force } };
  return { path: "/api/v1/orders", body: { ...body, ...force, ...(wish.kind === "iceberg" ? { display_wh: wish.showWh } : {}) } };
}
