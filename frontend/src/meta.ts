// What the server says about this page: who looks, the market's time and its speed. Written into the page as JSON.
export interface Meta {
  running: boolean;
  now_ms: number;
  speed: number; // market seconds a real second
  demo: boolean;
  language: string;
  time_zone: string; // the reader's: what pages show times in
  market_time_zone: string; // the market's: what its days go by, and where its sun stands
  currency: string;
  symbol: string;
  role: string;
  area: string;
  account: number | null;
  interval_min: number;
  ledger_size: number;
  height: number;
}

export function pageData<T>(id: string): T | null {
  const text = document.getElementById(id)?.textContent;
  return text ? (JSON.parse(text) as T) : null;
}

const read = pageData<Meta>("page-meta");
if (!read) throw new Error("the page carries no page-meta");
export const meta: Meta = read;

let anchorMarket = meta.now_ms;
let anchorReal = performance.now();

/** The market's time in milliseconds since the epoch; runs at the market's speed, not at the wall clock's. */
export function marketNow(): number {
  return anchorMarket + (performance.now() - anchorReal) * meta.speed;
}

/** Set the clock to what the server says it is. */
export function setMarketTime(atMs: number): void {
  if (!Number.isFinite(atMs)) return;
  anchorMarket = atMs;
  anchorReal = performance.now();
}
