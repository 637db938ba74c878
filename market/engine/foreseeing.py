"""What a new capacity would do to a contract: played on its book and put back.

Said before an official decides, so it has to be what happens: the same walk over the edges that open as
``Trading._uncross``, without money and without events. Not foreseen: blocks that wait beside the books (rule 4.12) and
could trade afterwards; their number is in the answer.
"""

from __future__ import annotations

from heapq import heappop
from typing import NamedTuple

from market.engine import contracts as states
from market.engine.book import NOTHING, PRIORITY_MASK, UNLIMITED_WH, Book
from market.engine.contracts import Contract
from market.engine.explaining import Explaining
from market.engine.grid import PRIORITY_BITS, EdgeFlow
from market.engine.orders import Order
from market.engine.trials import MAX_FILLS, Scratch

NO_PATH: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class Reach(NamedTuple):
    """Resting orders, and what of them could be traded, in Wh."""

    orders: int
    energy_wh: int


class Foreseen(NamedTuple):
    """What a new capacity of an edge would do in one contract. ``offers`` and ``bids``: what the area could buy and sell."""

    before: EdgeFlow
    after: EdgeFlow
    offers_before: Reach
    offers_after: Reach
    bids_before: Reach
    bids_after: Reach
    buys: Reach  # resting in the area and below it, before
    sells: Reach
    trades: int  # that resting orders make at once
    traded_wh: int
    cancelled: int  # orders that would have met one of their own group
    collar: bool  # the price collar halts the contract on the way
    more: bool  # more would happen than is played here
    blocks: int  # legs of blocks that wait for this contract


class Foreseeing(Explaining):
    """Questions of those who run the grid."""

    def foresee_capacity(self, contract: str, area: str, import_w: int, export_w: int) -> Foreseen | None:
        """Return what a capacity in W would do in a contract, ``None`` where it changes nothing (delivered, or the area
        came later). Nothing is changed. Raise ``KeyError`` on unknown names.
        """
        found, node = self.contracts[contract], self.grid.index[area]
        book = found.book
        if book is None or found.state not in (states.OPEN, states.CLOSED) or not 0 < node < book.topology.areas:
            return None
        before, offers, bids = book.edge_flow(node), self._reach(found, node, True), self._reach(found, node, False)
        buys, sells = _resting(book, node)
        scratch, play = Scratch(), _Play()
        scratch.keep_flows(book, NO_PATH)
        try:
            book.set_capacity(node, self.capacity_wh(import_w), self.capacity_wh(export_w))
            if self.at_ms < found.gate_ms and not self.halted and not found.halted:
                self._play_uncross(found, book, scratch, play)
            after = book.edge_flow(node)
            offers_after, bids_after = self._reach(found, node, True), self._reach(found, node, False)
        finally:
            book.set_capacity(node, before.import_capacity_wh, before.export_capacity_wh)
            scratch.put_back()
        return Foreseen(
            before, after, offers, offers_after, bids, bids_after, buys, sells, play.trades, play.traded_wh,
            play.cancelled, play.collar, play.more, found.blocks,
        )  # fmt: skip

    def _reach(self, contract: Contract, node: int, is_buy: bool) -> Reach:
        """Return what an order without a limit could take from an area, as its depth view shows it."""
        book = contract.book
        assert book is not None
        low_e4, high_e4 = self._bounds(contract, True)
        orders = energy_wh = 0
        fills = book.sweep(node, is_buy, NOTHING >> PRIORITY_BITS, UNLIMITED_WH, MAX_FILLS)
        for order, quantity_wh, key in fills:
            if not low_e4 <= (order.price_e4 if is_buy else -(key >> PRIORITY_BITS)) <= high_e4:
                break
            orders += 1
            energy_wh += quantity_wh
        return Reach(orders, energy_wh)

    def _play_uncross(self, contract: Contract, book: Book, scratch: Scratch, play: _Play) -> None:
        """Do as ``Trading._uncross`` does."""
        while book.opened and not play.ended:
            edge = heappop(book.opened)
            side, node = (book.bids if edge & 1 else book.asks), edge >> 1
            while side.residual_wh[node] > 0 and side.best[node] < NOTHING:
                order = book.orders[side.best[node] & PRIORITY_MASK]
                if not self._play_meeting(contract, book, order, scratch, play):
                    break

    def _play_meeting(self, contract: Contract, book: Book, order: Order, scratch: Scratch, play: _Play) -> bool:
        """Do as ``Trading._meet`` and ``_trade`` do."""
        key = book.find(order.node, order.is_buy)
        if key >> PRIORITY_BITS > order.cost_e4:
            return False
        if play.trades + play.cancelled >= MAX_FILLS:
            play.more = play.ended = True
            return False
        other = book.orders[key & PRIORITY_MASK]
        older, newer = (order, other) if order.priority < other.priority else (other, order)
        scratch.keep(book, older)
        if self.accounts[order.account].group == self.accounts[other.account].group:
            book.remove(older)
            play.cancelled += 1
            return True
        fee_e4 = (key - other.key) >> PRIORITY_BITS
        if not contract.low_e4 <= (older.price_e4 - fee_e4 if older.is_buy else older.price_e4) <= contract.high_e4:
            play.collar = play.ended = True
            return False
        scratch.keep(book, newer)
        energy_wh = min(older.remaining_wh, newer.remaining_wh)
        path = None
        if older.node != newer.node:
            buy, sell = (older, newer) if older.is_buy else (newer, older)
            path = book.topology.path(sell.node, buy.node)
            energy_wh = min(energy_wh, book.residual_wh(path))
            scratch.keep_flows(book, path)
        play.trades += 1
        play.traded_wh += energy_wh
        for one in (older, newer):
            one.remaining_wh -= energy_wh
            if not one.remaining_wh:
                book.remove(one)
                if one.complex is not None and one.complex.hidden_wh:
                    one.hide()
                    one.queue(self._trial_priority)
                    self._trial_priority += 1
                    book.insert(one)
        if path is not None:
            book.add_flow(path, energy_wh)
        return True


class _Play:
    """How a trial goes."""

    def __init__(self) -> None:
        self.trades = self.traded_wh = self.cancelled = 0
        self.collar = self.more = self.ended = False


def _resting(book: Book, node: int) -> tuple[Reach, Reach]:
    """Return the buy and the sell orders that rest in an area and below it."""
    inside = {node}
    for area, parent in enumerate(book.topology.real_parents):  # parents come before their children
        if parent in inside:
            inside.add(area)
    found = [[0, 0], [0, 0]]
    for order in book.orders.values():
        if order.node in inside:
            found[order.is_buy][0] += 1
            found[order.is_buy][1] += order.remaining_wh
    return Reach(*found[True]), Reach(*found[False])
