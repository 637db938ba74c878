"""Orders a second from command to acknowledgement: accepted, matched, reserved, journalled, committed, sealed every
second.

The peer is the bare COPY (PostgreSQL) or executemany (SQLite) of the very rows the exchange wrote, into the same
tables, in the same batches, in the same run: no engine, no checks, no encoding, no hashing, no answers, no balances.

``durable_postgres`` needs BENCH_POSTGRES_URL (or a PostgreSQL DATABASE_URL) of a user who may create databases.
BENCH_SECONDS (default 60) is the length of the measured part. Each figure is taken in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tests.load.bench import Figure

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


def child(module: str, url: str, folder: str, *arguments: str) -> dict[str, Any]:
    """Run a module of this package on an empty database in a process of its own; return the JSON it prints last."""
    environment = {**os.environ, "DATABASE_URL": url, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "WARNING"}
    run = subprocess.run(
        [sys.executable, "-m", f"tests.load.{module}", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result


def measure(url: str, folder: str) -> Figure:
    """Run the measurement on an empty database."""
    result = child("durable_child", url, folder)
    rate, bare = result["orders"] / result["seconds"], result["bare_orders"] / result["bare_seconds"]
    note = (
        f"{result['orders']:,} keyed orders, {result['trades']:,} trades, {result['entries']:,} entries, "
        f"{result['seals']} seals in {result['seconds']:.0f} s; reference: bare writes of {result['bare_rows']:,} rows"
    )
    return Figure(rate, "orders/s", bare, rate / bare, note)


def durable_sqlite() -> Figure:
    """The embedded default: SQLite with synchronous=FULL."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return measure(f"sqlite:///{folder}/bench.sqlite3", folder)


def on_postgres(name: str, work: Callable[[str, str], T]) -> T:
    """Return ``work(url, folder)`` on a PostgreSQL database made for the benchmark ``name`` and dropped after it."""
    import psycopg2

    url = os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        raise SystemExit(f"{name}: set BENCH_POSTGRES_URL, e.g. postgresql://user:password@127.0.0.1:5432/postgres")
    database = f"sunledger_bench_{os.getpid()}"
    admin = psycopg2.connect(url)
    admin.autocommit = True
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{database}"')
        try:
            return work(urlunsplit(urlsplit(url)._replace(path=f"/{database}")), folder)
        finally:
            cursor.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
            admin.close()


def durable_postgres() -> Figure:
    """PostgreSQL with synchronous_commit=on."""
    return on_postgres("durable_postgres", measure)


BENCHES: dict[str, Callable[[], Figure]] = {"durable_postgres": durable_postgres, "durable_sqlite": durable_sqlite}
