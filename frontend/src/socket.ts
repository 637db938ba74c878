// The client of the streams (docs/protocol.md): one socket, many channels, back by itself after every interruption.
//
// It keeps the place in each channel: a delta is handed on only if it starts where the last one ended, otherwise the
// channel is asked for anew. What the data mean is the store's business.

const HEARTBEAT_MS = 15_000; // until the server has said its own
const SILENT_HEARTBEATS = 2;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_LAST_MS = 20_000;
const SETTLED_MS = 5_000; // a connection that lived this long was a good one
const SUBPROTOCOL = "market.v1";
const OUR_FAULT = new Set([4400, 4429]); // bad or too many messages: coming back at once would not help

/** connecting: not there yet, or just lost; live; paused: nothing heard for two heartbeats; stopped: not wanted. */
export type SocketState = "connecting" | "live" | "paused" | "stopped";

export interface Handler {
  /** The whole of the channel. */
  snapshot(data: unknown, seq: number): void;
  /** What changed since the last call. */
  delta(data: unknown, seq: number): void;
  /** Items after `after` up to `seq` are missing here: GET /api/v1/events?after= has them. Deltas go on after `seq`. */
  resync(after: number, seq: number, reason: string): void;
  /** There is no such channel for us. */
  failed(code: string): void;
}

/** What is used of a WebSocket. */
export interface Wire {
  readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface Options {
  connect: (url: string, subprotocol: string) => Wire;
  now: () => number;
  random: () => number;
}

interface Place {
  handler: Handler;
  epoch: string;
  seq: number | null; // of the newest message; null: none yet
  waiting: boolean; // asked for, not answered: what still comes of an earlier subscription does not count
  asked: boolean; // on this connection; resuming again could meet deltas that are under way
  retry: ReturnType<typeof setTimeout> | null;
}

interface Message {
  type: string;
  channel?: string;
  prev?: number;
  seq?: number;
  data?: unknown;
  epoch?: string;
  heartbeat_ms?: number;
  server_time?: string;
  n?: number;
  heads?: Record<string, number>;
  reason?: string;
  code?: string;
  retry?: number | null;
}

/** The address of this site's streams. */
export function streamUrl(): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws/v1/`;
}

export class MarketSocket {
  state: SocketState = "stopped";
  private readonly url: string;
  private readonly options: Options;
  private readonly places = new Map<string, Place>();
  private readonly watchers = new Set<(state: SocketState) => void>();
  private wire: Wire | null = null;
  private epoch = "";
  private heartbeatMs = HEARTBEAT_MS;
  private heardAt = 0;
  private openedAt = 0; // when it was asked for
  private welcomedAt = Infinity; // when the server took it: a slow handshake is no good connection
  private attempt = 0;
  private reconnect: ReturnType<typeof setTimeout> | null = null;
  private silence: ReturnType<typeof setTimeout> | null = null;
  private readonly wake = (): void => this.hurry();
  /** Called with the market's time of the welcome. */
  onserver: (time: string) => void = () => undefined;

  constructor(url: string, options: Partial<Options> = {}) {
    this.url = url;
    this.options = {
      connect: (to, subprotocol) => new WebSocket(to, subprotocol) as unknown as Wire,
      now: () => performance.now(),
      random: () => Math.random(),
      ...options,
    };
  }

  /** Connect, and stay connected. */
  start(): void {
    if (this.state !== "stopped") return;
    this.heardAt = this.options.now();
    this.become("connecting");
    this.listen();
    globalThis.addEventListener?.("online", this.wake);
    this.open();
  }

  /** Disconnect. Places are kept: a later start resumes. */
  stop(): void {
    this.become("stopped");
    globalThis.removeEventListener?.("online", this.wake);
    if (this.reconnect !== null) clearTimeout(this.reconnect);
    if (this.silence !== null) clearTimeout(this.silence);
    this.reconnect = this.silence = null;
    const wire = this.drop();
    wire?.close(1000);
  }

  /** Be told of every change of state; returns how to stop that. */
  watch(watcher: (state: SocketState) => void): () => void {
    this.watchers.add(watcher);
    watcher(this.state);
    return () => this.watchers.delete(watcher);
  }

  /** Follow a channel, one handler each. */
  subscribe(channel: string, handler: Handler): void {
    if (this.places.has(channel)) throw new Error(`${channel} is followed already`);
    const place = { handler, epoch: "", seq: null, waiting: true, asked: false, retry: null };
    this.places.set(channel, place);
    this.ask(channel, place);
  }

  /** Follow a channel no longer. */
  unsubscribe(channel: string): void {
    const place = this.places.get(channel);
    if (!place) return;
    if (place.retry !== null) clearTimeout(place.retry);
    this.places.delete(channel);
    if (place.asked) this.say({ type: "unsubscribe", channel });
  }

  // --- the connection -----------------------------------------------------------------------------------------------

  private open(): void {
    this.reconnect = null;
    const wire = this.options.connect(this.url, SUBPROTOCOL);
    this.wire = wire;
    this.openedAt = this.options.now();
    this.welcomedAt = Infinity;
    wire.onmessage = (event) => {
      if (this.wire === wire && typeof event.data === "string") this.hear(event.data);
    };
    wire.onclose = (event) => {
      if (this.wire === wire) this.closed(event.code);
    };
  }

  private closed(code: number): void {
    this.drop();
    if (this.state === "stopped") return;
    if (this.state === "live") this.become("connecting");
    if (OUR_FAULT.has(code)) this.attempt = 16;
    else if (this.options.now() - this.welcomedAt >= SETTLED_MS) this.attempt = 0;
    // Full jitter: after a restart of the server thousands come back, and must not come back together.
    const cap = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** this.attempt);
    this.attempt = Math.min(this.attempt + 1, 16);
    if (this.reconnect !== null) clearTimeout(this.reconnect);
    this.reconnect = setTimeout(() => this.open(), this.options.random() * cap);
  }

  private drop(): Wire | null {
    const wire = this.wire;
    this.wire = null;
    this.epoch = "";
    if (wire) wire.onmessage = wire.onclose = wire.onopen = null;
    for (const place of this.places.values()) {
      place.waiting = true;
      place.asked = false;
      if (place.retry !== null) clearTimeout(place.retry);
      place.retry = null;
    }
    return wire;
  }

  /** The network is back: do not sit out the wait. */
  private hurry(): void {
    if (this.reconnect === null) return;
    clearTimeout(this.reconnect);
    this.open();
  }

  private listen(): void {
    if (this.silence !== null) clearTimeout(this.silence);
    const limit = SILENT_HEARTBEATS * this.heartbeatMs;
    const left = this.heardAt + limit - this.options.now();
    this.silence = setTimeout(() => {
      if (this.options.now() - this.heardAt < limit) return this.listen();
      this.become("paused");
      if (this.wire && this.options.now() - this.openedAt >= this.heartbeatMs) {
        this.drop()?.close(4000); // it may look open for many minutes more
        this.closed(1006);
      }
      this.silence = setTimeout(() => this.listen(), this.heartbeatMs);
    }, Math.max(left, 1));
  }

  private become(state: SocketState): void {
    if (this.state === state) return;
    this.state = state;
    for (const watcher of this.watchers) watcher(state);
  }

  private say(message: object): void {
    if (this.wire && this.epoch) this.wire.send(JSON.stringify(message));
  }

  private ask(channel: string, place: Place): void {
    if (!this.wire || !this.epoch) return; // the welcome asks for all
    place.waiting = true;
    const message: Record<string, unknown> = { type: "subscribe", channel };
    if (!place.asked && place.seq !== null) {
      message.epoch = place.epoch;
      message.seq = place.seq;
    }
    place.asked = true;
    this.say(message);
  }

  // --- what the server says -----------------------------------------------------------------------------------------

  private hear(text: string): void {
    this.heardAt = this.options.now();
    const message = JSON.parse(text) as Message;
    if (message.type === "welcome") return this.welcome(message);
    if (message.type === "ping") return this.ping(message);
    const channel = message.channel ?? "";
    const place = this.places.get(channel);
    if (!place) return; // of a channel that was left meanwhile
    const seq = message.seq ?? -1;
    switch (message.type) {
      case "snapshot":
        this.settle(place, seq);
        place.handler.snapshot(message.data, seq);
        break;
      case "resumed":
        if (!place.waiting) break;
        if (place.seq === seq) this.settle(place, seq);
        else this.ask(channel, place);
        break;
      case "resync": {
        const after = place.seq ?? seq;
        this.settle(place, seq);
        place.handler.resync(after, seq, message.reason ?? "");
        break;
      }
      case "delta":
        if (place.waiting) break;
        if (message.prev !== place.seq) {
          this.ask(channel, place);
          break;
        }
        place.seq = seq;
        place.handler.delta(message.data, seq);
        break;
      case "error":
        this.refused(channel, place, message);
        break;
    }
  }

  private settle(place: Place, seq: number): void {
    place.waiting = false;
    place.seq = seq;
    place.epoch = this.epoch;
  }

  private welcome(message: Message): void {
    this.epoch = message.epoch ?? "";
    this.welcomedAt = this.options.now();
    this.heartbeatMs = message.heartbeat_ms ?? HEARTBEAT_MS;
    this.listen();
    this.become("live");
    this.onserver(message.server_time ?? "");
    for (const [channel, place] of this.places) this.ask(channel, place);
  }

  private ping(message: Message): void {
    this.say({ type: "pong", n: message.n });
    for (const [channel, seq] of Object.entries(message.heads ?? {})) {
      const place = this.places.get(channel);
      if (place && !place.waiting && place.seq !== seq) this.ask(channel, place);
    }
  }

  private refused(channel: string, place: Place, message: Message): void {
    if (typeof message.retry !== "number") {
      this.places.delete(channel);
      place.handler.failed(message.code ?? "");
      return;
    }
    // Not now. The server gave no subscription, so asking again later may resume.
    place.waiting = true;
    place.asked = false;
    if (place.retry !== null) clearTimeout(place.retry);
    place.retry = setTimeout(() => this.ask(channel, place), message.retry * 1000);
  }
}
