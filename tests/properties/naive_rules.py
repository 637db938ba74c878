"""The oracle's commands that are not orders: capacities, limits, halts, recalls, gates, accounts."""

from __future__ import annotations

import re
from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from tests.properties.naive import RESTING, NaiveContract, NaiveOrder
from tests.properties.naive_orders import RULES_OWN, NaiveOrders, is_code

MAX_CONNECTION_W = 10**9
HEX = re.compile("[0-9a-f]{64}")


def bad_why(command: Any, *, needed: bool = False) -> bool:
    """Whether reason and commitment of a decision are not what they may be."""
    reason, commitment = command.reason, command.commitment
    if reason == "" and not needed:
        return bool(commitment != "")
    return not is_code(reason) or (commitment != "" and not HEX.fullmatch(commitment))


ORDERS = ("PlaceOrder", "PlaceIceberg", "PlaceSweep", "PlaceBlock", "PlaceBasket")


class Oracle(NaiveOrders):
    """The whole oracle."""

    def apply(self, command: Any, at_ms: int) -> list[Any]:
        """Return the events, or ``[code]`` of a refusal."""
        before_ms = self.at_ms
        self.events = []
        self.at_ms = max(at_ms, before_ms)
        code = getattr(self, f"do_{type(command).__name__}")(command)
        if code or not self.events:
            assert not self.events
            self.at_ms = before_ms
            return [code] if code else []
        self.run_blocks()
        return self.events

    # --- grid and limits -------------------------------------------------------------------------------------------

    def uncross_all(self) -> None:
        self.note_openings()
        for contract in self.contracts.values():
            self.uncross(contract)

    def do_SetCapacity(self, command: c.SetCapacity) -> str:
        if bad_why(command, needed=True):
            return "invalid_value"
        area = self.areas[command.area]
        area.import_w, area.export_w = command.import_w, command.export_w
        self.emit(ev.CapacitySet, *command)
        self.uncross_all()
        return ""

    def do_SetFee(self, command: c.SetFee) -> str:
        if not 0 <= command.fee_e4 <= self.params.max_price_e4 or bad_why(command) or command.reason in RULES_OWN:
            return "invalid_value"
        self.areas[command.area].fee_e4 = command.fee_e4
        self.emit(ev.FeeSet, *command)
        return ""

    def do_SetTariff(self, command: c.SetTariff) -> str:
        if not 0 <= command.spill_e4 <= command.topup_e4 <= self.params.max_price_e4:
            return "invalid_value"
        if bad_why(command) or command.reason in RULES_OWN:
            return "invalid_value"
        self.topup_e4, self.spill_e4 = command.topup_e4, command.spill_e4
        self.emit(ev.TariffSet, *command)
        return ""

    def do_SetParams(self, command: c.SetParams) -> str:
        positive_with = (
            (command.collar_e4, command.collar_period_s),
            (command.collar_e4, command.collar_halt_s),
            (command.throttle_per_min, command.throttle_burst),
        )
        if any(value and needed < 1 for value, needed in positive_with) or min(command[:-2]) < 0:
            return "invalid_value"
        if bad_why(command) or command.reason in RULES_OWN:
            return "invalid_value"
        if command.netting_permille > 1000:
            return "invalid_value"
        self.params = command
        self.emit(ev.ParamsSet, *command)
        self.uncross_all()
        return ""

    # --- accounts --------------------------------------------------------------------------------------------------

    def member_problem(self, index: int) -> str:
        if index not in self.accounts:
            return "unknown_account"
        return "account_closed" if self.accounts[index].closed else ""

    def do_SetConnection(self, command: c.SetConnection) -> str:
        if code := self.member_problem(command.account):
            return code
        limits = (command.import_w, command.export_w)
        if not all(0 <= limit <= MAX_CONNECTION_W for limit in limits) or len(command.connection) not in (0, 64):
            return "invalid_value"
        if bad_why(command) or command.reason in RULES_OWN:
            return "invalid_value"
        account = self.accounts[command.account]
        account.connection = command.connection or account.connection
        self.connections[account.connection] = limits
        self.emit(ev.ConnectionSet, *command)
        return ""

    def do_SetAccountKey(self, command: c.SetAccountKey) -> str:
        if code := self.member_problem(command.account):
            return code
        account = self.accounts[command.account]
        if command.public_key == account.key:
            return "nothing_to_change"
        if command.changes not in (-1, account.key_changes):
            return "signature_invalid"
        if not any(command[2:-1]):
            if account.key_changes:
                return "signature_required"
        else:
            let_go = command.approval != "" or command.reason in ("lost_device", "market_operator")
            both = command.approval != "" and command.reason != ""
            lengths = {"proof": 128 * bool(command.public_key), "rules": 64 * bool(command.proof or command.approval)}
            if any(len(getattr(command, name)) != length for name, length in lengths.items()):
                return "invalid_value"
            if both or let_go != bool(account.key) or len(command.approval) not in (0, 128):
                return "invalid_value"
            if command.reason and not let_go:
                return "invalid_value"
            account.key_changes += 1
        account.key = command.public_key
        self.emit(ev.AccountKeySet, *command[:-1])
        return ""

    def do_SignedOrder(self, command: c.SignedOrder) -> str:
        """Signatures are verified elsewhere: here it matters that there is one, and whose."""
        if len(command.signature) != 128 or type(command.order).__name__ not in ORDERS:
            return "invalid_value"
        if not 0 <= command.account < self.account_count or command.order.account != command.account:
            return "unknown_account"
        if command.account not in self.accounts or not self.accounts[command.account].key:
            return "signature_invalid"
        if isinstance(command.order, c.PlaceBasket) and {leg.account for leg in command.order.legs} - {command.account}:
            return "signature_invalid"  # nobody signs for somebody else
        self.signer = command.account
        code: str = getattr(self, f"do_{type(command.order).__name__}")(command.order)
        self.signer = -1
        return code

    def do_Fund(self, command: c.Fund) -> str:
        code = self.member_problem(command.account)
        if code and not (code == "account_closed" and command.amount_e7 < 0):
            return code
        account = self.accounts[command.account]
        if not command.amount_e7:
            return "invalid_value"
        if account.cash_e7 - self.held_e7(command.account) + command.amount_e7 < 0:
            return "insufficient_funds"
        account.cash_e7 += command.amount_e7
        self.emit(ev.Funded, *command)
        return ""

    def do_CloseAccount(self, command: c.CloseAccount) -> str:
        if code := self.member_problem(command.account):
            return code
        self.accounts[command.account].closed = True
        self.emit(ev.AccountClosed, command.account)
        self.cancel_each(self.by_id([o for o in self.orders if o.account == command.account]), "account_closed")
        return ""

    # --- contracts -------------------------------------------------------------------------------------------------

    def by_id(self, orders: list[NaiveOrder]) -> list[NaiveOrder]:
        return sorted(orders, key=lambda o: o.id)

    def do_CloseContract(self, command: c.CloseContract) -> str:
        if command.contract not in self.contracts:
            return "unknown_contract"
        contract = self.contracts[command.contract]
        if contract.state != "open":
            return "contract_state"
        contract.state = "closed"
        self.emit(ev.ContractClosed, contract.name)
        self.cancel_each(self.by_id([o for o in self.orders if o.contract == contract.name]), "gate")
        return ""

    def do_DeliverContract(self, command: c.DeliverContract) -> str:
        if command.contract not in self.contracts:
            return "unknown_contract"
        contract = self.contracts[command.contract]
        if contract.state != "closed" or self.at_ms < contract.start_ms + self.interval_min * 60_000:
            return "contract_state"
        contract.state = "delivered"
        self.emit(ev.ContractDelivered, contract.name)
        return ""

    def do_RecallTrade(self, command: c.RecallTrade) -> str:
        for contract in self.contracts.values():
            for trade in contract.trades:
                if trade.seq == command.trade:
                    break
            else:
                continue
            break
        else:
            return "unknown_trade"
        if contract.state not in ("open", "closed"):
            return "contract_state"
        if trade.seq in contract.recalled:
            return "already_recalled"
        if bad_why(command, needed=True):
            return "invalid_value"
        contract.recalled.add(trade.seq)
        contract.flows = None
        self.accounts[trade.buyer].cash_e7 += trade.cost_e7
        self.accounts[trade.seller].cash_e7 += trade.margin_e7
        self.emit(
            ev.TradeRecalled, trade.seq, contract.name, command.reason, trade.energy_wh, trade.buyer, trade.seller,
            trade.cost_e7, trade.margin_e7, command.commitment,
        )  # fmt: skip
        self.note_openings()
        self.uncross(contract)
        return ""

    # --- halts -----------------------------------------------------------------------------------------------------

    def do_SetHalt(self, command: c.SetHalt) -> str:
        scope, target, on, reason, until_ms, cancel, _ = command
        if on not in (0, 1) or bad_why(command, needed=True) or reason in RULES_OWN or cancel not in (0, on):
            return "invalid_value"
        if until_ms and (scope != "contract" or not on or until_ms <= self.at_ms):
            return "invalid_value"
        if scope == "contract" and target not in self.contracts:
            return "unknown_contract"
        if scope == "area" and target not in self.areas:
            return "unknown_area"
        if scope == "account" and not (target.isdecimal() and int(target) in self.accounts):
            return "unknown_account"
        self.emit(ev.HaltSet, *command)
        ended: list[NaiveContract] = []
        out = {order.id for order in self.orders if self.account_out(order.account)}
        if scope == "market":
            ended = [contract for contract in self.contracts.values() if self.halted and not on]
            self.halted = bool(on)
        elif scope == "contract":
            contract = self.contracts[target]
            ended = [contract] if contract.halted and not on else []
            contract.halted, contract.until_ms = bool(on), until_ms
        elif scope == "area":
            self.areas[target].halted = bool(on)
        else:
            self.accounts[int(target)].halted = bool(on)
        if cancel:
            self.cancel_each(self.by_id([o for o in self.orders if self.in_scope(o, scope, target)]), "kill")
        for contract in ended:
            self.resume(contract)
        back = [o for o in self.orders if o.id in out and o.where == RESTING and not self.account_out(o.account)]
        self.meet_all(back, self.uncross)
        return ""

    def in_scope(self, order: NaiveOrder, scope: str, target: str) -> bool:
        if scope == "market":
            return True
        if scope == "contract":
            return order.contract == target
        if scope == "area":
            return target in self.line(self.accounts[order.account].area)
        return order.account == int(target)

    def resume(self, contract: NaiveContract) -> None:
        """A contract's halt, or the market's, ended: what can trade does, whatever the collar says."""
        if not self.trading(contract):
            return
        self.without_collar = True
        self.meet_all(self.book(contract, "buy") + self.book(contract, "sell"))
        self.uncross(contract)
        self.without_collar = False
        if self.params.collar_e4:
            self.look(contract)
