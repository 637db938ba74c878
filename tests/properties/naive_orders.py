"""The oracle's commands about orders: placing each kind, amending, hibernating, taking back, expiring."""

from __future__ import annotations

import re
from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from tests.properties.naive import ARRIVING, ASLEEP, TOKEN, WAITING, NaiveContract, NaiveMarket, NaiveOrder

LAST_MS = 253_402_300_799_999  # of the year 9999
RULES_OWN = ("gate", "ioc", "expired", "self_trade", "account_closed", "kill", "collar")


def is_code(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch("[a-z0-9_]{1,32}", text) is not None


Wanted = tuple[int, NaiveContract, str, int, int]  # account, contract, side, energy, hold per Wh


class NaiveOrders(NaiveMarket):
    """What orders do. Every ``do_`` method returns the code of a refusal, or nothing."""

    # --- checks, in the order they are made ------------------------------------------------------------------------

    def is_open(self, name: str) -> bool:
        contract = self.contracts[name]
        return contract.state == "open" and self.at_ms < contract.gate_ms

    def contract_problem(self, name: str) -> str:
        if name not in self.contracts:
            return "unknown_contract"
        return "" if self.is_open(name) else "gate_closed"

    def account_problem(self, index: int) -> str:
        if not 0 <= index < self.account_count:
            return "unknown_account"
        if index not in self.accounts or self.accounts[index].closed:
            return "account_closed"
        key = self.accounts[index].key
        signed = self.signer >= 0 and self.accounts[self.signer].key == key
        return "signature_required" if key and not signed else ""

    def value_problem(self, side: str, price_e4: int, energy_wh: int) -> str:
        if side not in ("buy", "sell"):
            return "invalid_side"
        return self.price_problem(price_e4) or self.energy_problem(energy_wh)

    def price_problem(self, price_e4: int) -> str:
        if not 1 <= price_e4 <= self.params.max_price_e4:
            return "price_out_of_range"
        return "price_off_tick" if price_e4 % self.params.tick_e4 else ""

    def energy_problem(self, energy_wh: int, least_wh: int = 1) -> str:
        return "" if least_wh <= energy_wh <= self.params.max_order_wh else "energy_out_of_range"

    def time_problem(self, time_in_force: str, expires_at_ms: int, allowed: tuple[str, ...]) -> str:
        if time_in_force not in allowed:
            return "invalid_time_in_force"
        if time_in_force != "gtd":
            return "expiry_invalid" if expires_at_ms else ""
        return "" if self.at_ms < expires_at_ms <= LAST_MS else "expiry_invalid"

    def halt_problem(self, indexes: list[int], contracts: list[NaiveContract]) -> str:
        if self.halted:
            return "market_halted"
        if any(contract.halted for contract in contracts):
            return "contract_halted"
        if any(self.accounts[index].halted for index in indexes):
            return "account_halted"
        return "area_halted" if any(self.account_out(index) for index in indexes) else ""

    def number_problem(self, index: int, new: int) -> str:
        count = sum(order.account == index for order in self.orders)
        return "too_many_orders" if count + new > self.params.max_open_orders else ""

    def area_problem(self, index: int, contracts: list[NaiveContract]) -> str:
        area = self.accounts[index].area
        return "" if all(area in contract.fees for contract in contracts) else "unknown_area"

    def spent_now(self, index: int) -> int:
        account = self.accounts[index]
        return max(0, account.spent - (self.at_ms - account.spent_at_ms) * self.params.throttle_per_min)

    def throttle_problem(self, indexes: list[int]) -> str:
        """One token for each time an account is named."""
        if not self.params.throttle_per_min:
            return ""
        most = self.params.throttle_burst * TOKEN
        too_fast = (self.spent_now(index) + TOKEN * indexes.count(index) > most for index in indexes)
        return "throttled" if any(too_fast) else ""

    def spend(self, indexes: list[int]) -> None:
        for index in indexes if self.params.throttle_per_min else ():
            account = self.accounts[index]
            account.spent, account.spent_at_ms = self.spent_now(index) + TOKEN, self.at_ms

    def position_problem(self, wanted: list[Wanted]) -> str:
        more: dict[tuple[str, str, str], int] = {}
        for index, contract, side, energy_wh, _ in wanted:
            key = (self.accounts[index].connection, contract.name, side)
            more[key] = more.get(key, 0) + energy_wh
            room = self.room(contract, index, side)
            if room is not None and more[key] > room:
                return "position_limit"
        return ""

    def funds_problem(self, wanted: list[Wanted]) -> str:
        more: dict[int, int] = {}
        for index, _, _, energy_wh, hold_e4 in wanted:
            more[index] = more.get(index, 0) + energy_wh * hold_e4
            if self.accounts[index].cash_e7 - self.held_e7(index) < more[index]:
                return "insufficient_funds"
        return ""

    def wanted(self, index: int, name: str, side: str, price_e4: int, energy_wh: int) -> Wanted:
        return index, self.contracts[name], side, energy_wh, self.hold_e4(name, side, price_e4)

    # --- plain orders and icebergs ---------------------------------------------------------------------------------

    def order(self, command: Any, contract: str, **more: Any) -> NaiveOrder:
        """An order as the next entry will name it."""
        return NaiveOrder(
            self.seq, self.draw(), command.account, contract, command.side, command.price_e4, command.energy_wh,
            command.energy_wh, more.pop("time_in_force", None) or command.time_in_force,
            getattr(command, "expires_at_ms", 0), **more,
        )  # fmt: skip

    def emit_complex(self, order: NaiveOrder, last: str = "", group: int = 0, leg: int = 0, legs: int = 0) -> None:
        self.emit(
            ev.ComplexOrderPlaced, order.account, self.accounts[order.account].area, order.contract, order.side,
            order.price_e4, order.energy_wh, order.time_in_force, order.expires_at_ms, order.kind, last,
            order.display_wh, group, leg, legs,
        )  # fmt: skip

    def do_PlaceOrder(self, command: c.PlaceOrder) -> str:
        return self.place_one(command, 0)

    def do_PlaceIceberg(self, command: c.PlaceIceberg) -> str:
        return self.place_one(command, command.display_wh, ("gtg", "gtd"))

    def place_one(self, command: Any, display_wh: int, allowed: tuple[str, ...] = c.TIMES_IN_FORCE) -> str:
        name, index, energy_wh = command.contract, command.account, command.energy_wh
        is_iceberg = isinstance(command, c.PlaceIceberg)
        code = (
            self.contract_problem(name)
            or self.account_problem(index)
            or self.value_problem(command.side, command.price_e4, energy_wh)
            or self.time_problem(command.time_in_force, command.expires_at_ms, allowed)
        )
        if not code and is_iceberg and not (1 <= display_wh < energy_wh and display_wh * 100 >= energy_wh):
            code = "display_out_of_range"
        if code:
            return code
        contract = self.contracts[name]
        wanted = [self.wanted(index, name, command.side, command.price_e4, energy_wh)]
        code = (
            self.halt_problem([index], [contract])
            or self.number_problem(index, 1)
            or self.area_problem(index, [contract])
            or self.throttle_problem([index])
            or self.position_problem(wanted)
            or self.funds_problem(wanted)
        )
        if code:
            return code
        if command.time_in_force == "fok":
            if not self.attempt(lambda: not self.arrive(command, contract).left_wh):
                return "fill_or_kill_unfilled"
        else:
            order = self.arrive(command, contract, display_wh)
            if order.left_wh and order.time_in_force == "ioc":
                self.emit(ev.OrderCancelled, order.id, order.account, order.contract, order.left_wh, "ioc")
            elif order.left_wh:
                self.rest(order)
        self.uncross(contract)
        return ""

    def arrive(self, command: Any, contract: NaiveContract, display_wh: int = 0) -> NaiveOrder:
        """A new order takes what it can."""
        self.spend([command.account])
        self.look_if_old([contract])
        order = self.order(command, contract.name, display_wh=display_wh, kind="iceberg" if display_wh else "")
        if display_wh:
            self.emit_complex(order)
        else:
            self.emit(ev.OrderPlaced, command.account, self.accounts[command.account].area, *command[1:])
        self.take(order)
        return order

    # --- orders over several contracts -----------------------------------------------------------------------------

    def span(self, first: str, last: str, of_known: bool = False) -> tuple[str, list[str]]:
        """The names of the intervals from first to last, or of the known ones, after the code of what is wrong."""
        if first not in self.contracts or last not in self.contracts:
            return "unknown_contract", []
        step_ms = self.interval_min * 60_000
        begin_ms, end_ms = self.contracts[first].start_ms, self.contracts[last].start_ms
        by_start = {contract.start_ms: contract.name for contract in self.contracts.values()}
        starts = range(begin_ms, end_ms + 1, step_ms)
        names = [by_start.get(start_ms, "") for start_ms in starts if not of_known or start_ms in by_start]
        return ("" if 0 < len(names) <= c.MAX_INTERVALS else "invalid_span"), names

    def do_PlaceSweep(self, command: c.PlaceSweep) -> str:
        index, side = command.account, command.side
        code, names = self.span(command.contract, command.last, of_known=True)
        code = (
            code
            or self.contract_problem(command.contract)
            or self.account_problem(index)
            or self.value_problem(side, command.price_e4, command.energy_wh)
        )
        if code:
            return code
        open_ones = [self.contracts[name] for name in names if self.is_open(name)]
        market = [contract for contract in open_ones if not contract.halted]
        code = self.halt_problem([index], [] if market else open_ones) or self.number_problem(index, 1)
        market = [contract for contract in market if self.accounts[index].area in contract.fees]
        if not code and not market:
            code = "unknown_area"
        code = code or self.throttle_problem([index])
        if code:
            return code
        if all((room := self.room(contract, index, side)) is not None and room < 1 for contract in market):
            return "position_limit"
        hold_e4 = max(self.hold_e4(contract.name, side, command.price_e4) for contract in market)
        if code := self.funds_problem([(index, market[0], side, command.energy_wh, hold_e4)]):
            return code
        self.spend([index])
        self.look_if_old(market)
        order = self.order(command, command.contract, time_in_force="ioc", kind="sweep")
        self.emit_complex(order, command.last)
        self.sweep(order, market)
        if order.left_wh:
            self.emit(ev.OrderCancelled, order.id, index, order.contract, order.left_wh, "ioc")
        for contract in market:
            self.uncross(contract)
        return ""

    def sweep(self, order: NaiveOrder, market: list[NaiveContract]) -> None:
        while order.left_wh:
            offers = []
            for number, contract in enumerate(market):
                room = self.room(contract, order.account, order.side)
                offer = self.offer_for(order, contract)
                if offer and self.trading(contract) and (room is None or room > 0):
                    offers.append((offer[0], number, room, offer[2]))
            if not offers:
                return
            _, _, room, maker = min(offers, key=lambda offer: offer[:2])
            if self.group(maker) == self.group(order):
                self.drop(maker, "self_trade")
            elif not self.stopped(maker, order):
                self.trade(maker, order, room)

    def do_PlaceBlock(self, command: c.PlaceBlock) -> str:
        index, energy_wh, tif = command.account, command.energy_wh, command.time_in_force
        code, names = self.span(command.contract, command.last)
        for name in names:  # "" where no contract is open
            code = code or self.contract_problem(name)
        code = (
            code
            or self.account_problem(index)
            or self.value_problem(command.side, command.price_e4, energy_wh)
            or self.time_problem(tif, command.expires_at_ms, ("gtg", "gtd", "fok"))
        )
        if code:
            return code
        contracts = [self.contracts[name] for name in names]
        wanted = [self.wanted(index, name, command.side, command.price_e4, energy_wh) for name in names]
        code = (
            self.halt_problem([index], contracts)
            or self.number_problem(index, len(names))
            or self.area_problem(index, contracts)
            or self.throttle_problem([index] * len(names))
            or self.position_problem(wanted)
            or self.funds_problem(wanted)
        )
        if code:
            return code
        if tif != "fok":
            self.add_block(command, contracts)
            return ""
        if not self.attempt(lambda: self.trade_block(self.add_block(command, contracts))):
            return "fill_or_kill_unfilled"
        for contract in contracts:
            self.uncross(contract)
        return ""

    def add_block(self, command: c.PlaceBlock, contracts: list[NaiveContract]) -> list[NaiveOrder]:
        """Enter a block's legs, waiting."""
        self.spend([command.account] * len(contracts))
        self.look_if_old(contracts)
        first, legs = self.seq, []
        for number, contract in enumerate(contracts):
            leg = self.order(command, contract.name, kind="block", block=first, where=WAITING)
            self.emit_complex(leg, "", first, number + 1, len(contracts))
            self.orders.append(leg)
            legs.append(leg)
        return legs

    def do_PlaceBasket(self, command: c.PlaceBasket) -> str:
        legs = command.legs
        if not 2 <= len(legs) <= c.MAX_LEGS:
            return "invalid_legs"
        code = self.account_problem(command.account)
        for leg in legs:
            code = code or self.contract_problem(leg.contract) or self.account_problem(leg.account)
            if not code and self.accounts[leg.account].group != self.accounts[command.account].group:
                code = "not_your_account"
            code = code or self.value_problem(leg.side, leg.price_e4, leg.energy_wh)
        if code:
            return code
        code = self.halt_problem([leg.account for leg in legs], [self.contracts[leg.contract] for leg in legs])
        for leg in legs:
            code = code or self.area_problem(leg.account, [self.contracts[leg.contract]])
        wanted = [self.wanted(*leg) for leg in legs]
        code = (
            code
            or self.throttle_problem([leg.account for leg in legs])
            or self.position_problem(wanted)
            or self.funds_problem(wanted)
        )
        if code:
            return code
        if not self.attempt(lambda: self.take_basket(legs)):
            return "fill_or_kill_unfilled"
        for contract in sorted({leg.contract for leg in legs}, key=lambda name: self.contracts[name].start_ms):
            self.uncross(self.contracts[contract])
        return ""

    def take_basket(self, legs: tuple[c.Leg, ...]) -> bool:
        """Let one leg after the other take all its energy; whether every one could."""
        self.spend([leg.account for leg in legs])
        self.look_if_old([self.contracts[leg.contract] for leg in legs])
        first, orders = self.seq, []
        for number, leg in enumerate(legs):
            orders.append(self.order(leg, leg.contract, time_in_force="fok", kind="basket"))
            self.emit_complex(orders[-1], "", first, number + 1, len(legs))
        for order in orders:
            self.take(order)
            if order.left_wh:
                return False
        return True

    # --- changing --------------------------------------------------------------------------------------------------

    def owned(self, command: Any) -> tuple[str, Any]:
        """The open order a command is about, after the code if there is none or it is somebody else's."""
        order = next((o for o in self.orders if o.id == command.order), None)
        if order is None:
            return "unknown_order", None
        return ("" if command.account in (order.account, -1) else "not_your_order"), order

    def do_AmendOrder(self, command: c.AmendOrder) -> str:
        code, order = self.owned(command)
        if code:
            return code
        if order.block:
            return "linked_order"
        if order.where == ASLEEP:
            return "order_hibernated"
        if self.accounts[order.account].key:
            return "signature_required"
        price_e4 = order.price_e4 if command.price_e4 == -1 else command.price_e4
        energy_wh = order.energy_wh if command.energy_wh == -1 else command.energy_wh
        filled_wh = order.energy_wh - order.left_wh
        requeued = price_e4 != order.price_e4 or energy_wh > order.energy_wh
        code = (
            self.contract_problem(order.contract)
            or self.price_problem(price_e4)
            or self.energy_problem(energy_wh, filled_wh + 1)
        )
        if not code and requeued and order.kind == "iceberg" and order.display_wh * 100 < energy_wh:
            code = "display_out_of_range"
        if not code and (price_e4, energy_wh) == (order.price_e4, order.energy_wh):
            code = "nothing_to_change"
        if code:
            return code
        contract, index = self.contracts[order.contract], order.account
        left_wh = energy_wh - filled_wh
        code = self.halt_problem([index], [contract]) or self.throttle_problem([index])
        room = self.room(contract, index, order.side)
        if not code and left_wh > order.left_wh and room is not None and left_wh - order.left_wh > room:
            code = "position_limit"
        needed_e7 = self.hold_e4(order.contract, order.side, price_e4) * left_wh - self.hold_e7(order)
        if not code and needed_e7 > self.accounts[index].cash_e7 - self.held_e7(index):
            code = "insufficient_funds"
        if code:
            return code
        self.spend([index])
        self.emit(ev.OrderAmended, order.id, index, order.contract, price_e4, energy_wh, int(requeued))
        if requeued:
            order.price_e4, order.energy_wh, order.left_wh = price_e4, energy_wh, left_wh
            self.arrive_again(order)
            return ""
        shown_wh = min(order.shown_wh, left_wh)
        order.energy_wh, order.left_wh, order.hidden_wh = energy_wh, left_wh, left_wh - shown_wh
        return ""

    def arrive_again(self, order: NaiveOrder) -> None:
        """An order of old comes in as a new one does, with all it has."""
        contract = self.contracts[order.contract]
        self.look_if_old([contract])
        self.orders.remove(order)
        order.where, order.hidden_wh, order.priority = ARRIVING, 0, self.draw()
        self.take(order)
        if order.left_wh:
            self.rest(order)
        self.uncross(contract)

    def keeps_as_signed(self, index: int) -> bool:
        return bool(self.accounts[index].key and self.accounts[index].key_changes)

    def do_HibernateOrder(self, command: c.HibernateOrder) -> str:
        code, order = self.owned(command)
        if not code and order.block:
            code = "linked_order"
        if not code and order.where == ASLEEP:
            code = "order_hibernated"
        if not code and self.keeps_as_signed(order.account):
            code = "signature_required"
        if code or (code := self.contract_problem(order.contract)):
            return code
        order.where = ASLEEP
        self.emit(ev.OrderHibernated, order.id, order.account, order.contract, order.left_wh)
        return ""

    def do_ReactivateOrder(self, command: c.ReactivateOrder) -> str:
        code, order = self.owned(command)
        if not code and order.block:
            code = "linked_order"
        if not code and order.where != ASLEEP:
            code = "not_hibernated"
        if not code and self.keeps_as_signed(order.account):
            code = "signature_required"
        if code or (code := self.contract_problem(order.contract)):
            return code
        wanted = [self.wanted(order.account, order.contract, order.side, order.price_e4, order.left_wh)]
        code = (
            self.halt_problem([order.account], [self.contracts[order.contract]])
            or self.throttle_problem([order.account])
            or self.position_problem(wanted)
            or self.funds_problem(wanted)
        )
        if code:
            return code
        self.spend([order.account])
        self.emit(ev.OrderReactivated, order.id, order.account, order.contract, order.left_wh)
        self.arrive_again(order)
        return ""

    # --- taking back -----------------------------------------------------------------------------------------------

    def cancel_each(self, orders: list[NaiveOrder], reason: str) -> None:
        """Cancel one after the other; a leg takes its block along there and then."""
        for order in orders:
            if order in self.orders:
                self.cancel(order, reason)

    def do_CancelOrder(self, command: c.CancelOrder) -> str:
        code, order = self.owned(command)
        if code:
            return code
        if not is_code(command.reason) or command.reason in RULES_OWN:
            return "invalid_value"
        self.cancel(order, command.reason)
        return ""

    def do_CancelAll(self, command: c.CancelAll) -> str:
        if not 0 <= command.account < self.account_count:
            return "unknown_account"
        if command.contract and command.contract not in self.contracts:
            return "unknown_contract"
        if not is_code(command.reason) or command.reason in RULES_OWN:
            return "invalid_value"
        mine = [o for o in self.orders if o.account == command.account and command.contract in ("", o.contract)]
        for order in sorted(mine, key=lambda o: o.id):
            if order in self.orders:
                self.cancel(order, command.reason)
                self.run_blocks()  # what is cancelled may have stood in a block's way
        return ""

    def do_Expire(self, command: c.Expire) -> str:
        due = [o for o in self.orders if o.expires_at_ms and o.expires_at_ms <= self.at_ms]
        self.cancel_each(sorted(due, key=lambda o: (o.expires_at_ms, o.id)), "expired")
        return ""
