// The tape of a contract's trades: what is new goes to its end, what was missed is put where it belongs. Pure.
import type { Recall, Trade } from "../store";

export const MAX_TAPE = 40;

function isRecall(item: Trade | Recall): item is Recall {
  return "recalled_trade" in item;
}

/** The tape with what is new: trades of the contract, and marks on those that were taken back. */
export function advance(tape: Trade[], items: (Trade | Recall)[], contract: string): Trade[] {
  const newest = tape.at(-1)?.seq ?? -1;
  const mine = items.filter((item) => item.contract === contract);
  const gone = new Set(mine.filter(isRecall).map((item) => item.recalled_trade));
  const fresh = mine.filter((item): item is Trade => !isRecall(item) && item.seq > newest);
  if (!fresh.length && !tape.some((trade) => gone.has(trade.seq) && !trade.recalled)) return tape;
  return [...tape, ...fresh].map((trade) => (gone.has(trade.seq) ? { ...trade, recalled: true } : trade)).slice(-MAX_TAPE);
}

/** The tape with what REST knows of the contract's latest trades: those the stream could not bring, and which were taken back. */
export function mended(tape: Trade[], latest: Trade[]): Trade[] {
  const known = new Map([...tape, ...latest].map((trade) => [trade.seq, trade]));
  return [...known.values()].sort((a, b) => a.seq - b.seq).slice(-MAX_TAPE);
}
