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
from urllib.parse import urlsplit, urlunsplit

from tests.load.bench import Figure

ROOT = Path(__file__).resolve().parents[2]


def measure(url: str, folder: str) -> Figure:
    """Run the measurement on an empty database in a process of its own."""
    environment = {**os.environ, "DATABASE_URL": url, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "WARNING"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.load.durable_child"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    result = json.loads(run.stdout.splitlines()[-1])
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


def durable_postgres() -> Figure:
    """PostgreSQL with synchronous_commit=on, in a database made for the run and dropped after it."""
    import psycopg2

    url = os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        raise SystemExit(
            "durable_postgres: set BENCH_POSTGRES_URL, e.g. postgresql://user:password@127.0.0.1:5432/postgres"
        )
    name = f"sunledger_bench_{os.getpid()}"
    admin = psycopg2.connect(url)
    admin.autocommit = True
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            return measure(urlunsplit(urlsplit(url)._replace(path=f"/{name}")), folder)
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            admin.close()


BENCHES: dict[str, Callable[[], Figure]] = {"durable_postgres": durable_postgres, "durable_sqlite": durable_sqlite}
