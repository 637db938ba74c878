"""The book of one contract: one book for the whole grid.

Every resting order has one integer key, ``(cost << 40) | priority`` with cost = price for asks and -price for bids, so that
adding a path's fee is an addition and one comparison decides price-time priority across areas. For each side and node the
book knows ``own``, the best key resting there, ``best``, the best key inside its subtree as seen from it, and ``up``, what of
that its parent sees: with the edge's fee while the edge can still carry energy, else nothing. ``best`` is the least of ``own``
and the children's ``up``. A taker walks from its area to the root; at an ancestor whose ``best`` could beat what it has found
it looks at that node's own best and at the siblings on the way.

An edge opens and closes by its residual capacity: ``capacity - flow + floor(netting * opposite flow / 1000)``.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from market.engine.grid import PRIORITY_BITS, EdgeFlow, Topology
from market.engine.orders import Order

PRIORITY_MASK = (1 << PRIORITY_BITS) - 1
NOTHING = 1 << 100  # a key worse than any order's
UNLIMITED_WH = 1 << 60  # capacity of edges that are no wires
GARBAGE_KEPT = 64  # dead keys a heap may hold beyond as many as live ones before it is rebuilt


class Side:
    """All resting orders of one side. ``residual_wh[v]`` is what this side's energy flow can still use of the edge above v.

    ``up`` has one more element, for ever ``NOTHING``: the child or sibling number -1 of nodes that have none.
    """

    __slots__ = ("best", "flow_wh", "heaps", "live", "own", "residual_wh", "up")

    def __init__(self, nodes: int):
        self.heaps: list[list[int]] = [[] for _ in range(nodes)]
        self.live = [0] * nodes
        self.own = [NOTHING] * nodes
        self.best = [NOTHING] * nodes
        self.up = [NOTHING] * (nodes + 1)
        self.residual_wh = [UNLIMITED_WH] * nodes
        self.flow_wh = [0] * nodes


class Book:
    """Resting orders, flows and residual capacities of one contract."""

    __slots__ = ("asks", "bids", "capacity_down", "capacity_up", "netting", "opened", "orders", "swept", "topology")

    def __init__(self, topology: Topology, import_wh: list[int], export_wh: list[int], netting_permille: int):
        self.topology = topology
        self.orders: dict[int, Order] = {}  # by priority
        self.asks = Side(topology.nodes)  # their energy climbs: export direction
        self.bids = Side(topology.nodes)  # their energy descends: import direction
        self.capacity_up = export_wh[: topology.areas]
        self.capacity_down = import_wh[: topology.areas]
        self.netting = netting_permille
        self.opened: list[int] = []  # heap of 2 * node + (0 up, 1 down): edges that opened and are to be uncrossed
        self.swept = 0  # resting orders that sweeps and trials have come to, ever: what a caller measures its looks by
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
        """An edge opened or closed for a side: keep the aggregates above it true, note what opened."""
        above = self.topology.parent[node]
        if above < 0:
            return
        side.up[node] = side.best[node] + self.topology.fee_keys[node] if opened else NOTHING
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
        """Book energy along a path (see ``Topology.path``)."""
        asks, bids = self.asks, self.bids
        if path[0]:
            self._carry(asks, bids, path[0], 0, energy_wh)
        if path[1]:
            self._carry(bids, asks, path[1], 1, energy_wh)

    def _carry(self, along: Side, against: Side, edges: tuple[int, ...], direction: int, energy_wh: int) -> None:
        """Book energy on edges: less remains in its direction, netting gives the opposite one as much."""
        flow, residual, opposite, netting = along.flow_wh, along.residual_wh, against.residual_wh, self.netting
        gain = energy_wh
        for node in edges:
            before_wh = flow[node]
            flow[node] = before_wh + energy_wh
            was = residual[node]
            residual[node] = was - energy_wh
            if was <= energy_wh and was > 0:
                self._toggled(along, node, direction, False)
            if netting != 1000:
                gain = netting * (before_wh + energy_wh) // 1000 - netting * before_wh // 1000
            was = opposite[node]
            opposite[node] = was + gain
            if was <= 0 < was + gain:
                self._toggled(against, node, 1 - direction, True)

    def set_flow(self, node: int, up_wh: int, down_wh: int) -> None:
        """Set what one edge carries; residuals and aggregates follow."""
        self.asks.flow_wh[node], self.bids.flow_wh[node] = up_wh, down_wh
        self._set_residuals(node)

    def take_flow_back(self, path: tuple[tuple[int, ...], tuple[int, ...]], energy_wh: int) -> None:
        """Book energy along a path as if it had never passed."""
        for node in path[0]:
            self.set_flow(node, self.asks.flow_wh[node] - energy_wh, self.bids.flow_wh[node])
        for node in path[1]:
            self.set_flow(node, self.asks.flow_wh[node], self.bids.flow_wh[node] - energy_wh)

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
        best, up, residual = side.best, side.up, side.residual_wh
        parent, fees = self.topology.parent, self.topology.fee_keys
        while key < best[node]:
            best[node] = key
            above = parent[node]
            if above < 0 or residual[node] <= 0:
                return
            key += fees[node]
            up[node] = key
            node = above

    def remove(self, order: Order) -> None:
        """Take a resting order out. Its key stays in the heap until it comes to the top or the heap is rebuilt."""
        side = self.bids if order.is_buy else self.asks
        node = order.node
        orders = self.orders
        del orders[order.priority]
        order.resting = False
        side.live[node] -= 1
        heap = side.heaps[node]
        if order.key == side.own[node]:
            heappop(heap)
            while heap and heap[0] & PRIORITY_MASK not in orders:
                heappop(heap)
            side.own[node] = heap[0] if heap else NOTHING
            if order.key == side.best[node]:
                self._refresh(side, node)
        elif len(heap) > 2 * side.live[node] + GARBAGE_KEPT:
            # A set: an order that a halt took out and let in again has its key in the heap twice.
            heap[:] = {key for key in heap if key & PRIORITY_MASK in orders}
            heapify(heap)

    def _refresh(self, side: Side, node: int) -> None:
        """Recompute the aggregate of a node and of its ancestors, up to the first that stays as it was."""
        topology = self.topology
        left, right, parent, fees = topology.left, topology.right, topology.parent, topology.fee_keys
        own, best, up, residual = side.own, side.best, side.up, side.residual_wh
        while True:
            key = own[node]
            child = up[left[node]]
            if child < key:
                key = child
            child = up[right[node]]
            if child < key:
                key = child
            if key == best[node]:
                return
            best[node] = key
            above = parent[node]
            if above < 0 or residual[node] <= 0:
                return
            up[node] = key + fees[node]
            node = above

    def may_cross(self, node: int, is_buy: bool, bound: int) -> bool:
        """Return whether an order in an area could reach a key below ``bound``: quick, and never a wrong no."""
        if is_buy:
            best, passable = self.asks.best, self.bids.residual_wh
        else:
            best, passable = self.bids.best, self.asks.residual_wh
        if best[node] < bound:
            return True
        topology = self.topology
        parent, fees = topology.real_parents, topology.fee_keys
        above = parent[node]
        while above >= 0 and passable[node] > 0:
            bound -= fees[node]
            if best[above] < bound:
                return True
            node = above
            above = parent[node]
        return False

    def find(self, node: int, is_buy: bool) -> int:
        """Return the best key of the other side that an order in an area could reach, its path's fees included.

        Compare ``key >> 40`` with the order's cost; ``key & PRIORITY_MASK`` names the order. ``NOTHING`` or more: none.
        """
        if is_buy:
            passable, other = self.bids.residual_wh, self.asks
        else:
            passable, other = self.asks.residual_wh, self.bids
        best = other.best
        found = best[node]
        topology = self.topology
        real_parent = topology.real_parents
        above = real_parent[node]
        if above < 0 or passable[node] <= 0:
            return found
        parent, sibling, fees = topology.parent, topology.sibling, topology.fee_keys
        own, up = other.own, other.up
        fee = 0
        while above >= 0 and passable[node] > 0:
            fee += fees[node]
            if best[above] + fee < found:  # what lies under it, this branch included, cannot be better than that
                key = own[above] + fee
                if key < found:
                    found = key
                while node != above:
                    key = up[sibling[node]] + fee
                    if key < found:
                        found = key
                    node = parent[node]
            node = above
            above = real_parent[node]
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
        hidden: bool = False,
    ) -> list[tuple[Order, int, int]]:
        """Return what an order would trade now: (resting order, energy, key with fees), best first; nothing is changed.

        ``cost`` is its limit as a cost, ``most`` bounds the fills, ``levels`` the prices; accounts in ``skip`` are passed
        over; ``hidden`` counts what icebergs do not show, at their place. On a tree with one sink greedy by price is exact,
        so this is also the depth an area can really execute.
        """
        topology, orders = self.topology, self.orders
        left, right, fee_keys, real_parent = topology.left, topology.right, topology.fee_keys, topology.real_parents
        areas = topology.areas
        if is_buy:
            other, climbing, line_wh = self.asks, self.asks.residual_wh, self.bids.residual_wh
        else:
            other, climbing, line_wh = self.bids, self.bids.residual_wh, self.asks.residual_wh
        own, up, heaps = other.own, other.up, other.heaps
        frontier, tops = self._frontier(node, is_buy)
        rooms = [line_wh[top] for top in tops[:-1]]  # what the edges of the area's own line can still carry
        reach = len(rooms)  # what branches off higher up cannot come any more
        used: dict[int, int] = {}  # energy of the fills so far on other edges; netting opens nothing towards the area
        fills: list[tuple[Order, int, int]] = []
        bound = (cost + 1) << PRIORITY_BITS
        prices, at_cost, last, passed = 0, NOTHING, NOTHING, 0
        while frontier and energy_wh > 0 and len(fills) < most:
            key, place, at, fee, step = frontier[0]
            if key >= bound:
                break
            if step > reach:
                heappop(frontier)
                continue
            top = tops[step]
            if at < 0:
                heappop(frontier)
                if place != top and place < areas and climbing[place] <= used.get(place, 0):
                    continue
                if own[place] < NOTHING:
                    heappush(frontier, (own[place] + fee, place, 0, fee, step))
                for child in (left[place], right[place]):
                    if up[child] < NOTHING:
                        heappush(frontier, (up[child] + fee, child, -1, fee + fee_keys[child], step))
                continue
            quantity = energy_wh
            for room in rooms[:step]:
                if room < quantity:
                    quantity = room
            edge = place
            while edge != top:
                room = climbing[edge] - used.get(edge, 0)
                if room < quantity:
                    quantity = room
                edge = real_parent[edge]
            if quantity <= 0:
                heappop(frontier)
                continue  # nor can anything else of this area come through
            heap = heaps[place]
            child = 2 * at + 1
            if child < len(heap):
                heapreplace(frontier, (heap[child] + fee, place, child, fee, step))
                child += 1
                if child < len(heap):
                    heappush(frontier, (heap[child] + fee, place, child, fee, step))
            else:
                heappop(frontier)
            order = orders.get(key & PRIORITY_MASK)
            if order is None or key == last or (skip is not None and order.account in skip):
                passed += 1
                continue
            last = key
            if key >> PRIORITY_BITS != at_cost:
                if prices == levels:
                    break
                prices += 1
                at_cost = key >> PRIORITY_BITS
            available_wh = order.left_wh if hidden else order.remaining_wh
            if available_wh < quantity:
                quantity = available_wh
            fills.append((order, quantity, key))
            energy_wh -= quantity
            for index in range(step):
                rooms[index] -= quantity
                if rooms[index] <= 0 and index < reach:
                    reach = index
            edge = place
            while edge != top:
                used[edge] = used.get(edge, 0) + quantity
                edge = real_parent[edge]
        self.swept += passed + len(fills)
        return fills

    def _frontier(self, node: int, is_buy: bool) -> tuple[list[tuple[int, int, int, int, int]], list[int]]:
        """Return a heap of where the other side's orders can be met, seen from an area, and the area's own line.

        An item is (best key there with all fees, node, place in the node's heap or -1 for its whole subtree, fees, how many
        steps up the line it branches off).
        """
        if is_buy:
            passable, other = self.bids.residual_wh, self.asks
        else:
            passable, other = self.asks.residual_wh, self.bids
        topology = self.topology
        frontier = [(other.best[node], node, -1, 0, 0)]
        tops = [node]
        fee = 0
        above = topology.real_parents[node]
        while above >= 0 and passable[node] > 0:
            fee += topology.fee_keys[node]
            tops.append(above)
            step = len(tops) - 1
            frontier.append((other.own[above] + fee, above, 0, fee, step))
            while node != above:
                beside = topology.sibling[node]
                frontier.append((other.up[beside] + fee, beside, -1, fee + topology.fee_keys[beside], step))
                node = topology.parent[node]
            above = topology.real_parents[node]
        frontier = [item for item in frontier if item[0] < NOTHING]
        heapify(frontier)
        return frontier, tops
