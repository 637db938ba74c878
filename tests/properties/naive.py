"""The oracle: the rulebook read aloud. Plain lists, every order scanned for every question, nothing remembered but trades.

Written from docs/market-rules.md, not from the engine; it shares only the vocabulary (commands, events). This module has the
market's state and how orders meet; ``naive_orders`` and ``naive_rules`` have what each command does. Settlement has tests of
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from market.engine import events as ev
from market.engine.events import Refused

EXPORT, IMPORT = 0, 1
TOKEN = 60_000  # a token of the throttle in its own units: at so many a minute, one of them is one a millisecond
ARRIVING, RESTING, WAITING, ASLEEP = "arriving", "resting", "waiting", "asleep"  # where an open order is


@dataclass
class NaiveArea:
    name: str
    parent: str
    fee_e4: int = 0
    import_w: int = 0
    export_w: int = 0
    halted: bool = False


@dataclass
class NaiveAccount:
    index: int
    area: str
    group: str
    connection: str
    cash_e7: int = 0
    halted: bool = False
    closed: bool = False
    key: str = ""
    key_changes: int = 0
    spent: int = 0  # of the throttle's tokens, at ``spent_at_ms``
    spent_at_ms: int = 0


@dataclass(eq=False)
class NaiveOrder:
    id: int
    priority: int
    account: int
    contract: str
    side: str
    price_e4: int
    energy_wh: int
    left_wh: int
    time_in_force: str
    expires_at_ms: int
    kind: str = ""
    display_wh: int = 0
    hidden_wh: int = 0
    block: int = 0  # id of a block's first leg
    where: str = ARRIVING

    @property
    def shown_wh(self) -> int:
        return self.left_wh - self.hidden_wh


class NaiveTrade(NamedTuple):
    seq: int
    buyer: int
    seller: int
    source: str
    sink: str
    energy_wh: int
    cost_e7: int
    margin_e7: int
    sell_e4: int


@dataclass(eq=False)
class NaiveContract:
    name: str
    start_ms: int
    gate_ms: int
    topup_e4: int
    spill_e4: int
    fees: dict[str, int]  # of the areas there were when it opened
    state: str = "open"
    halted: bool = False
    until_ms: int = 0
    reference_e4: int = 0
    reference_until_ms: int = 0
    trades: list[NaiveTrade] = field(default_factory=list)
    recalled: set[int] = field(default_factory=set)
    flows: dict[tuple[str, int], int] | None = None  # counted anew after each trade

    @property
    def last_e4(self) -> int:
        """What the seller of the last trade that stands got, 0 without any."""
        return next((trade.sell_e4 for trade in reversed(self.standing())), 0)

    def standing(self) -> list[NaiveTrade]:
        """The trades that were not recalled."""
        return [trade for trade in self.trades if trade.seq not in self.recalled]


class NaiveMarket:
    """Areas, accounts, contracts, orders; who can trade with whom; what a trade does."""

    signer = -1  # whose signature the command carries

    def __init__(self) -> None:
        self.seq, self.at_ms, self.priority = 0, 0, 0
        self.interval_min = 15
        self.params: Any = None  # the last SetParams
        self.areas: dict[str, NaiveArea] = {}
        self.accounts: dict[int, NaiveAccount] = {}  # of members
        self.account_count = 0  # the market's own included
        self.connections: dict[str, tuple[int, int]] = {}  # limits of their own: import and export in W
        self.contracts: dict[str, NaiveContract] = {}
        self.orders: list[NaiveOrder] = []
        self.halted = False
        self.without_collar = False
        self.pending: dict[str, set[tuple[int, int]]] = {}  # contract -> edges that opened
        self.was_open: dict[str, dict[tuple[int, int], bool]] = {}
        self.events: list[Any] = []
        self.lines: dict[str, list[str]] = {}
        self.paths: dict[tuple[str, str], list[tuple[str, int]]] = {}

    # --- the grid --------------------------------------------------------------------------------------------------

    def line(self, area: str) -> list[str]:
        """The area and its ancestors; a tree only grows, so what was found stays true."""
        if area not in self.lines:
            parent = self.areas[area].parent
            self.lines[area] = [area, *(self.line(parent) if parent else [])]
        return self.lines[area]

    def path(self, source: str, sink: str) -> list[tuple[str, int]]:
        """Edges (lower area, direction) from source to sink."""
        if (source, sink) not in self.paths:
            up, down = self.line(source), self.line(sink)
            climbed = [(area, EXPORT) for area in up if area not in down]
            self.paths[source, sink] = climbed + [(area, IMPORT) for area in down if area not in up]
        return self.paths[source, sink]

    def flow(self, contract: NaiveContract, area: str, direction: int) -> int:
        if contract.flows is None:
            contract.flows = {}
            for trade in contract.standing():
                for edge in self.path(trade.source, trade.sink):
                    contract.flows[edge] = contract.flows.get(edge, 0) + trade.energy_wh
        return contract.flows.get((area, direction), 0)

    def residual(self, contract: NaiveContract, area: str, direction: int) -> int:
        power_w = self.areas[area].import_w if direction == IMPORT else self.areas[area].export_w
        back_wh = self.params.netting_permille * self.flow(contract, area, 1 - direction) // 1000
        return power_w * self.interval_min // 60 - self.flow(contract, area, direction) + back_wh

    def passable(self, contract: NaiveContract, source: str, sink: str) -> bool:
        return all(self.residual(contract, area, way) > 0 for area, way in self.path(source, sink))

    def fee(self, contract: NaiveContract, source: str, sink: str) -> int:
        return sum(contract.fees[area] for area, _ in self.path(source, sink))

    def note_openings(self) -> None:
        """Remember which edges opened since last asked."""
        for contract in self.contracts.values():
            before = self.was_open.get(contract.name)
            now = {
                (number, way): self.residual(contract, area, way) > 0
                for number, area in enumerate(contract.fees)
                if self.areas[area].parent
                for way in (EXPORT, IMPORT)
            }
            if before is not None and now != before:
                opened = {edge for edge, is_open in now.items() if is_open and not before[edge]}
                self.pending.setdefault(contract.name, set()).update(opened)
            self.was_open[contract.name] = now

    # --- who can trade with whom -----------------------------------------------------------------------------------

    def trading(self, contract: NaiveContract) -> bool:
        """Whether orders meet in a contract now."""
        return contract.state == "open" and self.at_ms < contract.gate_ms and not contract.halted and not self.halted

    def account_out(self, index: int) -> bool:
        """Whether a halt of the account or of an area above it takes its orders out of the book."""
        account = self.accounts[index]
        return account.halted or any(self.areas[area].halted for area in self.line(account.area))

    def book(self, contract: NaiveContract, side: str) -> list[NaiveOrder]:
        """The resting orders of a side."""
        return [
            order
            for order in self.orders
            if order.side == side
            and order.contract == contract.name
            and order.where == RESTING
            and not self.account_out(order.account)
        ]

    def way(self, buy_or_sell: NaiveOrder, other: NaiveOrder) -> tuple[str, str]:
        """Source and sink of the energy between an order and one of the other side."""
        mine, theirs = self.accounts[buy_or_sell.account].area, self.accounts[other.account].area
        return (theirs, mine) if buy_or_sell.side == "buy" else (mine, theirs)

    def all_in(self, order: NaiveOrder, maker: NaiveOrder) -> int | None:
        """The maker's price at the order's meter, ``None`` if no energy can pass."""
        contract = self.contracts[maker.contract]
        source, sink = self.way(order, maker)
        if not self.passable(contract, source, sink):
            return None
        fee_e4 = self.fee(contract, source, sink)
        return maker.price_e4 + fee_e4 if order.side == "buy" else maker.price_e4 - fee_e4

    def offer_for(self, order: NaiveOrder, contract: NaiveContract) -> tuple[int, int, NaiveOrder] | None:
        """The resting order this one can trade with that is best for it, after its all-in cost and its priority."""
        found: list[tuple[int, int, NaiveOrder]] = []
        for maker in self.book(contract, "sell" if order.side == "buy" else "buy"):
            price_e4 = self.all_in(order, maker)
            if price_e4 is None:
                continue
            if order.side == "buy" and price_e4 <= order.price_e4:
                found.append((price_e4, maker.priority, maker))
            if order.side == "sell" and price_e4 >= order.price_e4:
                found.append((-price_e4, maker.priority, maker))
        return min(found, key=lambda offer: offer[:2]) if found else None

    def best_for(self, order: NaiveOrder) -> NaiveOrder | None:
        offer = self.offer_for(order, self.contracts[order.contract])
        return offer[2] if offer else None

    def group(self, order: NaiveOrder) -> str:
        return self.accounts[order.account].group

    def prices(self, maker: NaiveOrder, taker: NaiveOrder) -> tuple[int, int]:
        """What the buyer pays and the seller gets: the maker's limit is the maker's price."""
        fee_e4 = self.fee(self.contracts[maker.contract], *self.way(maker, taker))
        if maker.side == "sell":
            return maker.price_e4 + fee_e4, maker.price_e4
        return maker.price_e4, maker.price_e4 - fee_e4

    # --- the price collar ------------------------------------------------------------------------------------------

    def look(self, contract: NaiveContract) -> None:
        """Look the reference price up."""
        if contract.last_e4:
            contract.reference_e4 = contract.last_e4
        contract.reference_until_ms = self.at_ms + self.params.collar_period_s * 1000

    def look_if_old(self, contracts: list[NaiveContract]) -> None:
        """An order arrives in these contracts."""
        for contract in contracts:
            if self.params.collar_e4 and self.at_ms >= contract.reference_until_ms:
                self.look(contract)

    def stopped(self, maker: NaiveOrder, taker: NaiveOrder) -> bool:
        """Whether the collar forbids a trade; then the contract is halted instead."""
        contract = self.contracts[maker.contract]
        _, sell_e4 = self.prices(maker, taker)
        if self.without_collar or not self.params.collar_e4:
            return False
        if abs(sell_e4 - contract.reference_e4) <= self.params.collar_e4:
            return False
        contract.halted = True
        contract.until_ms = self.at_ms + self.params.collar_halt_s * 1000
        self.emit(ev.HaltSet, "contract", contract.name, 1, "collar", contract.until_ms, 0)
        return True

    # --- holds and position limits ---------------------------------------------------------------------------------

    def hold_e4(self, contract: str, side: str, price_e4: int) -> int:
        return price_e4 if side == "buy" else max(0, self.contracts[contract].topup_e4 - price_e4)

    def hold_e7(self, order: NaiveOrder) -> int:
        if order.where == ASLEEP:
            return 0
        return self.hold_e4(order.contract, order.side, order.price_e4) * order.left_wh

    def held_e7(self, account: int) -> int:
        """Holds follow from the open orders, whatever was done before."""
        return sum(self.hold_e7(order) for order in self.orders if order.account == account)

    def room(self, contract: NaiveContract, account: int, side: str) -> int | None:
        """How much more an account may order before its connection's limit is reached; ``None``: as much as it likes."""
        connection = self.accounts[account].connection
        own_w = self.connections.get(connection, (0, 0))[side == "sell"]
        market_w = self.params.connection_import_w if side == "buy" else self.params.connection_export_w
        power_w = own_w or market_w
        if not power_w:
            return None
        those = {index for index, other in self.accounts.items() if other.connection == connection}
        bought = sum(trade.energy_wh for trade in contract.standing() if trade.buyer in those)
        sold = sum(trade.energy_wh for trade in contract.standing() if trade.seller in those)
        ordered = sum(
            order.left_wh
            for order in self.orders
            if order.account in those
            and (order.contract, order.side) == (contract.name, side)
            and order.where != ASLEEP
            and order.kind != "sweep"
        )
        position = bought - sold if side == "buy" else sold - bought
        return power_w * self.interval_min // 60 - position - ordered

    # --- what happens ----------------------------------------------------------------------------------------------

    def emit(self, kind: Any, *values: Any) -> None:
        self.events.append(kind(self.seq, self.at_ms, *values))
        self.seq += 1

    def draw(self) -> int:
        """The next time priority."""
        self.priority += 1
        return self.priority - 1

    def trade(self, maker: NaiveOrder, taker: NaiveOrder, most_wh: int | None = None) -> None:
        contract = self.contracts[maker.contract]
        buy, sell = (maker, taker) if maker.side == "buy" else (taker, maker)
        source, sink = self.way(buy, sell)
        buy_e4, sell_e4 = self.prices(maker, taker)
        energy_wh = min(
            [maker.shown_wh, taker.shown_wh]
            + [self.residual(contract, area, way) for area, way in self.path(source, sink)]
            + ([] if most_wh is None else [most_wh])
        )
        cost_e7, margin_e7 = buy_e4 * energy_wh, max(0, contract.topup_e4 - sell_e4) * energy_wh
        self.accounts[buy.account].cash_e7 -= cost_e7
        self.accounts[sell.account].cash_e7 -= margin_e7
        contract.trades.append(
            NaiveTrade(self.seq, buy.account, sell.account, source, sink, energy_wh, cost_e7, margin_e7, sell_e4)
        )
        self.emit(
            ev.Traded, contract.name, maker.id, taker.id, energy_wh, buy_e4, sell_e4, taker.side, buy.account,
            sell.account, buy.id, sell.id, sink, source, cost_e7, margin_e7,
        )  # fmt: skip
        for order in (maker, taker):
            self.fill(order, energy_wh)
        contract.flows = None
        self.note_openings()

    def fill(self, order: NaiveOrder, energy_wh: int) -> None:
        """What a trade changes in one of its orders: energy, the next clip, its account's tokens."""
        order.left_wh -= energy_wh
        if not order.left_wh and order in self.orders:
            self.orders.remove(order)
        if order.where == RESTING and order.left_wh and not order.shown_wh:
            order.hidden_wh = max(0, order.left_wh - order.display_wh)
            order.priority = self.draw()
        account = self.accounts[order.account]
        if self.params.throttle_per_min:
            account.spent = max(0, account.spent - self.params.throttle_credit * TOKEN)

    def rest(self, order: NaiveOrder) -> None:
        """What is left of an arriving order stays in the book, an iceberg's first clip to be seen."""
        order.where = RESTING
        order.hidden_wh = max(0, order.left_wh - order.display_wh) if order.kind == "iceberg" else 0
        if order not in self.orders:
            self.orders.append(order)

    def drop(self, order: NaiveOrder, reason: str) -> None:
        self.orders.remove(order)
        self.emit(ev.OrderCancelled, order.id, order.account, order.contract, order.left_wh, reason)

    def cancel(self, order: NaiveOrder, reason: str) -> None:
        """Cancel an order; a leg takes its block along."""
        for leg in self.legs(order):
            self.drop(leg, reason)

    def legs(self, order: NaiveOrder) -> list[NaiveOrder]:
        """All legs of a leg's block in their order; else the order alone."""
        if not order.block:
            return [order]
        return sorted((o for o in self.orders if o.block == order.block), key=lambda o: o.id)

    def take(self, order: NaiveOrder) -> None:
        while order.left_wh and (maker := self.best_for(order)):
            if self.group(maker) == self.group(order):
                self.drop(maker, "self_trade")
            elif self.stopped(maker, order):
                return
            else:
                self.trade(maker, order)

    def meet(self, order: NaiveOrder) -> bool:
        """Let a resting order meet the best it can reach; whether anything changed."""
        other = self.best_for(order)
        if other is None:
            return False
        older, newer = sorted((order, other), key=lambda o: o.priority)
        if self.group(order) == self.group(other):
            self.drop(older, "self_trade")
        elif self.stopped(older, newer):
            return False
        else:
            self.trade(older, newer)
        return True

    def uncross(self, contract: NaiveContract) -> None:
        names = list(self.areas)
        pending = self.pending.setdefault(contract.name, set())
        while pending and self.trading(contract):
            number, way = min(pending)
            pending.remove((number, way))
            area = names[number]
            while self.trading(contract) and self.residual(contract, area, way) > 0:
                best = self.best_inside(contract, area, way)
                if best is None or not self.meet(best):
                    break

    def best_inside(self, contract: NaiveContract, area: str, way: int) -> NaiveOrder | None:
        """The best order below an edge, as seen from its lower end: asks for export, bids for import."""
        found: list[tuple[int, int, NaiveOrder]] = []
        for order in self.book(contract, "sell" if way == EXPORT else "buy"):
            home = self.accounts[order.account].area
            if area not in self.line(home):
                continue
            source, sink = (home, area) if way == EXPORT else (area, home)
            if self.passable(contract, source, sink):
                fee_e4 = self.fee(contract, source, sink)
                cost = order.price_e4 + fee_e4 if way == EXPORT else fee_e4 - order.price_e4
                found.append((cost, order.priority, order))
        return min(found, key=lambda offer: offer[:2])[2] if found else None

    def meet_all(self, orders: list[NaiveOrder], each: Callable[[NaiveContract], None] | None = None) -> None:
        """Let orders meet what they can, the earliest time priority first; ``each`` follows when one has had its turn."""
        queue = list(orders)
        while queue:
            order = min(queue, key=lambda o: o.priority)
            contract, turn = self.contracts[order.contract], order.priority
            while order in self.orders and order.priority == turn and self.trading(contract) and self.meet(order):
                pass
            if order.priority == turn or order not in self.orders:  # else a new clip: behind all that are older
                queue.remove(order)
            if each is not None:
                each(contract)

    # --- all or nothing --------------------------------------------------------------------------------------------

    def attempt(self, act: Callable[[], bool]) -> bool:
        """Try something; if it comes to nothing, all is as before."""
        parts: list[Any] = [*self.orders, *self.accounts.values(), *self.contracts.values()]
        kept = [(part, dict(part.__dict__)) for part in parts]
        trades = [(contract, list(contract.trades)) for contract in self.contracts.values()]
        mine = dict(self.__dict__)
        mine["orders"] = list(self.orders)
        mine["pending"] = {name: set(edges) for name, edges in self.pending.items()}
        mine["was_open"] = dict(self.was_open)
        events = len(self.events)
        if act():
            return True
        for part, values in kept:
            part.__dict__.update(values)
        for contract, before in trades:
            contract.trades = before
        self.__dict__.update(mine)
        del self.events[events:]
        return False

    def trade_block(self, legs: list[NaiveOrder]) -> bool:
        """Let each leg take all of its energy; whether every one could."""
        if self.account_out(legs[0].account) or not all(self.trading(self.contracts[leg.contract]) for leg in legs):
            return False
        for leg in legs:
            self.take(leg)
            if leg.left_wh:
                return False
        return True

    def run_blocks(self) -> None:
        """Waiting blocks that can trade do so, the oldest first, and it is looked again from the oldest."""
        while True:
            firsts = [order for order in self.orders if order.where == WAITING and order.block == order.id]
            for first in sorted(firsts, key=lambda o: o.priority):
                legs = self.legs(first)
                if self.attempt(lambda legs=legs: self.trade_block(legs)):  # type: ignore[misc]
                    for leg in legs:
                        self.uncross(self.contracts[leg.contract])
                    break
            else:
                return


def comparable(events: list[Any]) -> list[Any]:
    """An engine's answer in the form of the oracle's: a refusal is its code."""
    return [event.code if isinstance(event, Refused) else event for event in events]
