"""Halts, the kill switch, and trades taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from market.engine import contracts as states
from market.engine import events as ev
from market.engine.accounts import MAX_INT, MEMBER
from market.engine.commands import RecallTrade, SetHalt
from market.engine.complex import ComplexTrading
from market.engine.contracts import TRADE, Contract
from market.engine.orders import Order
from market.engine.reasons import is_commitment
from market.engine.trading import MAX_AT_MS, is_code, is_reason

KILL = "kill"


class Halting(ComplexTrading):
    """What stops trading, and what undoes it."""

    def _set_halt(self, command: SetHalt) -> list[Any]:
        events = self._halt(command)
        self.note_halts()
        if command.cancel and not isinstance(events[0], ev.Refused):
            self._drop_all(events, self._in_scope(command.scope, command.target), KILL)
        return events

    def _halt(self, command: SetHalt) -> list[Any]:
        scope, target, on, reason, until_ms, cancel, commitment = command
        if on not in (0, 1) or type(on) is not int:
            return self.refuse("invalid_value", "on")
        if not is_reason(reason):
            return self.refuse("invalid_value", "reason")
        timed = scope == "contract" and on and type(until_ms) is int and self.at_ms < until_ms <= MAX_AT_MS
        if not timed and (type(until_ms) is not int or until_ms):
            return self.refuse("invalid_value", "until")
        if type(cancel) is not int or cancel not in (0, on):
            return self.refuse("invalid_value", "cancel")
        if not is_commitment(commitment):
            return self.refuse("invalid_value", "commitment")
        if scope == "market" and target == "":
            return self._halt_market(command)
        if scope == "contract":
            return self._halt_contract(command)
        if scope == "area":
            if target not in self.grid:
                return self.refuse("unknown_area", "target")
            area = self.grid.areas[self.grid.index[target]]
            return self._halt_accounts(command, lambda: self.grid.set_halted(area, bool(on)))
        if scope == "account":
            if not (type(target) is str and target.isdecimal() and target.isascii() and len(target) < 16):
                return self.refuse("unknown_account", "target")
            index = int(target)
            if index >= len(self.accounts) or self.accounts[index].kind != MEMBER or target != str(index):
                return self.refuse("unknown_account", "target")
            return self._halt_accounts(command, lambda: setattr(self.accounts[index], "halted", bool(on)))
        return self.refuse("invalid_value", "scope" if scope != "market" else "target")

    def _halted(self, command: SetHalt) -> list[Any]:
        event = ev.HaltSet(self.seq, self.at_ms, *command)
        self.seq += 1
        return [event]

    def _halt_market(self, command: SetHalt) -> list[Any]:
        ends = self.halted and not command.on
        self.halted = bool(command.on)
        events = self._halted(command)
        if ends:
            for contract in self._trading():
                self._resume(events, contract)
        return events

    def _halt_contract(self, command: SetHalt) -> list[Any]:
        contract = self.contracts.get(command.target)
        if contract is None:
            return self.refuse("unknown_contract", "target")
        ends = contract.halted and not command.on
        contract.halted = bool(command.on)
        contract.halt_until_ms = command.until_ms
        self._schedule_from_ms = 0
        events = self._halted(command)
        if ends:
            self._resume(events, contract)
        return events

    def _halt_accounts(self, command: SetHalt, change: Callable[[], None]) -> list[Any]:
        def out() -> set[int]:
            areas, accounts = self.grid.areas, self.accounts
            return {
                index for index in self.orders_of if accounts[index].halted or areas[accounts[index].node].halted_above
            }

        before = out()
        change()
        after = out()
        events = self._halted(command)
        self._withdraw(after - before)
        self._readmit(events, before - after)
        return events

    def _in_scope(self, scope: str, target: str) -> list[Order]:
        """Return the open orders a kill switch takes back, by number."""
        orders = [self.orders[id] for id in sorted(self.orders)]
        if scope == "contract":
            return [order for order in orders if order.contract == target]
        if scope == "account":
            return [order for order in orders if order.account == int(target)]
        if scope == "area":
            inside: set[int] = set()
            for area in self.grid.areas:  # parents come before children
                if area.name == target or area.parent in inside:
                    inside.add(area.index)
            return [order for order in orders if self.accounts[order.account].node in inside]
        return orders

    def _trading(self) -> list[Contract]:
        return [contract for contract in self.contracts.values() if contract.state == states.OPEN]

    # --- recall ----------------------------------------------------------------------------------------------------

    def _recall(self, command: RecallTrade) -> list[Any]:
        seq, reason, commitment = command
        contract, at = self._find_trade(seq)
        if contract is None:
            return self.refuse("unknown_trade", "trade")
        if contract.state not in (states.OPEN, states.CLOSED):
            return self.refuse("contract_state", "contract")
        _, bought_by, sold_by, energy_wh, buy_e4, sell_e4 = TRADE.unpack_from(contract.trades, at)
        if not energy_wh:
            return self.refuse("already_recalled", "trade")
        if not is_code(reason):
            return self.refuse("invalid_value", "reason")
        if not is_commitment(commitment):
            return self.refuse("invalid_value", "commitment")
        buyer, seller, clearing = self.accounts[bought_by], self.accounts[sold_by], self.accounts[contract.account]
        cost_e7, margin_e7 = buy_e4 * energy_wh, max(0, contract.topup_e4 - sell_e4) * energy_wh
        for account, amount_e7 in ((buyer, cost_e7), (seller, margin_e7)):
            if account.cash_e7 + amount_e7 > MAX_INT:
                return self.refuse("invalid_value", "trade", account=account.index)
        TRADE.pack_into(contract.trades, at, seq, bought_by, sold_by, 0, buy_e4, sell_e4)
        buyer.receive(cost_e7)
        seller.receive(margin_e7)
        clearing.cash_e7 -= cost_e7 + margin_e7
        self._dirty.update((bought_by, sold_by, contract.account))
        tally = contract.tallies[bought_by]
        tally.bought_wh -= energy_wh
        tally.paid_e7 -= cost_e7
        tally.fee_e7 -= (buy_e4 - sell_e4) * energy_wh
        tally = contract.tallies[sold_by]
        tally.sold_wh -= energy_wh
        tally.proceeds_e7 -= sell_e4 * energy_wh
        tally.margin_e7 -= margin_e7
        contract.exposure(buyer.slot).move(-energy_wh)
        contract.exposure(seller.slot).move(energy_wh)
        contract.volume_wh -= energy_wh
        contract.last_e4 = contract.last_price_e4()
        events: list[Any] = [
            ev.TradeRecalled(
                self.seq,
                self.at_ms,
                seq,
                contract.name,
                reason,
                energy_wh,
                bought_by,
                sold_by,
                cost_e7,
                margin_e7,
                commitment,
            )
        ]
        self.seq += 1
        book = contract.book
        assert book is not None
        if buyer.node != seller.node:
            book.take_flow_back(book.topology.path(seller.node, buyer.node), energy_wh)
            if contract.state == states.OPEN:
                self._uncross(events, contract)
        return events

    def _find_trade(self, seq: object) -> tuple[Contract | None, int]:
        """Return the contract of a trade and its place in ``Contract.trades``."""
        if type(seq) is int and 0 <= seq < self.seq:
            for contract in self.contracts.values():
                at = contract.find_trade(seq)
                if at >= 0:
                    return contract, at
        return None, -1
