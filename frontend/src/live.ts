// The page's one connection to the streams, and what the shell makes of it.
import { setMarketTime, meta } from "./meta";
import { MarketSocket, streamUrl, type SocketState } from "./socket";
import { Store } from "./store";

export const socket = new MarketSocket(streamUrl());
export const store = new Store(socket);

socket.onserver = (time) => setMarketTime(Date.parse(time));

/** Connect; harmless to repeat. Without a running market there is nothing to connect to. */
export function connect(): void {
  if (meta.running) socket.start();
}

/** Whether prices on the page may be acted on. A short interruption does not count: the order itself will tell. */
export function mayTrade(state: SocketState): boolean {
  return meta.running && state !== "paused" && state !== "stopped";
}

export type { SocketState };
