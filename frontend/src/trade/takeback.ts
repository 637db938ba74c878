// What "cancel all" would take back. Pure.
export interface Waiting {
  id: number;
  side: "buy" | "sell";
  contract: string;
  remaining_wh: number;
  group?: number;
  kind?: string;
}

export interface TakenBack {
  orders: number; // a block counts once
  buyWh: number;
  sellWh: number;
  intervals: number;
}

export function takenBack(open: Waiting[]): TakenBack {
  const sum = (side: string): number => open.filter((order) => order.side === side).reduce((total, order) => total + order.remaining_wh, 0);
  return {
    orders: new Set(open.map((order) => (order.kind === "block" && order.group ? order.group : order.id))).size,
    buyWh: sum("buy"),
    sellWh: sum("sell"),
    intervals: new Set(open.map((order) => order.contract)).size,
  };
}
