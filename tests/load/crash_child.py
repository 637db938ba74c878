"""One life of the exchange for ``crash``: recover, compare, then take orders from stdin, acknowledge on stdout."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
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
from market.engine.commands import PlaceOrder, SetParams  # noqa: E402
from market.engine.contracts import contract_name  # noqa: E402
from market.engine.engine import Engine  # noqa: E402
from market.engine.replay import replay  # noqa: E402
from market.exchange import models, operations  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.exchange.inbox import Overloaded  # noqa: E402
from tests.factories import GRID, RULEBOOK, TARIFF  # noqa: E402
from tests.load.crash import MARKET_SPEED, MARKET_START_MS  # noqa: E402

ACCOUNTS = 20
DEPOSIT_E7 = 10**14
SNAPSHOT_EVERY = 3_000  # entries: most lives are killed between two snapshots, some while one is written
PARAMS = SetParams(
    max_price_e4=10_000, tick_e4=1, max_order_wh=100_000_000, max_open_orders=1_000_000, horizon_min=120, lead_min=0,
    netting_permille=1_000,
)  # fmt: skip


def market_clock(began_s: float) -> Any:
    """Return the clock the client uses too: CLOCK_MONOTONIC is one for all processes of a machine."""
    return lambda: MARKET_START_MS + int((time.monotonic() - began_s) * 1000 * MARKET_SPEED)


def prepare() -> None:
    """Empty the database, make the tables and found the market."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
    call_command("migrate", verbosity=0)
    exchange = Exchange(lambda: MARKET_START_MS)
    exchange.start()
    operations.found_market(exchange, areas=GRID, tariff=TARIFF, params=PARAMS, rulebook=RULEBOOK, rulebook_version=1)
    for index in range(ACCOUNTS):
        area = ("LV1.1", "LV1.2", "LV2.1")[index % 3]
        account = operations.opened_account(operations.open_account(exchange, area=area))
        assert operations.fund(exchange, account=account, amount_e7=DEPOSIT_E7).refused is None
    exchange.stop()


def members(engine: Engine) -> list[int]:
    """Return the members' indices."""
    return [account.index for account in engine.accounts if account.kind == "member"]


def compare(exchange: Exchange, memory: dict[str, Any], replayed: int) -> dict[str, Any]:
    """Hold the recovered exchange against the client's memory and the ledger."""
    violations: list[str] = []
    seq, state, accounts = exchange.read(lambda engine: (engine.seq, engine.state_hash(), members(engine)))
    fresh = Engine()
    replay(fresh, itertools.islice(ledger_queries.iter_leaves(), seq), ledger_queries.rows)
    if fresh.state_hash() != state:
        violations.append(f"recovered state {state}, full replay {fresh.state_hash()}")
    violations += compare_books()
    violations += compare_orders(memory, accounts)
    violations += verify()
    return {
        "violations": violations,
        "accounts": len(accounts),
        "seq": seq,
        "state": state,
        "replayed": replayed,
        "orders": models.Order.objects.count(),
        "trades": models.Trade.objects.count(),
    }


def compare_books() -> list[str]:
    """Check that all movements together give every balance, and that the balances sum to zero."""
    sums: dict[int, int] = {}
    with connection.cursor() as cursor:
        for side, sign in (("debit", -1), ("credit", 1)):
            cursor.execute(f"SELECT {side}, sum(amount) FROM exchange_movement WHERE asset = 'e7' GROUP BY {side}")
            for account, amount in cursor.fetchall():
                sums[account] = sums.get(account, 0) + sign * int(amount)
    balances = {balance.account: balance.cash_e7 - balance.arrears_e7 for balance in models.Balance.objects.all()}
    violations = [
        f"account {account}: its movements sum to {sums.get(account, 0)} e7, its balance is {cash_e7}"
        for account, cash_e7 in balances.items()
        if sums.get(account, 0) != cash_e7
    ]
    if sum(balances.values()):
        violations.append(f"the books sum to {sum(balances.values())} e7")
    return violations


def compare_orders(memory: dict[str, Any], accounts: list[int]) -> list[str]:
    """Check that every acknowledged order is there once, as sent, and that no order is there that nobody sent."""
    sent = {order["number"]: order for order in memory["sent"]}
    violations = []
    stored: dict[int, models.Order] = {}
    for row in models.Order.objects.order_by("id"):
        number = row.energy_wh - 1_000
        if number in stored:
            violations.append(f"order {number} is there twice: entries {stored[number].id} and {row.id}")
        stored[number] = row
        if number not in sent:
            violations.append(f"entry {row.id} is an order that was never sent")
            continue
        was = (row.account, row.contract, row.side, row.price_e4, row.time_in_force)
        if was != tuple(command_of(sent[number], accounts))[0:4] + (sent[number]["time_in_force"],):
            violations.append(f"order {number}: expected {command_of(sent[number], accounts)}, was {was}")
    for number, order_id, refused in memory["answers"]:
        row = stored.get(number)
        if refused and row is not None:
            violations.append(f"order {number} was refused ({refused}) and is there, entry {row.id}")
        if not refused and (row is None or row.id != order_id):
            violations.append(f"order {number} was acknowledged as entry {order_id}, was {row and row.id}")
    return violations


def verify() -> list[str]:
    """Verify the whole log as anybody would."""
    try:
        verify_log(DatabaseSource(), [parse_vkey(verifier_key())])
    except Bad as error:
        return [f"the log does not verify: {error}"]
    return []


def command_of(order: dict[str, Any], accounts: list[int]) -> PlaceOrder:
    """Return the command for what the client sent."""
    return PlaceOrder(
        accounts[order["account"]], contract_name(order["start_ms"]), order["side"], order["price_e4"],
        order["energy_wh"], order["time_in_force"], 0,
    )  # fmt: skip


def serve(exchange: Exchange, accounts: list[int]) -> None:
    """Take orders until stdin ends; acknowledge each as soon as it is durable."""
    lock = threading.Lock()

    def acknowledge(number: int, future: Any) -> None:
        outcome = future.result()
        order = outcome.events[0].seq if outcome.events else 0
        refused = outcome.refused.code if outcome.refused else ""
        if outcome.conflict:
            refused = f"conflict:{outcome.conflict}"
        say({"number": number, "order": order, "refused": refused, "repeated": int(outcome.repeated)}, lock)

    for line in sys.stdin:
        order = json.loads(line)
        number = order["number"]
        while True:
            try:
                future = exchange.submit(command_of(order, accounts), key=f"key-{number}")
                break
            except Overloaded:
                time.sleep(0.01)
        future.add_done_callback(lambda future, number=number: acknowledge(number, future))  # type: ignore[misc]


def say(message: dict[str, Any], lock: threading.Lock) -> None:
    """Write one line in one call, so that a kill cannot leave two answers in one."""
    with lock:
        os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    """``prepare``, or the client's beginning on the monotonic clock."""
    if sys.argv[1] == "prepare":
        prepare()
        return
    exchange = Exchange(market_clock(float(sys.argv[1])), seal_every_s=0.2, snapshot_every=SNAPSHOT_EVERY)
    exchange.start()
    snapshot = models.Snapshot.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    memory = json.loads(sys.stdin.readline())
    report = compare(exchange, memory, exchange.status()["seq"] - snapshot)
    say(report, threading.Lock())
    if not report["violations"]:
        accounts = exchange.read(members)
        serve(exchange, accounts)
    exchange.stop()
    connection.close()
    assert settings.PUBLISHED_CHECKPOINT_FILE.exists()


if __name__ == "__main__":
    main()
