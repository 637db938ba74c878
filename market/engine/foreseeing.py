"""What a new capacity would do: played on the books and put back.

Said before an official decides, so it has to be what happens: the same walk over the edges that open as
``Trading._uncross``, without money and without events, and then the blocks that wait beside the books (rule 4.12) as
``ComplexTrading._try_blocks`` lets them trade. A contract is played by itself; blocks tie contracts together, so those in
which blocks wait are played at once, and where one trades that answer stands in the place of the contract's own.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

from market.engine import contracts as states
from market.engine.book import NOTHING, PRIORITY_MASK, UNLIMITED_WH, Book
from market.engine.complex import ANYTHING
from market.engine.contracts import Contract
from market.engine.explaining import Explaining
from market.engine.grid import PRIORITY_BITS, EdgeFlow
from market.engine.orders import Order
from market.engine.trials import MAX_FILLS, PLAYED, Scratch

# Steps of one preview, in which the writer stands still: 0.15 s on a core of its own. A step is a resting order swept; of
# waiting blocks there can be 36,000, and each sweeps the book that it lacks energy in. The decision itself looks at all of
# them and has no such bound: 1.5 ms for a block that sweeps 1,000 orders in vain.
MAX_STEPS = 100_000
LOOK = 2  # steps of a look at a leg that finds no price to cross, or at a contract
NO_EDGE = EdgeFlow(0, 0, 0, 0, 0, 0)  # of an area that came after the contract
NO_PATH: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class Reach(NamedTuple):
    """Resting orders, and what of them could be traded, in Wh."""

    orders: int
    energy_wh: int


class Foreseen(NamedTuple):
    """What a new capacity of an edge would do in one contract. ``offers`` and ``bids``: what the area could buy and sell.

    What is traded at once is not out of reach: both count it, before (where it was within reach) and after.
    """

    before: EdgeFlow
    after: EdgeFlow
    offers_before: Reach
    offers_after: Reach
    bids_before: Reach
    bids_after: Reach
    buys: Reach  # resting in the area and below it, before
    sells: Reach
    trades: int  # made at once, between orders that rest or with blocks that wait
    traded_wh: int
    cancelled: int  # orders that would have met one of their own group
    collar: bool  # the price collar halts the contract on the way
    more: bool  # more would happen than is played here
    legs: int  # of waiting blocks that trade


class ForeseenBlocks(NamedTuple):
    """What waiting blocks would do after a new capacity, and the contracts in which one trades, with all that happens there."""

    contracts: dict[str, Foreseen]
    traded: int  # blocks
    more: bool  # more of them might trade than were played


class Foreseeing(Explaining):
    """Questions of those who run the grid."""

    def foresee_capacity(self, contract: str, area: str, import_w: int, export_w: int) -> Foreseen | None:
        """Return what a capacity in W would do in a contract in which no block trades, ``None`` where it changes nothing
        (delivered, or the area came later). Nothing is changed. Raise ``KeyError`` on unknown names.
        """
        found, node = self.contracts[contract], self.grid.index[area]
        book = found.book
        if book is None or found.state not in (states.OPEN, states.CLOSED) or not 0 < node < book.topology.areas:
            return None
        before, scratch, play = self._seen(found, node), Scratch(), _Play(_Budget())
        try:
            self._play_capacity(found, node, import_w, export_w, scratch, play)
            (after,) = self._seen_after([found], node, scratch)
        finally:
            self._put_back([(found, play)], node, scratch)
        return self._foreseen(found, node, before, after, play)

    def foresee_blocks(self, area: str, import_w: int, export_w: int) -> ForeseenBlocks:
        """Return which waiting blocks would trade after a capacity in W, and what would happen in their contracts.

        Nothing is changed. Raise ``KeyError`` on an unknown area.
        """
        node, scratch, budget = self.grid.index[area], Scratch(), _Budget()
        plays = {one.name: _Play(budget) for one in self.contracts.values() if one.blocks and one.book is not None}
        played = [(self.contracts[name], play) for name, play in plays.items()]
        try:
            for found, play in played:
                if not budget.take(LOOK):
                    play.more = True
                    break
                self._play_capacity(found, node, import_w, export_w, scratch, play)
            more = any(play.more for play in plays.values())
            traded, looked = (0, False) if more else self._play_blocks(plays, scratch, budget)
            touched = [(found, play) for found, play in played if play.legs]
            after = self._seen_after([found for found, _ in touched], node, scratch)
        finally:
            self._put_back(played, node, scratch)
        contracts = {
            found.name: self._foreseen(found, node, self._seen(found, node), seen, play)
            for (found, play), seen in zip(touched, after, strict=True)
        }
        return ForeseenBlocks(contracts, traded, more or looked)

    # --- what is seen before and after --------------------------------------------------------------------------------

    def _seen(self, contract: Contract, node: int) -> tuple[EdgeFlow, Reach, Reach]:
        """Return the edge above an area and what the area could buy and sell."""
        edge = self._edge(contract, node)
        if edge is NO_EDGE:
            return edge, Reach(0, 0), Reach(0, 0)
        return edge, self._reach(contract, node, True), self._reach(contract, node, False)

    def _edge(self, contract: Contract, node: int) -> EdgeFlow:
        book = contract.book
        assert book is not None
        return book.edge_flow(node) if 0 < node < book.topology.areas else NO_EDGE

    def _seen_after(
        self, contracts: list[Contract], node: int, scratch: Scratch
    ) -> list[tuple[EdgeFlow, Reach, Reach]]:
        """Return the edge after what was played, and what the area could buy and sell by the new capacity alone.

        The trades are put back in between: an order that they fill has left the book, not the area's reach. The capacity
        still is the new one, so all must be put back once more after it.
        """
        edges = [self._edge(contract, node) for contract in contracts]
        scratch.put_back()
        return [(edge, *self._seen(contract, node)[1:]) for contract, edge in zip(contracts, edges, strict=True)]

    def _foreseen(
        self, contract: Contract, node: int, before: tuple[EdgeFlow, Reach, Reach],
        after: tuple[EdgeFlow, Reach, Reach], play: _Play,
    ) -> Foreseen:  # fmt: skip
        assert contract.book is not None
        return Foreseen(
            before[0], after[0], before[1], after[1], before[2], after[2], *_resting(contract.book, node), play.trades,
            play.traded_wh, play.cancelled, play.collar, play.more, play.legs,
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

    # --- playing ------------------------------------------------------------------------------------------------------

    def _play_capacity(
        self, contract: Contract, node: int, import_w: int, export_w: int, scratch: Scratch, play: _Play
    ) -> None:
        """Do as ``Governing._set_capacity`` does in one contract."""
        book = contract.book
        assert book is not None
        scratch.keep_flows(book, NO_PATH)
        if not 0 < node < book.topology.areas:
            return
        edge = book.edge_flow(node)
        play.capacity = edge.import_capacity_wh, edge.export_capacity_wh
        book.set_capacity(node, self.capacity_wh(import_w), self.capacity_wh(export_w))
        self._play_uncross(contract, book, scratch, play)

    def _put_back(self, played: list[tuple[Contract, _Play]], node: int, scratch: Scratch) -> None:
        for contract, play in played:
            if play.collar:
                contract.halted = False
            if play.capacity is not None and contract.book is not None:
                contract.book.set_capacity(node, *play.capacity)
        scratch.put_back()

    def _play_uncross(self, contract: Contract, book: Book, scratch: Scratch, play: _Play) -> None:
        """Do as ``Trading._uncross`` does."""
        if self.at_ms >= contract.gate_ms:
            return
        while book.opened and not (self.halted or contract.halted or play.more):
            edge = heappop(book.opened)
            side, node = (book.bids if edge & 1 else book.asks), edge >> 1
            while side.residual_wh[node] > 0 and side.best[node] < NOTHING:
                order = book.orders[side.best[node] & PRIORITY_MASK]
                if not self._play_meeting(contract, book, order, scratch, play):
                    break

    def _play_meeting(self, contract: Contract, book: Book, order: Order, scratch: Scratch, play: _Play) -> bool:
        """Do as ``Trading._meet`` does."""
        key = book.find(order.node, order.is_buy)
        if key >> PRIORITY_BITS > order.cost_e4:
            return False
        other = book.orders[key & PRIORITY_MASK]
        older, newer = (order, other) if order.priority < other.priority else (other, order)
        if self.accounts[order.account].group == self.accounts[other.account].group:
            return self._play_drop(book, older, scratch, play)
        return self._play_trade(contract, book, older, newer, (key - other.key) >> PRIORITY_BITS, scratch, play)

    def _play_drop(self, book: Book, order: Order, scratch: Scratch, play: _Play) -> bool:
        """Take back an order that would meet one of its own group."""
        if play.full():
            return False
        scratch.keep(book, order)
        book.remove(order)
        play.cancelled += 1
        return True

    def _play_trade(
        self, contract: Contract, book: Book, maker: Order, taker: Order, fee_e4: int, scratch: Scratch, play: _Play
    ) -> bool:
        """Do as ``Trading._trade`` does. The maker rests; the taker may."""
        if play.full():
            return False
        if not contract.low_e4 <= (maker.price_e4 - fee_e4 if maker.is_buy else maker.price_e4) <= contract.high_e4:
            play.collar = contract.halted = True
            return False
        scratch.keep(book, maker)
        scratch.keep(book, taker)
        energy_wh = min(maker.remaining_wh, taker.remaining_wh)
        path = None
        if maker.node != taker.node:
            buy, sell = (maker, taker) if maker.is_buy else (taker, maker)
            path = book.topology.path(sell.node, buy.node)
            energy_wh = min(energy_wh, book.residual_wh(path))
            scratch.keep_flows(book, path)
        play.trades += 1
        play.traded_wh += energy_wh
        for one in (maker, taker):
            one.remaining_wh -= energy_wh
            if not one.remaining_wh and one.resting:
                book.remove(one)
                if one.complex is not None and one.complex.hidden_wh:
                    one.hide()
                    one.queue(self._trial_priority)
                    self._trial_priority += 1
                    book.insert(one)
        if path is not None:
            book.add_flow(path, energy_wh)
        return True

    def _play_blocks(self, plays: dict[str, _Play], scratch: Scratch, budget: _Budget) -> tuple[int, bool]:
        """Do as ``ComplexTrading._try_blocks`` does; return how many blocks traded, and whether others might."""
        woken = [(group.priority, group.id) for group in self.waiting.values()]
        heapify(woken)
        traded = 0
        while woken:
            block = heappop(woken)
            legs = self.waiting[block[1]].legs
            missing_wh = 0
            for leg in legs:
                swept = self.book_of(leg).swept
                missing_wh = self._lacks(leg, False)
                if not budget.take(LOOK + self.book_of(leg).swept - swept):
                    return traded, True
                if missing_wh:
                    plays[leg.contract].watching.append((missing_wh, block))
                    break
            if missing_wh:
                continue
            # A contract in which something trades is told of: what the area can reach there is swept before and after.
            untold = [self.book_of(leg) for leg in legs if not plays[leg.contract].legs]
            if not budget.take(2 * sum(min(len(book.orders), 2 * MAX_FILLS) for book in untold)):
                return traded, True
            for leg in legs:
                if not self._play_leg(leg, plays[leg.contract], scratch):
                    return traded, True
            traded += 1
            for leg in legs:
                play = plays[leg.contract]
                play.legs += 1
                self._play_uncross(self.contracts[leg.contract], self.book_of(leg), scratch, play)
                for group in play.wake():
                    heappush(woken, group)
                if play.more:
                    return traded, True
        return traded, False

    def _play_leg(self, leg: Order, play: _Play, scratch: Scratch) -> bool:
        """Let a leg of which it is known that it trades in full take what it needs; False: that is too much to play."""
        contract, book, group = self.contracts[leg.contract], self.book_of(leg), self.accounts[leg.account].group
        while leg.remaining_wh:
            key = book.find(leg.node, leg.is_buy)
            maker = book.orders[key & PRIORITY_MASK]
            if self.accounts[maker.account].group == group:
                done = self._play_drop(book, maker, scratch, play)
            else:
                fee_e4 = (key - maker.key) >> PRIORITY_BITS
                done = self._play_trade(contract, book, maker, leg, fee_e4, scratch, play)
            if not done:
                return False
        return True


class _Budget:
    """The steps that one preview still has, whatever it spends them on."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def take(self, steps: int) -> bool:
        """Spend steps; return whether there were so many."""
        self._left -= steps
        return self._left >= 0


class _Play:
    """How a trial goes in a contract."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self.trades = self.traded_wh = self.cancelled = self.legs = 0
        self.collar = self.more = False
        self.capacity: tuple[int, int] | None = None  # import and export in Wh as they were
        # Blocks (priority and id) that could not trade here, with what they miss in Wh, and what had been traded by then.
        self.watching: list[tuple[int, tuple[int, int]]] = []
        self.seen_wh = 0

    def wake(self) -> list[tuple[int, int]]:
        """Return the blocks that may trade after what has happened here, as ``ComplexTrading._wake`` finds them."""
        came_wh, self.seen_wh = self.traded_wh - self.seen_wh, self.traded_wh
        woken, still = [], []
        for missing_wh, block in self.watching:
            left_wh = missing_wh if missing_wh == ANYTHING else max(0, missing_wh - came_wh)
            if left_wh <= 0:
                woken.append(block)
            else:
                still.append((left_wh, block))
        self.watching = still
        return woken

    def full(self) -> bool:
        """Return whether no more of it is played."""
        self.more = self.more or self.trades + self.cancelled >= MAX_FILLS or not self._budget.take(PLAYED)
        return self.more


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
