// A wire the test holds in its hands, and a handler that writes down what it is told.
import { MarketSocket } from "../src/socket.ts";

export class FakeWire {
  readyState = 0;
  onopen = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: any[] = [];
  closedWith: number | undefined;

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    this.closedWith = code;
  }

  say(message: object | string): void {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  welcome(epoch = "7c1"): void {
    this.say({ type: "welcome", server_time: "2026-06-06T12:00:00.000Z", heartbeat_ms: 15000, epoch });
  }

  /** The messages sent since the last look. */
  heard(): any[] {
    return this.sent.splice(0);
  }
}

export class Notes {
  told: any[] = [];
  snapshot(data: unknown, seq: number): void {
    this.told.push(["snapshot", data, seq]);
  }
  delta(data: unknown, seq: number): void {
    this.told.push(["delta", data, seq]);
  }
  resync(after: number, seq: number, reason: string): void {
    this.told.push(["resync", after, seq, reason]);
  }
  failed(code: string): void {
    this.told.push(["failed", code]);
  }
  heard(): any[] {
    return this.told.splice(0);
  }
}

export interface Setup {
  socket: MarketSocket;
  wires: FakeWire[];
  clock: { now: number };
  states: string[];
}

export function setup(random = 1): Setup {
  const wires: FakeWire[] = [];
  const clock = { now: 0 };
  const socket = new MarketSocket("ws://market/ws/v1/", {
    connect: (_url, subprotocol) => {
      if (subprotocol !== "market.v1") throw new Error(`subprotocol ${subprotocol}`);
      const wire = new FakeWire();
      wires.push(wire);
      return wire as never;
    },
    now: () => clock.now,
    random: () => random,
  });
  const states: string[] = [];
  socket.watch((state) => states.push(state));
  return { socket, wires, clock, states };
}
