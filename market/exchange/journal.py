"""From events to rows: what one batch will write, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ledger import models as ledger
from ledger.operations import Log
from market.engine import events as ev
from market.engine.commands import Command
from market.engine.engine import Engine
from market.engine.events import Event, OrderCancelled, OrderPlaced, Refused, Traded
from market.exchange import alerts, models
from market.exchange.idempotency import KEYS, Keys, content_of, refused_text
from market.exchange.inbox import Item
from market.exchange.leaves import Leaves
from market.exchange.outcomes import SealInfo
from market.exchange.stores import Statement, Store
from market.exchange.tables import Table
from market.exchange.transfers import of_fund, of_recall, of_settlement
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
ORDER_COLUMNS = len(OrderPlaced._fields)  # a complex order's first fields are a plain one's


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


class Journal:
    """Collects the rows of the running batch and keeps what the next one needs to know."""

    def __init__(self, engine: Engine, log: Log, store: Store, keys: Keys, leaves: Leaves):
        self._engine = engine
        self._log = log
        self._store = store
        self._keys = keys
        self._leaves = leaves
        self._cash = [account.cash_e7 for account in engine.accounts]
        self._clearing = {name: contract.account for name, contract in engine.contracts.items()}
        self._netting = engine.params.netting_permille  # after what was recorded so far
        engine.take_dirty()
        self._dirty: set[int] = set()  # accounts changed in the running batch
        self.unsealed_accounts: set[int] = set()  # accounts changed since the last seal
        self.unsealed_contracts: set[str] = set()  # contracts traded since a seal looked at their positions
        self._refusal_n = self._next_refusal()
        self._clear()

    def _clear(self) -> None:
        self._orders: list[Any] = []
        self._details: list[Any] = []
        self._recalls: list[Any] = []
        self._alarming: list[Event] = []  # of the running batch
        self._trades: list[Any] = []
        self._changes: list[Any] = []
        self._transfers: list[Any] = []
        self._opened: list[int] = []
        self._new_contracts: list[Any] = []
        self._contract_states: dict[str, tuple[str, int]] = {}
        self._lines: list[Any] = []
        self._refusals: list[Any] = []
        self._snapshots: list[Any] = []

    def _next_refusal(self) -> int:
        rows = self._store.fetch("SELECT max(n) FROM exchange_refusal")
        return 0 if rows[0][0] is None else int(rows[0][0]) + 1

    # --- what happened ----------------------------------------------------------------------------------------------
    def keep_rows(self, seq: int, rows: Sequence[bytes]) -> None:
        """Keep the salted rows that the readings or settle entry ``seq`` commits to."""
        self._log.add_rows(seq, rows)

    def record(self, events: Iterable[Event]) -> None:
        """Turn events into leaves and rows."""
        append, leaves, clearing = self._log.append, self._leaves, self._clearing
        order_leaf, trade_leaf = leaves.order, leaves.trade
        for event in events:
            kind = type(event)
            if kind is OrderPlaced:
                append(order_leaf(event))
                self._orders.append(event)
            elif kind is Traded:
                append(trade_leaf(event))
                self._trades.append((*event, clearing[event[2]]))
            elif kind is OrderCancelled:
                append(leaves.cancel(event))
                seq, at_ms, order, account, contract, remaining_wh, reason = event
                self._changes.append((seq, at_ms, "cancel", order, account, contract, 0, 0, remaining_wh, 0, reason))
            else:
                append(leaves.leaf(event))
                self._record_rare(event)

    def _record_rare(self, event: Any) -> None:
        kind = type(event)
        if kind is ev.OrderAmended:
            seq, at_ms, order, account, contract, price_e4, energy_wh, requeued = event
            self._changes.append((seq, at_ms, "amend", order, account, contract, price_e4, energy_wh, 0, requeued, ""))
        elif kind is ev.ComplexOrderPlaced:
            self._orders.append(event[:ORDER_COLUMNS])
            self._details.append((event.seq, *event[ORDER_COLUMNS:]))
        elif kind is ev.OrderHibernated or kind is ev.OrderReactivated:
            seq, at_ms, order, account, contract, remaining_wh = event
            name = "sleep" if kind is ev.OrderHibernated else "wake"
            self._changes.append((seq, at_ms, name, order, account, contract, 0, 0, remaining_wh, 0, ""))
        elif kind is ev.TradeRecalled:
            self._recalls.append((event.trade, event.seq, event.at_ms, *event[3:]))
            self._transfers += of_recall(event, self._clearing[event.contract])
            self._alarming.append(event)
        elif kind is ev.CapacitySet or kind is ev.HaltSet:
            self._alarming.append(event)
        elif kind is ev.ParamsSet:
            if event.netting_permille < self._netting:
                self._alarming.append(event)
            self._netting = event.netting_permille
        elif kind is ev.AccountOpened:
            self._opened.append(event.account)
        elif kind is ev.ContractOpened:
            self._clearing[event.contract] = event.account
            seq = event.seq
            self._opened.append(event.account)
            self._new_contracts.append(
                (event.contract, "open", event.account, event.topup_e4, event.spill_e4, seq, event.at_ms, seq)
            )
        elif kind is ev.ContractClosed:
            self._contract_states[event.contract] = ("closed", event.seq)
        elif kind is ev.ContractDelivered:
            self._contract_states[event.contract] = ("delivered", event.seq)
        elif kind is ev.Settled:
            self._transfers += of_settlement(event, self._clearing[event.contract])
            self._lines += [
                (event.seq, row.account, event.at_ms, event.contract, event.area, *row[1:]) for row in event.rows
            ]
            if event.complete:
                self._contract_states[event.contract] = ("settled", event.seq)
        elif kind is ev.Funded:
            self._transfers += of_fund(event)

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
        if self._trades:
            self.unsealed_contracts.update([trade[2] for trade in self._trades])
        self.unsealed_contracts.update([recall[3] for recall in self._recalls])
        batch.alerts = tuple(alerts.raised(engine, self._alarming))
        accounts = engine.accounts
        opened = set(self._opened)
        if opened:
            tables.append((BALANCES, [self._balance_row(index) for index in sorted(opened)]))
        money = []
        for index in dirty:
            if index not in opened:
                account = accounts[index]
                money.append((index, account.cash_e7, account.held_e7, account.arrears_e7))
        statements += self._store.upsert_money(money)
        tables.append((CONTRACTS, self._new_contracts))
        statements += [
            ("UPDATE exchange_contract SET state = %s, changed_seq = %s WHERE name = %s", [state, seq, name])
            for name, (state, seq) in self._contract_states.items()
        ]
        for name, (state, _) in self._contract_states.items():
            if state == "settled":
                self._clearing.pop(name, None)
        key_rows, key_statements = self._keys.take(batch.at_ms)
        statements += key_statements
        tables += [
            (ORDERS, self._orders),
            (DETAILS, self._details),
            (TRADES, self._trades),
            (RECALLS, self._recalls),
            (ALERTS, batch.alerts),
            (CHANGES, self._changes),
            (TRANSFERS, self._transfers),
            (SETTLEMENT_LINES, self._lines),
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
        money = (account.cash_e7, account.held_e7, account.arrears_e7)
        return (index, account.id, account.kind, account.area, *money)

    def _check_books(self, dirty: set[int]) -> None:
        """Check that the batch's transfers explain, to the last unit, how the engine's balances changed."""
        deltas: dict[int, int] = {}
        get = deltas.get
        for trade in self._trades:
            energy_wh, buyer, seller, cost_e7, margin_e7, clearing = trade[5], trade[9], trade[10], *trade[15:]
            if energy_wh <= 0 or cost_e7 <= 0 or margin_e7 < 0 or buyer == seller:
                raise Unbalanced(f"expected a trade that moves energy and money between two accounts, was {trade}")
            deltas[buyer] = get(buyer, 0) - cost_e7
            deltas[seller] = get(seller, 0) - margin_e7
            deltas[clearing] = get(clearing, 0) + cost_e7 + margin_e7
        for row in self._transfers:
            debit, credit, amount = row[3:]
            if amount <= 0 or debit == credit:
                raise Unbalanced(f"expected a positive amount between two accounts, was {row}")
            deltas[debit] = get(debit, 0) - amount
            deltas[credit] = get(credit, 0) + amount
        if sum(deltas.values()) != 0:
            raise Unbalanced(f"expected a sum of 0, was {sum(deltas.values())}")
        accounts, cash = self._engine.accounts, self._cash
        cash.extend([0] * (len(accounts) - len(cash)))
        for index in dirty | deltas.keys():
            expected = cash[index] + get(index, 0)
            was = accounts[index].cash_e7
            if expected != was:
                raise Unbalanced(f"account {index}: expected {expected} e7 by its transfers, was {was}")
            cash[index] = was

    # --- for the seal -----------------------------------------------------------------------------------------------
    def money_total_e7(self) -> int:
        """Return the sum of all accounts' money as the transfers have it, e7."""
        self._cash.extend([0] * (len(self._engine.accounts) - len(self._cash)))
        return sum(self._cash)
