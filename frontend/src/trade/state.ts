// What the parts of the trade page share: the served data, kept up to date by the streams.
import { call } from "../api";
import { store } from "../live";
import { meta, pageData } from "../meta";
import type { Book, Log, OwnItem, Ticker, TickerLine, Trade } from "../store";

export interface Order {
  id: number;
  contract: string;
  side: "buy" | "sell";
  price: string;
  energy_wh: number;
  filled_wh: number;
  remaining_wh: number;
  status: string;
  reason: string | null;
  time_in_force: string;
  expires_at: string | null;
}

export interface Position {
  bought_wh: number;
  sold_wh: number;
}

interface Served {
  contract: string;
  state: string;
  gate_ms: number;
  topup: string;
  spill: string;
  tick_e4: number;
  max_price_e4: number;
  max_order_wh: number;
  account: boolean;
  ticker: Record<string, TickerLine>;
  strip: string[];
  book: Pick<Book, "bids" | "asks">;
  orders: Order[];
  trades: Trade[];
  position: Position | null;
}

const SHOWN_ORDERS = 20;
const REFETCH_MS = 250; // a burst of fills is one look
const MAX_TAPE = 40;

const data = pageData<Served>("trade-data");
if (!data) throw new Error("the page carries no trade-data");
export const served: Served = data;

/** The page's one mutable record; parts redraw when `changed` says so. */
export const state = {
  book: served.book as Pick<Book, "bids" | "asks">,
  ticker: served.ticker,
  orders: served.orders,
  trades: served.trades,
  position: served.position,
};

export type Part = keyof typeof state;

const listeners = new Map<Part, Set<() => void>>();

export function listen(part: Part, listener: () => void): () => void {
  const found = listeners.get(part) ?? new Set();
  listeners.set(part, found.add(listener));
  return () => found.delete(listener);
}

function change<P extends Part>(part: P, value: (typeof state)[P]): void {
  state[part] = value;
  for (const listener of listeners.get(part) ?? []) listener();
}

/** Orders of this account that wait in the shown book, by side and price. */
export function ownPrices(): Set<string> {
  return new Set(
    state.orders
      .filter((order) => order.status === "open" && order.contract === served.contract)
      .map((order) => `${order.side} ${order.price}`),
  );
}

/** Whether the shown contract still trades: open, halted or closed, as the ticker says it. */
export function contractState(): string {
  return state.ticker[served.contract]?.state ?? "closed";
}

let timer = 0;

async function fetchOwn(): Promise<void> {
  timer = 0;
  try {
    const [open, latest, positions] = await Promise.all([
      call<{ results: Order[] }>("GET", "/api/v1/orders?state=open&limit=100"),
      call<{ results: Order[] }>("GET", `/api/v1/orders?limit=${SHOWN_ORDERS}`),
      call<{ results: (Position & { contract: string })[] }>("GET", "/api/v1/me/positions"),
    ]);
    const finished = latest.results.filter((order) => order.status !== "open");
    change("orders", [...open.results, ...finished.slice(0, Math.max(0, SHOWN_ORDERS - open.results.length))]);
    change("position", positions.results.find((row) => row.contract === served.contract) ?? null);
  } catch {
    // The connection's state is said by the shell; the next event asks again.
  }
}

/** Look at my orders and position again, soon and once. */
export function refreshOwn(): void {
  if (!timer && served.account) timer = window.setTimeout(() => void fetchOwn(), REFETCH_MS);
}

export function start(): void {
  if (meta.area) {
    store.watch<Book>(`book:${meta.area}:${served.contract}`, (book) => {
      if (book) change("book", book);
    });
    store.watch<Ticker>(`ticker:${meta.area}`, (ticker) => {
      if (ticker) change("ticker", ticker.contracts);
    });
  }
  store.watch<Log<Trade>>("trades", (log) => {
    const newest = state.trades.at(-1)?.seq ?? -1;
    const fresh = (log?.items ?? []).filter((item) => item.contract === served.contract && item.seq > newest);
    if (fresh.length) change("trades", [...state.trades, ...fresh].slice(-MAX_TAPE));
  });
  if (served.account) store.watch<Log<OwnItem>>("me", () => refreshOwn());
}
