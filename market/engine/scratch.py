"""What a trial on the books themselves changed, to put it back."""

from __future__ import annotations

from market.engine.book import Book
from market.engine.orders import Order


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
