"""Why a resting order has not traded: a code and what fills its sentence."""

from __future__ import annotations

from heapq import nsmallest

from market.engine.book import NOTHING, PRIORITY_MASK, Book
from market.engine.contracts import Contract
from market.engine.grid import PRIORITY_BITS
from market.engine.orders import Group, Order
from market.engine.sharing import Sharing
from market.engine.trials import MAX_FILLS

HEADS = 50  # best orders of an area looked through for one of another group
Reason = tuple[str, dict[str, int | str]]
EXPORT, IMPORT = "export", "import"


class Explaining(Sharing):
    """Views that explain."""

    def why_not(self, order_id: int) -> Reason | None:
        """Return (code, detail) of why an open order has not traded, ``None`` for one that is not open.

        ``hibernated`` · ``gate_passed`` · ``market_halted``, ``contract_halted``, ``account_halted``, ``area_halted`` ·
        ``block``: a leg lacks energy within its limit (contract, missing_wh) · ``collar``: a leg would trade outside the price
        collar (contract) · ``own_orders``: only its own group offers what it, or a leg (contract, missing_wh), needs ·
        ``no_offers``: nothing on the other side · ``price``: ``best_e4`` is the all-in price it could have · ``capacity``: an
        offer within its limit (all-in ``best_e4``) lies behind a full edge, that of ``area`` in ``direction``.
        """
        order = self.orders.get(order_id)
        if order is None:
            return None
        extra, contract = order.complex, self.contracts[order.contract]
        if extra is not None and extra.asleep:
            return "hibernated", {}
        if extra is not None and extra.group is not None:
            return self._why_block(extra.group)
        if self.at_ms >= contract.gate_ms:
            return "gate_passed", {}
        if code := self._halt_of(contract, self.accounts[order.account]):
            return code, {}
        return self._why_unmatched(contract, order)

    def _why_block(self, group: Group) -> Reason:
        for leg in group.legs:
            contract = self.contracts[leg.contract]
            if self.at_ms >= contract.gate_ms:
                return "gate_passed", {}
            if code := self._halt_of(contract, self.accounts[leg.account]):
                return code, {}
        contract = self.contracts[group.watched]
        leg = next(leg for leg in group.legs if leg.contract == contract.name)
        missing_wh = self._missing_wh(contract, leg, self.accounts[leg.account].group)
        if not missing_wh:
            return "collar", {"contract": contract.name}
        book = contract.book
        assert book is not None
        fills = book.sweep(leg.node, leg.is_buy, leg.cost_e4, leg.remaining_wh, MAX_FILLS, hidden=True)
        own = sum(energy_wh for _, energy_wh, _ in fills) == leg.remaining_wh
        return "own_orders" if own else "block", {"contract": contract.name, "missing_wh": max(0, missing_wh)}

    def _why_unmatched(self, contract: Contract, order: Order) -> Reason:
        book = contract.book
        assert book is not None
        own = set(self.groups[self.accounts[order.account].group])
        anywhere, maker = _best_anywhere(book, order, own)
        if maker is None or anywhere >> PRIORITY_BITS > order.cost_e4:
            mine, _ = _best_anywhere(book, order, set())
            if mine >> PRIORITY_BITS <= order.cost_e4:
                return "own_orders", {}
        if maker is None:
            return "no_offers", {}
        if anywhere >> PRIORITY_BITS <= order.cost_e4:
            area, direction = _full_edge(book, order, maker)
            name = self.grid.areas[area].name
            return "capacity", {"area": name, "direction": direction, "best_e4": _price(anywhere, order.is_buy)}
        found = book.find(order.node, order.is_buy)
        best = found if found < NOTHING else anywhere
        return "price", {"best_e4": _price(best, order.is_buy)}


def _price(key: int, is_buy: bool) -> int:
    return key >> PRIORITY_BITS if is_buy else -(key >> PRIORITY_BITS)


def _best_anywhere(book: Book, order: Order, own: set[int]) -> tuple[int, Order | None]:
    """Return the best key of the other side, fees included, as if every edge were open, and whose it is.

    Orders of the accounts in ``own`` do not count, nor what lies behind ``HEADS`` of them in one area.
    """
    topology = book.topology
    side = book.asks if order.is_buy else book.bids
    fees, below = topology.fee_keys, topology.below
    best, found = NOTHING, None
    todo = [(order.node, -1, 0)]
    while todo:  # over the tree, outward from the order's area; every area once
        node, came_from, fee = todo.pop()
        if side.own[node] + fee < best:
            head = book.orders[side.own[node] & PRIORITY_MASK]
            if head.account in own:
                heads = (book.orders.get(key & PRIORITY_MASK) for key in nsmallest(HEADS, side.heaps[node]))
                others = (resting for resting in heads if resting is not None and resting.account not in own)
                head = next(others, head)
            if head.account not in own and head.key + fee < best:
                best, found = head.key + fee, head
        above = topology.real_parents[node]
        if above >= 0 and above != came_from:
            todo.append((above, node, fee + fees[node]))
        todo += [(child, node, fee + fees[child]) for child in below[node] if child != came_from]
    return best, found


def _full_edge(book: Book, order: Order, maker: Order) -> tuple[int, str]:
    """Return the first edge, from the seller on, that carries no more, and in which direction."""
    source, sink = (maker.node, order.node) if order.is_buy else (order.node, maker.node)
    climbed, descended = book.topology.path(source, sink)
    for node in climbed:
        if book.asks.residual_wh[node] <= 0:
            return node, EXPORT
    for node in reversed(descended):
        if book.bids.residual_wh[node] <= 0:
            return node, IMPORT
    raise AssertionError(f"expected a full edge between areas {source} and {sink}")
