"""Orders arrive and meet: the only place where they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from heapq import heappop
from typing import Any

from market.engine import contracts as states
from market.engine.accounts import MEMBER, TOKEN, Account
from market.engine.book import NOTHING, PRIORITY_MASK, Book
from market.engine.commands import (
    BUY,
    FILL_OR_KILL,
    GOOD_TILL_DATE,
    IMMEDIATE_OR_CANCEL,
    SELL,
    TIMES_IN_FORCE,
    PlaceOrder,
)
from market.engine.contracts import TRADE, Contract, Tally
from market.engine.events import HaltSet, OrderCancelled, OrderPlaced, Traded
from market.engine.grid import PRIORITY_BITS
from market.engine.orders import Complex, Exposure, Order
from market.engine.trials import Trying

# In place of an account: whoever asks has shown its right elsewhere (the market operator, a replay).
MARKET_OPERATOR = -1
OWNER = "owner"
COLLAR = "collar"
MAX_AT_MS = 253_402_300_799_999  # the last instant an entry can write: its year has four digits
_new = tuple.__new__  # a NamedTuple without the cost of its keyword constructor
_new_order: Callable[[type[Order]], Order] = object.__new__
_packed = TRADE.pack
_TIMES = {text: text for text in TIMES_IN_FORCE}  # to keep one object of each, not one an order
_CODE = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
_HALTED_FIELDS = {
    "market_halted": "",
    "contract_halted": "contract",
    "account_halted": "account",
    "area_halted": "area",
}
RULES_REASONS = frozenset(("ioc", "gate", "expired", "self_trade", "account_closed", "kill", COLLAR))


def is_code(text: object) -> bool:
    """Return whether a text is a code: no free text ever enters the ledger, for it stays there."""
    return type(text) is str and _CODE.fullmatch(text) is not None


def is_reason(text: object) -> bool:
    """Return whether a text can be the reason of a decision: a code, and none that the rules give themselves."""
    return is_code(text) and text not in RULES_REASONS


def is_hex(text: object, digits: int) -> bool:
    """Return whether a text is so many lower-case hex digits."""
    return type(text) is str and len(text) == digits and all(digit in "0123456789abcdef" for digit in text)


class Trading(Trying):
    """Placing a plain order, matching, uncrossing."""

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
        if account.key and self.signer != index:
            return self.refuse("signature_required", "account")
        if side == BUY:
            is_buy = True
        elif side == SELL:
            is_buy = False
        else:
            return self.refuse("invalid_side", "side")
        max_price_e4, tick_e4, max_order_wh, max_open_orders, rate, burst = self._order_limits
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
        spent = 0
        if rate:
            spent = account.spent - (at_ms - account.spent_at_ms) * rate
            spent = spent + TOKEN if spent > 0 else TOKEN
            if spent > burst:
                return self._refuse_throttled(spent)
        exposure = contract.exposures.get(account.slot)
        if exposure is None:
            exposure = contract.exposures[account.slot] = Exposure()
        if is_buy:
            if account.arrears_e7:
                return self._refuse_owing(account)
            hold_e4 = price_e4
            if exposure.buy_wh + energy_wh > account.import_wh:
                return self._refuse_position(account.import_wh, exposure.buy_wh)
        else:
            hold_e4 = contract.topup_e4 - price_e4
            if hold_e4 < 0:
                hold_e4 = 0
            if exposure.sell_wh + energy_wh > account.export_wh:
                return self._refuse_position(account.export_wh, exposure.sell_wh)
        hold_e7 = hold_e4 * energy_wh
        if account.cash_e7 - account.held_e7 < hold_e7:
            return self._refuse_poor(account, hold_e7)
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
        order.exposure = exposure
        order.complex = None
        order.priority = priority = self.priority
        cost_e4 = price_e4 if is_buy else -price_e4
        order.key = (-cost_e4 << PRIORITY_BITS) | priority
        order.resting = False
        if time_in_force == FILL_OR_KILL and not self._fillable(contract, order, account.group, True):
            return self.refuse("fill_or_kill_unfilled", "energy_wh")
        self.priority = priority + 1
        if is_buy:
            exposure.buy_wh += energy_wh
        else:
            exposure.sell_wh += energy_wh
        account.held_e7 += hold_e7
        self._dirty.add(index)
        if rate:
            account.spent, account.spent_at_ms = spent, at_ms
        if at_ms >= contract.look_at_ms:
            self._look(contract)
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
                self._cancel_rest(events, account, order)
            else:
                self.orders[seq] = order
                account.open_ids[seq] = None
                if expires_at_ms:
                    self._push_expiry(order)
                book.insert(order)
        if book.opened:
            self._uncross(events, contract)
        return events

    def _arrive(self, events: list[Any], contract: Contract, order: Order, account: Account) -> None:
        """Let an order that has just drawn its priority, and is not open, take what it reaches and rest."""
        if self.at_ms >= contract.look_at_ms:
            self._look(contract)
        book = contract.book
        assert book is not None
        self._take(events, contract, book, order, account.group)
        if order.remaining_wh:
            order.hide()
            self.register(order)
            book.insert(order)
        if book.opened:
            self._uncross(events, contract)

    def _halt_of(self, contract: Contract, account: Account) -> str:
        """Return the code of the widest halt that stops an account in a contract, "" if there is none."""
        if self.halted:
            return "market_halted"
        if contract.halted:
            return "contract_halted"
        if account.halted:
            return "account_halted"
        return "area_halted" if self.grid.areas[account.node].halted_above else ""

    def _spent(self, account: Account) -> int:
        """Return what an account's tokens lack now, in ``TOKEN`` parts of an order."""
        spent = account.spent - (self.at_ms - account.spent_at_ms) * self._params.throttle_per_min
        return spent if spent > 0 else 0

    # --- refusals --------------------------------------------------------------------------------------------------

    def _refuse_halted(self, code: str) -> list[Any]:
        return self.refuse(code, _HALTED_FIELDS[code])

    def _refuse_throttled(self, spent: int) -> list[Any]:
        params = self._params
        lacking = spent - params.throttle_burst * TOKEN
        return self.refuse("throttled", "account", retry_after_ms=-(-lacking // params.throttle_per_min))

    def _refuse_position(self, limit_wh: int, exposed_wh: int, field: str = "energy_wh") -> list[Any]:
        return self.refuse("position_limit", field, limit_wh=limit_wh, free_wh=max(0, limit_wh - exposed_wh))

    def _refuse_poor(self, account: Account, needed_e7: int, field: str = "energy_wh") -> list[Any]:
        return self.refuse("insufficient_funds", field, needed_e7=needed_e7, free_e7=account.free_e7)

    def _refuse_owing(self, account: Account, field: str = "account") -> list[Any]:
        return self.refuse("in_arrears", field, arrears_e7=account.arrears_e7)

    # --- price collar ----------------------------------------------------------------------------------------------

    def _look(self, contract: Contract) -> None:
        """Look the reference price up anew: what the contract's sellers last got (rulebook, 6.4)."""
        if contract.last_e4:
            contract.reference_e4 = contract.last_e4
        contract.looked_until_ms = self.at_ms + self._params.collar_period_s * 1_000
        contract.set_collar(self._params.collar_e4)

    def _interrupt(self, events: list[Any], contract: Contract) -> None:
        """A trade would lie outside the collar: halt the contract for a while."""
        until_ms = self.at_ms + self._params.collar_halt_s * 1_000
        contract.halted = self.some_halt = True
        contract.halt_until_ms = until_ms
        self._schedule_from_ms = 0
        events.append(HaltSet(self.seq, self.at_ms, "contract", contract.name, 1, COLLAR, until_ms))
        self.seq += 1

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
                self._drop(events, maker, "self_trade")
            elif not self._trade(events, contract, book, maker, order, key):
                return

    def _trade(self, events: list[Any], contract: Contract, book: Book, maker: Order, taker: Order, key: int) -> bool:
        """Trade as much as both want and the path between them can carry, at the maker's limit.

        ``key`` is the maker's as the taker sees it, fees included. The maker rests; the taker may. Returns False where the
        price lies outside the collar: then there is no trade, and the contract is halted.
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
        if not contract.low_e4 <= sell_e4 <= contract.high_e4:
            self._interrupt(events, contract)
            return False
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
        bought_by = buy.account
        buyer = accounts[bought_by]
        buyer.held_e7 -= buy.hold_e4 * energy_wh
        buyer.cash_e7 -= cost_e7
        dirty.add(bought_by)
        tally = tallies.get(bought_by)
        if tally is None:
            tally = tallies[bought_by] = Tally()
        tally.bought_wh += energy_wh
        tally.paid_e7 += cost_e7
        tally.fee_e7 += fee_e4 * energy_wh
        buy.exposure.sell_wh -= energy_wh
        sold_by = sell.account
        seller = accounts[sold_by]
        seller.held_e7 -= sell.hold_e4 * energy_wh
        seller.cash_e7 -= margin_e7
        dirty.add(sold_by)
        tally = tallies.get(sold_by)
        if tally is None:
            tally = tallies[sold_by] = Tally()
        tally.sold_wh += energy_wh
        tally.proceeds_e7 += sell_e4 * energy_wh
        tally.margin_e7 += margin_e7
        sell.exposure.buy_wh -= energy_wh
        accounts[contract.account].cash_e7 += cost_e7 + margin_e7
        dirty.add(contract.account)
        contract.last_e4 = sell_e4
        contract.volume_wh += energy_wh
        credit = self._credit
        if credit:
            spent = buyer.spent - credit
            buyer.spent = spent if spent > 0 else 0
            spent = seller.spent - credit
            seller.spent = spent if spent > 0 else 0

        seq = self.seq
        self.seq = seq + 1
        contract.trades += _packed(seq, bought_by, sold_by, energy_wh, buy_e4, sell_e4)
        events.append(
            _new(
                Traded,
                (
                    seq, self.at_ms, contract.name, maker.id, taker.id, energy_wh, buy_e4, sell_e4,
                    SELL if maker.is_buy else BUY, bought_by, sold_by, buy.id, sell.id, buyer.area, seller.area,
                    cost_e7, margin_e7,
                ),
            )
        )  # fmt: skip
        maker.remaining_wh = left_wh - energy_wh
        taker.remaining_wh = wanted_wh - energy_wh
        if left_wh == energy_wh:
            book.remove(maker)
            if maker.complex is None or not self._next_clip(book, maker):
                del self.orders[maker.id]
                del (seller if maker is sell else buyer).open_ids[maker.id]
        if wanted_wh == energy_wh and taker.resting:
            book.remove(taker)
            if taker.complex is None or not self._next_clip(book, taker):
                self.forget(taker)
        if path is not None:
            book.add_flow(path, energy_wh)
        return True

    def _next_clip(self, book: Book, order: Order) -> bool:
        """Let an iceberg whose clip is used up show the next one, behind all others of its price; False: there is none."""
        assert order.complex is not None
        if not order.complex.hidden_wh:
            return False
        order.hide()
        order.queue(self.priority)
        self.priority += 1
        book.insert(order)
        return True

    def _uncross(self, events: list[Any], contract: Contract) -> None:
        """Let resting orders meet over edges that opened, in the order of the edges' ids; the older order is the maker."""
        book = contract.book
        if book is None or self.at_ms >= contract.gate_ms:
            return
        opened = book.opened
        while opened and not self.halted and not contract.halted:  # a halt ends with this
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
            self._drop(events, older, "self_trade")
            return True
        if older is order:
            key = key - other.key + order.key  # the same fees, on top of the other's limit
        return self._trade(events, contract, book, older, newer, key)

    # --- taking back -----------------------------------------------------------------------------------------------

    def _cancel_rest(self, events: list[Any], account: Account, order: Order) -> None:
        """Cancel what an arriving order that never rests could not trade."""
        remaining_wh = order.remaining_wh
        account.held_e7 -= order.hold_e4 * remaining_wh
        order.exposure.add(order.is_buy, -remaining_wh)
        self._cancelled(events, order, remaining_wh, "ioc")

    def _cancelled(self, events: list[Any], order: Order, remaining_wh: int, reason: str) -> None:
        seq = self.seq
        self.seq = seq + 1
        events.append(
            _new(OrderCancelled, (seq, self.at_ms, order.id, order.account, order.contract, remaining_wh, reason))
        )

    def _drop(self, events: list[Any], order: Order, reason: str) -> None:
        """Cancel an open order, with all legs of its block, and release its hold."""
        extra = order.complex
        if extra is not None:
            self._drop_complex(events, order, extra, reason)
            return
        contract, index = self.contracts[order.contract], order.account
        if order.resting:
            contract.book.remove(order)  # type: ignore[union-attr]  # an open contract has one
        id, remaining_wh = order.id, order.remaining_wh
        account = self.accounts[index]
        del self.orders[id]
        del account.open_ids[id]
        account.held_e7 -= order.hold_e4 * remaining_wh
        self._dirty.add(index)
        if order.is_buy:
            order.exposure.buy_wh -= remaining_wh
        else:
            order.exposure.sell_wh -= remaining_wh
        seq = self.seq
        self.seq = seq + 1
        events.append(_new(OrderCancelled, (seq, self.at_ms, id, index, contract.name, remaining_wh, reason)))

    def _drop_complex(self, events: list[Any], order: Order, extra: Complex, reason: str) -> None:
        legs = [order]
        if extra.group is not None:
            self._unblock(extra.group)
            legs = extra.group.legs
        for leg in legs:
            if leg.resting:
                self.book_of(leg).remove(leg)
            account = self.accounts[leg.account]
            self.forget(leg)
            account.held_e7 -= leg.hold_e7
            self._dirty.add(leg.account)
            if not extra.asleep:
                leg.exposure.add(leg.is_buy, -leg.left_wh)
            self._cancelled(events, leg, leg.left_wh, reason)

    def _drop_all(self, events: list[Any], orders: list[Order], reason: str) -> None:
        """Cancel those orders that are still open when their turn comes."""
        for order in orders:
            if order.id in self.orders:
                self._drop(events, order, reason)
