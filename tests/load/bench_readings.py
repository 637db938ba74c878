"""Readings a second from a batch's bytes to a committed transaction, by JSON, CSV and MQTT (through a real Mosquitto).

The figure is the slowest of the three; the peers are each of them, and how fast readings go on from there to the ledger: made
of all values of a home, committed area by area with salted rows. The reference is the bare COPY of the same rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit, urlunsplit

from tests.load.bench import Figure, Peer
from tests.load.bench_durable import ROOT

NOTES = {
    "json": "batches of 10,000 values",
    "csv": "batches of 10,000 values",
    "mqtt": "messages of 96 values from 500 devices, QoS 1, gateway and publisher in one process",
    "ledger": "from durable values to entries and readings, 2,000 homes in 20 areas, 8 intervals",
}


def readings() -> Figure:
    """PostgreSQL with synchronous_commit=on, in a database made for the run and dropped after it."""
    import psycopg2

    url = os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        raise SystemExit("readings: set BENCH_POSTGRES_URL, e.g. postgresql://user:password@127.0.0.1:5432/postgres")
    name = f"sunledger_readings_{os.getpid()}"
    admin = psycopg2.connect(url)
    admin.autocommit = True
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            database = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
            environment = {
                **os.environ, "DATABASE_URL": database, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "WARNING"
            }  # fmt: skip
            command = [sys.executable, "-m", "tests.load.readings_child"]
            run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            admin.close()
    result = json.loads(run.stdout.splitlines()[-1])
    bare = result["bare"]
    peers = tuple(
        Peer(path, result[path], None if result[path] is None else result[path] / bare, note)
        for path, note in NOTES.items()
    )
    slowest = min(result[path] for path in ("json", "csv", "mqtt") if result[path] is not None)
    note = f"slowest of JSON, CSV and MQTT, {result['values']:,} values each; reference: bare COPY"
    return Figure(slowest, "readings/s", bare, slowest / bare, note, peers)


BENCHES = {"readings": readings}
