"""What becomes of open orders: cancelled, expired, amended, asleep, out of the book while a halt lasts."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from market.engine import contracts as states
from market.engine.accounts import TOKEN, Account
from market.engine.commands import (
    MAX_CLIPS,
    AmendOrder,
    CancelOrder,
    Expire,
    HibernateOrder,
    ReactivateOrder,
)
from market.engine.contracts import Contract
from market.engine.events import OrderAmended, OrderHibernated, OrderReactivated
from market.engine.orders import Complex, Order
from market.engine.trading import MARKET_OPERATOR, OWNER, Trading, is_reason


class Changing(Trading):
    """Commands on orders that are open already."""

    # --- taking back -----------------------------------------------------------------------------------------------

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
        self._drop(events, order, reason)
        return events

    def _expire(self, command: Expire) -> list[Any]:
        events: list[Any] = []
        while (due_ms := self.due_ms()) is not None and due_ms <= self.at_ms:
            self._drop(events, self.orders[self.expiries[0][1]], "expired")
        return events

    # --- amending --------------------------------------------------------------------------------------------------

    def _own_order(self, index: int, id: int) -> Order | list[Any]:
        """Return the open order a command may change, or the refusal."""
        order = self.orders.get(id)
        if order is None:
            return self.refuse("unknown_order", "order")
        if index != MARKET_OPERATOR and order.account != index:
            return self.refuse("not_your_order", "order")
        if order.complex is not None and order.complex.group is not None:
            return self.refuse("linked_order", "order")
        return order

    def _amend(self, command: AmendOrder) -> list[Any]:
        index, id, price_e4, energy_wh = command
        order = self._own_order(index, id)
        if isinstance(order, list):
            return order
        extra = order.complex
        if extra is not None and extra.asleep:
            return self.refuse("order_hibernated", "order")
        contract, account = self.contracts[order.contract], self.accounts[order.account]
        if account.key:  # what was signed stays as it was signed: it can be taken back and placed anew
            return self.refuse("signature_required", "order")
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
        if extra is not None and extra.display_wh and extra.display_wh * MAX_CLIPS < energy_wh:
            return self.refuse("display_out_of_range", "energy_wh")
        if (price_e4, energy_wh) == (order.price_e4, order.energy_wh):
            return self.refuse("nothing_to_change", "price")
        remaining_wh = energy_wh - order.filled_wh
        hold_e4 = self.hold_e4(contract, order.is_buy, price_e4)
        more_wh, more_e7 = remaining_wh - order.left_wh, hold_e4 * remaining_wh - order.hold_e7
        if problem := self._may_not(contract, account, order.is_buy, more_wh, more_e7):
            return problem
        self._pay_token(account)
        account.held_e7 += more_e7
        order.exposure.add(order.is_buy, more_wh)
        self._dirty.add(order.account)
        requeued = price_e4 != order.price_e4 or energy_wh > order.energy_wh
        events: list[Any] = [
            OrderAmended(self.seq, self.at_ms, id, order.account, order.contract, price_e4, energy_wh, int(requeued))
        ]
        self.seq += 1
        if not requeued:
            order.energy_wh, order.remaining_wh = energy_wh, min(order.remaining_wh, remaining_wh)
            if extra is not None:
                extra.hidden_wh = remaining_wh - order.remaining_wh
            return events
        book = contract.book
        assert book is not None
        if order.resting:
            book.remove(order)
        self.forget(order)
        order.show_all()
        order.price_e4, order.energy_wh, order.remaining_wh = price_e4, energy_wh, remaining_wh
        order.hold_e4 = hold_e4
        order.queue(self.priority)
        self.priority += 1
        self._arrive(events, contract, order, account)
        return events

    @staticmethod
    def hold_e4(contract: Contract, is_buy: bool, price_e4: int) -> int:
        """Return the money to set aside per kWh: a buyer's limit, or the most that a seller's not delivering can cost."""
        return price_e4 if is_buy else max(0, contract.topup_e4 - price_e4)

    def _may_not(
        self, contract: Contract, account: Account, is_buy: bool, more_wh: int, more_e7: int
    ) -> list[Any] | None:
        """Return the refusal of a change that needs so much more energy and money, ``None`` where it may be."""
        if code := self._halt_of(contract, account):
            return self._refuse_halted(code)
        if is_buy and account.arrears_e7 and (more_wh > 0 or more_e7 > 0):
            return self._refuse_owing(account)
        if self.params.throttle_per_min:
            spent = self._spent(account) + TOKEN
            if spent > self.params.throttle_burst * TOKEN:
                return self._refuse_throttled(spent)
        if more_wh > 0:
            exposed_wh, limit_wh = self._room(contract, account, is_buy)
            if exposed_wh + more_wh > limit_wh:
                return self._refuse_position(limit_wh, exposed_wh)
        if more_e7 > account.free_e7:
            return self._refuse_poor(account, more_e7)
        return None

    @staticmethod
    def _room(contract: Contract, account: Account, is_buy: bool) -> tuple[int, int]:
        """Return what the account's connection may come to take or give in a contract, and the limit of it, in Wh."""
        exposure = contract.exposure(account.slot)
        return (exposure.buy_wh, account.import_wh) if is_buy else (exposure.sell_wh, account.export_wh)

    def _pay_token(self, account: Account, count: int = 1) -> None:
        if self.params.throttle_per_min:
            account.spent, account.spent_at_ms = self._spent(account) + count * TOKEN, self.at_ms

    # --- sleeping --------------------------------------------------------------------------------------------------

    def _hibernate(self, command: HibernateOrder) -> list[Any]:
        order = self._own_order(*command)
        if isinstance(order, list):
            return order
        if order.complex is not None and order.complex.asleep:
            return self.refuse("order_hibernated", "order")
        contract, account = self.contracts[order.contract], self.accounts[order.account]
        if account.key and account.key_changes:  # nor does it sleep: nobody has signed that. Older logs did not ask
            return self.refuse("signature_required", "order")
        if self.at_ms >= contract.gate_ms:
            return self.refuse("gate_closed", "contract")
        if order.resting:
            assert contract.book is not None
            contract.book.remove(order)
        order.show_all()
        account.held_e7 -= order.hold_e7
        self._dirty.add(order.account)
        order.exposure.add(order.is_buy, -order.remaining_wh)
        order.hold_e4 = 0
        if order.complex is None:
            order.complex = Complex("")
        order.complex.asleep = True
        event = OrderHibernated(self.seq, self.at_ms, order.id, order.account, order.contract, order.remaining_wh)
        self.seq += 1
        return [event]

    def _reactivate(self, command: ReactivateOrder) -> list[Any]:
        order = self._own_order(*command)
        if isinstance(order, list):
            return order
        extra = order.complex
        if extra is None or not extra.asleep:
            return self.refuse("not_hibernated", "order")
        contract, account = self.contracts[order.contract], self.accounts[order.account]
        if account.key and account.key_changes:
            return self.refuse("signature_required", "order")
        if self.at_ms >= contract.gate_ms:
            return self.refuse("gate_closed", "contract")
        hold_e4 = self.hold_e4(contract, order.is_buy, order.price_e4)
        more_e7 = hold_e4 * order.remaining_wh
        if problem := self._may_not(contract, account, order.is_buy, order.remaining_wh, more_e7):
            return problem
        self._pay_token(account)
        account.held_e7 += more_e7
        order.exposure.add(order.is_buy, order.remaining_wh)
        self._dirty.add(order.account)
        order.hold_e4 = hold_e4
        extra.asleep = False
        if not extra.kind:
            order.complex = None
        events: list[Any] = [
            OrderReactivated(self.seq, self.at_ms, order.id, order.account, order.contract, order.remaining_wh)
        ]
        self.seq += 1
        self.forget(order)
        order.queue(self.priority)
        self.priority += 1
        self._arrive(events, contract, order, account)
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
        back = [order for order in back if not order.resting and not order.waits]
        for order in back:
            self.book_of(order).insert(order)
        self._meet_all(events, [(order.priority, order.contract) for order in back], True)

    def _meet_all(self, events: list[Any], turns: list[tuple[int, str]], uncross: bool) -> None:
        """Let resting orders meet what they can, in time priority; a clip that shows meanwhile waits for its own turn.

        ``turns`` are (priority, contract), in order; ``uncross``: after each turn, over the edges it opened.
        """
        while turns:
            priority, name = heappop(turns)
            contract = self.contracts[name]
            book = contract.book
            assert book is not None
            # Where the whole book waits, its halt's end lets everything meet.
            while (
                (order := book.orders.get(priority)) is not None
                and not self.halted
                and not contract.halted
                and self.at_ms < contract.gate_ms
            ):
                next_priority = self.priority
                if not self._meet(events, contract, book, order):
                    break
                for number in range(next_priority, self.priority):
                    heappush(turns, (number, name))
            if uncross and book.opened:
                self._uncross(events, contract)

    def _resume(self, events: list[Any], contract: Contract) -> None:
        """A halt of the contract or of the market ended: let everything meet that can, whatever its price."""
        book = contract.book
        if book is None or contract.state != states.OPEN or self.halted or contract.halted:
            return
        contract.halt_until_ms = 0
        contract.set_collar(0)
        self._meet_all(events, [(priority, contract.name) for priority in sorted(book.orders)], False)
        self._uncross(events, contract)
        if self.params.collar_e4:
            self._look(contract)
