"""Settle intervals of a city in an empty database and say how long each took: the process behind ``bench_settle``.

``python -m tests.load.settle_child PARTS``: of every PARTS areas of the SimBench grid one has homes; a part of the city has as
many homes less. Every home has traded, every meter has answered.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from market.config import database  # noqa: E402
from market.engine.commands import BUY, SELL, Fund, OpenAccount, PlaceOrder, SetTariff  # noqa: E402
from market.engine.contracts import contract_name, contract_start_ms  # noqa: E402
from market.exchange import models, operations  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.metering.operations import ReadingIn, record_batches  # noqa: E402
from market.settlement.operations import settle_due  # noqa: E402
from tests.factories import PARAMS, RULEBOOK  # noqa: E402
from tests.load.grid_mix import AREAS  # noqa: E402

HOMES = 32_511
INTERVAL_MS = 15 * 60_000
START_MS = 1_780_740_000_000  # 2026-06-06T10:00:00Z
INTERVALS = 3  # one after the other: the middle one counts
NAMES = [contract_name(START_MS + n * INTERVAL_MS) for n in range(1, INTERVALS + 1)]
BATCH = 1_000
TIMEOUT_S = 120.0


class Clock:
    """Market time that moves when told."""

    at_ms = START_MS

    def __call__(self) -> int:
        return self.at_ms


def grid() -> list[operations.Area]:
    """Return the areas of SimBench with an ample capacity: this is about settlement."""
    lines = [line.split(",") for line in AREAS.read_text().splitlines()[1:]]
    return [operations.Area(area, parent, level, 10**9, 10**9, 50 if parent else 0) for area, parent, level, _ in lines]


def many(exchange: Exchange, commands: list[Any]) -> None:
    """Do commands in batches; all must be accepted."""
    for first in range(0, len(commands), BATCH):
        part = [(command, None) for command in commands[first : first + BATCH]]
        for outcome in exchange.submit_many(part).result(TIMEOUT_S):
            assert outcome.refused is None, outcome.refused


def bare_copy() -> float:
    """Write the rows of the settlement once more, by themselves, into tables like theirs; return how long it took."""
    took = 0.0
    for model in (models.SettlementLine, models.Transfer, None):
        table = "ledger_row" if model is None else model._meta.db_table
        where = "" if model is not models.Transfer else "WHERE kind <> 'fund'"
        if model is None:
            where = "WHERE seq IN (SELECT DISTINCT seq FROM exchange_settlementline)"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE UNLOGGED TABLE bare_from AS SELECT * FROM {table} {where}")
            cursor.execute(f"CREATE TABLE bare_to (LIKE {table} INCLUDING ALL)")
            began_s = time.perf_counter()
            cursor.execute("INSERT INTO bare_to SELECT * FROM bare_from")
            took += time.perf_counter() - began_s
            cursor.execute("DROP TABLE bare_from, bare_to")
    return took


def main(parts: int) -> None:
    """Set the city up, settle it, print the figures."""
    if connection.vendor == "postgresql":
        call_command("migrate", verbosity=0)
    else:
        database.prepare()
    clock = Clock()
    exchange = Exchange(clock)
    exchange.start()
    areas = grid()
    operations.found_market(
        exchange, areas=areas, tariff=SetTariff(4_000, 800), params=PARAMS, rulebook=RULEBOOK, rulebook_version=1
    )
    lived = [area.area for area in areas][::parts]
    homes = HOMES // parts
    many(exchange, [OpenAccount(f"{n:032x}", lived[n % len(lived)], "", "", "") for n in range(homes)])
    accounts = exchange.read(lambda engine: [one.index for one in engine.accounts if one.kind == "member"])
    many(exchange, [Fund(account, 10**10, "opening", "") for account in accounts])
    for name in NAMES:
        many(
            exchange,
            [
                PlaceOrder(account, name, SELL if at // len(lived) % 2 else BUY, 2_000, 400 + at % 50, "gtg", 0)
                for at, account in enumerate(accounts)
            ],
        )
    batches: dict[str, list[ReadingIn]] = {}
    for at, account in enumerate(accounts):
        sides = (0, 380 + at % 97) if at // len(lived) % 2 else (380 + at % 97, 0)
        batches.setdefault(lived[at % len(lived)], []).append(ReadingIn(account, *sides))
    seconds, cpu_seconds = [], []
    for name in NAMES:
        clock.at_ms = contract_start_ms(name) + INTERVAL_MS  # it is delivered now: meters have just answered
        exchange.call(Fund(accounts[0], 1, "deposit", ""))
        record_batches(exchange=exchange, contract=name, batches=batches, now_ms=clock())
        time.sleep(1.5)  # what was written before is sealed
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        done = settle_due(exchange=exchange, now_ms=clock())
        seconds.append(time.perf_counter() - began_s)
        cpu_seconds.append(time.process_time() - began_cpu_s)
        assert (done.areas, done.accounts, done.estimated, done.refused) == (len(lived), homes, 0, 0), done
    assert homes * INTERVALS == models.SettlementLine.objects.count()
    transfers = models.Transfer.objects.exclude(kind="fund").count() // INTERVALS
    bare_s = bare_copy() / INTERVALS if connection.vendor == "postgresql" else 0.0
    exchange.stop()
    print(
        json.dumps(
            {
                "seconds": sorted(seconds)[INTERVALS // 2],
                "cpu_seconds": min(cpu_seconds),
                "bare_seconds": bare_s,
                "homes": homes,
                "areas": len(lived),
                "transfers": transfers,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
