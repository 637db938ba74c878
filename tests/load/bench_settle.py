"""Settlement of the whole SimBench city's interval: 32,511 homes in 443 areas, from the readings to what is durable.

``settle_city_s`` needs BENCH_POSTGRES_URL (or a PostgreSQL DATABASE_URL) of a user who may create databases. The reference is
the budget of 3 s; beside it stand a quarter and half of the city, and the bare writing of the same rows in the database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.load.bench import Figure, Peer
from tests.load.bench_city import database

ROOT = Path(__file__).resolve().parents[2]
BUDGET_S = 3.0
PARTS = (4, 2, 1)  # a quarter, half, all of the city


def measure(parts: int) -> dict[str, Any]:
    """Settle a part of the city in a database and a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, database(folder) as url:
        environment = {**os.environ, "DATABASE_URL": url, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "WARNING"}
        run = subprocess.run(
            [sys.executable, "-m", "tests.load.settle_child", str(parts)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def settle_city_s() -> Figure:
    """Settle a quarter, half and all of the city."""
    url = os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        raise SystemExit(
            "settle_city_s: set BENCH_POSTGRES_URL, e.g. postgresql://user:password@127.0.0.1:5432/postgres"
        )
    runs = [measure(parts) for parts in PARTS]
    quarter, _, city = runs
    growth = city["cpu_seconds"] / quarter["cpu_seconds"]
    peers = [
        Peer(
            f"{run['homes']:,} homes in {run['areas']} areas, s",
            run["seconds"],
            None,
            f"{run['cpu_seconds']:.2f} CPU s",
        )
        for run in runs
    ]
    bare = city["bare_seconds"]
    peers.append(Peer("bare INSERT of the same rows in the database, s", bare, city["seconds"] / bare, "with indexes"))
    size = f"{city['homes']:,} homes in {city['areas']} areas"
    note = f"{size}; {growth:.1f} times the CPU time of a quarter; reference: the budget"
    return Figure(city["seconds"], "s", BUDGET_S, city["seconds"] / BUDGET_S, note, tuple(peers))


BENCHES: dict[str, Callable[[], Figure]] = {"settle_city_s": settle_city_s}
