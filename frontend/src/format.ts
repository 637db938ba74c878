// Numbers as people read them. The same rules as market/pages/templatetags/market.py, so that live text equals served text.
import { meta } from "./meta";

const MINUS = "−";
const ZERO_PRICE_DIGITS = 4;

function grouped(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

/** What stands between two sentences: Chinese ones bring their room with them (market/pages/typesetting.py). */
export const GAP = meta.language === "zh-hans" ? "" : " ";

/** Sentences, one after the other. */
export function sentences(parts: string[]): string {
  return parts.filter(Boolean).join(GAP);
}

/** 4275000 (1e-7 currency) -> "€0.43"; a fraction of a cent shows four digits, so that no earned money looks like none. */
export function money(amountE7: number, digits = 2): string {
  const size = Math.abs(amountE7);
  const places = size > 0 && size < 50_000 && digits === 2 ? 4 : digits;
  const scale = 10 ** (7 - places);
  const rounded = Math.round(size / scale);
  const whole = Math.floor(rounded / 10 ** places);
  const rest = String(rounded % 10 ** places).padStart(places, "0");
  const sign = amountE7 < 0 && rounded > 0 ? MINUS : "";
  return `${sign}${meta.symbol}${grouped(String(whole))}${places ? "." + rest : ""}`;
}

/** 2850 -> "0.2850" */
export function price(priceE4: number): string {
  return (priceE4 / 10_000).toFixed(ZERO_PRICE_DIGITS);
}

/** "0.2850" -> 2850; NaN for anything that is not a decimal number with at most four places. */
export function priceE4(text: string): number {
  const match = /^(\d{1,6})(?:\.(\d{1,4}))?$/.exec(text.trim());
  if (!match) return NaN;
  return Number(match[1]) * 10_000 + Number((match[2] ?? "").padEnd(4, "0"));
}

/** "0.4275000" -> 4275000 */
export function moneyE7(text: string): number {
  const match = /^(-?)(\d{1,16})(?:\.(\d{1,7}))?$/.exec(text.trim());
  if (!match) return NaN;
  const size = Number(match[2]) * 10_000_000 + Number((match[3] ?? "").padEnd(7, "0"));
  return match[1] ? -size : size;
}

/** "€0.2850", "€0.28": a price for reading, in cents or with all four digits. */
export function unitPrice(e4: number): string {
  return `${meta.symbol}${price(e4).replace(/00$/, "")}`;
}

/** 3240 -> "3.24 kWh", 80 -> "80 Wh" */
export function energy(wh: number): string {
  const size = Math.abs(wh);
  const sign = wh < 0 ? MINUS : "";
  if (size < 1000) return `${sign}${Math.round(size)} Wh`;
  return `${sign}${grouped((size / 1000).toFixed(size < 10_000 ? 2 : 1).split(".")[0])}.${(size / 1000).toFixed(size < 10_000 ? 2 : 1).split(".")[1]} kWh`;
}

/** 3240 -> "3.24 kW", 80 -> "80 W" */
export function power(w: number): string {
  return energy(w).replace("Wh", "W");
}

const clockFormat = new Intl.DateTimeFormat("en-GB", {
  timeZone: meta.time_zone,
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
});
const secondsFormat = new Intl.DateTimeFormat("en-GB", {
  timeZone: meta.time_zone,
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const dayFormat = new Intl.DateTimeFormat(meta.language === "zh-hans" ? "zh-CN" : "en-GB", {
  timeZone: meta.time_zone,
  weekday: "short",
  day: "numeric",
  month: "short",
});

const dateFormat = new Intl.DateTimeFormat(meta.language === "zh-hans" ? "zh-CN" : "en-GB", {
  timeZone: meta.time_zone,
  dateStyle: "medium",
  timeStyle: "short",
});

/** The reader's time of day, "12:15". */
export const clock = (atMs: number): string => clockFormat.format(atMs);
export const clockSeconds = (atMs: number): string => secondsFormat.format(atMs);
export const day = (atMs: number): string => dayFormat.format(atMs);
/** With the year: "6 Jun 2026, 12:15". */
export const dateTime = (atMs: number): string => dateFormat.format(atMs);

const marketFormat = new Intl.DateTimeFormat("en-GB", {
  timeZone: meta.market_time_zone,
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
});
/** The market's time of day, wherever its reader is: the sun goes by it. */
export const marketClock = (atMs: number): string => marketFormat.format(atMs);

/** Start of a contract ("2026-06-06T12:15Z") in milliseconds. */
export const contractStart = (name: string): number => Date.parse(name.replace("Z", ":00Z"));

/** "12:15–12:30" in the reader's zone. */
export function interval(name: string): string {
  const start = contractStart(name);
  return `${clock(start)}–${clock(start + meta.interval_min * 60_000)}`;
}
