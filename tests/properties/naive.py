"""The oracle: the rulebook read aloud. Plain lists, every order scanned for every question, nothing remembered but trades.

Written from docs/market-rules.md, not from the engine; it shares only the vocabulary (commands, events) and does about a
hundred commands a second. It covers what matching depends on; settlement has tests of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from market.engine.events import Refused

EXPORT, IMPORT = 0, 1


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
    cash_e7: int = 0
    halted: bool = False


@dataclass
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


@dataclass
class NaiveContract:
    name: str
    gate_ms: int
    topup_e4: int
    fees: dict[str, int]
    halted: bool = False
    trades: list[tuple[str, str, int]] = field(default_factory=list)  # seller's area, buyer's area, Wh


class NaiveMarket:
    """Takes over a market that has areas, accounts and contracts, and plays orders, capacities and halts."""

    def __init__(self, *, seq: int, interval_min: int, params: Any):
        self.seq, self.at_ms, self.priority = seq, 0, 0
        self.interval_min, self.params = interval_min, params
        self.areas: dict[str, NaiveArea] = {}
        self.accounts: dict[int, NaiveAccount] = {}
        self.contracts: dict[str, NaiveContract] = {}
        self.orders: list[NaiveOrder] = []
        self.halted = False
        self.pending: dict[str, set[tuple[int, int]]] = {}  # contract -> edges that opened
        self.was_open: dict[str, dict[tuple[int, int], bool]] = {}
        self.events: list[Any] = []

    # --- the grid --------------------------------------------------------------------------------------------------

    def line(self, area: str) -> list[str]:
        """The area and its ancestors."""
        found = [area]
        while self.areas[found[-1]].parent:
            found.append(self.areas[found[-1]].parent)
        return found

    def path(self, source: str, sink: str) -> list[tuple[str, int]]:
        """Edges (lower area, direction) from source to sink."""
        up, down = self.line(source), self.line(sink)
        climbed = [(area, EXPORT) for area in up if area not in down]
        return climbed + [(area, IMPORT) for area in down if area not in up]

    def residual(self, contract: NaiveContract, area: str, direction: int) -> int:
        power_w = self.areas[area].import_w if direction == IMPORT else self.areas[area].export_w
        flow = [0, 0]
        for source, sink, energy_wh in contract.trades:
            for lower, way in self.path(source, sink):
                if lower == area:
                    flow[way] += energy_wh
        capacity_wh = power_w * self.interval_min // 60
        return capacity_wh - flow[direction] + self.params.netting_permille * flow[1 - direction] // 1000

    def passable(self, contract: NaiveContract, source: str, sink: str) -> bool:
        return all(self.residual(contract, area, way) > 0 for area, way in self.path(source, sink))

    def fee(self, contract: NaiveContract, source: str, sink: str) -> int:
        return sum(contract.fees[area] for area, _ in self.path(source, sink))

    def note_openings(self) -> None:
        """Remember which edges opened since last asked."""
        numbers = {name: number for number, name in enumerate(self.areas)}
        for contract in self.contracts.values():
            before = self.was_open.get(contract.name)
            now = {
                (numbers[area], way): self.residual(contract, area, way) > 0
                for area in self.areas
                if self.areas[area].parent
                for way in (EXPORT, IMPORT)
            }
            if before is not None:
                opened = {edge for edge, is_open in now.items() if is_open and not before[edge]}
                self.pending.setdefault(contract.name, set()).update(opened)
            self.was_open[contract.name] = now

    # --- who can trade with whom -----------------------------------------------------------------------------------

    def is_out(self, order: NaiveOrder) -> bool:
        account = self.accounts[order.account]
        return account.halted or any(self.areas[area].halted for area in self.line(account.area))

    def all_in(self, order: NaiveOrder, maker: NaiveOrder) -> int | None:
        """The maker's price at the order's meter, ``None`` if no energy can pass."""
        contract = self.contracts[order.contract]
        mine, other = self.accounts[order.account].area, self.accounts[maker.account].area
        source, sink = (other, mine) if order.side == "buy" else (mine, other)
        if not self.passable(contract, source, sink):
            return None
        fee_e4 = self.fee(contract, source, sink)
        return maker.price_e4 + fee_e4 if order.side == "buy" else maker.price_e4 - fee_e4

    def best_for(self, order: NaiveOrder) -> NaiveOrder | None:
        """The resting order this one can trade with that is best for it."""
        found: list[tuple[int, int, NaiveOrder]] = []
        for maker in self.orders:
            if maker.contract != order.contract or maker.side == order.side or maker is order or self.is_out(maker):
                continue
            price_e4 = self.all_in(order, maker)
            if price_e4 is None:
                continue
            if order.side == "buy" and price_e4 <= order.price_e4:
                found.append((price_e4, maker.priority, maker))
            if order.side == "sell" and price_e4 >= order.price_e4:
                found.append((-price_e4, maker.priority, maker))
        return min(found)[2] if found else None

    # --- what happens ----------------------------------------------------------------------------------------------

    def emit(self, kind: Any, *values: Any) -> None:
        self.events.append(kind(self.seq, self.at_ms, *values))
        self.seq += 1

    def hold_e4(self, contract: str, side: str, price_e4: int) -> int:
        return price_e4 if side == "buy" else max(0, self.contracts[contract].topup_e4 - price_e4)

    def held_e7(self, account: int) -> int:
        """Holds follow from the open orders, whatever was done before."""
        return sum(
            self.hold_e4(o.contract, o.side, o.price_e4) * o.left_wh for o in self.orders if o.account == account
        )

    def trade(self, maker: NaiveOrder, taker: NaiveOrder) -> None:
        contract = self.contracts[maker.contract]
        buy, sell = (maker, taker) if maker.side == "buy" else (taker, maker)
        source, sink = self.accounts[sell.account].area, self.accounts[buy.account].area
        fee_e4 = self.fee(contract, source, sink)
        if maker is sell:
            sell_e4, buy_e4 = sell.price_e4, sell.price_e4 + fee_e4
        else:
            sell_e4, buy_e4 = buy.price_e4 - fee_e4, buy.price_e4
        energy_wh = min(
            [maker.left_wh, taker.left_wh]
            + [self.residual(contract, area, way) for area, way in self.path(source, sink)]
        )
        cost_e7, margin_e7 = buy_e4 * energy_wh, max(0, contract.topup_e4 - sell_e4) * energy_wh
        self.accounts[buy.account].cash_e7 -= cost_e7
        self.accounts[sell.account].cash_e7 -= margin_e7
        self.emit(
            ev.Traded, contract.name, maker.id, taker.id, energy_wh, buy_e4, sell_e4, taker.side, buy.account,
            sell.account, buy.id, sell.id, sink, source, cost_e7, margin_e7,
        )  # fmt: skip
        for order in (maker, taker):
            order.left_wh -= energy_wh
            if not order.left_wh and order in self.orders:
                self.orders.remove(order)
        contract.trades.append((source, sink, energy_wh))
        self.note_openings()

    def drop(self, order: NaiveOrder, reason: str) -> None:
        self.orders.remove(order)
        self.emit(ev.OrderCancelled, order.id, order.account, order.contract, order.left_wh, reason)

    def group(self, order: NaiveOrder) -> str:
        return self.accounts[order.account].group

    def take(self, order: NaiveOrder) -> None:
        while order.left_wh and (maker := self.best_for(order)):
            if self.group(maker) == self.group(order):
                self.drop(maker, "self_trade")
            else:
                self.trade(maker, order)

    def meet(self, order: NaiveOrder) -> bool:
        other = self.best_for(order)
        if other is None:
            return False
        older, newer = sorted((order, other), key=lambda o: o.priority)
        if self.group(order) == self.group(other):
            self.drop(older, "self_trade")
        else:
            self.trade(older, newer)
        return True

    def uncross(self, contract: NaiveContract) -> None:
        if self.halted or contract.halted:
            return
        names = list(self.areas)
        pending = self.pending.setdefault(contract.name, set())
        while pending:
            number, way = min(pending)
            pending.remove((number, way))
            area = names[number]
            while self.residual(contract, area, way) > 0:
                best = self.best_inside(contract, area, way)
                if best is None or not self.meet(best):
                    break

    def best_inside(self, contract: NaiveContract, area: str, way: int) -> NaiveOrder | None:
        """The best order below an edge, as seen from its lower end: asks for export, bids for import."""
        found: list[tuple[int, int, NaiveOrder]] = []
        for order in self.orders:
            home = self.accounts[order.account].area
            if order.contract != contract.name or order.side != ("sell" if way == EXPORT else "buy"):
                continue
            if area not in self.line(home) or self.is_out(order):
                continue
            source, sink = (home, area) if way == EXPORT else (area, home)
            if self.passable(contract, source, sink):
                fee_e4 = self.fee(contract, source, sink)
                cost = order.price_e4 + fee_e4 if way == EXPORT else fee_e4 - order.price_e4
                found.append((cost, order.priority, order))
        return min(found)[2] if found else None

    def fillable(self, order: NaiveOrder) -> bool:
        """Fill it in a copy of the book from which its own group's orders are gone."""
        contract = self.contracts[order.contract]
        kept = [(o, o.left_wh) for o in self.orders]
        trades, left = list(contract.trades), order.left_wh
        self.orders = [o for o in self.orders if self.group(o) != self.group(order)]
        while order.left_wh and (maker := self.best_for(order)):
            mine, other = self.accounts[order.account].area, self.accounts[maker.account].area
            source, sink = (other, mine) if order.side == "buy" else (mine, other)
            energy_wh = min(
                [maker.left_wh, order.left_wh]
                + [self.residual(contract, area, way) for area, way in self.path(source, sink)]
            )
            contract.trades.append((source, sink, energy_wh))
            maker.left_wh -= energy_wh
            order.left_wh -= energy_wh
            if not maker.left_wh:
                self.orders.remove(maker)
        filled = not order.left_wh
        contract.trades, order.left_wh = trades, left
        self.orders = [o for o, _ in kept]
        for o, left_wh in kept:
            o.left_wh = left_wh
        return filled

    # --- commands --------------------------------------------------------------------------------------------------

    def apply(self, command: Any, at_ms: int) -> list[Any]:
        """Return the events, or ``[code]`` of a refusal."""
        self.events = []
        self.at_ms = at_ms
        code = getattr(self, f"do_{type(command).__name__}")(command)
        return [code] if code else self.events

    def halt_code(self, contract: NaiveContract, account: NaiveAccount) -> str:
        if self.halted:
            return "market_halted"
        if contract.halted:
            return "contract_halted"
        if account.halted:
            return "account_halted"
        if any(self.areas[area].halted for area in self.line(account.area)):
            return "area_halted"
        return ""

    def do_PlaceOrder(self, command: c.PlaceOrder) -> str | None:
        contract, account = self.contracts[command.contract], self.accounts[command.account]
        if self.at_ms >= contract.gate_ms:
            return "gate_closed"
        if not 0 < command.price_e4 <= self.params.max_price_e4:
            return "price_out_of_range"
        if not 0 < command.energy_wh <= self.params.max_order_wh:
            return "energy_out_of_range"
        if code := self.halt_code(contract, account):
            return code
        if sum(o.account == command.account for o in self.orders) >= self.params.max_open_orders:
            return "too_many_orders"
        hold_e7 = self.hold_e4(contract.name, command.side, command.price_e4) * command.energy_wh
        if account.cash_e7 - self.held_e7(command.account) < hold_e7:
            return "insufficient_funds"
        order = NaiveOrder(
            self.seq, self.priority, command.account, command.contract, command.side, command.price_e4,
            command.energy_wh, command.energy_wh, command.time_in_force, command.expires_at_ms,
        )  # fmt: skip
        if command.time_in_force == "fok" and not self.fillable(order):
            return "fill_or_kill_unfilled"
        self.priority += 1
        self.emit(ev.OrderPlaced, command.account, account.area, *command[1:])
        self.take(order)
        if order.left_wh and command.time_in_force == "ioc":
            self.emit(ev.OrderCancelled, order.id, order.account, order.contract, order.left_wh, "ioc")
        elif order.left_wh:
            self.orders.append(order)
        self.uncross(contract)
        return None

    def do_AmendOrder(self, command: c.AmendOrder) -> str | None:
        order = next((o for o in self.orders if o.id == command.order), None)
        if order is None:
            return "unknown_order"
        if order.account != command.account:
            return "not_your_order"
        contract, account = self.contracts[order.contract], self.accounts[order.account]
        price_e4 = order.price_e4 if command.price_e4 == -1 else command.price_e4
        energy_wh = order.energy_wh if command.energy_wh == -1 else command.energy_wh
        filled_wh = order.energy_wh - order.left_wh
        if self.at_ms >= contract.gate_ms:
            return "gate_closed"
        if not filled_wh < energy_wh <= self.params.max_order_wh:
            return "energy_out_of_range"
        if (price_e4, energy_wh) == (order.price_e4, order.energy_wh):
            return "nothing_to_change"
        if code := self.halt_code(contract, account):
            return code
        others_e7 = (
            self.held_e7(order.account) - self.hold_e4(order.contract, order.side, order.price_e4) * order.left_wh
        )
        needed_e7 = self.hold_e4(order.contract, order.side, price_e4) * (energy_wh - filled_wh)
        if others_e7 + needed_e7 > account.cash_e7:
            return "insufficient_funds"
        requeued = price_e4 != order.price_e4 or energy_wh > order.energy_wh
        self.emit(ev.OrderAmended, order.id, order.account, order.contract, price_e4, energy_wh, int(requeued))
        order.price_e4, order.energy_wh, order.left_wh = price_e4, energy_wh, energy_wh - filled_wh
        if requeued:
            self.orders.remove(order)
            order.priority = self.priority
            self.priority += 1
            self.take(order)
            if order.left_wh:
                self.orders.append(order)
            self.uncross(contract)
        return None

    def do_CancelOrder(self, command: c.CancelOrder) -> str | None:
        order = next((o for o in self.orders if o.id == command.order), None)
        if order is None:
            return "unknown_order"
        if command.account not in (order.account, -1):
            return "not_your_order"
        self.drop(order, command.reason)
        return None

    def do_CancelAll(self, command: c.CancelAll) -> str | None:
        mine = [o for o in self.orders if o.account == command.account and command.contract in ("", o.contract)]
        for order in sorted(mine, key=lambda o: o.id):
            self.drop(order, command.reason)
        return None

    def do_Expire(self, command: c.Expire) -> str | None:
        due = [o for o in self.orders if o.expires_at_ms and o.expires_at_ms <= self.at_ms]
        for order in sorted(due, key=lambda o: (o.expires_at_ms, o.id)):
            self.drop(order, "expired")
        return None

    def do_SetCapacity(self, command: c.SetCapacity) -> str | None:
        area = self.areas[command.area]
        area.import_w, area.export_w = command.import_w, command.export_w
        self.emit(ev.CapacitySet, *command)
        self.note_openings()
        for contract in self.contracts.values():
            self.uncross(contract)
        return None

    def do_SetHalt(self, command: c.SetHalt) -> str | None:
        on = bool(command.on)
        self.emit(ev.HaltSet, *command)
        if command.scope in ("market", "contract"):
            if command.scope == "market":
                self.halted = on
                ended = list(self.contracts.values())
            else:
                self.contracts[command.target].halted = on
                ended = [self.contracts[command.target]]
            for contract in ended if not on else ():
                if not self.halted and not contract.halted:
                    self.meet_all([o for o in self.orders if o.contract == contract.name and not self.is_out(o)])
                    self.uncross(contract)
            return None
        out = {o.id for o in self.orders if self.is_out(o)}
        if command.scope == "area":
            self.areas[command.target].halted = on
        else:
            self.accounts[int(command.target)].halted = on
        back = [o for o in self.orders if o.id in out and not self.is_out(o)]
        for order in sorted(back, key=lambda o: o.priority):
            contract = self.contracts[order.contract]
            if not self.halted and not contract.halted:
                self.meet_all([order])
                self.uncross(contract)
        return None

    def meet_all(self, orders: list[NaiveOrder]) -> None:
        for order in sorted(orders, key=lambda o: o.priority):
            while order in self.orders and self.meet(order):
                pass


def comparable(events: list[Any]) -> list[Any]:
    """An engine's answer in the form of the oracle's: a refusal is its code."""
    return [event.code if isinstance(event, Refused) else event for event in events]
