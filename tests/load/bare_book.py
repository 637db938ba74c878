"""The least a continuous book can do in plain Python: the limit that the engine and its peers are held against."""

from __future__ import annotations

from heapq import heappop, heappush

from market.engine import commands as c


class BareBook:
    """Price-time priority and nothing else: no accounts, no checks, no holds, no events."""

    def __init__(self) -> None:
        self.sides: dict[str, list[list[int]]] = {c.BUY: [], c.SELL: []}
        self.orders: dict[int, list[int]] = {}
        self.next = 0
        self.traded_wh = 0

    def place(self, side: str, price_e4: int, energy_wh: int, rests: bool) -> None:
        """Trade what the limit reaches; what is left rests or is forgotten. Orders are numbered from 0."""
        other = self.sides[c.SELL if side == c.BUY else c.BUY]
        limit = price_e4 if side == c.BUY else -price_e4
        while energy_wh and other:
            best = other[0]
            if not best[2]:
                heappop(other)
                continue
            if best[0] > limit:
                break
            traded = min(energy_wh, best[2])
            best[2] -= traded
            energy_wh -= traded
            self.traded_wh += traded
            if not best[2]:
                heappop(other)
        if energy_wh and rests:
            order = [-limit, self.next, energy_wh]
            self.orders[self.next] = order
            heappush(self.sides[side], order)
        self.next += 1

    def cancel(self, number: int) -> None:
        """Take a resting order back."""
        self.orders.pop(number)[2] = 0
