// What the ladder and the depth chart make of a book. Pure: levels go in as numbers, prices in 0.0001 a kWh, energy in Wh.
export interface Rung {
  e4: number;
  wh: number;
  feeE4: number;
}

export type Half = "ask" | "bid";

/** Levels put together in steps of `stepE4`: an ask counts at the step above it, a bid at the one below, never better than it is. */
export function grouped(levels: Rung[], stepE4: number, half: Half): Rung[] {
  if (stepE4 <= 1) return levels;
  const round = half === "ask" ? Math.ceil : Math.floor;
  const found: Rung[] = [];
  for (const level of levels) {
    const e4 = round(level.e4 / stepE4) * stepE4;
    const last = found.at(-1);
    if (last?.e4 === e4) {
      const wh = last.wh + level.wh;
      found[found.length - 1] = { e4, wh, feeE4: Math.floor((last.feeE4 * last.wh + level.feeE4 * level.wh) / wh) };
    } else found.push({ e4, wh: level.wh, feeE4: level.feeE4 });
  }
  return found;
}

/** The step an own price is shown at. */
export function stepOf(e4: number, stepE4: number, half: Half): number {
  return half === "ask" ? Math.ceil(e4 / stepE4) * stepE4 : Math.floor(e4 / stepE4) * stepE4;
}

export interface Best {
  ask: number | null;
  bid: number | null;
}

/** How far the best prices went since then (0.0001 a kWh); null where there was or is none. */
export function drift(then: Best, now: Best): Best {
  const between = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : b - a);
  return { ask: between(then.ask, now.ask), bid: between(then.bid, now.bid) };
}

export interface Step extends Rung {
  sumWh: number; // up to and including this price
}

export function cumulated(levels: Rung[]): Step[] {
  let sumWh = 0;
  return levels.map((level) => ({ ...level, sumWh: (sumWh += level.wh) }));
}

export interface Frame {
  lowE4: number;
  highE4: number;
  mostWh: number;
}

/** What the depth chart shows: all prices of both sides, with room on both ends; null for an empty book. */
export function frame(asks: Step[], bids: Step[]): Frame | null {
  const prices = [...asks, ...bids].map((step) => step.e4);
  if (!prices.length) return null;
  const low = Math.min(...prices);
  const high = Math.max(...prices);
  const room = Math.max(10, Math.round((high - low) / 20));
  return { lowE4: low - room, highE4: high + room, mostWh: Math.max(asks.at(-1)?.sumWh ?? 0, bids.at(-1)?.sumWh ?? 0) };
}

/** The outline of one side as an SVG path: steps from the best price outwards, closed along the bottom. */
export function outline(steps: Step[], half: Half, of: Frame, width: number, height: number): string {
  if (!steps.length) return "";
  const x = (e4: number): string => (((e4 - of.lowE4) * width) / (of.highE4 - of.lowE4)).toFixed(1);
  const y = (wh: number): string => (height - (wh * height) / of.mostWh).toFixed(1);
  const turns = steps.map((step, place) => `${place ? `H${x(step.e4)}` : ""}V${y(step.sumWh)}`);
  return `M${x(steps[0].e4)},${height}${turns.join("")}H${half === "ask" ? width : 0}V${height}Z`;
}
