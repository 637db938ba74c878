// One press, several orders: how they are written on the page, sent, and what is said of the answers. Pure but for `send`.
export interface Leg {
  contract: string;
  energyWh: number;
  price: string;
}

export type Side = "sell" | "buy";

export interface Plan {
  side: Side;
  legs: Leg[];
}

export interface Answer {
  order: { id: number; contract: string; filled_wh: number; remaining_wh: number; price: string };
  trades: { price: string; energy_wh: number; amount: string }[];
}

/** What became of one order: its answer, or why it was not placed. */
export interface Placed {
  leg: Leg;
  answer: Answer | null;
  problem: string;
  unsure?: boolean; // the market did not answer: it may have been placed
}

/** A key belongs to a press until the market has answered it: who presses again after silence repeats it, and does not sell twice. */
export class Keys {
  private plan = "";
  private key = "";
  private readonly make: () => string;

  constructor(make: () => string) {
    this.make = make;
  }

  of(plan: Plan): string {
    const text = JSON.stringify(plan);
    if (text !== this.plan || !this.key) [this.plan, this.key] = [text, this.make()];
    return this.key;
  }

  /** Another plan stands on the page: the market knows what became of the last one. */
  shown(plan: Plan | null): void {
    if (JSON.stringify(plan) !== this.plan) this.key = "";
  }

  /** The answer is there: the same orders once more are another intention. */
  used(): void {
    this.key = "";
  }
}

export interface Sum {
  energyWh: number; // placed
  doneWh: number; // traded at once
  restWh: number; // waits
  doneE7: number;
  failed: Placed[];
  contracts: string[]; // of what was placed
  ids: number[];
}

/** "2026-06-06T12:15Z 450 0.2400;…", as templates/home/content.html has it; null when there is nothing to do. */
export function read(side: Side, text: string): Plan | null {
  const legs = text
    .split(";")
    .map((part) => part.split(" "))
    .filter((parts) => parts.length === 3)
    .map(([contract, energyWh, price]) => ({ contract, energyWh: Number(energyWh), price }));
  return legs.length ? { side, legs } : null;
}

export function sum(placed: Placed[], moneyE7: (text: string) => number): Sum {
  const found: Sum = { energyWh: 0, doneWh: 0, restWh: 0, doneE7: 0, failed: [], contracts: [], ids: [] };
  for (const one of placed) {
    if (!one.answer) {
      found.failed.push(one);
      continue;
    }
    const { order, trades } = one.answer;
    found.energyWh += one.leg.energyWh;
    found.doneWh += order.filled_wh;
    found.restWh += order.remaining_wh;
    found.doneE7 += trades.reduce((total, trade) => total + moneyE7(trade.amount), 0);
    found.contracts.push(order.contract);
    found.ids.push(order.id);
  }
  return found;
}

/** What was not placed, together where the reason is the same. */
export function reasons(failed: Placed[], words: (problem: string) => string): { energyWh: number; contracts: string[]; problem: string }[] {
  const found = new Map<string, { energyWh: number; contracts: string[]; problem: string }>();
  for (const { leg, problem: text } of failed) {
    const problem = words(text);
    const one = found.get(problem) ?? { energyWh: 0, contracts: [], problem };
    found.set(problem, { ...one, energyWh: one.energyWh + leg.energyWh, contracts: [...one.contracts, leg.contract] });
  }
  return [...found.values()];
}

export interface Body {
  contract: string;
  side: Side;
  price: string;
  energy_wh: number;
  time_in_force: "gtg";
}

export interface BatchItem {
  status: number;
  order?: Answer["order"];
  trades?: Answer["trades"];
  problem?: { detail?: string; title?: string };
}

export interface Ways {
  one(body: Body, key: string): Promise<Answer>;
  batch(orders: Body[], key: string): Promise<{ results: BatchItem[] }>;
  /** Whether orders of this account are signed in this browser: a signature is for one order. */
  signs: boolean;
  refused(error: unknown): string;
  unsure(error: unknown): boolean;
  key: string;
}

/** Send a plan; several orders go as one batch, in one step of the market. Each one's fate is told. Fails as a whole or not. */
export async function send(plan: Plan, ways: Ways): Promise<Placed[]> {
  const bodies = plan.legs.map(
    (leg): Body => ({
      contract: leg.contract,
      side: plan.side,
      price: leg.price,
      energy_wh: leg.energyWh,
      time_in_force: "gtg",
    }),
  );
  if (bodies.length > 1 && !ways.signs) {
    const { results } = await ways.batch(bodies, ways.key);
    return plan.legs.map((leg, i) => {
      const item = results[i];
      const answer = item?.order ? { order: item.order, trades: item.trades ?? [] } : null;
      return { leg, answer, problem: answer ? "" : (item?.problem?.detail ?? item?.problem?.title ?? "") };
    });
  }
  const placed: Placed[] = [];
  for (const [i, body] of bodies.entries()) {
    try {
      placed.push({ leg: plan.legs[i], answer: await ways.one(body, `${ways.key}-${i}`), problem: "" });
    } catch (error) {
      if (!placed.length && bodies.length === 1) throw error;
      placed.push({ leg: plan.legs[i], answer: null, problem: ways.refused(error), unsure: ways.unsure(error) });
    }
  }
  return placed;
}
