"""What the market operator, the grid operator and the clock decide: founding, limits, grid, accounts, money, gates, halts."""

from __future__ import annotations

from typing import Any

from market.engine import contracts as states
from market.engine import events as ev
from market.engine.accounts import (
    BANK_INDEX,
    CLEARING,
    MAX_CONNECTION_W,
    MAX_INT,
    MEMBER,
    SYSTEM_KINDS,
    Account,
    Params,
    derived_id,
    params_problem,
)
from market.engine.commands import (
    CloseAccount,
    CloseContract,
    Command,
    CommitSnapshot,
    DeliverContract,
    Expire,
    Found,
    Fund,
    OpenAccount,
    OpenContract,
    PublishRulebook,
    RegisterKey,
    Seal,
    SetAccountKey,
    SetArea,
    SetCapacity,
    SetConnection,
    SetFee,
    SetHalt,
    SetParams,
    SetTariff,
)
from market.engine.contracts import MINUTE_MS, Contract, contract_name, contract_start_ms
from market.engine.grid import MAX_AREAS
from market.engine.halting import Halting
from market.engine.reasons import is_commitment, why_problem
from market.engine.signing import RESETS
from market.engine.state import SETTLED_KEPT
from market.engine.trading import is_code, is_hex

INTERVALS_MIN = (15, 30, 60)
LEVELS = ("EHV", "HV", "MV", "LV")
MAX_POWER_W = 10**12  # a thousand gigawatts: more than any one transformer, small enough for every sum
MAX_TEXT = 255  # characters of a name or code
OVER = "over"  # reason of the end of a halt that had one
SCHEDULED_AT_ONCE = 1_000  # lifecycle commands in one go: a week of 15-minute contracts is 672


def is_name(text: object) -> bool:
    """Return whether a text may enter the ledger: printable ASCII without quotes and backslashes, not empty, bounded."""
    return (
        type(text) is str
        and 0 < len(text) <= MAX_TEXT
        and text.isascii()
        and text.isprintable()
        and '"' not in text
        and "\\" not in text
    )


def _proof_problem(command: SetAccountKey, before: str) -> str:
    """Return the first field of a change of keys that does not go with the others, "" if none. ``before``: the key so far."""
    _, public_key, proof, approval, rules, reason, _ = command
    if not (is_hex(proof, 128) if public_key else proof == ""):
        return "proof"
    if approval != "" and not (before and is_hex(approval, 128)):
        return "approval"
    if not (reason in RESETS if before and not approval else reason == ""):
        return "reason"
    if not (is_hex(rules, 64) if proof or approval else rules == ""):
        return "rules"
    return ""


class Governing(Halting):
    """Commands that are not orders."""

    # --- founding and limits ---------------------------------------------------------------------------------------

    def _found(self, command: Found) -> list[Any]:
        if self.interval_min:
            return self.refuse("already_founded", "")
        for field in ("origin", "currency", "vkey"):
            if not is_name(getattr(command, field)):
                return self.refuse("invalid_value", field)
        if command.interval_min not in INTERVALS_MIN:
            return self.refuse("invalid_value", "interval_min")
        if type(command.rulebook_version) is not int or not 0 < command.rulebook_version <= MAX_INT:
            return self.refuse("invalid_value", "rulebook_version")
        if not is_hex(command.rulebook_sha256, 64):
            return self.refuse("invalid_value", "rulebook_sha256")
        self.interval_min = command.interval_min
        events: list[Any] = [ev.Founded(self.seq, self.at_ms, *command)]
        self.seq += 1
        for kind in SYSTEM_KINDS:
            self._opened(events, derived_id(f"system:{kind}"), kind, OpenAccount("", "", "", "", ""))
        return events

    def _opened(self, events: list[Any], id: str, kind: str, command: OpenAccount) -> None:
        account = self.open_account(id, kind, command.area, command.group)
        if command.connection:
            self.connect(account, command.connection)
        self.limit(account)
        group = account.group if kind == MEMBER else ""
        events.append(
            ev.AccountOpened(
                self.seq, self.at_ms, account.index, id, kind, command.area, group, command.connection,
                command.commitment,
            )
        )  # fmt: skip
        self.seq += 1

    def _one(self, kind: Any, *values: Any) -> list[Any]:
        """Return the one event of a command that needs no more."""
        event = kind(self.seq, self.at_ms, *values)
        self.seq += 1
        return [event]

    def _publish_rulebook(self, command: PublishRulebook) -> list[Any]:
        if type(command.version) is not int or not 0 < command.version <= MAX_INT:
            return self.refuse("invalid_value", "version")
        if not is_hex(command.sha256, 64):
            return self.refuse("invalid_value", "sha256")
        if problem := why_problem(command.reason, command.commitment):
            return self.refuse("invalid_value", problem)
        return self._one(ev.RulebookPublished, *command)

    def _register_key(self, command: RegisterKey) -> list[Any]:
        if command.action not in ("add", "revoke"):
            return self.refuse("invalid_value", "action")
        if not is_name(command.vkey):
            return self.refuse("invalid_value", "vkey")
        for name, text in (("possession", command.possession), ("approval", command.approval)):
            if not (is_name(text) if command.action == "add" else text == ""):
                return self.refuse("invalid_value", name)
        return self._one(ev.KeyRegistered, *command)

    def _set_params(self, command: SetParams) -> list[Any]:
        params = Params(*command[: len(Params._fields)])  # type: ignore[arg-type]  # reason and commitment follow
        problem = params_problem(params) or why_problem(command.reason, command.commitment)
        if problem:
            return self.refuse("invalid_value", problem)
        if self.topup_e4 > params.max_price_e4:
            return self.refuse("invalid_value", "max_price_e4")
        before, self.params = self.params, params
        self._schedule_from_ms = 0
        events = self._one(ev.ParamsSet, *command)
        if before.connection_import_w != params.connection_import_w or (
            before.connection_export_w != params.connection_export_w
        ):
            for account in self.accounts:
                self.limit(account)
        for contract in self.contracts.values():
            contract.set_collar(params.collar_e4)
        if before.netting_permille != params.netting_permille:
            for contract in self._trading():
                assert contract.book is not None
                contract.book.set_netting(params.netting_permille)
                self._uncross(events, contract)
        return events

    def _set_tariff(self, command: SetTariff) -> list[Any]:
        topup_e4, spill_e4, reason, commitment = command
        if type(topup_e4) is not int or not 0 <= topup_e4 <= self.params.max_price_e4:
            return self.refuse("invalid_value", "topup")
        if type(spill_e4) is not int or not 0 <= spill_e4 <= topup_e4:
            return self.refuse("invalid_value", "spill")
        if problem := why_problem(reason, commitment):
            return self.refuse("invalid_value", problem)
        self.topup_e4, self.spill_e4 = topup_e4, spill_e4
        self._schedule_from_ms = 0
        return self._one(ev.TariffSet, *command)

    # --- grid ------------------------------------------------------------------------------------------------------

    def _set_area(self, command: SetArea) -> list[Any]:
        name, parent, level = command
        if not self.interval_min:
            return self.refuse("not_founded", "")
        if not is_name(name):
            return self.refuse("invalid_value", "area")
        if name in self.grid:
            return self.refuse("duplicate_area", "area")
        if level not in LEVELS:
            return self.refuse("invalid_value", "level")
        if bool(parent) is not bool(self.grid.areas) or (parent and parent not in self.grid):
            return self.refuse("unknown_area", "parent")
        if len(self.grid.areas) >= MAX_AREAS:
            return self.refuse("invalid_value", "area")
        self.grid.add(name, parent, level)
        self._schedule_from_ms = 0
        return self._one(ev.AreaSet, *command)

    def _set_capacity(self, command: SetCapacity) -> list[Any]:
        area = self.grid.get(command.area)
        if area is None:
            return self.refuse("unknown_area", "area")
        for field in ("import_w", "export_w"):
            value = getattr(command, field)
            if type(value) is not int or not 0 <= value <= MAX_POWER_W:
                return self.refuse("invalid_value", field)
        if not is_code(command.reason):
            return self.refuse("invalid_value", "reason")
        if not is_commitment(command.commitment):
            return self.refuse("invalid_value", "commitment")
        area.import_w, area.export_w = command.import_w, command.export_w
        events = self._one(ev.CapacitySet, *command)
        import_wh, export_wh = self.capacity_wh(area.import_w), self.capacity_wh(area.export_w)
        for contract in self.contracts.values():
            if contract.book is None or contract.state not in (states.OPEN, states.CLOSED):
                continue
            contract.book.set_capacity(area.index, import_wh, export_wh)
            self._uncross(events, contract)
        return events

    def _set_fee(self, command: SetFee) -> list[Any]:
        area = self.grid.get(command.area)
        if area is None:
            return self.refuse("unknown_area", "area")
        if type(command.fee_e4) is not int or not 0 <= command.fee_e4 <= self.params.max_price_e4:
            return self.refuse("invalid_value", "fee")
        if problem := why_problem(command.reason, command.commitment):
            return self.refuse("invalid_value", problem)
        self.grid.set_fee(area, command.fee_e4)
        return self._one(ev.FeeSet, *command)

    # --- accounts and money ----------------------------------------------------------------------------------------

    def _open_account(self, command: OpenAccount) -> list[Any]:
        if not is_hex(command.account_id, 32) or command.account_id in self.ids:
            return self.refuse("invalid_value", "account_id")
        if command.area not in self.grid:
            return self.refuse("unknown_area", "area")
        # A number is the group of the account with that index alone: nobody may name himself into it.
        if command.group != "" and (not is_name(command.group) or command.group.isdecimal()):
            return self.refuse("invalid_value", "group")
        for field in ("connection", "commitment"):
            if getattr(command, field) != "" and not is_hex(getattr(command, field), 64):
                return self.refuse("invalid_value", field)
        events: list[Any] = []
        self._opened(events, command.account_id, MEMBER, command)
        self.members_by_area[command.area] = self.members_by_area.get(command.area, 0) + 1
        return events

    def _close_account(self, command: CloseAccount) -> list[Any]:
        problem = self._member_problem(command.account)
        if problem:
            return problem
        account = self.accounts[command.account]
        account.closed = True
        self.members_by_area[account.area] -= 1
        events = self._one(ev.AccountClosed, account.index)
        self._drop_all(events, self.open_orders_of(account.index), "account_closed")
        for one in self.agreements.values():
            if account.index in (one.giver, one.receiver) and not one.revoked_ms:
                one.revoked_ms = self.at_ms
        self.forget_agreements()
        return events

    def _set_connection(self, command: SetConnection) -> list[Any]:
        index, connection, import_w, export_w = command[:4]
        if problem := self._member_problem(index):
            return problem
        if connection != "" and not is_hex(connection, 64):
            return self.refuse("invalid_value", "connection")
        for field in ("import_w", "export_w"):
            value = getattr(command, field)
            if type(value) is not int or not 0 <= value <= MAX_CONNECTION_W:
                return self.refuse("invalid_value", field)
        if field := why_problem(command.reason, command.commitment):
            return self.refuse("invalid_value", field)
        account = self.accounts[index]
        if connection and connection != account.connection:
            self._move(account, connection)
        sharing = self.connections[account.connection].accounts if account.connection else [account]
        for other in sharing:
            other.import_w, other.export_w = import_w, export_w
            self.limit(other)
        return self._one(ev.ConnectionSet, *command)

    def _set_account_key(self, command: SetAccountKey) -> list[Any]:
        index, public_key = command.account, command.public_key
        if problem := self._member_problem(index):
            return problem
        if public_key != "" and not is_hex(public_key, 64):
            return self.refuse("invalid_value", "public_key")
        account = self.accounts[index]
        if public_key == account.key:
            return self.refuse("nothing_to_change", "public_key")
        if command.changes not in (-1, account.key_changes):  # another change came first: nothing signed fits any more
            return self.refuse("signature_invalid", "proof")
        if command[2:-1] != ("",) * 4:
            if field := _proof_problem(command, account.key):
                return self.refuse("invalid_value", field)
            account.key_changes += 1
        elif account.key_changes:  # before the first proof nobody knew of any, and older logs are played again
            return self.refuse("signature_required", "approval" if account.key else "proof")
        account.key = public_key
        return self._one(ev.AccountKeySet, *command[:-1])

    def _move(self, account: Account, connection: str) -> None:
        """Tie an account to another connection, its positions and open orders with it."""
        before = account.slot
        self.connect(account, connection)
        for contract in self.contracts.values():
            tally = contract.tallies.get(account.index)
            if tally is not None:
                contract.exposure(before).move(-tally.position_wh)
                contract.exposure(account.slot).move(tally.position_wh)
        for order in self.open_orders_of(account.index):
            left_wh = 0 if order.complex is not None and order.complex.asleep else order.left_wh
            order.exposure.add(order.is_buy, -left_wh)
            order.exposure = self.contracts[order.contract].exposure(account.slot)
            order.exposure.add(order.is_buy, left_wh)

    def _member_problem(self, index: object) -> list[Any]:
        """Return a refusal unless the index names an open member account."""
        if type(index) is not int or not 0 <= index < len(self.accounts) or self.accounts[index].kind != MEMBER:
            return self.refuse("unknown_account", "account")
        if self.accounts[index].closed:
            return self.refuse("account_closed", "account")
        return []

    def _fund(self, command: Fund) -> list[Any]:
        index, amount_e7, reason, reference = command
        problem = self._member_problem(index)
        if problem and not (
            problem[0].code == "account_closed"
            and type(amount_e7) is int
            and amount_e7 <= self.accounts[index].arrears_e7
        ):
            return problem  # what a closed account still owns can be taken out, and what it owes be paid
        account, bank = self.accounts[index], self.accounts[BANK_INDEX]
        if type(amount_e7) is not int or not amount_e7 or abs(amount_e7) > MAX_INT:
            return self.refuse("invalid_value", "amount")
        if account.cash_e7 + amount_e7 > MAX_INT or abs(bank.cash_e7 - amount_e7) > MAX_INT:
            return self.refuse("invalid_value", "amount")
        if amount_e7 < 0 and account.arrears_e7:
            return self.refuse("in_arrears", "account", arrears_e7=account.arrears_e7)
        if account.free_e7 + amount_e7 < 0:
            return self.refuse("insufficient_funds", "amount", free_e7=account.free_e7)
        if not is_code(reason):
            return self.refuse("invalid_value", "reason")
        if reference != "" and not is_hex(reference, 64):
            return self.refuse("invalid_value", "reference")
        if amount_e7 > 0:
            account.receive(amount_e7)
        else:
            account.cash_e7 += amount_e7
        bank.cash_e7 -= amount_e7
        self._dirty.update((index, BANK_INDEX))
        return self._one(ev.Funded, *command)

    # --- life of a contract ----------------------------------------------------------------------------------------

    def _open_contract(self, command: OpenContract) -> list[Any]:
        try:
            start_ms = contract_start_ms(command.contract)
        except (ValueError, TypeError):
            return self.refuse("invalid_value", "contract")
        if not self.grid.areas or self.topup_e4 < 0:
            return self.refuse("not_founded", "")
        if command.contract in self.contracts or start_ms <= self.last_opened_ms:
            return self.refuse("contract_exists", "contract")
        gate_ms = start_ms - self.params.lead_min * MINUTE_MS
        if start_ms % self.interval_ms or gate_ms <= self.at_ms:
            return self.refuse("gate_closed", "contract")
        clearing = self.open_account(derived_id(f"clearing:{command.contract}"), CLEARING, "", "")
        contract = Contract(
            command.contract, start_ms, start_ms + self.interval_ms, gate_ms, clearing.index, self.topup_e4,
            self.spill_e4,
        )  # fmt: skip
        areas = self.grid.areas
        contract.open_book(
            self.grid.topology(),
            [self.capacity_wh(area.import_w) for area in areas],
            [self.capacity_wh(area.export_w) for area in areas],
            self.params.netting_permille,
        ).opened.clear()
        contract.set_collar(self.params.collar_e4)
        self.contracts[contract.name] = contract
        self.last_opened_ms = start_ms
        self._schedule_from_ms = 0
        return self._one(
            ev.ContractOpened, contract.name, clearing.index, clearing.id, contract.topup_e4, contract.spill_e4
        )

    def _close_contract(self, command: CloseContract) -> list[Any]:
        contract = self.contracts.get(command.contract)
        if contract is None:
            return self.refuse("unknown_contract", "contract")
        if contract.state != states.OPEN:
            return self.refuse("contract_state", "contract")
        contract.state = states.CLOSED
        self.nonces.pop(contract.name, None)  # nothing can be placed in it any more
        self._schedule_from_ms = 0
        events = self._one(ev.ContractClosed, contract.name)
        ids = sorted(id for id, order in self.orders.items() if order.contract == contract.name)
        self._drop_all(events, [self.orders[id] for id in ids], "gate")
        assert contract.book is None or not contract.book.orders
        return events

    def _deliver_contract(self, command: DeliverContract) -> list[Any]:
        contract = self.contracts.get(command.contract)
        if contract is None:
            return self.refuse("unknown_contract", "contract")
        if contract.state != states.CLOSED or self.at_ms < contract.end_ms:
            return self.refuse("contract_state", "contract")
        contract.state = states.DELIVERED
        contract.areas_due = {area for area, members in self.members_by_area.items() if members}
        contract.areas_due.update(self.accounts[index].area for index in contract.tallies)
        self._schedule_from_ms = 0
        events = self._one(ev.ContractDelivered, contract.name)
        if not contract.areas_due:
            self._retire(contract)
        return events

    def _retire(self, contract: Contract) -> None:
        """A settled contract leaves; only its name is remembered for a while."""
        assert self.accounts[contract.account].cash_e7 == 0
        contract.state = states.SETTLED
        del self.contracts[contract.name]
        self.settled.append(contract.name)
        del self.settled[:-SETTLED_KEPT]

    def schedule(self, now_ms: int) -> list[Command]:
        """Return what the clock asks for at a time: expiries, gates, deliveries, new contracts; at most so many at once."""
        due: list[Command] = []
        expiry_ms = self.due_ms()
        if expiry_ms is not None and expiry_ms <= now_ms:
            due.append(Expire())
        if now_ms < self._schedule_from_ms or not self.interval_min:
            return due
        next_ms = now_ms + self.interval_ms
        for contract in self.contracts.values():
            if contract.state == states.OPEN and contract.halt_until_ms:
                if contract.halt_until_ms <= now_ms:
                    due.append(SetHalt("contract", contract.name, 0, OVER))
                else:
                    next_ms = min(next_ms, contract.halt_until_ms)
            if contract.state == states.OPEN:
                if contract.gate_ms <= now_ms:
                    due.append(CloseContract(contract.name))
                else:
                    next_ms = min(next_ms, contract.gate_ms)
            if contract.state in (states.OPEN, states.CLOSED):
                if contract.end_ms <= now_ms:
                    due.append(DeliverContract(contract.name))
                else:
                    next_ms = min(next_ms, contract.end_ms)
            if len(due) >= SCHEDULED_AT_ONCE:
                return due[:SCHEDULED_AT_ONCE]
        if self.grid.areas and self.topup_e4 >= 0:
            interval_ms, lead_ms = self.interval_ms, self.params.lead_min * MINUTE_MS
            start_ms = max(
                self.last_opened_ms + interval_ms, (now_ms + lead_ms) // interval_ms * interval_ms + interval_ms
            )
            while start_ms <= now_ms + self.params.horizon_min * MINUTE_MS and len(due) < SCHEDULED_AT_ONCE:
                due.append(OpenContract(contract_name(start_ms)))
                start_ms += interval_ms
            next_ms = min(next_ms, start_ms - self.params.horizon_min * MINUTE_MS)
        if not due:
            self._schedule_from_ms = next_ms
        return due

    # --- the journal's own -----------------------------------------------------------------------------------------

    def _seal(self, command: Seal) -> list[Any]:
        if not self.interval_min:
            return self.refuse("not_founded", "")
        self.height += 1
        event = ev.Sealed(self.seq, self.at_ms, self.height, self.block_first, self.seq + 1 - self.block_first)
        self.seq += 1
        self.block_first = self.seq
        return [event]

    def _commit_snapshot(self, command: CommitSnapshot) -> list[Any]:
        if not is_hex(command.sha256, 64):
            return self.refuse("invalid_value", "sha256")
        return self._one(ev.SnapshotCommitted, *command)
