// What the channels say, as values that pages can watch: books, tickers and logs (docs/protocol.md).
import type { Handler, MarketSocket } from "./socket";

const MAX_ITEMS = 500; // of a log; more is history, which REST has

/** Price a kWh as decimal text, energy in Wh, grid fee a kWh that is part of the price. */
export type Level = [price: string, energyWh: number, fee: string];

export interface Book {
  contract: string;
  area: string;
  bids: Level[]; // best first
  asks: Level[];
}

export interface TickerLine {
  bid: string | null;
  ask: string | null;
  last: string | null;
  volume_wh: number;
  state: "open" | "halted" | "closed";
}

export interface Ticker {
  area: string;
  contracts: Record<string, TickerLine>;
}

/** What the home's meters say (channel flow:me), and when to look again: ledger entries. */
export interface Flow {
  power?: { produced_w: number; used_w: number; battery_w: number };
  readings?: number;
  halts?: number;
}

export interface Item {
  seq: number;
  at: string;
}

export interface Trade extends Item {
  contract: string;
  price: string;
  energy_wh: number;
  buy_price: string;
  sell_price: string;
  recalled?: boolean; // the market took it back
}

/** A trade was taken back; what it was is told by the item whose `seq` is `recalled_trade`. */
export interface Recall extends Item {
  contract: string;
  energy_wh: number;
  recalled_trade: number;
  reason: string;
}

export interface Block extends Item {
  height: number;
  size: number;
  root: string;
  first: number;
  count: number;
}

/** Something that happened to the signed-in account: order, amend, cancel, trade, fund, settle or account. */
export interface OwnItem extends Item {
  type: string;
  [field: string]: unknown;
}

export interface Log<T extends Item = Item> {
  items: T[]; // oldest first
  missed: { after: number; upto: number } | null; // items the stream could not bring; REST has them
}

interface Wished {
  bids: Level[];
  asks: Level[];
}

/** Decimal texts with equally many digits behind the point: the longer is the larger. */
export function comparePrices(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

function mergeLevels(levels: Level[], changes: Level[], falling: boolean): Level[] {
  if (!changes.length) return levels;
  const byPrice = new Map(levels.map((level) => [level[0], level]));
  for (const level of changes) {
    if (level[1] === 0) byPrice.delete(level[0]);
    else byPrice.set(level[0], level);
  }
  const sign = falling ? -1 : 1;
  return [...byPrice.values()].sort((a, b) => sign * comparePrices(a[0], b[0]));
}

export function applyBook(book: Book, changes: Wished): Book {
  return {
    ...book,
    bids: mergeLevels(book.bids, changes.bids, true),
    asks: mergeLevels(book.asks, changes.asks, false),
  };
}

export function applyTicker(ticker: Ticker, changes: { contracts: Record<string, TickerLine | null> }): Ticker {
  const contracts = { ...ticker.contracts };
  for (const [name, line] of Object.entries(changes.contracts)) {
    if (line === null) delete contracts[name];
    else contracts[name] = line;
  }
  return { ...ticker, contracts };
}

export function applyLog(log: Log, changes: { items: Item[] }): Log {
  return { ...log, items: [...log.items, ...changes.items].slice(-MAX_ITEMS) };
}

function isLog(channel: string): boolean {
  return !channel.includes(":");
}

function begin(channel: string, data: unknown): unknown {
  return isLog(channel) ? { items: (data as Log).items, missed: null } : data;
}

function advance(channel: string, state: unknown, data: unknown): unknown {
  if (channel.startsWith("book:")) return applyBook(state as Book, data as Wished);
  if (channel.startsWith("ticker:")) return applyTicker(state as Ticker, data as Ticker);
  if (channel.startsWith("flow:")) return { ...(state as Flow), ...(data as Flow) };
  return applyLog(state as Log, data as Log);
}

interface Topic {
  state: unknown; // undefined: nothing yet
  error: string;
  listeners: Set<(state: never, error: string) => void>;
}

/** One subscription a channel, any number of listeners. A state is never changed in place: a new one replaces it. */
export class Store {
  private readonly socket: Pick<MarketSocket, "subscribe" | "unsubscribe">;
  private readonly topics = new Map<string, Topic>();

  constructor(socket: Pick<MarketSocket, "subscribe" | "unsubscribe">) {
    this.socket = socket;
  }

  /** What is known of a channel now. */
  get<T>(channel: string): T | undefined {
    return this.topics.get(channel)?.state as T | undefined;
  }

  /** Be told what a channel is and whenever it changes; `error` is the reason when there is none. */
  watch<T>(channel: string, listener: (state: T, error: string) => void): () => void {
    let topic = this.topics.get(channel);
    if (!topic) {
      topic = { state: undefined, error: "", listeners: new Set() };
      this.topics.set(channel, topic);
      this.socket.subscribe(channel, this.handler(channel, topic));
    }
    const found = topic;
    found.listeners.add(listener as never);
    if (found.state !== undefined || found.error) listener(found.state as T, found.error);
    return () => {
      found.listeners.delete(listener as never);
      if (!found.listeners.size && this.topics.get(channel) === found) {
        this.topics.delete(channel);
        this.socket.unsubscribe(channel);
      }
    };
  }

  watchBook(area: string, contract: string, listener: (book: Book, error: string) => void): () => void {
    return this.watch(`book:${area}:${contract}`, listener);
  }

  watchTicker(area: string, listener: (ticker: Ticker, error: string) => void): () => void {
    return this.watch(`ticker:${area}`, listener);
  }

  watchTrades(listener: (log: Log<Trade | Recall>, error: string) => void): () => void {
    return this.watch("trades", listener);
  }

  watchBlocks(listener: (log: Log<Block>, error: string) => void): () => void {
    return this.watch("blocks", listener);
  }

  watchMe(listener: (log: Log<OwnItem>, error: string) => void): () => void {
    return this.watch("me", listener);
  }

  private handler(channel: string, topic: Topic): Handler {
    const become = (state: unknown): void => {
      topic.state = state;
      for (const listener of topic.listeners) listener(state as never, "");
    };
    return {
      snapshot: (data) => become(begin(channel, data)),
      delta: (data) => become(advance(channel, topic.state, data)),
      resync: (after, seq) => {
        const log = (topic.state as Log | undefined) ?? { items: [], missed: null };
        become({ ...log, missed: { after: log.missed?.after ?? after, upto: seq } });
      },
      failed: (code) => {
        topic.error = code;
        for (const listener of topic.listeners) listener(topic.state as never, code);
      },
    };
  }
}
