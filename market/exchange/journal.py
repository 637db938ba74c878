"""From events to rows: what one batch will write, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger import models as ledger
from ledger.operations import Log
from market.engine.commands import Command
from market.engine.engine import Engine
from market.engine.events import Event, Refused
from market.exchange import alerts, models
from market.exchange.idempotency import KEYS, Keys, content_of, refused_text
from market.exchange.inbox import Item
from market.exchange.leaves import Leaves
from market.exchange.outcomes import SealInfo
from market.exchange.recording import Recorder
from market.exchange.stores import Statement, Store
from market.exchange.tables import Table
from market.exchange.views import AlertView

ORDERS = Table.of(models.Order)
DETAILS = Table.of(models.OrderDetail)
TRADES = Table.of(models.Trade)
RECALLS = Table.of(models.Recall)
ALERTS = Table.of(models.Alert)
CHANGES = Table.of(models.OrderChange)
TRANSFERS = Table.of(models.Transfer)
BALANCES = Table.of(models.Balance)
CONTRACTS = Table.of(models.Contract)
SETTLEMENT_LINES = Table.of(models.SettlementLine)
ADJUSTMENTS = Table.of(models.Adjustment)
FINALS = Table.of(models.Final)
AGREEMENTS = Table.of(models.AgreementChange)
SHARED = Table.of(models.SharedLine)
REFUSALS = Table.of(models.Refusal)
SNAPSHOTS = Table.of(models.Snapshot)
LEDGER = {
    model: Table.of(model) for model in (ledger.Checkpoint, ledger.Entry, ledger.HashTile, ledger.KeyEntry, ledger.Row)
}

KEPT_REFUSALS = 1_000_000  # newest ones, for the regulator
KEPT_SNAPSHOTS = 3
FORGET_ROWS = 5_000  # at most so many old refusals are dropped in one transaction
FORGET_SNAPSHOTS = """
DELETE FROM exchange_snapshot WHERE seq NOT IN (SELECT seq FROM exchange_snapshot ORDER BY seq DESC LIMIT %s)
"""
FORGET_REFUSALS = """
DELETE FROM exchange_refusal WHERE n IN (SELECT n FROM exchange_refusal WHERE n < %s ORDER BY n LIMIT %s)
"""
MAX_ACCOUNT = 2**63 - 1


class Unbalanced(Exception):
    """The transfers of a batch do not explain the change of the engine's balances. Nothing of it was written."""


class Batch:
    """What is applied together and becomes durable together."""

    def __init__(self, first_seq: int, at_ms: int):
        self.first_seq = first_seq
        self.next_seq = first_seq
        self.at_ms = at_ms
        self.items: list[Item] = []
        self.events: list[Event] = []
        self.tables: list[tuple[Table, Sequence[Any]]] = []
        self.prepared: list[tuple[Any, Any]] = []  # the tables as the store takes them
        self.statements: list[Statement] = []
        self.sealed: SealInfo | None = None
        self.alerts: tuple[AlertView, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.tables and not self.statements


class Journal(Recorder):
    """Collects the rows of the running batch and keeps what the next one needs to know."""

    def __init__(self, engine: Engine, log: Log, store: Store, keys: Keys, leaves: Leaves):
        clearing = {name: contract.account for name, contract in engine.contracts.items()}
        super().__init__(log.append, leaves, clearing)
        self._engine = engine
        self._log = log
        self._store = store
        self._keys = keys
        self._net = [account.net_e7 for account in engine.accounts]
        self.netting = engine.params.netting_permille
        engine.take_dirty()
        self._dirty: set[int] = set()  # accounts changed in the running batch
        self.unsealed_accounts: set[int] = set()  # accounts changed since the last seal
        self.unsealed_contracts: set[str] = set()  # contracts traded since a seal looked at their positions
        self._refusal_n = self._next_refusal()
        self._clear()

    def _clear(self) -> None:
        self.clear_rows()
        self._refusals: list[Any] = []
        self._snapshots: list[Any] = []

    def _next_refusal(self) -> int:
        rows = self._store.fetch("SELECT max(n) FROM exchange_refusal")
        return 0 if rows[0][0] is None else int(rows[0][0]) + 1

    # --- what happened ----------------------------------------------------------------------------------------------
    def keep_rows(self, seq: int, rows: Sequence[bytes]) -> None:
        """Keep the salted rows that the readings or settle entry ``seq`` commits to."""
        self._log.add_rows(seq, rows)

    def refuse(self, command: Command, refused: Refused, at_ms: int) -> None:
        """Keep a refusal beside the ledger."""
        account = getattr(command, "account", -1)
        if not -1 <= account <= MAX_ACCOUNT:
            account = -1
        code, field, _ = refused
        self._refusals.append(
            (
                self._refusal_n,
                at_ms,
                self._engine.seq,
                account,
                code,
                field,
                content_of(command),
                refused_text(refused),
            )
        )
        self._refusal_n += 1

    def snapshot(self, seq: int, at_ms: int, sha256: str, data: bytes) -> None:
        """Keep a snapshot of the engine's state after ``seq`` entries."""
        self._snapshots.append((seq, at_ms, sha256, data))

    def note_changes(self) -> None:
        """Note which accounts the engine has changed so far."""
        dirty = self._engine.take_dirty()
        self._dirty |= dirty
        self.unsealed_accounts |= dirty

    # --- what to write ----------------------------------------------------------------------------------------------
    def finish(self, batch: Batch) -> None:
        """Check the books and fill the batch with what its transaction writes; raise ``Unbalanced``."""
        engine = self._engine
        self.note_changes()
        dirty, self._dirty = self._dirty, set()
        self._check_books(dirty)
        tables: list[tuple[Table, Sequence[Any]]] = [(LEDGER[model], rows) for model, rows in self._log.take_rows()]
        statements = batch.statements
        if self.trades:
            self.unsealed_contracts.update([trade[2] for trade in self.trades])
        self.unsealed_contracts.update([recall[3] for recall in self.recalls])
        batch.alerts = tuple(alerts.raised(engine, self.alarming))
        accounts = engine.accounts
        opened = set(self.opened)
        if opened:
            tables.append((BALANCES, [self._balance_row(index) for index in sorted(opened)]))
        money = []
        for index in dirty:
            account = accounts[index]
            cash_e7 = account.cash_e7
            if cash_e7 or account.arrears_e7 or index not in opened:  # a new row begins with nothing
                money.append((index, cash_e7, account.held_e7, account.arrears_e7))
        statements += self._store.upsert_money(money)
        tables.append((CONTRACTS, self.new_contracts))
        statements += [
            ("UPDATE exchange_contract SET state = %s, changed_seq = %s WHERE name = %s", [state, seq, name])
            for name, (state, seq) in self.contract_states.items()
        ]
        self.forget_settled()
        key_rows, key_statements = self._keys.take(batch.at_ms)
        statements += key_statements
        tables += [
            (ORDERS, self.orders),
            (DETAILS, self.details),
            (TRADES, self.trades),
            (RECALLS, self.recalls),
            (ALERTS, batch.alerts),
            (CHANGES, self.changes),
            (TRANSFERS, self.transfers),
            (SETTLEMENT_LINES, self.lines),
            (ADJUSTMENTS, self.adjustments),
            (FINALS, self.finals),
            (AGREEMENTS, self.agreements),
            (SHARED, self.shared),
            (REFUSALS, self._refusals),
            (KEYS, key_rows),
            (SNAPSHOTS, self._snapshots),
        ]
        statements += self._retention()
        batch.tables = [(table, rows) for table, rows in tables if rows]
        batch.next_seq = engine.seq
        self._clear()

    def _retention(self) -> list[Statement]:
        statements: list[Statement] = []
        if self._snapshots:
            statements.append((FORGET_SNAPSHOTS, [KEPT_SNAPSHOTS]))
        if self._refusals and self._refusal_n > KEPT_REFUSALS:
            statements.append((FORGET_REFUSALS, [self._refusal_n - KEPT_REFUSALS, FORGET_ROWS]))
        return statements

    def _balance_row(self, index: int) -> tuple[Any, ...]:
        account = self._engine.accounts[index]
        return (index, account.id, account.kind, account.area, 0, 0, 0)

    def _check_books(self, dirty: set[int]) -> None:
        """Check that the batch's transfers explain, to the last unit, how the engine's balances changed."""
        deltas: dict[int, int] = {}
        get = deltas.get
        for trade in self.trades:
            _, _, _, _, _, energy_wh, _, _, _, buyer, seller, _, _, _, _, cost_e7, margin_e7, clearing = trade
            if energy_wh <= 0 or cost_e7 <= 0 or margin_e7 < 0 or buyer == seller:
                raise Unbalanced(f"expected a trade that moves energy and money between two accounts, was {trade}")
            deltas[buyer] = get(buyer, 0) - cost_e7
            deltas[seller] = get(seller, 0) - margin_e7
            deltas[clearing] = get(clearing, 0) + cost_e7 + margin_e7
        for row in self.transfers:
            debit, credit, amount = row[3:]
            if amount <= 0 or debit == credit:
                raise Unbalanced(f"expected a positive amount between two accounts, was {row}")
            deltas[debit] = get(debit, 0) - amount
            deltas[credit] = get(credit, 0) + amount
        if sum(deltas.values()) != 0:
            raise Unbalanced(f"expected a sum of 0, was {sum(deltas.values())}")
        accounts, net = self._engine.accounts, self._net
        net.extend([0] * (len(accounts) - len(net)))
        for index in dirty | deltas.keys():
            expected = net[index] + get(index, 0)
            was = accounts[index].net_e7
            if expected != was:
                raise Unbalanced(f"account {index}: expected {expected} e7 by its transfers, was {was}")
            net[index] = was

    # --- for the seal -----------------------------------------------------------------------------------------------
    def money_total_e7(self) -> int:
        """Return the sum of all accounts' money, less what they owe, as the transfers have it, e7."""
        self._net.extend([0] * (len(self._engine.accounts) - len(self._net)))
        return sum(self._net)
