"""Why a resting order has not traded: a code and what fills its sentence."""

from __future__ import annotations

from market.engine.book import NOTHING, PRIORITY_MASK, Book
from market.engine.contracts import Contract
from market.engine.grid import PRIORITY_BITS
from market.engine.orders import Order
from market.engine.settling import Settling
from market.engine.trading import MAX_FILLS

Reason = tuple[str, dict[str, int | str]]
EXPORT, IMPORT = "export", "import"


class Explaining(Settling):
    """Views that explain."""

    def why_not(self, order_id: int) -> Reason | None:
        """Return (code, detail) of why an open order has not traded, ``None`` for one that is not open.

        ``hibernated`` · ``gate_passed`` · ``market_halted``, ``contract_halted``, ``account_halted``, ``area_halted`` ·
        ``block``: a leg lacks energy within its limit (contract, missing_wh) · ``own_orders``: a leg lacks what only its own
        group offers · ``no_offers``: nothing on the other side · ``price``: ``best_e4`` is the all-in price it could have ·
        ``capacity``: an offer within its limit (all-in ``best_e4``) lies behind a full edge, that of ``area`` in
        ``direction``.
        """
        order = self.orders.get(order_id)
        if order is None:
            return None
        extra, contract = order.complex, self.contracts[order.contract]
        if extra is not None and extra.asleep:
            return "hibernated", {}
        if extra is not None and extra.group is not None:
            return self._why_block(extra.group.legs)
        if self.at_ms >= contract.gate_ms:
            return "gate_passed", {}
        if code := self._halt_of(contract, self.accounts[order.account]):
            return code, {}
        return self._why_unmatched(contract, order)

    def _why_block(self, legs: list[Order]) -> Reason:
        short: Reason | None = None
        for leg in legs:
            contract = self.contracts[leg.contract]
            if self.at_ms >= contract.gate_ms:
                return "gate_passed", {}
            if code := self._halt_of(contract, self.accounts[leg.account]):
                return code, {}
            if short is None and self._lacks(leg, False):
                short = self._why_leg(contract, leg)
        return short or ("block", {"contract": legs[0].contract, "missing_wh": 0})

    def _why_leg(self, contract: Contract, leg: Order) -> Reason:
        book = contract.book
        assert book is not None

        def lacking_wh(skip: set[int] | None) -> int:
            fills = book.sweep(leg.node, leg.is_buy, leg.cost_e4, leg.remaining_wh, MAX_FILLS, skip, hidden=True)
            return leg.remaining_wh - sum(energy_wh for _, energy_wh, _ in fills)

        own = set(self.groups[self.accounts[leg.account].group])
        missing_wh = lacking_wh(own)
        code = "own_orders" if missing_wh and not lacking_wh(None) else "block"
        return code, {"contract": contract.name, "missing_wh": missing_wh}

    def _why_unmatched(self, contract: Contract, order: Order) -> Reason:
        book = contract.book
        assert book is not None
        found = book.find(order.node, order.is_buy)
        anywhere, maker = _best_anywhere(book, order)
        if maker is None:
            return "no_offers", {}
        if anywhere >> PRIORITY_BITS <= order.cost_e4:
            area, direction = _full_edge(book, order, maker)
            name = self.grid.areas[area].name
            return "capacity", {"area": name, "direction": direction, "best_e4": _price(anywhere, order.is_buy)}
        best = found if found < NOTHING else anywhere
        return "price", {"best_e4": _price(best, order.is_buy)}


def _price(key: int, is_buy: bool) -> int:
    return key >> PRIORITY_BITS if is_buy else -(key >> PRIORITY_BITS)


def _best_anywhere(book: Book, order: Order) -> tuple[int, Order | None]:
    """Return the best key of the other side, fees included, as if every edge were open, and whose it is."""
    topology = book.topology
    own = (book.asks if order.is_buy else book.bids).own
    fees, below = topology.fee_keys, _children(topology.real_parents)
    best, place = NOTHING, -1
    todo = [(order.node, -1, 0)]
    while todo:  # over the tree, outward from the order's area; every area once
        node, came_from, fee = todo.pop()
        if own[node] < NOTHING and own[node] + fee < best:
            best, place = own[node] + fee, node
        above = topology.real_parents[node]
        if above >= 0 and above != came_from:
            todo.append((above, node, fee + fees[node]))
        todo += [(child, node, fee + fees[child]) for child in below[node] if child != came_from]
    return best, None if place < 0 else book.orders[own[place] & PRIORITY_MASK]


def _children(parents: list[int]) -> list[list[int]]:
    below: list[list[int]] = [[] for _ in parents]
    for node, parent in enumerate(parents):
        if parent >= 0:
            below[parent].append(node)
    return below


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
