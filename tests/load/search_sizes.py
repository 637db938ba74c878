"""How fast the regulator's searches are over a million made-up orders and trades, on SQLite and, with DATABASE_URL, PostgreSQL.

Prints one line a search: milliseconds of its first page, of its totals. `python -m tests.load.search_sizes [ROWS]`
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS = 1_000_000  # orders, and half as many trades and cancellations: 1.5 million entries
CANCELLED = 15  # every so many entries one is a cancellation; the quiet contract has none
ACCOUNTS = 30_000
AREAS = 400
CONTRACTS = 300
PART = 20_000
HEAD_MS = 1_780_000_000_000


def _setup(folder: Path) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
    os.environ["SUNLEDGER_DATA"] = str(folder)
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)


def _insert(model: type[Any], rows: list[tuple[Any, ...]]) -> None:
    from django.db import connection

    from market.exchange.tables import Table

    table = Table.of(model)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.copy_expert(table.copy_sql, io.BytesIO(table.copy_text(rows)))
        else:
            connection.connection.executemany(table.insert_sql(1), rows)
    rows.clear()


def _fill(rows: int) -> None:
    from ledger.core.merkle import leaf_hash
    from ledger.models import Entry, HashTile
    from market.engine.contracts import contract_name
    from market.exchange.models import Contract, Order, OrderChange, Trade
    from market.exchange.units import at_text

    rng = random.Random(1)
    names = [contract_name((HEAD_MS // 900_000 + index) * 900_000) for index in range(CONTRACTS)]
    for index, name in enumerate(names):
        opened = index * (rows * 3 // 2) // CONTRACTS // 2
        Contract.objects.create(
            name=name, state="open", account=0, topup_e4=4_000, spill_e4=800, opened_seq=opened, opened_at_ms=HEAD_MS + opened,
            changed_seq=opened,
        )  # fmt: skip
    orders: list[tuple[Any, ...]] = []
    trades: list[tuple[Any, ...]] = []
    changes: list[tuple[Any, ...]] = []
    quiet = names[CONTRACTS // 2]
    entries: list[tuple[Any, ...]] = []
    hashes = bytearray()
    last: tuple[int, int, str] = (0, 0, names[0])
    for seq in range(rows * 3 // 2):
        account, area = 1 + rng.randrange(ACCOUNTS), f"LV{rng.randrange(AREAS)}"
        price_e4, energy_wh = rng.randrange(800, 4_000), rng.randrange(50, 5_000)
        kind = "trade" if seq % 3 == 2 else "order"
        if kind == "order":
            name = names[min(CONTRACTS - 1, int(seq / (rows * 1.5) * CONTRACTS / 2) + rng.randrange(CONTRACTS // 2))]
            side = "buy" if seq % 3 else "sell"
            orders.append((seq, HEAD_MS + seq, account, area, name, side, price_e4, energy_wh, "gtg", 0))
            last = (seq, account, name)
        elif seq % CANCELLED == CANCELLED - 1 and last[2] != quiet:
            kind = "cancel"
            changes.append((seq, HEAD_MS + seq, kind, last[0], last[1], last[2], 0, 0, energy_wh, 0, "owner"))
        else:
            pair, seller = (last[0], last[0] - 1), account + (account == last[1])
            trades.append(
                (seq, HEAD_MS + seq, last[2], *pair, energy_wh, price_e4 + 50, price_e4, "buy", last[1], seller, *pair,
                      area, f"LV{rng.randrange(AREAS)}", price_e4 * energy_wh, 0, 0)
            )  # fmt: skip
        leaf = json.dumps(
            {
                "at": at_text(HEAD_MS + seq),
                "energy_wh": energy_wh,
                "price_e4": price_e4,
                "salt": "0" * 32,
                "seq": seq,
                "type": kind,
            }
        )
        data = leaf.replace(" ", "").encode()
        entries.append((seq, data))
        hashes += leaf_hash(data)
        if len(hashes) == 8192:
            HashTile.objects.bulk_create([HashTile(level=0, number=seq // 256, data=bytes(hashes), root=b"")])
            hashes.clear()
        if len(entries) == PART or seq == rows * 3 // 2 - 1:
            for model, made in ((Order, orders), (Trade, trades), (OrderChange, changes), (Entry, entries)):
                _insert(model, made)


def _timed(fn: Callable[[], object]) -> tuple[float, object]:
    best, answer = 1e9, None
    for _ in range(2):
        started = time.perf_counter()
        answer = fn()
        best = min(best, time.perf_counter() - started)
    return best, answer


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        _setup(Path(folder))
        from django.db import connection, transaction

        from ledger import queries as ledger
        from ledger.core.merkle import leaf_hash
        from market.exchange.models import Contract, Order
        from market.exchange.queries import order
        from market.pages.orderlife import life_of
        from market.surveillance import search, steps
        from market.surveillance.filters import Filter

        started = time.perf_counter()
        with transaction.atomic():
            _fill(rows)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        print(
            f"{connection.vendor}: {rows} orders, {rows // 2} trades and cancellations made in "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
        contract = Contract.objects.order_by("name").values_list("name", flat=True)[CONTRACTS // 2]
        middle = HEAD_MS + rows * 3 // 4
        hash_ = leaf_hash(ledger.leaf(1000)).hex()
        for name, wanted in (
            ("trades, all", Filter()),
            ("trades of an account", Filter(account=77)),
            ("trades of a contract", Filter(contract=contract)),
            ("trades in an area", Filter(area="LV7")),
            ("trades by price and size", Filter(price_from_e4=3_900, wh_from=4_900)),
            ("trades that are not there", Filter(price_from_e4=9_999)),
            ("trades of a minute", Filter(from_ms=middle, until_ms=middle + 60_000)),
            ("orders of an account", Filter(kind="orders", account=77)),
            ("orders of a contract", Filter(kind="orders", contract=contract)),
            ("orders by area, side, price", Filter(kind="orders", area="LV7", side="sell", price_to_e4=1_000)),
            ("entries of an account", Filter(kind="entries", account=77)),
            ("entries of a contract, one area", Filter(kind="entries", contract=contract, area="LV7")),
            ("entries of a type that is not there", Filter(kind="entries", type="halt")),
            ("entries that are orders", Filter(kind="entries", type="order")),
            ("entries that are cancellations", Filter(kind="entries", type="cancel")),
            ("an entry by its hash", Filter(kind="entries", hash=hash_)),
        ):
            page_s, page = _timed(lambda wanted=wanted: search.find(wanted, limit=51))  # type: ignore[misc]
            total_s, totals = _timed(lambda wanted=wanted: search.totals(wanted))  # type: ignore[misc]
            found, count = len(page.rows), totals.count  # type: ignore[attr-defined]
            print(
                f"{name:38} page {page_s * 1000:7.1f} ms ({found} rows), totals {total_s * 1000:7.1f} ms ({count})",
                flush=True,
            )
        ids = Order.objects.filter(contract=contract).order_by("id").values_list("id", flat=True)
        middle_order = order(ids[len(ids) // 2])
        assert middle_order is not None
        for name, asked in (
            ("steps around an order", lambda: steps.around(contract, middle_order.id, middle_order.id)),
            ("the newest change", lambda: steps.newest_change(contract)),
            ("the life of an order", lambda: life_of(middle_order)),
        ):
            seconds, _answer = _timed(asked)
            print(f"{name + ', no cancellations':38} {seconds * 1000:12.1f} ms", flush=True)


if __name__ == "__main__":
    main()
