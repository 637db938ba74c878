"""The measured process of ``bench_durable``: feed the exchange for a while, then write the same rows without it."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import deque
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from ledger.models import Entry  # noqa: E402
from market.engine.commands import BUY, SELL, Fund, OpenAccount, PlaceOrder, SetParams, SetTariff  # noqa: E402
from market.engine.contracts import contract_name  # noqa: E402
from market.engine.events import AccountOpened, OrderPlaced, Traded  # noqa: E402
from market.exchange import operations  # noqa: E402
from market.exchange.exchange import Exchange, wall_clock_ms  # noqa: E402
from market.exchange.idempotency import KEYS  # noqa: E402
from market.exchange.journal import CHANGES, LEDGER, ORDERS, TRADES  # noqa: E402
from market.exchange.operations import Area  # noqa: E402
from market.exchange.outcomes import Committed  # noqa: E402
from market.exchange.stores import Store, open_store  # noqa: E402
from market.exchange.writer import MAX_BATCH  # noqa: E402

SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
ACCOUNTS = 5_000
DEPOSIT_E7 = 10**12  # all of them together stay within 2^53
POOL = 100 * MAX_BATCH  # different orders, made before the clock starts; their keys are always new
IN_FLIGHT = 3  # batches submitted and not acknowledged
KEPT_BATCHES = 200  # the last ones are written again without the exchange
INTERVAL_MS = 15 * 60_000
PARAMS = SetParams(10_000, 1, 1_000_000, 1_000_000, 360, 0, 1_000)
STREAMS = (ORDERS, TRADES, CHANGES, KEYS, LEDGER[Entry])
GRID = (Area("CITY", "", "LV", 0, 0, 0),)


class Recorder:
    """Passes batches on to the store and keeps the newest."""

    def __init__(self, store: Store):
        self._prepare = store.prepare
        self.batches: deque[list[tuple[Any, Any]]] = deque(maxlen=KEPT_BATCHES)
        store.prepare = self.prepare  # type: ignore[method-assign]

    def prepare(self, tables: Any) -> Any:
        """See ``Store.prepare``."""
        self.batches.append(list(tables))
        return self._prepare(tables)


def found(exchange: Exchange) -> list[int]:
    """Found a market with one area and many members with money; return their accounts."""
    operations.found_market(
        exchange,
        areas=GRID,
        tariff=SetTariff(4_000, 800),
        params=PARAMS,
        rulebook="# Rules of the benchmark\n",
        rulebook_version=1,
    )
    accounts = []
    for start in range(0, ACCOUNTS, MAX_BATCH):
        opened = [
            (OpenAccount(operations.new_account_id(), "CITY", "", "", ""), None)
            for _ in range(start, min(start + MAX_BATCH, ACCOUNTS))
        ]
        for outcome in exchange.submit_many(opened).result(60):
            accounts += [event.account for event in outcome.events if type(event) is AccountOpened]
        funds = [(Fund(account, DEPOSIT_E7, "opening", ""), None) for account in accounts[start:]]
        assert not any(outcome.refused for outcome in exchange.submit_many(funds).result(60))
    return accounts


def feed(exchange: Exchange, accounts: list[int], seconds: float) -> tuple[int, float]:
    """Submit batches of 1,000 keyed orders and wait for their acknowledgements; return orders and seconds."""
    chance = random.Random(1)
    now_ms = exchange.now_ms()
    contracts = [contract_name((now_ms // INTERVAL_MS + ahead) * INTERVAL_MS) for ahead in range(8, 16)]
    pool = [an_order(chance, accounts, contracts) for _ in range(POOL)]
    waiting: deque[Any] = deque()
    orders = number = 0
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        first = number % POOL
        batch = [(order, f"bench-{number + i}") for i, order in enumerate(pool[first : first + MAX_BATCH])]
        number += MAX_BATCH
        waiting.append(exchange.submit_many(batch))
        if len(waiting) >= IN_FLIGHT:
            orders += accepted(waiting.popleft())
    while waiting:
        orders += accepted(waiting.popleft())
    return orders, time.perf_counter() - started_s


def an_order(chance: random.Random, accounts: list[int], contracts: list[str]) -> PlaceOrder:
    """Return an order around one price, so that about one in two meets another at once."""
    side = BUY if chance.random() < 0.5 else SELL
    price_e4 = 2_000 + int(chance.gauss(0, 100)) + (40 if side is BUY else -40)
    energy_wh = 100 + int(chance.random() * 2_900)
    return PlaceOrder(chance.choice(accounts), chance.choice(contracts), side, price_e4, energy_wh, "gtg", 0)


def accepted(future: Any) -> int:
    """Return how many orders of a batch were accepted; all of them are meant to be."""
    outcomes = future.result(60)
    refused = next((outcome.refused for outcome in outcomes if outcome.refused), None)
    if refused is not None:
        raise SystemExit(f"an order was refused: {refused}")
    return len(outcomes)


def write_bare(batches: list[list[tuple[Any, Any]]]) -> tuple[int, int, float]:
    """Take the recorded rows out of their tables and write them again, batch by batch; return orders, rows, seconds."""
    store = open_store()
    # The streams: tables whose first column counts up. What was recorded is all they have from its first number on.
    batches = [[part for part in tables if part[0] in STREAMS] for tables in batches]
    first: dict[Any, int] = {}
    for tables in batches:
        for table, rows in tables:
            first.setdefault(table, rows[0][0])
    store.write([], [(f'DELETE FROM "{t.name}" WHERE "{t.columns[0]}" >= %s', [low]) for t, low in first.items()])
    if connection.vendor == "postgresql":
        connection.cursor().execute("VACUUM")
    orders = written = 0
    started_s = time.perf_counter()
    for tables in batches:
        store.write(store.prepare(tables), [])
        orders += sum(len(rows) for table, rows in tables if table is ORDERS)
        written += sum(len(rows) for _, rows in tables)
    seconds = time.perf_counter() - started_s
    store.close()
    return orders, written, seconds


def main() -> None:
    """Measure and print one JSON line."""
    call_command("migrate", verbosity=0)
    exchange = Exchange(wall_clock_ms)
    exchange.start()
    counts = {"trades": 0, "seals": 0, "orders": 0}

    def count(committed: Committed) -> None:
        counts["seals"] += committed.sealed is not None
        for event in committed.events:
            kind = type(event)
            if kind is Traded:
                counts["trades"] += 1
            elif kind is OrderPlaced:
                counts["orders"] += 1

    accounts = found(exchange)
    assert exchange._writer is not None
    recorder = Recorder(exchange._writer._store)
    exchange.listen(count)
    before = exchange.status()["seq"]
    orders, seconds = feed(exchange, accounts, SECONDS)
    entries = exchange.status()["seq"] - before
    batches = list(recorder.batches)
    exchange.stop()
    assert counts["orders"] == orders, counts
    bare_orders, bare_rows, bare_seconds = write_bare(batches)
    result = {
        "orders": orders, "seconds": seconds, "trades": counts["trades"], "seals": counts["seals"], "entries": entries,
        "bare_orders": bare_orders, "bare_rows": bare_rows, "bare_seconds": bare_seconds,
    }  # fmt: skip
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.exit(main())
