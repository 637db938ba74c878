"""A round of a whole city's autopilots in an empty database: the process behind ``bench_autopilots``.

``python -m tests.load.autopilots_child HOMES DAYS``: so many members with autopilots, in areas of the SimBench grid, a third
of them with a roof, whose meters have reported for so many days. Market time goes on by two seconds a step, as in the
server, and does not wait: what a step takes is what it takes of every two seconds. The first interval reads every week from
the database, the second one what is new.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from market.agents.members import BUSY_S, EVERY_S, Members  # noqa: E402
from market.config import database  # noqa: E402
from market.engine.commands import Fund, OpenAccount  # noqa: E402
from market.exchange import models, operations  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.households.models import Account, User  # noqa: E402
from market.metering.models import Reading  # noqa: E402
from tests.factories import PARAMS, RULEBOOK, TARIFF  # noqa: E402
from tests.load.settle_child import INTERVAL_MS, START_MS, Clock, grid, many  # noqa: E402

DEPOSIT_E7 = 10**10
HORIZON_MIN = 13 * 60  # as far as an autopilot looks, and more
ROWS = 100_000  # readings written at a time


def members(exchange: Exchange, count: int) -> list[int]:
    """Open accounts of so many persons, autopilots on."""
    areas = [area.area for area in grid() if area.level == "LV"]
    names = [(f"{n:032d}", areas[n % len(areas)]) for n in range(count)]
    many(exchange, [OpenAccount(id, area, "", "", "") for id, area in names])
    accounts = exchange.read(lambda engine: [one.index for one in engine.accounts if one.kind == "member"])
    many(exchange, [Fund(account, DEPOSIT_E7, "opening", "") for account in accounts])
    now = timezone.now()
    for at in range(0, count, 1_000):
        users = User.objects.bulk_create(
            [User(username=f"member-{n}", password="!") for n in range(at, min(count, at + 1_000))]
        )
        Account.objects.bulk_create(
            Account(
                index=accounts[at + n], account_id=names[at + n][0], user=user, area=names[at + n][1], salt=b"",
                automatic=True, opened_at=now,
            )
            for n, user in enumerate(users)
        )  # fmt: skip
    return accounts


def report(accounts: list[int], starts: range) -> None:
    """Write what meters said of intervals: a third has a roof, and no two are the same."""
    rows: list[tuple[int, ...]] = []
    columns = ", ".join(
        (
            "start_ms",
            "account",
            "version",
            "area",
            "import_wh",
            "export_wh",
            "quality",
            "received_ms",
            "seq",
            "n",
            "revision",
        )
    )
    insert = f"INSERT INTO {Reading._meta.db_table} ({columns}) VALUES (%s,%s,0,'',%s,%s,'measured',0,0,0,0)"

    def write() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(insert, rows)
        rows.clear()

    for start_ms in starts:
        light = max(0, 12 - abs(start_ms // 3_600_000 % 24 - 12))
        for account in accounts:
            given_wh = 60 * light + account % 90 if account % 3 == 0 else 0
            rows.append((start_ms, account, 0 if given_wh else 80 + account * 7 % 120, given_wh))
        if len(rows) >= ROWS:
            write()
    write()


def interval(trading: Members, clock: Clock) -> dict[str, Any]:
    """Let one interval pass; return what its steps took."""
    began_s, began_cpu_s, before = time.monotonic(), time.process_time(), models.Order.objects.count()
    steps: list[float] = []
    sent = 0
    end_ms = (clock.at_ms // INTERVAL_MS + 1) * INTERVAL_MS
    while clock.at_ms < end_ms:
        step_s = time.monotonic()
        sent += trading.step(clock.at_ms)
        steps.append(time.monotonic() - step_s)
        clock.at_ms += int(EVERY_S * 1000)
    took = {
        "seconds": time.monotonic() - began_s,
        "cpu_seconds": time.process_time() - began_cpu_s,
        "longest_step_s": max(steps),
        "commands": sent,
        "orders": models.Order.objects.count() - before,
    }
    trading.step(clock.at_ms)  # tells of the interval that is over
    return {**took, **trading.report._asdict()}


def main() -> None:
    """See the module."""
    homes, days = int(sys.argv[1]), float(sys.argv[2])
    database.prepare()
    clock = Clock()
    exchange = Exchange(clock, seal_every_s=1.0)
    exchange.start()
    params = PARAMS._replace(horizon_min=HORIZON_MIN)
    operations.found_market(exchange, areas=grid(), tariff=TARIFF, params=params, rulebook=RULEBOOK, rulebook_version=1)
    accounts = members(exchange, homes)
    index = Reading._meta.indexes[0]
    with connection.schema_editor() as editor:  # made anew in the end: row by row it takes ten times as long
        editor.remove_index(Reading, index)
    report(accounts, range(START_MS - int(days * 96) * INTERVAL_MS, START_MS, INTERVAL_MS))
    with connection.schema_editor() as editor:
        editor.add_index(Reading, index)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trading = Members(exchange)
    trading.move_in()
    rounds = [interval(trading, clock)]
    report(accounts, range(START_MS, START_MS + INTERVAL_MS, INTERVAL_MS))
    rounds.append(interval(trading, clock))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    room = round(1000 * BUSY_S / (BUSY_S + EVERY_S))  # of real time in which looks may be begun
    print(json.dumps({"homes": homes, "days": days, "rounds": rounds, "memory_mib": memory, "room_permille": room}))
    exchange.stop()
    connection.close()


if __name__ == "__main__":
    main()
