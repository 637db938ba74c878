"""The scan: a plain book over the areas that looks at each area's best order for every question it is asked.

What one would write first, and what ``engine_grid`` is compared with. Same rules, so the same trades (the benchmark compares
them): all-in limits, price-time priority across areas, capacities with full netting, uncrossing of edges that opened. It has
no accounts, no checks, no holds and no events.
"""

from __future__ import annotations

from heapq import heappop, heappush

from market.engine import commands as c
from market.engine.engine import Engine

BITS = 40
NOTHING = 1 << 100


class ScanOrder:
    """A resting or arriving order; ``key`` is (cost << 40) | time."""

    __slots__ = ("account", "area", "id", "is_buy", "key", "left_wh", "price_e4", "time")

    def __init__(self, id: int, account: int, area: int, is_buy: bool, price_e4: int, left_wh: int, time: int):
        self.id = id
        self.account = account
        self.area = area
        self.is_buy = is_buy
        self.price_e4 = price_e4
        self.left_wh = left_wh
        self.time = time
        self.key = ((-price_e4 if is_buy else price_e4) << BITS) | time


class ScanBook:
    """One contract's book, taken over from an engine as it is now. Netting gives all of the opposite flow back."""

    def __init__(self, engine: Engine, contract: str):
        areas = engine.grid.areas
        self.parent = [area.parent for area in areas]
        self.fee_e4 = [area.fee_e4 for area in areas]
        flows = engine.flows(contract)
        self.residual = [  # by direction: up to the parent, down from it; the root's edge carries nothing
            [flows[area.name].export_residual_wh if area.parent >= 0 else 0 for area in areas],
            [flows[area.name].import_residual_wh if area.parent >= 0 else 0 for area in areas],
        ]
        self.lines = [self._line(area) for area in range(len(areas))]
        self.paths: dict[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...], int]] = {}
        self.homes = [account.node for account in engine.accounts]
        self.seq, self.time = engine.seq, engine.priority
        self.orders: dict[int, ScanOrder] = {}
        self.heaps: list[list[list[tuple[int, ScanOrder]]]] = [[[] for _ in areas] for _ in (0, 1)]  # asks, bids
        self.opened: list[tuple[int, int]] = []
        self.trades: list[tuple[int, int, int, int, int, int]] = []  # seq, maker, taker, Wh, buy_e4, sell_e4
        for o in engine.orders.values():
            self._rest(ScanOrder(o.id, o.account, o.node, o.is_buy, o.price_e4, o.remaining_wh, o.priority))

    def _line(self, area: int) -> list[int]:
        found = [area]
        while self.parent[found[-1]] >= 0:
            found.append(self.parent[found[-1]])
        return found

    def path(self, source: int, sink: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Return the edges energy climbs and descends from source to sink, and the fee shifted like a key's cost."""
        found = self.paths.get((source, sink))
        if found is None:
            up, down = self.lines[source], self.lines[sink]
            climbed = tuple(area for area in up if area not in down)
            descended = tuple(area for area in down if area not in up)
            fee = sum(self.fee_e4[area] for area in climbed + descended) << BITS
            found = self.paths[source, sink] = (climbed, descended, fee)
        return found

    def room_wh(self, path: tuple[tuple[int, ...], tuple[int, ...], int]) -> int:
        """Return what a path can still carry."""
        rooms = [self.residual[0][area] for area in path[0]] + [self.residual[1][area] for area in path[1]]
        return min(rooms, default=NOTHING)

    def _rest(self, order: ScanOrder) -> None:
        self.orders[order.id] = order
        heappush(self.heaps[order.is_buy][order.area], (order.key, order))

    def best_for(self, area: int, is_buy: bool) -> tuple[int, ScanOrder | None]:
        """Look at every area's best order of the other side; return the best all-in one that can be reached, and its key."""
        best, found = NOTHING, None
        for place, heap in enumerate(self.heaps[not is_buy]):
            while heap and (heap[0][1].id not in self.orders):
                heappop(heap)
            if not heap:
                continue
            key, order = heap[0]
            path = self.path(place, area) if is_buy else self.path(area, place)
            key += path[2]
            if key < best and self.room_wh(path) > 0:
                best, found = key, order
        return best, found

    def _trade(self, maker: ScanOrder, taker: ScanOrder) -> None:
        buy, sell = (maker, taker) if maker.is_buy else (taker, maker)
        path = self.path(sell.area, buy.area)
        fee_e4 = path[2] >> BITS
        energy_wh = min(maker.left_wh, taker.left_wh, self.room_wh(path))
        buy_e4 = maker.price_e4 if maker is buy else maker.price_e4 + fee_e4
        self.trades.append((self.seq, maker.id, taker.id, energy_wh, buy_e4, buy_e4 - fee_e4))
        self.seq += 1
        for order in (maker, taker):
            order.left_wh -= energy_wh
            if not order.left_wh:
                self.orders.pop(order.id, None)
        for way in (0, 1):
            for area in path[way]:
                self.residual[way][area] -= energy_wh
                before = self.residual[1 - way][area]
                self.residual[1 - way][area] = before + energy_wh
                if before <= 0 < before + energy_wh:
                    heappush(self.opened, (area, 1 - way))

    def _drop(self, order: ScanOrder) -> None:
        del self.orders[order.id]
        self.seq += 1

    def _uncross(self) -> None:
        while self.opened:
            area, way = heappop(self.opened)
            while self.residual[way][area] > 0:
                best = self._best_inside(area, way)
                if best is None or not self._meet(best):
                    break

    def _best_inside(self, area: int, way: int) -> ScanOrder | None:
        """Return the best order below an edge that can come up to it (asks), or that it can be brought to (bids)."""
        best, found = NOTHING, None
        for place, line in enumerate(self.lines):
            if area not in line:
                continue
            path = self.path(area, place) if way else self.path(place, area)
            heap = self.heaps[way][place]
            while heap and heap[0][1].id not in self.orders:
                heappop(heap)
            if heap and heap[0][0] + path[2] < best and self.room_wh(path) > 0:
                best, found = heap[0][0] + path[2], heap[0][1]
        return found

    def _meet(self, order: ScanOrder) -> bool:
        key, other = self.best_for(order.area, order.is_buy)
        if other is None or key >> BITS > (order.price_e4 if order.is_buy else -order.price_e4):
            return False
        older, newer = (order, other) if order.time < other.time else (other, order)
        if order.account == other.account:
            self._drop(older)
        else:
            self._trade(older, newer)
        return True

    def apply(self, command: c.PlaceOrder | c.CancelOrder) -> None:
        """Place (to rest, or immediate or cancel) or cancel an order; numbers are those the engine gives."""
        if type(command) is c.CancelOrder:
            if command.order in self.orders:
                self._drop(self.orders[command.order])
            return
        assert type(command) is c.PlaceOrder
        is_buy, area = command.side == c.BUY, self.homes[command.account]
        order = ScanOrder(
            self.seq, command.account, area, is_buy, command.price_e4, command.energy_wh, self.time
        )  # fmt: skip
        self.seq, self.time = self.seq + 1, self.time + 1
        limit = command.price_e4 if is_buy else -command.price_e4
        while order.left_wh:
            key, maker = self.best_for(area, is_buy)
            if maker is None or key >> BITS > limit:
                break
            if maker.account == order.account:
                self._drop(maker)
            else:
                self._trade(maker, order)
        if order.left_wh:
            if command.time_in_force == c.IMMEDIATE_OR_CANCEL:
                self.seq += 1
            else:
                self._rest(order)
        self._uncross()

    def depth(self, area: int, is_buy: bool, levels: int) -> list[tuple[int, int]]:
        """Return (all-in price, energy) an area can execute: every order there is, sorted, one after the other."""
        seen = []
        for order in self.orders.values():
            if order.is_buy is not is_buy:
                path = self.path(order.area, area) if is_buy else self.path(area, order.area)
                seen.append((order.key + path[2], order.left_wh, path))
        seen.sort()
        used: list[dict[int, int]] = [{}, {}]
        found: list[tuple[int, int]] = []
        for key, left_wh, path in seen:
            rooms = [self.residual[way][edge] - used[way].get(edge, 0) for way in (0, 1) for edge in path[way]]
            energy_wh = min([left_wh, *rooms])
            if energy_wh <= 0:
                continue
            price_e4 = (key >> BITS) if is_buy else -(key >> BITS)
            if found and found[-1][0] == price_e4:
                found[-1] = (price_e4, found[-1][1] + energy_wh)
            elif len(found) == levels:
                break
            else:
                found.append((price_e4, energy_wh))
            for way in (0, 1):
                for edge in path[way]:
                    used[way][edge] = used[way].get(edge, 0) + energy_wh
        return found
