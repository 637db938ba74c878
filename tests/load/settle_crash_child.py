"""One life of a settlement run for ``settle_crash``: a stage, from wherever the last life left it, or what came out."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from ledger import queries as ledger_queries  # noqa: E402
from ledger.core.note import parse_vkey  # noqa: E402
from ledger.core.verify import Bad, verify_log  # noqa: E402
from ledger.operations import verifier_key  # noqa: E402
from ledger.sources import DatabaseSource  # noqa: E402
from market.engine.commands import BUY, SELL, Agree, Fund, PlaceOrder, Propose, SettleRow  # noqa: E402
from market.engine.contracts import contract_name  # noqa: E402
from market.engine.engine import Engine  # noqa: E402
from market.engine.entries import WAS_FIELDS  # noqa: E402
from market.engine.replay import replay  # noqa: E402
from market.exchange import books, models, operations  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.metering.models import Mark, Quality  # noqa: E402
from market.metering.operations import ReadingIn, record_batches  # noqa: E402
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due, share_due  # noqa: E402
from market.settlement.waiting import DEADLINE_MS  # noqa: E402
from tests.factories import PARAMS, RULEBOOK, TARIFF  # noqa: E402
from tests.load.settle_crash import STAGES  # noqa: E402

INTERVAL_MS = 15 * 60_000
FOUNDED_MS = 1_780_740_000_000  # 2026-06-06T10:00:00Z
DEPOSIT_E7 = 300 * 1_000 * 4_000  # little: some of them end up owing
AREAS, HOMES, CONTRACTS = 24, 4, 5
CITY = [operations.Area("CITY", "", "HV", 0, 0, 0)] + [
    operations.Area(f"LV{n:02}", "CITY", "LV", 10_000_000, 10_000_000, 50) for n in range(AREAS)
]
NAMES = [contract_name(FOUNDED_MS + (n + 1) * INTERVAL_MS) for n in range(CONTRACTS)]
DELIVERED_MS = FOUNDED_MS + (CONTRACTS + 2) * INTERVAL_MS
SETTLED_MS = DELIVERED_MS + DEADLINE_MS
FINAL_MS = DELIVERED_MS + PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS
NOW_MS = dict(zip(STAGES, (*[SETTLED_MS] * 2, *[SETTLED_MS + 60_000] * 5, FINAL_MS), strict=True))
SNAPSHOT_EVERY = 40  # entries: some lives are killed while one is written


def running(now_ms: int) -> Exchange:
    """Return an exchange whose time stands still."""
    published = Path(settings.PUBLISHED_CHECKPOINT_FILE)
    exchange = Exchange(lambda: now_ms, published_file=published, snapshot_every=SNAPSHOT_EVERY, seal_every_s=0.01)
    exchange.start()
    return exchange


def prepare() -> None:
    """Empty the database, found a city, let its homes trade and their meters answer, most of them."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
    else:
        Path(connection.settings_dict["NAME"]).unlink(missing_ok=True)
    Path(settings.PUBLISHED_CHECKPOINT_FILE).unlink(missing_ok=True)
    call_command("migrate", verbosity=0)
    exchange = running(FOUNDED_MS)
    operations.found_market(exchange, areas=CITY, tariff=TARIFF, params=PARAMS, rulebook=RULEBOOK, rulebook_version=1)
    accounts = [
        operations.opened_account(operations.open_account(exchange, area=area.area))
        for area in CITY[1:]
        for _ in range(HOMES)
    ]
    exchange.submit_many([(Fund(account, DEPOSIT_E7, "opening", ""), None) for account in accounts]).result(60)
    givers = [account for account in accounts if account % 2]  # those that export
    receivers = [account for account in accounts if not account % 2]
    for at in range(len(givers) - 3):  # some to a neighbour, some into another area, some of them twice
        giver, receiver = givers[at], receivers[at + at % 4]
        proposed = exchange.call(Propose(giver, giver, receiver, at % 2 * 1_000, NAMES[0]))
        assert exchange.call(Agree(receiver, proposed.events[0].seq)).refused is None
    for number, name in enumerate(NAMES):
        orders = [
            PlaceOrder(account, name, SELL if account % 2 else BUY, 2_000, 500 + 10 * number, "gtg", 0)
            for account in accounts
        ]
        exchange.submit_many([(order, None) for order in orders]).result(60)
    exchange.stop()
    exchange = running(DELIVERED_MS)
    exchange.call(Fund(accounts[0], 1, "deposit", ""))  # the clock goes on with the first command
    meter(exchange, lambda chance: chance >= 10)
    exchange.stop()


def meter(exchange: Exchange, which: Any, more_wh: int = 0) -> None:
    """Record the readings of some homes; the same call again says the same."""
    members = exchange.read(
        lambda engine: [(account.index, account.area) for account in engine.accounts if account.kind == "member"]
    )
    for number, name in enumerate(NAMES):
        batches: dict[str, list[ReadingIn]] = {}
        for account, area in members:
            chance = (account * 7_919 + number * 104_729) % 100
            if which(chance):
                energy_wh = 300 + (account * 31 + number * 17) % 400 + more_wh
                sides = (0, energy_wh) if account % 2 else (energy_wh, 0)
                batches.setdefault(area, []).append(ReadingIn(account, *sides, quality=Quality.MEASURED.value))
        record_batches(exchange=exchange, contract=name, batches=batches, now_ms=exchange.now_ms())


def run(stage: str) -> None:
    """Do a stage to its end."""
    exchange = running(NOW_MS[stage])
    print("ready", flush=True)
    began_s = time.monotonic()
    if stage == "settle":
        while settle_due(exchange=exchange, now_ms=NOW_MS[stage]).areas:
            pass
    elif stage == "late":
        meter(exchange, lambda chance: chance < 10)
    elif stage == "later":
        meter(exchange, lambda chance: chance < 30, -60)
    elif stage in ("share", "share again"):
        while share_due(exchange=exchange):
            pass
    elif stage == "end":
        while finalise_due(exchange=exchange, now_ms=NOW_MS[stage]):
            pass
    else:
        while adjust_due(exchange=exchange).areas or Mark.objects.exists():
            pass
    seconds = time.monotonic() - began_s
    exchange.stop()
    print(json.dumps({"seconds": seconds}), flush=True)


def outcome() -> dict[str, Any]:
    """Return what a run came to, without anything that tells when it happened."""
    exchange = running(FINAL_MS)
    seq, state, money = exchange.read(
        lambda engine: (
            engine.seq,
            engine.state_hash(),
            [[account.cash_e7, account.held_e7, account.arrears_e7] for account in engine.accounts],
        )
    )
    violations = []
    fresh = Engine()
    replay(fresh, itertools.islice(ledger_queries.iter_leaves(), seq), ledger_queries.rows)
    if fresh.state_hash() != state:
        violations.append(f"recovered state {state}, full replay {fresh.state_hash()}")
    exchange.stop()
    try:
        books.check()
        verify_log(DatabaseSource(), [parse_vkey(verifier_key())])
    except (books.Difference, Bad) as error:
        violations.append(str(error))
    lines = list(models.SettlementLine.objects.values_list("contract", "area", *SettleRow._fields))
    changes = list(
        models.Adjustment.objects.values_list("contract", "area", "account", *SettleRow._fields[1:], *WAS_FIELDS)
    )
    # By their parties: an agreement's number is its entry's, and how many seals come before is a matter of time.
    shares = list(
        models.SharedLine.objects.values_list(
            "contract", "giver", "receiver", "left_wh", "missing_wh", "energy_wh", "was_wh"
        )
    )
    moves: dict[str, int] = {}
    for kind, debit, credit, amount in models.Transfer.objects.values_list("kind", "debit", "credit", "amount"):
        moves[f"{kind} {debit} {credit}"] = moves.get(f"{kind} {debit} {credit}", 0) + amount
    entries: dict[str, int] = {}
    for leaf in ledger_queries.iter_leaves():
        type_ = json.loads(leaf)["type"]
        if type_ in ("readings", "settle", "adjust", "final"):
            entries[type_] = entries.get(type_, 0) + 1
    everything = [sorted(lines), sorted(changes), sorted(shares), moves, money, sorted(entries.items())]
    return {
        "violations": violations,
        "settled": len(lines),
        "corrected": len(changes),
        "shared_wh": sum(share[5] - share[6] for share in shares),
        "owing": sum(arrears > 0 for _, _, arrears in money),
        "final": models.Final.objects.count(),
        "entries": entries,
        "money": money,
        "digest": hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest(),
    }


def main(command: str) -> None:
    """Do what the parent asks for."""
    if command == "prepare":
        prepare()
        print("{}")
    elif command == "outcome":
        print(json.dumps(outcome()))
    else:
        run(command)


if __name__ == "__main__":
    main(sys.argv[1])
