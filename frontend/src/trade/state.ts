// What the parts of the trade page share: the served data, kept up to date by the streams.
import { call } from "../api";
import { contractStart } from "../format";
import { store } from "../live";
import { marketNow, meta, pageData } from "../meta";
import { all } from "../paging";
import { standing } from "./heat";
import { advance, MAX_TAPE, mended } from "./prints";
import type { Book, Log, OwnItem, Ticker, TickerLine, Trade } from "../store";

export type Side = "buy" | "sell";

export interface Order {
  id: number;
  contract: string;
  side: Side;
  price: string;
  energy_wh: number;
  filled_wh: number;
  remaining_wh: number;
  status: string;
  reason: string | null;
  time_in_force: string;
  expires_at: string | null;
  // Only where they apply.
  kind?: "iceberg" | "sweep" | "block" | "basket";
  last?: string; // of a sweep
  display_wh?: number; // of an iceberg: what it shows at a time
  visible_wh?: number; // and now
  group?: number; // id of the first leg of a block or basket
  leg?: number;
  legs?: number;
  waiting?: { code: string; detail: string } | null; // why it has not traded
}

export interface Position {
  bought_wh: number;
  sold_wh: number;
}

interface Served {
  contract: string;
  state: string;
  gate_ms: number;
  lead_min: number;
  topup: string;
  spill: string;
  tick_e4: number;
  max_price_e4: number;
  max_order_wh: number;
  account: boolean;
  ticker: Record<string, TickerLine>;
  strip: string[];
  held: string; // money set aside for open orders
  halt: string; // why this account cannot order anywhere; "" when it can
  net: Record<string, number>; // bought minus sold energy of this account, by contract
  book: Pick<Book, "bids" | "asks">;
  orders: Order[];
  trades: Trade[];
  position: Position | null;
}

const SHOWN_ORDERS = 20;
const OPEN_ORDERS = 500; // of one page; a block alone has up to 96 legs
const OPEN_PAGES = 4; // of the list; markets allow 1,000 open orders unless they say otherwise
const REFETCH_MS = 250; // a burst of fills is one look
const RETRY_MS = 5_000; // after no answer
const WAITING_MS = 3_000; // between two looks at why orders wait, however fast the book changes
const POLL_MS = 15_000; // for orders in books that this page does not follow
const PAGE_MS = 10_000; // for another contract's page; then the browser goes there itself

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
  contract: served.contract,
  net: served.net,
  halt: served.halt,
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

/** Whether an order may still trade. */
export const isOpen = (order: Order): boolean => order.status === "open" || order.status === "hibernated";

/** Orders of this account that wait in the shown book, by side and price. A waiting block is in no book. */
export function ownPrices(): Set<string> {
  return new Set(
    state.orders
      .filter((order) => order.status === "open" && order.contract === served.contract && order.kind !== "block")
      .map((order) => `${order.side} ${order.price}`),
  );
}

/** Whether the shown contract still trades: open, halted or closed, as the ticker says it. */
export function contractState(): string {
  return state.ticker[served.contract]?.state ?? "closed";
}

/** When a contract's gate closes, in ms. */
export const gateMs = (name: string): number => contractStart(name) - served.lead_min * 60_000;

/** All contracts of the strip, by start: those served, and those that opened since; what is over for an hour goes, but for the shown one. */
export function contracts(): string[] {
  const open = Object.keys(state.ticker).filter((name) => state.ticker[name].state !== "closed");
  return standing([...served.strip, ...open], served.contract, marketNow(), contractStart);
}

/** The contracts an order may name now, by start. */
export function tradable(): string[] {
  const now = marketNow();
  return contracts().filter((name) => gateMs(name) > now);
}

/** Net energy of this account in every contract that it traded, in Wh. */
function nets(rows: (Position & { contract: string })[]): Record<string, number> {
  return Object.fromEntries(rows.map((row) => [row.contract, row.bought_wh - row.sold_wh]).filter(([, wh]) => wh));
}

let timer = 0;
let due = Infinity;
let lookedAt = -Infinity;
let fetching = false;
let again = false; // asked for while one was under way

const openOrders = (state: "open" | "hibernated"): Promise<Order[]> =>
  all<Order>((path) => call("GET", path), `/api/v1/orders?state=${state}&limit=${OPEN_ORDERS}`, OPEN_PAGES);

async function fetchOwn(): Promise<void> {
  timer = 0;
  due = Infinity;
  if (fetching) {
    again = true; // never two at a time: the older answer could come last
    return;
  }
  fetching = true;
  lookedAt = performance.now();
  try {
    const [open, asleep, latest, positions] = await Promise.all([
      openOrders("open"),
      openOrders("hibernated"),
      call<{ results: Order[] }>("GET", `/api/v1/orders?limit=${SHOWN_ORDERS}`),
      call<{ results: (Position & { contract: string })[] }>("GET", "/api/v1/me/positions"),
    ]);
    const waiting = [...open, ...asleep].sort((a, b) => b.id - a.id);
    const finished = latest.results.filter((order) => !isOpen(order));
    change("orders", [...waiting, ...finished.slice(0, Math.max(0, SHOWN_ORDERS - waiting.length))]);
    change("position", positions.results.find((row) => row.contract === served.contract) ?? null);
    change("net", nets(positions.results));
  } catch {
    // The connection's state is said by the shell.
    look(RETRY_MS);
  } finally {
    fetching = false;
    if (again) look(REFETCH_MS);
    again = false;
  }
}

/** Look after `waitMs`; of two wishes the earlier counts, so that neither a stream of them nor a late one delays. */
function look(waitMs: number): void {
  const at = performance.now() + waitMs;
  if (at >= due || !served.account) return;
  window.clearTimeout(timer);
  due = at;
  timer = window.setTimeout(() => void fetchOwn(), waitMs);
}

/** Look at my orders and position again, soon and once. */
export function refreshOwn(): void {
  look(REFETCH_MS);
}

/** The book has changed: why my orders wait may have changed with it. At most one look in `WAITING_MS`. */
function lookAtWaiting(): void {
  if (fetching || !state.orders.some((order) => order.status === "open")) return;
  look(Math.max(REFETCH_MS, lookedAt + WAITING_MS - performance.now()));
}

/** The stream could not bring all trades: REST has them. */
async function mend(): Promise<void> {
  const { contract } = served;
  try {
    const answer = await call<{ results: Trade[] }>("GET", `/api/v1/trades?contract=${contract}&limit=${MAX_TAPE}`);
    if (contract === served.contract) change("trades", mended(state.trades, answer.results));
  } catch {
    // The connection's state is said by the shell; another interval's page brings its own.
  }
}

let unwatch = (): void => undefined;

function watchBook(): void {
  unwatch();
  if (!meta.area) return;
  const contract = served.contract;
  unwatch = store.watch<Book>(`book:${meta.area}:${contract}`, (book) => {
    if (!book || contract !== served.contract) return;
    change("book", book);
    lookAtWaiting();
  });
}

/** What the page of another contract would be served with, and its heading; null when it cannot be had. */
async function fetchContract(name: string): Promise<{ page: Document; fresh: Served } | null> {
  try {
    const response = await fetch(`/trade/${name}`, { credentials: "same-origin", redirect: "error", signal: AbortSignal.timeout(PAGE_MS) });
    if (!response.ok) return null;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const text = page.getElementById("trade-data")?.textContent;
    return text ? { page, fresh: JSON.parse(text) as Served } : null;
  } catch {
    return null;
  }
}

let turn = 0;

/** Show another contract without a new page; whatever goes wrong, the browser goes to its page instead. */
export async function show(name: string, remember = true): Promise<boolean> {
  const mine = ++turn;
  const found = await fetchContract(name);
  if (mine !== turn) return false; // somebody went on to another one meanwhile
  if (!found) {
    window.location.assign(`/trade/${name}`);
    return false;
  }
  const { page, fresh } = found;
  Object.assign(served, fresh);
  if (remember) window.history.pushState(null, "", `/trade/${name}`);
  document.title = page.title;
  for (const part of ["h1", "#gate", ".limits"]) {
    const [shown, given] = [document, page].map((where) => where.querySelector(`#trade-head ${part}`));
    if (given) shown?.replaceWith(document.adoptNode(given));
  }
  state.contract = fresh.contract;
  state.book = fresh.book;
  state.trades = fresh.trades;
  state.position = fresh.position;
  state.orders = fresh.orders;
  for (const part of ["contract", "book", "trades", "position", "orders"] as const) change(part, state[part]);
  watchBook();
  return true;
}

/** Why nothing can be ordered anywhere, as the page of positions says it. */
export function setHalt(code: string): void {
  if (code !== state.halt) change("halt", code);
}

export function start(): void {
  watchBook();
  if (meta.area) {
    store.watch<Ticker>(`ticker:${meta.area}`, (ticker) => {
      if (ticker) change("ticker", ticker.contracts);
    });
  }
  let missed: Log["missed"] = null;
  store.watchTrades((log) => {
    const tape = advance(state.trades, log?.items ?? [], served.contract);
    if (tape !== state.trades) change("trades", tape);
    if (log && log.missed !== missed) void mend();
    missed = log?.missed ?? null;
  });
  if (!served.account) return;
  store.watch<Log<OwnItem>>("me", () => refreshOwn());
  window.setInterval(() => {
    if (!document.hidden) lookAtWaiting();
  }, POLL_MS);
}
