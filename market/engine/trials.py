"""Trials: what would happen if an order came, played on the books themselves and put back."""

from __future__ import annotations

from market.engine.book import PRIORITY_MASK, Book
from market.engine.contracts import UNLIMITED_E4, Contract
from market.engine.grid import PRIORITY_BITS
from market.engine.orders import Order
from market.engine.state import State

# Resting orders that fill-or-kill orders, blocks' legs and baskets trade with at the most: some 10 ms.
MAX_FILLS = 5_000
PLAYED = 5  # an order that is played on a book and put back takes as long as so many that are swept


class Scratch:
    """What a trial changed, to put it back."""

    def __init__(self) -> None:
        self._orders: dict[int, tuple[Book, Order, int, int, int, bool]] = {}
        self._flows: dict[tuple[int, int], tuple[Book, int, int, int]] = {}
        self._opened: dict[int, tuple[Book, list[int]]] = {}

    def keep(self, book: Book, order: Order) -> None:
        """Remember a resting order before its first change."""
        if order.id not in self._orders:
            hidden_wh = 0 if order.complex is None else order.complex.hidden_wh
            self._orders[order.id] = (book, order, order.remaining_wh, hidden_wh, order.priority, order.resting)

    def keep_flows(self, book: Book, path: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        """Remember what the edges of a path carry, before the first change."""
        self._opened.setdefault(id(book), (book, list(book.opened)))
        for node in path[0] + path[1]:
            if (id(book), node) not in self._flows:
                self._flows[id(book), node] = (book, node, book.asks.flow_wh[node], book.bids.flow_wh[node])

    def put_back(self) -> None:
        """Undo all of it."""
        for book, order, remaining_wh, hidden_wh, priority, resting in self._orders.values():
            moved = order.priority != priority or not order.resting
            if moved and order.resting:
                book.remove(order)
            order.remaining_wh = remaining_wh
            if order.complex is not None:
                order.complex.hidden_wh = hidden_wh
            if moved:
                order.queue(priority)
                if resting:
                    book.insert(order)
        for book, node, up_wh, down_wh in self._flows.values():
            book.set_flow(node, up_wh, down_wh)
        for book, opened in self._opened.values():
            book.opened[:] = opened


class Trying(State):
    """Questions whose answer changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        # Behind every order's, and none given twice: a number stays in a heap after its order has left, and whoever drew it
        # again would bring the old key to life.
        self._trial_priority = 1 << (PRIORITY_BITS - 1)

    def _bounds(self, contract: Contract, arriving: bool) -> tuple[int, int]:
        """Return the seller's prices that pass, as they are or (``arriving``) as an arriving order would find them."""
        if arriving and contract.last_e4 and self.at_ms >= contract.look_at_ms:
            collar_e4 = self._params.collar_e4
            return contract.last_e4 - collar_e4, contract.last_e4 + collar_e4
        return contract.low_e4, contract.high_e4

    def _fillable(self, contract: Contract, order: Order, group: str, arriving: bool) -> bool:
        """Return whether the order could trade whole, now, without those it would cancel as its own group's."""
        return not self._missing_wh(contract, order, group) and self._passes_collar(contract, order, group, arriving)

    def _missing_wh(self, contract: Contract, order: Order, group: str) -> int:
        """Return how much of an order other groups' orders do not offer within its limit.

        -1: as many orders as one may trade with are not enough, and how much lies behind them is not known.
        """
        book = contract.book
        assert book is not None
        fills = book.sweep(
            order.node, order.is_buy, order.cost_e4, order.remaining_wh, MAX_FILLS, set(self.groups[group]), hidden=True
        )
        missing_wh = order.remaining_wh - sum(quantity for _, quantity, _ in fills)
        return -1 if missing_wh and len(fills) == MAX_FILLS else missing_wh

    def _passes_collar(self, contract: Contract, order: Order, group: str, arriving: bool) -> bool:
        """Return whether an order for which there is energy gets it without a price outside the collar on the way.

        A sweep gives the most that can be had; only the very order of fills can tell this, hidden clips in their turn.
        """
        return contract.high_e4 >= UNLIMITED_E4 or self._trial([order], group, arriving)

    def _trial(self, legs: list[Order], group: str, arriving: bool) -> bool:
        """Return whether all legs trade whole, one after the other; everything is left as it was.

        Played on the books themselves, clips, netting and all, and taken back: legs compete for the same energy and edges.
        """
        scratch, fills = Scratch(), 0
        try:
            for leg in legs:
                contract = self.contracts[leg.contract]
                book = contract.book
                assert book is not None
                low_e4, high_e4 = self._bounds(contract, arriving)
                bound, wanted_wh = (leg.cost_e4 + 1) << PRIORITY_BITS, leg.remaining_wh
                while wanted_wh:
                    key = book.find(leg.node, leg.is_buy)
                    if key >= bound:
                        return False
                    maker = book.orders[key & PRIORITY_MASK]
                    fills += 1
                    book.swept += PLAYED
                    if fills > MAX_FILLS:
                        return False
                    scratch.keep(book, maker)
                    if self.accounts[maker.account].group == group:
                        book.remove(maker)
                        continue
                    if not low_e4 <= (maker.price_e4 if leg.is_buy else -(key >> PRIORITY_BITS)) <= high_e4:
                        return False
                    path = book.topology.path(*((maker.node, leg.node) if leg.is_buy else (leg.node, maker.node)))
                    energy_wh = min(wanted_wh, maker.remaining_wh, book.residual_wh(path))
                    wanted_wh -= energy_wh
                    maker.remaining_wh -= energy_wh
                    if not maker.remaining_wh:
                        book.remove(maker)
                        if maker.complex is not None and maker.complex.hidden_wh:
                            maker.hide()
                            maker.queue(self._trial_priority)
                            self._trial_priority += 1
                            book.insert(maker)
                    scratch.keep_flows(book, path)
                    book.add_flow(path, energy_wh)
            return True
        finally:
            scratch.put_back()
