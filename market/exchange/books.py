"""The books against the ledger: every row follows from its leaf, every leaf has its rows, every balance is their sum.

The ledger's entries are replayed, and what each must have left behind (``recording``) is held against the tables, both in
the order of the entries. Memory holds the market's state, not its history.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg2
from django.db import connections
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from market.engine.engine import Engine
from market.engine.events import Traded
from market.engine.replay import Divergence, replay
from market.exchange import models
from market.exchange.recording import SETTLED, Recorder
from market.exchange.tables import Table

AT_ONCE = 5_000  # rows of one fetch
_BY_ACCOUNT = ("lines", "adjustments")  # their order within an entry
Fetch = Callable[[str, Sequence[Any]], Iterator[tuple[Any, ...]]]


class Difference(Exception):
    """The first place where the books are not what the ledger says. ``place`` names it."""

    def __init__(self, place: str, what: str):
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


class Checked(NamedTuple):
    """What was compared, in numbers."""

    entries: int
    rows: dict[str, int]  # by table
    accounts: int
    contracts: int


class _Leaves:
    """In place of what makes leaves: they are in the ledger already."""

    def order(self, event: Any, extra: Any = None) -> bytes:
        return b""

    trade = cancel = leaf = order


class _Rows:
    """A table's rows in the order of the entries, each asked for once."""

    def __init__(self, table: Table, key: tuple[str, ...], fetch: Fetch):
        self.table = table
        self.count = 0
        self._key = [table.columns.index(name) for name in key]
        columns = ", ".join(f'"{column}"' for column in table.columns)
        order = ", ".join(f'"{name}"' for name in key)
        self._rows = fetch(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}', ())  # noqa: S608 (our names)

    def expect(self, wanted: Sequence[Any]) -> None:
        """Compare the next row with the one that must come now."""
        was = next(self._rows, None)
        number = self._number(wanted)
        if was is None or self._number(was) > number:
            raise Difference(self._place(wanted), "expected a row, was missing")
        if self._number(was) < number:
            raise Difference(self._place(was), "expected no such row: the ledger has nothing that it follows from")
        if tuple(was) != tuple(wanted):
            names = zip(self.table.columns, wanted, was, strict=True)
            what = "; ".join(f"{name}: expected {value}, was {found}" for name, value, found in names if value != found)
            raise Difference(self._place(wanted), what)
        self.count += 1

    def end(self) -> None:
        """No row may be left."""
        was = next(self._rows, None)
        if was is not None:
            raise Difference(self._place(was), "expected no such row: the ledger has nothing that it follows from")

    def _number(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[at] for at in self._key)

    def _place(self, row: Sequence[Any]) -> str:
        return f"{self.table.name} {' '.join(str(part) for part in self._number(row))}"


class _Books:
    def __init__(self, fetch: Fetch):
        self._fetch = fetch
        self._recorder = Recorder(lambda leaf: None, _Leaves(), {})
        self._contracts: dict[str, list[Any]] = {}
        self._cash: dict[int, int] = {}  # by account: the sum of its movements
        self._energy: dict[str, int] = {}  # by contract that is not settled: traded and not recalled
        self._engine = Engine()
        # The columns of ``recording``; movements of money are summed up from the same rows.
        self._tables = {
            "orders": _Rows(Table.of(models.Order), ("id",), fetch),
            "details": _Rows(Table.of(models.OrderDetail), ("order",), fetch),
            "trades": _Rows(Table.of(models.Trade), ("id",), fetch),
            "recalls": _Rows(Table.of(models.Recall), ("seq",), fetch),
            "changes": _Rows(Table.of(models.OrderChange), ("seq",), fetch),
            "transfers": _Rows(Table.of(models.Transfer), ("id",), fetch),
            "lines": _Rows(Table.of(models.SettlementLine), ("seq", "account"), fetch),
            "adjustments": _Rows(Table.of(models.Adjustment), ("seq", "account"), fetch),
            "finals": _Rows(Table.of(models.Final), ("seq",), fetch),
            "agreements": _Rows(Table.of(models.AgreementChange), ("seq",), fetch),
            "shared": _Rows(Table.of(models.SharedLine), ("seq", "agreement"), fetch),
        }

    def check(self) -> Checked:
        try:
            replay(self._engine, self._leaves(), self._rows_of, self._take)
        except Divergence as error:
            raise Difference(f"entry {error.seq}", f"expected {error.expected}, was {error.was}") from error
        for rows in self._tables.values():
            rows.end()
        self._check_contracts()
        self._check_balances()
        self._check_energy()
        counts = {rows.table.name: rows.count for rows in self._tables.values()}
        return Checked(self._engine.seq, counts, len(self._engine.accounts), len(self._contracts))

    def _leaves(self) -> Iterator[bytes]:
        for expected, (seq, leaf) in enumerate(self._fetch("SELECT seq, leaf FROM ledger_entry ORDER BY seq", ())):
            if seq != expected:
                raise Difference(f"entry {expected}", "expected an entry, was missing")
            yield bytes(leaf)

    def _rows_of(self, seq: int) -> list[bytes]:
        rows = self._fetch("SELECT data FROM ledger_row WHERE seq = %s ORDER BY number", [seq])
        return [bytes(data) for (data,) in rows]

    # --- one event ---------------------------------------------------------------------------------------------------

    def _take(self, event: Any) -> None:
        recorder = self._recorder
        recorder.record((event,))
        for name, rows in self._tables.items():
            wanted = getattr(recorder, name)
            if wanted:
                for row in sorted(wanted, key=lambda row: row[:2]) if name in _BY_ACCOUNT else wanted:
                    rows.expect(row)
        self._add_up()
        for contract in recorder.new_contracts:
            self._contracts[contract[0]] = list(contract)
        for name, (state, seq) in recorder.contract_states.items():
            self._contracts[name][1], self._contracts[name][-1] = state, seq
            if state == SETTLED:
                self._energy.pop(name, None)
        recorder.forget_settled()
        recorder.clear_rows()

    def _add_up(self) -> None:
        recorder, cash, energy = self._recorder, self._cash, self._energy
        for trade in recorder.trades:
            event = Traded(*trade[:-1])
            paid_e7 = event.cost_e7 + event.margin_e7
            for account, change in (
                (event.buyer, -event.cost_e7),
                (event.seller, -event.margin_e7),
                (trade[-1], paid_e7),
            ):
                cash[account] = cash.get(account, 0) + change
            energy[event.contract] = energy.get(event.contract, 0) + event.energy_wh
        for _, _, _, debit, credit, amount in recorder.transfers:
            cash[debit] = cash.get(debit, 0) - amount
            cash[credit] = cash.get(credit, 0) + amount
        for recall in recorder.recalls:
            energy[recall[3]] = energy.get(recall[3], 0) - recall[5]

    # --- what stands at the end --------------------------------------------------------------------------------------

    def _check_contracts(self) -> None:
        rows = _Rows(Table.of(models.Contract), ("name",), self._fetch)
        for name in sorted(self._contracts):
            rows.expect(self._contracts[name])
        rows.end()

    def _check_balances(self) -> None:
        """Every balance is the sum of its movements, every hold that of its open orders, all money together 0."""
        engine = self._engine
        held: dict[int, int] = {}
        for order in engine.orders.values():
            held[order.account] = held.get(order.account, 0) + order.hold_e7
        rows = _Rows(Table.of(models.Balance), ("account",), self._fetch)
        for account in engine.accounts:
            index = account.index
            # Movements change what an account has less what it owes; the engine says what of them could not be taken.
            cash_e7 = self._cash.get(index, 0) + account.arrears_e7
            wanted = (account.id, account.kind, account.area, cash_e7, held.get(index, 0))
            rows.expect((index, *wanted, account.arrears_e7))
        rows.end()
        total_e7 = sum(self._cash.values())
        if total_e7:
            raise Difference("exchange_balance", f"expected balances that add up to 0, was {total_e7} e7")

    def _check_energy(self) -> None:
        """What was bought in a contract was sold in it, and is what its trades say."""
        for contract in self._engine.contracts.values():
            bought_wh = sum(tally.bought_wh for tally in contract.tallies.values())
            sold_wh = sum(tally.sold_wh for tally in contract.tallies.values())
            traded_wh = self._energy.get(contract.name, 0)
            if not bought_wh == sold_wh == traded_wh:
                what = f"expected {traded_wh} Wh bought and sold, was {bought_wh} bought and {sold_wh} sold"
                raise Difference(f"exchange_contract {contract.name}", what)


def check() -> Checked:
    """Compare all of this installation's books with its ledger, as of one instant; raise ``Difference`` at the first."""
    with _instant() as fetch:
        return _Books(fetch).check()


@contextlib.contextmanager
def _instant() -> Generator[Fetch]:
    """Open a connection that sees the database as it is now, whatever is written meanwhile, and can only read."""
    connection = connections["default"]
    params = connection.get_connection_params()
    if connection.vendor == "postgresql":
        params = {name: value for name, value in params.items() if name not in ("cursor_factory", "context")}
        session = psycopg2.connect(**params)
        try:
            session.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
            yield lambda sql, values: _streamed(session, sql, values)
        finally:
            session.close()
        return
    database = sqlite3.connect(f"file:{params['database']}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("BEGIN")
        yield lambda sql, values: database.execute(sql.replace("%s", "?"), values)
    finally:
        database.close()


_names = iter(range(1 << 62))


def _streamed(session: Any, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    with session.cursor(name=f"books_{next(_names)}") as cursor:
        cursor.itersize = AT_ONCE
        cursor.execute(sql, values)
        yield from cursor
