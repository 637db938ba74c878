"""Orders that are more than one limit order: icebergs, sweeps, blocks, baskets (rulebook, 4.9 to 4.13)."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from market.engine import contracts as states
from market.engine import events as ev
from market.engine.accounts import MEMBER, TOKEN, Account
from market.engine.book import PRIORITY_MASK
from market.engine.changing import Changing
from market.engine.commands import (
    BUY,
    FILL_OR_KILL,
    GOOD_TILL_DATE,
    GOOD_TILL_GATE,
    IMMEDIATE_OR_CANCEL,
    MAX_CLIPS,
    MAX_INTERVALS,
    MAX_LEGS,
    SELL,
    CancelAll,
    Leg,
    PlaceBasket,
    PlaceBlock,
    PlaceIceberg,
    PlaceSweep,
)
from market.engine.contracts import Contract, contract_name
from market.engine.grid import PRIORITY_BITS
from market.engine.orders import Complex, Group, Order
from market.engine.trading import MAX_AT_MS, is_reason

MAX_WAITING = 250  # legs of waiting blocks in one contract: an order that comes in concerns each of them
ANYTHING = -1  # in place of a block's missing energy: anything that happens may let it trade
# What happens in one contract and may let a block trade there: what goes may have been an offer outside the collar.
_CHANGES_OF_ONE = (
    ev.OrderPlaced, ev.ComplexOrderPlaced, ev.OrderAmended, ev.OrderReactivated, ev.Traded, ev.OrderCancelled,
    ev.OrderHibernated,
)  # fmt: skip
_CHANGES_OF_ALL = (ev.CapacitySet, ev.ParamsSet, ev.HaltSet, ev.TradeRecalled)
_WIDTH = ("market_halted", "contract_halted", "account_halted", "area_halted")


class Wanted(NamedTuple):
    """One order to be, with what was found for it."""

    account: Account
    contract: Contract
    is_buy: bool
    price_e4: int
    energy_wh: int
    hold_e4: int


def _comes(event: Any, leg: Order) -> int:
    """Return how much energy an event may at most have brought within reach of a leg, in Wh."""
    kind = type(event)
    if kind is ev.OrderPlaced or kind is ev.ComplexOrderPlaced:
        opposite = (event.side == BUY) is not leg.is_buy
        within = event.price_e4 <= leg.price_e4 if leg.is_buy else event.price_e4 >= leg.price_e4
        return int(event.energy_wh) if opposite and within else 0
    if kind is ev.OrderReactivated:
        return int(event.remaining_wh)
    # An order that asks for more; a trade, which gives the way back what it carries; what goes brings nothing.
    return int(event.energy_wh) if kind is ev.OrderAmended or kind is ev.Traded else 0


class ComplexTrading(Changing):
    """Placing complex orders, and letting blocks trade that wait."""

    def __init__(self) -> None:
        super().__init__()
        self._look_woke: dict[int, Group] = {}  # blocks for which a new reference price may have changed what passes

    # --- what all kinds are checked for ----------------------------------------------------------------------------

    def _tradable(self, name: str, field: str) -> list[Any]:
        """Return the refusal of a contract that cannot be traded, empty if it can."""
        contract = self.contracts.get(name)
        if contract is None:
            return self.refuse("unknown_contract", field)
        if contract.state != states.OPEN or self.at_ms >= contract.gate_ms:
            return self.refuse("gate_closed", field)
        return []

    def _member(self, index: object, field: str = "account") -> list[Any]:
        if type(index) is not int or not 0 <= index < len(self.accounts):
            return self.refuse("unknown_account", field)
        account = self.accounts[index]
        if account.closed or account.kind != MEMBER:
            return self.refuse("account_closed", field)
        if account.key and self.signer != index and (self.signer < 0 or self.accounts[self.signer].key != account.key):
            return self.refuse("signature_required", field)
        return []

    def _valued(self, side: object, price_e4: object, energy_wh: object, prefix: str = "") -> list[Any]:
        """Return the refusal of a side, price or energy no order can have, empty if there is none."""
        params = self.params
        if side not in (BUY, SELL):
            return self.refuse("invalid_side", f"{prefix}side")
        if type(price_e4) is not int or not 0 < price_e4 <= params.max_price_e4:
            return self.refuse("price_out_of_range", f"{prefix}price", max_price_e4=params.max_price_e4)
        if price_e4 % params.tick_e4:
            return self.refuse("price_off_tick", f"{prefix}price", tick_e4=params.tick_e4)
        if type(energy_wh) is not int or not 0 < energy_wh <= params.max_order_wh:
            return self.refuse("energy_out_of_range", f"{prefix}energy_wh", max_order_wh=params.max_order_wh)
        return []

    def _timed(self, time_in_force: object, expires_at_ms: object, allowed: tuple[str, ...]) -> list[Any]:
        if time_in_force not in allowed:
            return self.refuse("invalid_time_in_force", "time_in_force")
        if time_in_force == GOOD_TILL_DATE:
            if type(expires_at_ms) is int and self.at_ms < expires_at_ms <= MAX_AT_MS:
                return []
        elif type(expires_at_ms) is int and not expires_at_ms:
            return []
        return self.refuse("expiry_invalid", "expires_at")

    def _blocked(self, wanted: list[Wanted], *, rests: bool, prefixes: list[str]) -> list[Any]:
        """Return the refusal of orders that halts, counts, tokens, position limits or money forbid, empty if none does.

        What several of them need of one account or connection is added up.
        """
        codes = {self._halt_of(one.contract, one.account) for one in wanted}
        for code in _WIDTH:
            if code in codes:
                return self._refuse_halted(code)
        if rests:
            most = self.params.max_open_orders
            if len(wanted[0].account.open_ids) + len(wanted) > most:
                return self.refuse("too_many_orders", "account", max_open_orders=most)
        for one, prefix in zip(wanted, prefixes, strict=True):
            book = one.contract.book
            assert book is not None
            if one.account.node >= book.topology.areas:
                return self.refuse("unknown_area", f"{prefix}area")
            if one.is_buy and one.account.arrears_e7:
                return self._refuse_owing(one.account, f"{prefix}account")
        if self.params.throttle_per_min:
            spent: dict[int, int] = {}
            for one in wanted:
                index = one.account.index
                spent[index] = spent.get(index, self._spent(one.account)) + TOKEN
                if spent[index] > self.params.throttle_burst * TOKEN:
                    return self._refuse_throttled(spent[index])
        exposed: dict[tuple[str, int, bool], int] = {}
        for one, prefix in zip(wanted, prefixes, strict=True):
            exposed_wh, limit_wh = self._room(one.contract, one.account, one.is_buy)
            place = (one.contract.name, one.account.slot, one.is_buy)
            before_wh = exposed.get(place, exposed_wh)
            exposed[place] = before_wh + one.energy_wh
            if exposed[place] > limit_wh:
                return self._refuse_position(limit_wh, before_wh, f"{prefix}energy_wh")
        needed: dict[int, int] = {}
        for one, prefix in zip(wanted, prefixes, strict=True):
            index = one.account.index
            needed[index] = needed.get(index, 0) + one.hold_e4 * one.energy_wh
            if needed[index] > one.account.free_e7:
                return self._refuse_poor(one.account, needed[index], f"{prefix}energy_wh")
        return []

    def _want(self, account: Account, contract: Contract, is_buy: bool, price_e4: int, energy_wh: int) -> Wanted:
        return Wanted(account, contract, is_buy, price_e4, energy_wh, self.hold_e4(contract, is_buy, price_e4))

    def _made(self, one: Wanted, id: int, tif: str, expires_at_ms: int, priority: int, extra: Complex) -> Order:
        return Order(
            id, one.account.index, one.contract.name, one.account.node, one.is_buy, one.price_e4, one.energy_wh, tif,
            expires_at_ms, one.hold_e4, priority, one.contract.exposure(one.account.slot), extra,
        )  # fmt: skip

    def _accept(self, order: Order, extra: tuple[str, str, int, int, int, int]) -> Any:
        """Set energy and money of a new order aside; return its event."""
        account = self.accounts[order.account]
        account.held_e7 += order.hold_e7
        order.exposure.add(order.is_buy, order.energy_wh)
        self._dirty.add(account.index)
        self._pay_token(account)
        self.priority += 1
        event = ev.ComplexOrderPlaced(
            self.seq, self.at_ms, account.index, account.area, order.contract, order.side, order.price_e4,
            order.energy_wh, order.time_in_force, order.expires_at_ms, *extra,
        )  # fmt: skip
        self.seq += 1
        return event

    # --- icebergs --------------------------------------------------------------------------------------------------

    def _place_iceberg(self, command: PlaceIceberg) -> list[Any]:
        index, name, side, price_e4, energy_wh, tif, expires_at_ms, display_wh = command
        problem = (
            self._tradable(name, "contract")
            or self._member(index)
            or self._valued(side, price_e4, energy_wh)
            or self._timed(tif, expires_at_ms, (GOOD_TILL_GATE, GOOD_TILL_DATE))
        )
        if problem:
            return problem
        if type(display_wh) is not int or not 0 < display_wh < energy_wh or display_wh * MAX_CLIPS < energy_wh:
            return self.refuse("display_out_of_range", "display_wh", least_wh=-(-energy_wh // MAX_CLIPS))
        account, contract = self.accounts[index], self.contracts[name]
        one = self._want(account, contract, side == BUY, price_e4, energy_wh)
        if problem := self._blocked([one], rests=True, prefixes=[""]):
            return problem
        order = self._made(one, self.seq, tif, expires_at_ms, self.priority, Complex(ev.ICEBERG, display_wh))
        events = [self._accept(order, (ev.ICEBERG, "", display_wh, 0, 0, 0))]
        self._arrive(events, contract, order, account)
        return events

    # --- sweeps ----------------------------------------------------------------------------------------------------

    def _place_sweep(self, command: PlaceSweep) -> list[Any]:
        index, name, last, side, price_e4, energy_wh = command
        for field, text in (("contract", name), ("last", last)):
            if text not in self.contracts:
                return self.refuse("unknown_contract", field)
        start_ms, end_ms = self.contracts[name].start_ms, self.contracts[last].start_ms
        span = [contract for contract in self.contracts.values() if start_ms <= contract.start_ms <= end_ms]
        if not 0 < len(span) <= MAX_INTERVALS:
            return self.refuse("invalid_span", "last", most=MAX_INTERVALS)
        problem = self._tradable(name, "contract") or self._member(index) or self._valued(side, price_e4, energy_wh)
        if problem:
            return problem
        account, is_buy = self.accounts[index], side == BUY
        market = [
            contract
            for contract in span
            if not self._tradable(contract.name, "last") and not contract.halted and _knows(contract, account.node)
        ] or [self.contracts[name]]  # with none of them tradable the first one says why
        hold_e4 = max(self.hold_e4(contract, is_buy, price_e4) for contract in market)
        # How much goes into which contract shows as it trades; here only that there is room at all.
        rooms = [(contract, *self._room(contract, account, is_buy)) for contract in market]
        roomy = [contract for contract, exposed_wh, limit_wh in rooms if exposed_wh < limit_wh] or market[:1]
        problem = self._blocked(
            [Wanted(account, contract, is_buy, price_e4, 1, 0) for contract in roomy[:1]], rests=True, prefixes=[""]
        )
        if problem:
            return problem
        if hold_e4 * energy_wh > account.free_e7:
            return self._refuse_poor(account, hold_e4 * energy_wh)
        one = Wanted(account, self.contracts[name], is_buy, price_e4, energy_wh, hold_e4)
        order = self._made(one, self.seq, IMMEDIATE_OR_CANCEL, 0, self.priority, Complex(ev.SWEEP))
        events = [self._accept(order, (ev.SWEEP, last, 0, 0, 0, 0))]
        order.exposure.add(is_buy, -energy_wh)  # counted where it trades
        for contract in market:
            if self.at_ms >= contract.look_at_ms:
                self._look(contract)
        self._sweep(events, market, order, account)
        if order.remaining_wh:
            order.exposure.add(is_buy, order.remaining_wh)
            self._cancel_rest(events, account, order)
        for contract in market:
            self._uncross(events, contract)
        return events

    def _sweep(self, events: list[Any], market: list[Contract], order: Order, account: Account) -> None:
        """Take the best price in any of the contracts, among equals in the earlier one, until the limit is reached."""
        node, is_buy, left_wh = order.node, order.is_buy, order.remaining_wh
        best = [(_find(contract, node, is_buy) >> PRIORITY_BITS, number) for number, contract in enumerate(market)]
        heapify(best)
        while best and left_wh:
            cost_e4, number = heappop(best)
            if cost_e4 > order.cost_e4:
                break
            contract = market[number]
            book = contract.book
            assert book is not None
            exposed_wh, limit_wh = self._room(contract, account, is_buy)
            if exposed_wh >= limit_wh:
                continue
            key = book.find(node, is_buy)
            maker = book.orders[key & PRIORITY_MASK]
            if self.accounts[maker.account].group == account.group:
                self._drop(events, maker, "self_trade")
            else:
                order.remaining_wh = wanted_wh = min(left_wh, limit_wh - exposed_wh)
                order.exposure = contract.exposure(account.slot)
                order.exposure.add(is_buy, wanted_wh)
                if not self._trade(events, contract, book, maker, order, key):
                    order.exposure.add(is_buy, -wanted_wh)
                    continue
                left_wh -= wanted_wh - order.remaining_wh
                order.exposure.add(is_buy, -order.remaining_wh)
            heappush(best, (_find(contract, node, is_buy) >> PRIORITY_BITS, number))
        order.remaining_wh = left_wh

    # --- blocks ----------------------------------------------------------------------------------------------------

    def _place_block(self, command: PlaceBlock) -> list[Any]:
        index, name, last, side, price_e4, energy_wh, tif, expires_at_ms = command
        for field, text in (("contract", name), ("last", last)):
            if text not in self.contracts:
                return self.refuse("unknown_contract", field)
        start_ms, end_ms = self.contracts[name].start_ms, self.contracts[last].start_ms
        if not 0 <= end_ms - start_ms < MAX_INTERVALS * self.interval_ms:
            return self.refuse("invalid_span", "last", most=MAX_INTERVALS)
        names = [contract_name(at_ms) for at_ms in range(start_ms, end_ms + 1, self.interval_ms)]
        for text in names:
            if problem := self._tradable(text, "contract"):
                return problem
        problem = (
            self._member(index)
            or self._valued(side, price_e4, energy_wh)
            or self._timed(tif, expires_at_ms, (GOOD_TILL_GATE, GOOD_TILL_DATE, FILL_OR_KILL))
        )
        if problem:
            return problem
        account = self.accounts[index]
        wanted = [self._want(account, self.contracts[text], side == BUY, price_e4, energy_wh) for text in names]
        if problem := self._blocked(wanted, rests=True, prefixes=[""] * len(wanted)):
            return problem
        if tif != FILL_OR_KILL and any(one.contract.blocks >= MAX_WAITING for one in wanted):
            return self.refuse("too_many_blocks", "contract", most=MAX_WAITING)
        group = Group(self.seq)
        for number, one in enumerate(wanted):
            extra = Complex(ev.BLOCK, 0, group)
            group.legs.append(self._made(one, self.seq + number, tif, expires_at_ms, self.priority + number, extra))
        if tif == FILL_OR_KILL and any(self._lacks(leg, True) for leg in group.legs):
            return self.refuse("fill_or_kill_unfilled", "energy_wh")
        events = self._accept_legs(ev.BLOCK, group.legs)
        if tif == FILL_OR_KILL:
            self._take_legs(events, group.legs)
            return events
        for leg in group.legs:
            self.register(leg)
            self.contracts[leg.contract].blocks += 1
        self.waiting[group.id] = group
        self.watch(group, name)
        return events

    def _accept_legs(self, kind: str, legs: list[Order]) -> list[Any]:
        events = [self._accept(leg, (kind, "", 0, legs[0].id, number, len(legs))) for number, leg in enumerate(legs, 1)]
        for leg in legs:
            contract = self.contracts[leg.contract]
            if self.at_ms >= contract.look_at_ms:
                self._look(contract)
        return events

    def _take_legs(self, events: list[Any], legs: list[Order]) -> None:
        """Let legs of which it is known that they trade in full take what they need, one after the other."""
        for leg in legs:
            contract = self.contracts[leg.contract]
            assert contract.book is not None
            self._take(events, contract, contract.book, leg, self.accounts[leg.account].group)
            assert not leg.remaining_wh
        for contract in sorted({self.contracts[leg.contract] for leg in legs}, key=lambda found: found.start_ms):
            self._uncross(events, contract)

    def _lacks(self, leg: Order, arriving: bool) -> int:
        """Return the energy that the leg of a block misses now, in Wh; 0: it can trade whole.

        ``ANYTHING`` where it is no energy that it misses: a halt, its gate or the price collar stands in its way.
        """
        contract, account = self.contracts[leg.contract], self.accounts[leg.account]
        book = contract.book
        if book is None or contract.state != states.OPEN or self.at_ms >= contract.gate_ms:
            return ANYTHING
        if self._halt_of(contract, account):
            return ANYTHING
        if not book.may_cross(leg.node, leg.is_buy, (leg.cost_e4 + 1) << PRIORITY_BITS):
            return leg.remaining_wh
        missing_wh = self._missing_wh(contract, leg, account.group)
        if missing_wh:
            return missing_wh
        return 0 if self._passes_collar(contract, leg, account.group, arriving) else ANYTHING

    def _try_blocks(self, events: list[Any]) -> None:
        """Let waiting blocks trade that can after these events, the oldest first, until none can.

        A block that cannot trade is remembered where a leg of it was seen to lack energy, with how much: it cannot trade
        before so much has come there, whatever happens elsewhere.
        """
        seen, woken = 0, self._look_woke
        self._look_woke = {}
        while True:
            self._wake(events[seen:], woken)
            seen = len(events)
            for group in sorted(woken.values(), key=lambda found: found.priority):  # a capacity wakes all there are
                del woken[group.id]
                if group.id in self.waiting and self._settles(group):
                    self._unblock(group)
                    for leg in group.legs:
                        self.forget(leg)
                    self._take_legs(events, group.legs)
                    break
            else:
                return

    def _wake(self, events: list[Any], woken: dict[int, Group]) -> None:
        """Add the waiting blocks that these events may let trade."""
        for event in events:
            kind = type(event)
            if kind in _CHANGES_OF_ALL:
                woken.update(self.waiting)
                return
            if kind not in _CHANGES_OF_ONE:
                continue
            contract = self.contracts.get(event.contract)
            for group in () if contract is None else contract.watching.values():
                if group.missing_wh != ANYTHING:
                    group.missing_wh = max(0, group.missing_wh - _comes(event, group.legs[0]))
                if group.missing_wh <= 0:
                    woken[group.id] = group

    def rewatch(self) -> None:
        """Find out anew where each waiting block lacks energy."""
        for group in self.waiting.values():
            settles = self._settles(group)
            assert not settles, f"block {group.id} waits and could trade"

    def _settles(self, group: Group) -> bool:
        """Return whether all legs of a block can trade; else remember where not, and how much is missing there."""
        # First where that was last so: it probably still is.
        for leg in sorted(group.legs, key=lambda leg: leg.contract != group.watched):
            if missing_wh := self._lacks(leg, False):
                group.missing_wh = missing_wh
                self.watch(group, leg.contract)
                return False
        return True

    def _look(self, contract: Contract) -> None:
        super()._look(contract)
        self._look_woke.update(contract.watching)

    def _cancel_all(self, command: CancelAll) -> list[Any]:
        index, name, reason = command
        if type(index) is not int or not 0 <= index < len(self.accounts):
            return self.refuse("unknown_account", "account")
        if name and name not in self.contracts:
            return self.refuse("unknown_contract", "contract")
        if not is_reason(reason):
            return self.refuse("invalid_value", "reason")
        events: list[Any] = []
        for order in self.open_orders_of(index):
            if (not name or order.contract == name) and order.id in self.orders:
                # Each by itself, blocks that it lets trade included: the ledger knows it as one cancellation after the other.
                gone: list[Any] = []
                self._drop(gone, order, reason)
                if self.waiting:
                    self._try_blocks(gone)
                events += gone
        return events

    # --- baskets ---------------------------------------------------------------------------------------------------

    def _place_basket(self, command: PlaceBasket) -> list[Any]:
        index, legs = command
        if type(legs) is not tuple or not 2 <= len(legs) <= MAX_LEGS:
            return self.refuse("invalid_legs", "legs", most=MAX_LEGS)
        if problem := self._member(index):
            return problem
        group = self.accounts[index].group
        prefixes = [f"legs.{number}." for number in range(1, len(legs) + 1)]
        for leg, prefix in zip(legs, prefixes, strict=True):
            if problem := self._leg_problem(leg, group, prefix):
                return problem
        wanted = [
            self._want(self.accounts[leg.account], self.contracts[leg.contract], leg.side == BUY, *leg[3:])
            for leg in legs
        ]
        if problem := self._blocked(wanted, rests=False, prefixes=prefixes):
            return problem
        orders = [
            self._made(one, self.seq + number, FILL_OR_KILL, 0, self.priority + number, Complex(ev.BASKET))
            for number, one in enumerate(wanted)
        ]
        if not self._trial(orders, group, True):
            return self.refuse("fill_or_kill_unfilled", "legs")
        events = self._accept_legs(ev.BASKET, orders)
        self._take_legs(events, orders)
        return events

    def _leg_problem(self, leg: Leg, group: str, prefix: str) -> list[Any]:
        problem = self._tradable(leg.contract, f"{prefix}contract") or self._member(leg.account, f"{prefix}account")
        if problem:
            return problem
        if self.accounts[leg.account].group != group:
            return self.refuse("not_your_account", f"{prefix}account")
        return self._valued(leg.side, leg.price_e4, leg.energy_wh, prefix)


def _knows(contract: Contract, node: int) -> bool:
    """Return whether an area was there when the contract opened."""
    return contract.book is not None and node < contract.book.topology.areas


def _find(contract: Contract, node: int, is_buy: bool) -> int:
    """Return the best key in a contract, as ``Book.find``."""
    assert contract.book is not None
    return contract.book.find(node, is_buy)
