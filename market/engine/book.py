"""The book of one contract: one book for the whole grid.

Every resting order has one integer key, ``(cost << 40) | priority`` with cost = price for asks and -price for bids, so that
adding a path's fee is an addition and one comparison decides price-time priority across areas. For each side and node the
book knows ``own``, the best key resting there, and ``best``, the best key inside its subtree as seen from it: the minimum of
its own and of its children's plus their fees, over edges that can still carry energy. A taker walks from its area to the root
and looks, at each ancestor, at that node's own best and at the sibling's.

An edge opens and closes by its residual capacity: ``capacity - flow + floor(netting * opposite flow / 1000)``.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from market.engine.grid import PRIORITY_BITS, EdgeFlow, Topology

PRIORITY_MASK = (1 << PRIORITY_BITS) - 1
NOTHING = 1 << 100  # a key worse than any order's
UNLIMITED_WH = 1 << 60  # capacity of edges that are no wires
GARBAGE_KEPT = 64  # dead keys a heap may hold beyond as many as live ones before it is rebuilt


class Order:
    """A resting or arriving order. ``key`` and ``priority`` decide its place, ``node`` is its area's number."""

    __slots__ = (
        "account",
        "contract",
        "energy_wh",
        "expires_at_ms",
        "hold_e4",
        "id",
        "is_buy",
        "key",
        "node",
        "price_e4",
        "priority",
        "remaining_wh",
        "resting",
        "time_in_force",
    )

    def __init__(
        self, id: int, account: int, contract: str, node: int, is_buy: bool, price_e4: int, energy_wh: int,
        time_in_force: str, expires_at_ms: int, hold_e4: int, priority: int,
    ):  # fmt: skip
        self.id = id
        self.account = account
        self.contract = contract
        self.node = node
        self.is_buy = is_buy
        self.price_e4 = price_e4
        self.energy_wh = energy_wh  # in total
        self.remaining_wh = energy_wh
        self.time_in_force = time_in_force
        self.expires_at_ms = expires_at_ms
        self.hold_e4 = hold_e4  # money set aside per kWh
        self.priority = priority
        self.key = ((-price_e4 if is_buy else price_e4) << PRIORITY_BITS) | priority
        self.resting = False  # in the book now (a halt of its area or account takes it out)

    @property
    def side(self) -> str:
        """``"buy"`` or ``"sell"``."""
        return "buy" if self.is_buy else "sell"

    @property
    def filled_wh(self) -> int:
        """Energy traded so far."""
        return self.energy_wh - self.remaining_wh

    @property
    def hold_e7(self) -> int:
        """Money set aside for what remains."""
        return self.hold_e4 * self.remaining_wh


class Side:
    """All resting orders of one side. ``residual_wh[v]`` is what this side's energy flow can still use of the edge above v."""

    __slots__ = ("best", "flow_wh", "heaps", "live", "own", "residual_wh")

    def __init__(self, nodes: int):
        self.heaps: list[list[int]] = [[] for _ in range(nodes)]
        self.live = [0] * nodes
        self.own = [NOTHING] * nodes
        self.best = [NOTHING] * nodes
        self.residual_wh = [UNLIMITED_WH] * nodes
        self.flow_wh = [0] * nodes


class Book:
    """Resting orders, flows and residual capacities of one contract."""

    __slots__ = ("asks", "bids", "capacity_down", "capacity_up", "netting", "opened", "orders", "topology")

    def __init__(self, topology: Topology, import_wh: list[int], export_wh: list[int], netting_permille: int):
        self.topology = topology
        self.orders: dict[int, Order] = {}  # by priority
        self.asks = Side(topology.nodes)  # their energy climbs: export direction
        self.bids = Side(topology.nodes)  # their energy descends: import direction
        self.capacity_up = export_wh[: topology.areas]
        self.capacity_down = import_wh[: topology.areas]
        self.netting = netting_permille
        self.opened: list[int] = []  # heap of 2 * node + (0 up, 1 down): edges that opened and are to be uncrossed
        for node in range(topology.areas):
            self._set_residuals(node)

    # --- capacities and flows ------------------------------------------------------------------------------------------

    def _set_residuals(self, node: int) -> None:
        """Recompute both residuals of an edge; keep the aggregates true and note what opened."""
        asks, bids = self.asks, self.bids
        up, down = asks.flow_wh[node], bids.flow_wh[node]
        residual = self.capacity_up[node] - up + self.netting * down // 1000
        was = asks.residual_wh[node]
        asks.residual_wh[node] = residual
        if (was > 0) is not (residual > 0):
            self._toggled(asks, node, 0, residual > 0)
        residual = self.capacity_down[node] - down + self.netting * up // 1000
        was = bids.residual_wh[node]
        bids.residual_wh[node] = residual
        if (was > 0) is not (residual > 0):
            self._toggled(bids, node, 1, residual > 0)

    def _toggled(self, side: Side, node: int, direction: int, opened: bool) -> None:
        above = self.topology.parent[node]
        if above < 0:
            return
        if side.best[node] < NOTHING:
            self._refresh(side, above)
        if opened:
            heappush(self.opened, 2 * node + direction)

    def set_capacity(self, node: int, import_wh: int, export_wh: int) -> None:
        """Change what an edge can carry; trades stand, a direction with more flow than that is blocked."""
        if node < self.topology.areas:
            self.capacity_down[node] = import_wh
            self.capacity_up[node] = export_wh
            self._set_residuals(node)

    def set_netting(self, permille: int) -> None:
        """Change how much of the opposite flow gives capacity back."""
        self.netting = permille
        for node in range(self.topology.areas):
            self._set_residuals(node)

    def add_flow(self, path: tuple[tuple[int, ...], tuple[int, ...]], energy_wh: int) -> None:
        """Book energy along a path (see ``Topology.path``); a negative quantity takes it back."""
        for node in path[0]:
            self.asks.flow_wh[node] += energy_wh
            self._set_residuals(node)
        for node in path[1]:
            self.bids.flow_wh[node] += energy_wh
            self._set_residuals(node)

    def restore_flows(self, up_wh: list[int], down_wh: list[int]) -> None:
        """Set all flows at once, before any order rests."""
        self.asks.flow_wh[: len(up_wh)] = up_wh
        self.bids.flow_wh[: len(down_wh)] = down_wh
        for node in range(self.topology.areas):
            self._set_residuals(node)

    def residual_wh(self, path: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
        """Return what a path can still carry."""
        least = UNLIMITED_WH
        for node in path[0]:
            if self.asks.residual_wh[node] < least:
                least = self.asks.residual_wh[node]
        for node in path[1]:
            if self.bids.residual_wh[node] < least:
                least = self.bids.residual_wh[node]
        return least

    def edge_flow(self, node: int) -> EdgeFlow:
        """Return flow, capacity and residual of the edge above an area."""
        return EdgeFlow(
            self.bids.flow_wh[node],
            self.asks.flow_wh[node],
            self.capacity_down[node],
            self.capacity_up[node],
            self.bids.residual_wh[node],
            self.asks.residual_wh[node],
        )

    # --- orders --------------------------------------------------------------------------------------------------------

    def insert(self, order: Order) -> None:
        """Let an order rest."""
        side = self.bids if order.is_buy else self.asks
        key, node = order.key, order.node
        self.orders[order.priority] = order
        order.resting = True
        heappush(side.heaps[node], key)
        side.live[node] += 1
        if key >= side.own[node]:
            return
        side.own[node] = key
        best, residual = side.best, side.residual_wh
        parent, fees = self.topology.parent, self.topology.fee_keys
        while key < best[node]:
            best[node] = key
            if residual[node] <= 0:
                return
            key += fees[node]
            node = parent[node]
            if node < 0:
                return

    def remove(self, order: Order) -> None:
        """Take a resting order out. Its key stays in the heap until it comes to the top or the heap is rebuilt."""
        side = self.bids if order.is_buy else self.asks
        node = order.node
        del self.orders[order.priority]
        order.resting = False
        live = side.live[node] = side.live[node] - 1
        if order.key == side.own[node]:
            self._advance(side, node)
        elif len(side.heaps[node]) > 2 * live + GARBAGE_KEPT:
            orders = self.orders
            heap = [key for key in side.heaps[node] if key & PRIORITY_MASK in orders]
            heapify(heap)
            side.heaps[node] = heap

    def _advance(self, side: Side, node: int) -> None:
        """Find a node's next best key after its head went."""
        heap, orders = side.heaps[node], self.orders
        while heap and heap[0] & PRIORITY_MASK not in orders:
            heappop(heap)
        side.own[node] = heap[0] if heap else NOTHING
        self._refresh(side, node)

    def _refresh(self, side: Side, node: int) -> None:
        """Recompute the aggregate of a node and of its ancestors, up to the first that stays as it was."""
        topology = self.topology
        left, right, parent, fees = topology.left, topology.right, topology.parent, topology.fee_keys
        own, best, residual = side.own, side.best, side.residual_wh
        while node >= 0:
            key = own[node]
            child = left[node]
            if child >= 0 and residual[child] > 0 and best[child] + fees[child] < key:
                key = best[child] + fees[child]
            child = right[node]
            if child >= 0 and residual[child] > 0 and best[child] + fees[child] < key:
                key = best[child] + fees[child]
            if key == best[node]:
                return
            best[node] = key
            if residual[node] <= 0:
                return
            node = parent[node]

    def find(self, node: int, is_buy: bool) -> int:
        """Return the best key of the other side that an order in an area could reach, its path's fees included.

        Compare ``key >> 40`` with the order's cost; ``key & PRIORITY_MASK`` names the order. ``NOTHING`` or more: none.
        """
        if is_buy:
            mine, other = self.bids, self.asks
        else:
            mine, other = self.asks, self.bids
        found = other.best[node]
        topology = self.topology
        parent, sibling, fees = topology.parent, topology.sibling, topology.fee_keys
        passable, own, best, residual = mine.residual_wh, other.own, other.best, other.residual_wh
        fee = 0
        above = parent[node]
        while above >= 0 and passable[node] > 0:
            fee += fees[node]
            key = own[above] + fee
            if key < found:
                found = key
            beside = sibling[node]
            if beside >= 0 and residual[beside] > 0:
                key = best[beside] + fees[beside] + fee
                if key < found:
                    found = key
            node = above
            above = parent[node]
        return found

    def sweep(
        self,
        node: int,
        is_buy: bool,
        cost: int,
        energy_wh: int,
        most: int,
        skip: set[int] | None = None,
        levels: int = UNLIMITED_WH,
    ) -> list[tuple[Order, int, int]]:
        """Return what an order would trade now: (resting order, energy, key with fees), best first; nothing stays changed.

        ``cost`` is its limit as a cost, ``most`` bounds the fills, ``levels`` the prices; accounts in ``skip`` are passed
        over. On a tree with one sink greedy by price is exact, so this is also the depth an area can really execute.
        """
        fills: list[tuple[Order, int, int]] = []
        taken: list[Order] = []
        flows: list[tuple[tuple[tuple[int, ...], tuple[int, ...]], int]] = []
        opened = self.opened
        self.opened = []
        prices, at_cost = 0, NOTHING
        while energy_wh > 0 and len(fills) < most:
            key = self.find(node, is_buy)
            if key >> PRIORITY_BITS > cost or key >= NOTHING:
                break
            if key >> PRIORITY_BITS != at_cost:
                if prices == levels:
                    break
                prices += 1
                at_cost = key >> PRIORITY_BITS
            order = self.orders[key & PRIORITY_MASK]
            if skip is not None and order.account in skip:
                taken.append(order)
                self.remove(order)
                continue
            path = self.topology.path(order.node, node) if is_buy else self.topology.path(node, order.node)
            quantity = min(energy_wh, order.remaining_wh, self.residual_wh(path))
            fills.append((order, quantity, key))
            energy_wh -= quantity
            if quantity == order.remaining_wh:
                taken.append(order)
                self.remove(order)
            self.add_flow(path, quantity)
            flows.append((path, quantity))
        for path, quantity in reversed(flows):
            self.add_flow(path, -quantity)
        for order in taken:
            self.insert(order)
        self.opened = opened
        return fills
