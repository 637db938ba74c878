"""Orders by HTTP on PostgreSQL: one server process (``manage.py serve``), the load generator on the same cores.

The reference is the same web server answering a constant in the same run. Needs BENCH_POSTGRES_URL (or a PostgreSQL
DATABASE_URL) of a user who may create databases; BENCH_HTTP_SECONDS (default 15) is the length of a measured part.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import uvloop

from tests.load.bench import Figure
from tests.load.http_client import Load, request

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("BENCH_HTTP_SECONDS", "15"))
WARM_UP_S = 3.0
CONNECTIONS = 128
BATCH_CONNECTIONS = 4
BATCH = 1_000
RATE = 200.0
PREPARED = 20_000  # different orders, sent again from the first when they run out
START_S = 60.0
PATH = "/api/v1/orders"
GOOD = b"HTTP/1.1 201"
INTERVAL = timedelta(minutes=15)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str], port: int) -> Iterator[None]:
    """Run a server until the block ends; it must be listening when the block begins."""
    server = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while True:
            if server.poll() is not None:
                raise RuntimeError(f"{command}: ended with {server.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def market() -> Iterator[tuple[int, list[str]]]:
    """A founded market behind a server on an empty database; yields its port and its members' keys."""
    import psycopg2

    url = os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        raise SystemExit("orders_http: set BENCH_POSTGRES_URL, e.g. postgresql://user:password@127.0.0.1:5432/postgres")
    name = f"sunledger_bench_http_{os.getpid()}"
    admin = psycopg2.connect(url)
    admin.autocommit = True
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            environment = {
                **os.environ,
                "DATABASE_URL": urlunsplit(urlsplit(url)._replace(path=f"/{name}")),
                "SUNLEDGER_DATA": folder,
                "SUNLEDGER_LOG_LEVEL": "WARNING",
            }
            founded = subprocess.run(
                [sys.executable, "-m", "tests.load.http_market"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
            port = free_port()
            with process(["manage.py", "serve", "--port", str(port)], environment, port):
                yield port, json.loads(founded.stdout.splitlines()[-1])
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            admin.close()


def contracts() -> list[str]:
    """Return the names of contracts that stay open during the run."""
    now = datetime.now(UTC)
    first = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0) + 4 * INTERVAL
    return [f"{first + number * INTERVAL:%Y-%m-%dT%H:%MZ}" for number in range(8)]


def orders(seed: int, count: int) -> list[dict[str, object]]:
    """Return orders around one price, of which about half trade at once."""
    draw = random.Random(seed)
    names = contracts()
    return [
        {
            "contract": draw.choice(names),
            "side": "buy" if draw.random() < 0.5 else "sell",
            "price": f"0.{draw.randint(1_900, 2_100):04d}",
            "energy_wh": draw.randint(1, 20) * 100,
        }
        for _ in range(count)
    ]


def singles(port: int, keys: list[str]) -> list[bytes]:
    """Return requests that place one order each."""
    host = f"127.0.0.1:{port}"
    return [
        request(keys[number % len(keys)], PATH, json.dumps(order).encode(), host=host)
        for number, order in enumerate(orders(1, PREPARED))
    ]


async def _flood(load: Load, port: int, connections: int) -> float:
    await load.connect(port, connections)
    return await load.flood(SECONDS, WARM_UP_S)


async def _drip(load: Load, port: int) -> None:
    await load.connect(port, CONNECTIONS)
    await load.drip(RATE, SECONDS, WARM_UP_S)


def with_constant(run: Callable[[int], float]) -> float:
    """Return what ``run`` measures on the server that answers a constant."""
    port = free_port()
    with process(["-m", "tests.load.http_constant", str(port)], dict(os.environ), port):
        return run(port)


def flood(requests: Callable[[int], list[bytes]], connections: int, good: bytes) -> Callable[[int], float]:
    """Return the measurement of answers a second under full load."""
    return lambda port: uvloop.run(_flood(Load(requests(port), good), port, connections))


def sealed(port: int) -> int:
    """Return how many entries are sealed, as /healthz says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
        return int(json.load(answer)["sealed"])


def orders_http() -> Figure:
    """Single orders, one request each."""
    with market() as (port, keys):
        rate = flood(lambda port: singles(port, keys), CONNECTIONS, GOOD)(port)
        time.sleep(1.5)
        entries = sealed(port)
    reference = with_constant(flood(lambda port: singles(port, keys), CONNECTIONS, GOOD))
    note = f"{CONNECTIONS} connections, {entries:,} entries sealed; reference: the server answering a constant"
    return Figure(rate, "orders/s", reference, rate / reference, note)


def orders_batch() -> Figure:
    """Batches of 1,000 orders."""

    def batches(port: int, keys: list[str]) -> list[bytes]:
        bodies = [json.dumps(orders(seed, BATCH)).encode() for seed in range(32)]
        path = PATH + "/batch"
        return [request(keys[n % len(keys)], path, body, host=f"127.0.0.1:{port}") for n, body in enumerate(bodies)]

    async def run(port: int, keys: list[str]) -> float:
        load = Load(batches(port, keys), b"HTTP/1.1 200")
        load.bodies = []
        rate = await _flood(load, port, BATCH_CONNECTIONS)
        for body in load.bodies:
            results = json.loads(body)["results"]
            if len(results) != BATCH or any(result["status"] != 201 for result in results):
                raise RuntimeError(f"expected {BATCH} accepted orders, was {body[:400]!r}")
        return rate * BATCH

    with market() as (port, keys):
        rate = uvloop.run(run(port, keys))
        reference = flood(lambda port: singles(port, keys), CONNECTIONS, GOOD)(port)
    note = f"{BATCH_CONNECTIONS} connections, batches of {BATCH:,}; reference: single orders to the same server"
    return Figure(rate, "orders/s", reference, rate / reference, note)


def rest_p99_ms() -> Figure:
    """How long a single order takes at 200 a second."""

    def p99_ms(load: Load) -> float:
        found = sorted(load.latencies)
        return found[int(len(found) * 0.99)] * 1_000

    def median_ms(load: Load) -> float:
        return sorted(load.latencies)[len(load.latencies) // 2] * 1_000

    def constant(port: int) -> float:
        bare = Load(singles(port, keys), GOOD)
        uvloop.run(_drip(bare, port))
        return p99_ms(bare)

    with market() as (port, keys):
        load = Load(singles(port, keys), GOOD)
        uvloop.run(_drip(load, port))
    reference = with_constant(constant)
    note = f"p50 {median_ms(load):.1f} ms, worst {max(load.latencies) * 1_000:.1f} ms of {len(load.latencies):,}"
    return Figure(p99_ms(load), "ms", reference, p99_ms(load) / reference, note + "; reference: a constant")


BENCHES: dict[str, Callable[[], Figure]] = {
    "orders_http": orders_http,
    "orders_batch": orders_batch,
    "rest_p99_ms": rest_p99_ms,
}
