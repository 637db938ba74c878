"""The writer's own database connection: fenced, raw, one transaction a batch.

The connection that writes is the connection that holds the lock. Were they two, the lock could be lost (a server that
restarts, a proxy that drops one of them) while the other went on writing beside the next leader.
"""

from __future__ import annotations

import fcntl
import io
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg2
from django.db import connections

from market.exchange.outcomes import AlreadyRunning
from market.exchange.tables import Table

LOCK_NUMBER = 0x53554E4C  # "SUNL"; advisory locks are per database, so one number serves all installations
# One that is being stopped needs a moment, and a killed one may leave a session behind that may still be committing its
# last batch; it ends, and lets go of the lock, as soon as it looks at its socket again. Only then is it known what was
# durable.
LOCK_WAIT_S = 15.0
LOCK_POLL_S = 0.1
COPY_CHUNK_BYTES = 1 << 20  # handed to the driver at once; nearly every table's part of a batch is one chunk
SQLITE_CHUNKS = (128, 16, 1)  # rows of one statement: three statements a table stay prepared, and few steps are taken
SQLITE_TIMEOUT_S = 20.0
# The defaults, 2 MB and 4 MB, are less than the pages that the indexes of one second's trades touch: each batch would
# read pages it has just written, and every fourth would copy them back into the database.
SQLITE_CACHE_KIB = 128 * 1024
SQLITE_CHECKPOINT_PAGES = 16_384  # 64 MB of log

UPDATE_MONEY = """
UPDATE exchange_balance AS b SET cash_e7 = n.cash, held_e7 = n.held, arrears_e7 = n.arrears
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS n(account, cash, held, arrears)
WHERE b.account = n.account
"""

UPDATE_MONEY_SQLITE = """
UPDATE exchange_balance SET cash_e7 = n.column2, held_e7 = n.column3, arrears_e7 = n.column4
FROM (VALUES %s) AS n WHERE account = n.column1
"""

Statement = tuple[str, Sequence[Any]]


class Fetches(Protocol):
    """What reads the database."""

    def fetch(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query, outside of any transaction of ``write``."""


class Store(Fetches, Protocol):
    """What the writer needs of a database. Statements have ``%s`` marks."""

    pipelined: bool  # whether a second thread may commit while the engine goes on

    def prepare(self, tables: Iterable[tuple[Table, Sequence[Any]]]) -> list[tuple[Any, Any]]:
        """Return the rows as ``write`` takes them. May be called while another thread writes."""

    def write(self, prepared: Iterable[tuple[Any, Any]], statements: Iterable[Statement]) -> None:
        """Append rows and run statements in one transaction; durable on return, not there at all on an exception."""

    def upsert_money(self, rows: Sequence[tuple[int, int, int, int]]) -> Iterable[Statement]:
        """Return statements that set (account, cash_e7, held_e7, arrears_e7) of existing balances."""

    def close(self) -> None:
        """Let go of the database and the lock."""


def _wait_for(take: Callable[[], bool]) -> bool:
    """Try until it works or ``LOCK_WAIT_S`` are over; return whether it worked."""
    until_s = time.monotonic() + LOCK_WAIT_S
    while not take():
        if time.monotonic() >= until_s:
            return False
        time.sleep(LOCK_POLL_S)
    return True


class PostgresStore:
    """PostgreSQL: COPY, and an advisory lock that ends with the session."""

    pipelined = True

    def __init__(self, params: dict[str, Any]):
        params = {name: value for name, value in params.items() if name not in ("cursor_factory", "context")}
        self._connection = psycopg2.connect(**params)
        self._reader: Any = None
        self._params = params
        with self._connection.cursor() as cursor:
            self._take_lock(cursor)
            # The installation's choice may be weaker for its own tables; an acknowledgement here means durable.
            cursor.execute("SET synchronous_commit = on")
        self._connection.commit()

    def _take_lock(self, cursor: Any) -> None:
        """Become the only writer, or raise ``AlreadyRunning``."""

        def take() -> bool:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_NUMBER])
            return bool(cursor.fetchone()[0])

        if not _wait_for(take):
            self._connection.close()
            name = self._params.get("dbname")
            raise AlreadyRunning(f"another exchange writes to the PostgreSQL database {name!r}; only one may")

    def prepare(self, tables: Iterable[tuple[Table, Sequence[Any]]]) -> list[tuple[str, bytes]]:
        """See ``Store.prepare``: statements and their COPY texts, so that writing is nothing but waiting."""
        return [(table.copy_sql, table.copy_text(rows)) for table, rows in tables]

    def write(self, prepared: Iterable[tuple[str, bytes]], statements: Iterable[Statement]) -> None:
        """See ``Store.write``."""
        with self._connection.cursor() as cursor:
            for sql, text in prepared:
                cursor.copy_expert(sql, io.BytesIO(text), COPY_CHUNK_BYTES)
            for sql, params in statements:
                cursor.execute(sql, params)
        self._connection.commit()

    def upsert_money(self, rows: Sequence[tuple[int, int, int, int]]) -> Iterable[Statement]:
        """See ``Store.upsert_money``."""
        if not rows:
            return []
        columns = ["{" + ",".join(map(str, column)) + "}" for column in zip(*rows, strict=True)]
        return [(UPDATE_MONEY, columns)]

    def fetch(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See ``Store.fetch``; on a connection of its own, because another thread may be committing on the first."""
        if self._reader is None:
            self._reader = psycopg2.connect(**self._params)
            self._reader.autocommit = True
        with self._reader.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())

    def close(self) -> None:
        """See ``Store.close``."""
        for connection in (self._connection, self._reader):
            if connection is not None:
                connection.close()


class SqliteStore:
    """SQLite: WAL, synchronous=FULL, and an flock on a file beside the database that ends with the process."""

    # sqlite3 gives the interpreter lock away at every step of a statement; a second busy thread would make each step
    # wait.
    pipelined = False

    def __init__(self, path: str):
        lock_path = Path(f"{path}.writer")
        self._lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _wait_for(self._take_lock):
            os.close(self._lock)
            raise AlreadyRunning(f"another exchange writes to {path} (it holds {lock_path}); only one may")
        self._connection = sqlite3.connect(
            path, timeout=SQLITE_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA recursive_triggers=ON")  # a replaced row is a deleted one, for the guards
        self._connection.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
        self._connection.execute(f"PRAGMA wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}")

    def prepare(self, tables: Iterable[tuple[Table, Sequence[Any]]]) -> list[tuple[Table, Sequence[Any]]]:
        """See ``Store.prepare``."""
        return list(tables)

    def write(self, prepared: Iterable[tuple[Table, Sequence[Any]]], statements: Iterable[Statement]) -> None:
        """See ``Store.write``."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for table, rows in prepared:
                self._insert(table, rows)
            for sql, params in statements:
                connection.execute(sql.replace("%s", "?"), params)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _take_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _insert(self, table: Table, rows: Sequence[Any]) -> None:
        start = 0
        for chunk in SQLITE_CHUNKS:
            sql = table.insert_sql(chunk)
            while len(rows) - start >= chunk:
                part = rows[start : start + chunk]
                self._connection.execute(sql, part[0] if chunk == 1 else [value for row in part for value in row])
                start += chunk

    def upsert_money(self, rows: Sequence[tuple[int, int, int, int]]) -> Iterable[Statement]:
        """See ``Store.upsert_money``."""
        statements: list[Statement] = []
        start = 0
        for chunk in SQLITE_CHUNKS:
            sql = UPDATE_MONEY_SQLITE % ",".join(["(?,?,?,?)"] * chunk)
            while len(rows) - start >= chunk:
                statements.append((sql, [value for row in rows[start : start + chunk] for value in row]))
                start += chunk
        return statements

    def fetch(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See ``Store.fetch``."""
        return self._connection.execute(sql.replace("%s", "?"), params).fetchall()

    def close(self) -> None:
        """See ``Store.close``."""
        self._connection.close()
        os.close(self._lock)


def open_store() -> PostgresStore | SqliteStore:
    """Open the writer's connection to Django's default database; ``AlreadyRunning`` when another writer has it."""
    connection = connections["default"]
    if connection.vendor == "postgresql":
        return PostgresStore(connection.get_connection_params())
    return SqliteStore(str(connection.get_connection_params()["database"]))
