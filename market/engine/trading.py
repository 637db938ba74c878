"""Orders: placing, matching, amending, cancelling, expiring. The only place where orders meet."""

from __future__ import annotations

import re
from collections.abc import Callable
from heapq import heappop
from typing import Any

from market.engine import contracts as states
from market.engine.accounts import MEMBER, Account
from market.engine.book import NOTHING, PRIORITY_MASK, Book, Order
from market.engine.commands import (
    BUY,
    FILL_OR_KILL,
    GOOD_TILL_DATE,
    IMMEDIATE_OR_CANCEL,
    SELL,
    TIMES_IN_FORCE,
    AmendOrder,
    CancelAll,
    CancelOrder,
    Expire,
    PlaceOrder,
)
from market.engine.contracts import Contract, Tally
from market.engine.events import OrderAmended, OrderCancelled, OrderPlaced, Traded
from market.engine.grid import PRIORITY_BITS
from market.engine.state import State

MAX_FILLS = 1_000_000  # a fill-or-kill order looks at no more resting orders than a market can hold
MARKET_OPERATOR = (
    -1
)  # in place of an account: whoever asks has shown its right elsewhere (the market operator, a replay)
OWNER = "owner"
MAX_AT_MS = 253_402_300_799_999  # the last instant an entry can write: its year has four digits
_new = tuple.__new__  # a NamedTuple without the cost of its keyword constructor
_new_order: Callable[[type[Order]], Order] = object.__new__
_TIMES = {text: text for text in TIMES_IN_FORCE}  # to keep one object of each, not one an order
_CODE = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
_HALTED_FIELDS = {
    "market_halted": "",
    "contract_halted": "contract",
    "account_halted": "account",
    "area_halted": "area",
}
RULES_REASONS = frozenset(("ioc", "gate", "expired", "self_trade", "account_closed"))  # of cancels nobody asked for


def is_code(text: object) -> bool:
    """Return whether a text is a code: no free text ever enters the ledger, for it stays there."""
    return type(text) is str and _CODE.fullmatch(text) is not None


def is_reason(text: object) -> bool:
    """Return whether a text can be the reason of a wanted cancellation: a code, and none that the rules give themselves."""
    return is_code(text) and text not in RULES_REASONS


class Trading(State):
    """The rules of the auction."""

    # --- placing ---------------------------------------------------------------------------------------------------

    def _place(self, command: PlaceOrder) -> list[Any]:
        index, name, side, price_e4, energy_wh, time_in_force, expires_at_ms = command
        at_ms = self.at_ms
        contract = self.contracts.get(name)
        if contract is None:
            return self.refuse("unknown_contract", "contract")
        if contract.state != states.OPEN or at_ms >= contract.gate_ms:
            return self.refuse("gate_closed", "contract")
        if type(index) is not int or not 0 <= index < len(self.accounts):
            return self.refuse("unknown_account", "account")
        account = self.accounts[index]
        if account.closed or account.kind != MEMBER:
            return self.refuse("account_closed", "account")
        if side == BUY:
            is_buy = True
        elif side == SELL:
            is_buy = False
        else:
            return self.refuse("invalid_side", "side")
        max_price_e4, tick_e4, max_order_wh, max_open_orders = self._order_limits
        if type(price_e4) is not int or not 0 < price_e4 <= max_price_e4:
            return self.refuse("price_out_of_range", "price", max_price_e4=max_price_e4)
        if price_e4 % tick_e4:
            return self.refuse("price_off_tick", "price", tick_e4=tick_e4)
        if type(energy_wh) is not int or not 0 < energy_wh <= max_order_wh:
            return self.refuse("energy_out_of_range", "energy_wh", max_order_wh=max_order_wh)
        time_in_force = _TIMES.get(time_in_force, "")
        if not time_in_force:
            return self.refuse("invalid_time_in_force", "time_in_force")
        if (expires_at_ms or time_in_force == GOOD_TILL_DATE) and (
            time_in_force != GOOD_TILL_DATE or type(expires_at_ms) is not int or not at_ms < expires_at_ms <= MAX_AT_MS
        ):
            return self.refuse("expiry_invalid", "expires_at")
        if self.some_halt and (code := self._halt_of(contract, account)):
            return self._refuse_halted(code)
        if len(account.open_ids) >= max_open_orders:
            return self.refuse("too_many_orders", "account", max_open_orders=max_open_orders)
        book = contract.book
        assert book is not None
        node = account.node
        if node >= book.topology.areas:
            return self.refuse("unknown_area", "area")
        if is_buy:
            hold_e4 = price_e4
        else:
            hold_e4 = contract.topup_e4 - price_e4
            if hold_e4 < 0:
                hold_e4 = 0
        hold_e7 = hold_e4 * energy_wh
        if account.cash_e7 - account.held_e7 < hold_e7:
            return self.refuse(
                "insufficient_funds", "energy_wh", needed_e7=hold_e7, free_e7=account.cash_e7 - account.held_e7
            )
        # Filled in by hand: the constructor's call would take as long as all checks above.
        order = _new_order(Order)
        order.id = seq = self.seq
        order.account = index
        order.contract = name = contract.name
        order.node = node
        order.is_buy = is_buy
        order.price_e4 = price_e4
        order.energy_wh = order.remaining_wh = energy_wh
        order.time_in_force = time_in_force
        order.expires_at_ms = expires_at_ms
        order.hold_e4 = hold_e4
        order.priority = priority = self.priority
        cost_e4 = price_e4 if is_buy else -price_e4
        order.key = (-cost_e4 << PRIORITY_BITS) | priority
        order.resting = False
        if time_in_force == FILL_OR_KILL and not self._fillable(book, order, account.group):
            return self.refuse("fill_or_kill_unfilled", "energy_wh")
        self.priority = priority + 1
        account.held_e7 += hold_e7
        self._dirty.add(index)
        events: list[Any] = [
            _new(
                OrderPlaced,
                (
                    seq, at_ms, index, account.area, name, BUY if is_buy else SELL, price_e4, energy_wh, time_in_force,
                    expires_at_ms,
                ),
            )
        ]  # fmt: skip
        self.seq = seq + 1
        bound = (cost_e4 + 1) << PRIORITY_BITS  # the first key worse than the limit is the lowest of the next price
        if (book.asks if is_buy else book.bids).best[node] < bound or (node and book.may_cross(node, is_buy, bound)):
            self._take(events, contract, book, order, account.group)
        if order.remaining_wh:
            if time_in_force == IMMEDIATE_OR_CANCEL:
                account.held_e7 -= hold_e4 * order.remaining_wh
                self._cancelled(events, order, "ioc")
            else:
                self.orders[seq] = order
                account.open_ids[seq] = None
                if expires_at_ms:
                    self._push_expiry(order)
                book.insert(order)
        if book.opened:
            self._uncross(events, contract)
        return events

    def _halt_of(self, contract: Contract, account: Account) -> str:
        """Return the code of the widest halt that stops an account in a contract, "" if there is none."""
        if self.halted:
            return "market_halted"
        if contract.halted:
            return "contract_halted"
        if account.halted:
            return "account_halted"
        return "area_halted" if self.grid.areas[account.node].halted_above else ""

    def _refuse_halted(self, code: str) -> list[Any]:
        return self.refuse(code, _HALTED_FIELDS[code])

    def _fillable(self, book: Book, order: Order, group: str) -> bool:
        """Return whether the order could trade whole, now, without those it would cancel as its own group's."""
        skip = set(self.groups[group])
        cost = -order.price_e4 if not order.is_buy else order.price_e4
        fills = book.sweep(order.node, order.is_buy, cost, order.energy_wh, MAX_FILLS, skip)
        return sum(quantity for _, quantity, _ in fills) == order.energy_wh

    # --- matching --------------------------------------------------------------------------------------------------

    def _take(self, events: list[Any], contract: Contract, book: Book, order: Order, group: str) -> None:
        """Let an arriving order, which does not rest, take what its limit reaches."""
        is_buy, node = order.is_buy, order.node
        # The first key worse than the limit: the lowest of the next price.
        bound = ((order.price_e4 if is_buy else -order.price_e4) + 1) << PRIORITY_BITS
        orders, accounts = book.orders, self.accounts
        while order.remaining_wh:
            key = book.find(node, is_buy)
            if key >= bound:
                return
            maker = orders[key & PRIORITY_MASK]
            if accounts[maker.account].group == group:
                self._drop(events, book, maker, "self_trade")
                continue
            self._trade(events, contract, book, maker, order, key)

    def _trade(self, events: list[Any], contract: Contract, book: Book, maker: Order, taker: Order, key: int) -> None:
        """Trade as much as both want and the path between them can carry, at the maker's limit.

        ``key`` is the maker's as the taker sees it, fees included. The maker rests; the taker may.
        """
        fee_e4 = (key - maker.key) >> PRIORITY_BITS
        if maker.is_buy:
            buy, sell = maker, taker
            buy_e4 = maker.price_e4
            sell_e4 = buy_e4 - fee_e4
        else:
            buy, sell = taker, maker
            sell_e4 = maker.price_e4
            buy_e4 = sell_e4 + fee_e4
        left_wh, wanted_wh = maker.remaining_wh, taker.remaining_wh
        energy_wh = left_wh if left_wh < wanted_wh else wanted_wh
        path = None
        if buy.node != sell.node:
            path = book.topology.path(sell.node, buy.node)
            residual_wh = book.residual_wh(path)
            if residual_wh < energy_wh:
                energy_wh = residual_wh
        assert energy_wh > 0 and buy_e4 <= buy.price_e4 and sell_e4 >= sell.price_e4

        cost_e7 = buy_e4 * energy_wh
        margin_e7 = contract.topup_e4 - sell_e4
        margin_e7 = margin_e7 * energy_wh if margin_e7 > 0 else 0
        accounts, tallies, dirty = self.accounts, contract.tallies, self._dirty
        index = buy.account
        buyer = accounts[index]
        buyer.held_e7 -= buy.hold_e4 * energy_wh
        buyer.cash_e7 -= cost_e7
        dirty.add(index)
        tally = tallies.get(index)
        if tally is None:
            tally = tallies[index] = Tally()
        tally.bought_wh += energy_wh
        tally.paid_e7 += cost_e7
        tally.fee_e7 += fee_e4 * energy_wh
        index = sell.account
        seller = accounts[index]
        seller.held_e7 -= sell.hold_e4 * energy_wh
        seller.cash_e7 -= margin_e7
        dirty.add(index)
        tally = tallies.get(index)
        if tally is None:
            tally = tallies[index] = Tally()
        tally.sold_wh += energy_wh
        tally.proceeds_e7 += sell_e4 * energy_wh
        tally.margin_e7 += margin_e7
        accounts[contract.account].cash_e7 += cost_e7 + margin_e7
        dirty.add(contract.account)
        contract.last_e4 = sell_e4
        contract.volume_wh += energy_wh

        seq = self.seq
        self.seq = seq + 1
        events.append(
            _new(
                Traded,
                (
                    seq, self.at_ms, contract.name, maker.id, taker.id, energy_wh, buy_e4, sell_e4,
                    SELL if maker.is_buy else BUY, buy.account, index, buy.id, sell.id, buyer.area, seller.area,
                    cost_e7, margin_e7,
                ),
            )
        )  # fmt: skip
        maker.remaining_wh = left_wh - energy_wh
        taker.remaining_wh = wanted_wh - energy_wh
        if left_wh == energy_wh:
            book.remove(maker)
            del self.orders[maker.id]
            del (seller if maker is sell else buyer).open_ids[maker.id]
        if wanted_wh == energy_wh and taker.resting:
            book.remove(taker)
            self.forget(taker)
        if path is not None:
            book.add_flow(path, energy_wh)

    def _uncross(self, events: list[Any], contract: Contract) -> None:
        """Let resting orders meet over edges that opened, in the order of the edges' ids; the older order is the maker."""
        book = contract.book
        if book is None or self.halted or contract.halted:
            return  # a halt ends with this
        opened = book.opened
        while opened:
            edge = heappop(opened)
            side = book.bids if edge & 1 else book.asks
            node = edge >> 1
            while side.residual_wh[node] > 0 and side.best[node] < NOTHING:
                order = book.orders[side.best[node] & PRIORITY_MASK]
                if not self._meet(events, contract, book, order):
                    break

    def _meet(self, events: list[Any], contract: Contract, book: Book, order: Order) -> bool:
        """Let a resting order meet the best it can reach; return whether anything happened."""
        key = book.find(order.node, order.is_buy)
        if key >> PRIORITY_BITS > (order.price_e4 if order.is_buy else -order.price_e4):
            return False
        other = book.orders[key & PRIORITY_MASK]
        older, newer = (order, other) if order.priority < other.priority else (other, order)
        if self.accounts[order.account].group == self.accounts[other.account].group:
            self._drop(events, book, older, "self_trade")
            return True
        if older is order:
            key = key - other.key + order.key  # the same fees, on top of the other's limit
        self._trade(events, contract, book, older, newer, key)
        return True

    # --- taking back -----------------------------------------------------------------------------------------------

    def _cancelled(self, events: list[Any], order: Order, reason: str) -> None:
        seq = self.seq
        self.seq = seq + 1
        events.append(
            _new(
                OrderCancelled,
                (seq, self.at_ms, order.id, order.account, order.contract, order.remaining_wh, reason),
            )
        )

    def _drop(self, events: list[Any], book: Book | None, order: Order, reason: str) -> None:
        """Cancel an open order and release its hold."""
        if order.resting and book is not None:
            book.remove(order)
        id, index, remaining_wh = order.id, order.account, order.remaining_wh
        account = self.accounts[index]
        del self.orders[id]
        del account.open_ids[id]
        account.held_e7 -= order.hold_e4 * remaining_wh
        self._dirty.add(index)
        seq = self.seq
        self.seq = seq + 1
        events.append(
            _new(OrderCancelled, (seq, self.at_ms, id, index, order.contract, remaining_wh, reason)),
        )

    def _cancel(self, command: CancelOrder) -> list[Any]:
        index, id, reason = command
        order = self.orders.get(id)
        if order is None:
            return self.refuse("unknown_order", "order")
        if index != MARKET_OPERATOR and order.account != index:
            return self.refuse("not_your_order", "order")
        if reason != OWNER and not is_reason(reason):
            return self.refuse("invalid_value", "reason")
        events: list[Any] = []
        self._drop(events, self.contracts[order.contract].book, order, reason)
        return events

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
            if not name or order.contract == name:
                self._drop(events, self.contracts[order.contract].book, order, reason)
        return events

    def _expire(self, command: Expire) -> list[Any]:
        events: list[Any] = []
        while (due_ms := self.due_ms()) is not None and due_ms <= self.at_ms:
            order = self.orders[self.expiries[0][1]]
            self._drop(events, self.contracts[order.contract].book, order, "expired")
        return events

    # --- amending --------------------------------------------------------------------------------------------------

    def _amend(self, command: AmendOrder) -> list[Any]:
        index, id, price_e4, energy_wh = command
        order = self.orders.get(id)
        if order is None:
            return self.refuse("unknown_order", "order")
        if index != MARKET_OPERATOR and order.account != index:
            return self.refuse("not_your_order", "order")
        index = order.account
        contract = self.contracts[order.contract]
        account = self.accounts[index]
        params = self.params
        if self.at_ms >= contract.gate_ms:
            return self.refuse("gate_closed", "contract")
        if price_e4 == -1:
            price_e4 = order.price_e4
        if energy_wh == -1:
            energy_wh = order.energy_wh
        if type(price_e4) is not int or not 0 < price_e4 <= params.max_price_e4:
            return self.refuse("price_out_of_range", "price", max_price_e4=params.max_price_e4)
        if price_e4 % params.tick_e4:
            return self.refuse("price_off_tick", "price", tick_e4=params.tick_e4)
        if type(energy_wh) is not int or not order.filled_wh < energy_wh <= params.max_order_wh:
            return self.refuse("energy_out_of_range", "energy_wh", max_order_wh=params.max_order_wh)
        if (price_e4, energy_wh) == (order.price_e4, order.energy_wh):
            return self.refuse("nothing_to_change", "price")
        if code := self._halt_of(contract, account):
            return self._refuse_halted(code)
        remaining_wh = energy_wh - order.filled_wh
        hold_e4 = price_e4 if order.is_buy else max(0, contract.topup_e4 - price_e4)
        more_e7 = hold_e4 * remaining_wh - order.hold_e7
        if more_e7 > account.free_e7:
            return self.refuse("insufficient_funds", "energy_wh", needed_e7=more_e7, free_e7=account.free_e7)
        account.held_e7 += more_e7
        self._dirty.add(index)
        requeued = price_e4 != order.price_e4 or energy_wh > order.energy_wh
        events: list[Any] = [
            OrderAmended(self.seq, self.at_ms, id, index, order.contract, price_e4, energy_wh, int(requeued))
        ]
        self.seq += 1
        if not requeued:
            order.energy_wh, order.remaining_wh = energy_wh, remaining_wh
            return events
        book = contract.book
        assert book is not None
        if order.resting:
            book.remove(order)
        self.forget(order)
        changed = Order(
            id, index, order.contract, order.node, order.is_buy, price_e4, energy_wh, order.time_in_force,
            order.expires_at_ms, hold_e4, self.priority,
        )  # fmt: skip
        changed.remaining_wh = remaining_wh
        self.priority += 1
        self._take(events, contract, book, changed, account.group)
        if changed.remaining_wh:
            self.register(changed)
            book.insert(changed)
        if book.opened:
            self._uncross(events, contract)
        return events

    # --- halts -----------------------------------------------------------------------------------------------------

    def _withdraw(self, affected: set[int]) -> None:
        """Take the accounts' resting orders out of the books; they stay open and come back when the halt ends."""
        for index in sorted(affected):
            for id in self.orders_of.get(index, ()):
                order = self.orders[id]
                if order.resting:
                    self.book_of(order).remove(order)

    def _readmit(self, events: list[Any], affected: set[int]) -> None:
        """Put withdrawn orders back, with the time priority they had, and let those meet that now can."""
        back = sorted(
            (self.orders[id] for index in affected for id in self.orders_of.get(index, ())),
            key=lambda order: order.priority,
        )
        back = [order for order in back if not order.resting]
        for order in back:
            self.book_of(order).insert(order)
        for order in back:
            contract = self.contracts[order.contract]
            book = self.book_of(order)
            if self.halted or contract.halted:
                # The whole book waits; its halt's end lets everything meet.
                continue
            while order.resting and self._meet(events, contract, book, order):
                pass
            if book.opened:
                self._uncross(events, contract)

    def _resume(self, events: list[Any], contract: Contract) -> None:
        """A halt of the contract or of the market ended: let everything meet that can."""
        book = contract.book
        if book is None or contract.state != states.OPEN or self.halted or contract.halted:
            return
        for priority in sorted(book.orders):
            order = book.orders.get(priority)
            while order is not None and order.resting and self._meet(events, contract, book, order):
                pass
        self._uncross(events, contract)
