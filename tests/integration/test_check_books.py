"""``manage.py check_books``: whatever somebody changes in the database is named, and a market that runs is not disturbed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from market.engine.commands import SELL
from market.exchange import books, models
from tests.factories import running_market
from tests.integration.guarded import unguarded
from tests.integration.test_exchange_complex import lived
from tests.integration.test_settlement_run import deliver, meter, settle, trade_across_the_city

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books_of_a_day(tmp_path: Path) -> Iterator[None]:
    """A market that has done everything there is once, with a settled contract, and is stopped."""
    with running_market(folder=tmp_path) as market:
        contract = trade_across_the_city(market)
        lived(market)
        deliver(market)
        meter(market, contract, alice=(0, 900), charlie=(1_000, 0))
        settle(market)
        market.place(market.alice, SELL, "0.1500", 100)
        asked = market.place(market.alice, SELL, "0.1500", 100)
        assert asked.refused is None
    yield


def first(model: type, **wanted: object) -> int:
    """Return the key of a row in the middle of a table."""
    keys = list(model.objects.filter(**wanted).order_by("pk").values_list("pk", flat=True))
    return keys[len(keys) // 2]


def test_books_that_are_in_order_pass(books_of_a_day: None) -> None:
    out = StringIO()
    call_command("check_books", json=True, stdout=out)
    told = json.loads(out.getvalue())
    assert told["verdict"] == "passed"
    for model in (models.Order, models.OrderDetail, models.Trade, models.Recall, models.OrderChange, models.Transfer):
        assert told["rows"][model._meta.db_table] == model.objects.count() > 0
    assert told["rows"]["exchange_settlementline"] == models.SettlementLine.objects.count() > 0
    assert told["accounts"] == models.Balance.objects.count()
    out = StringIO()
    call_command("check_books", stdout=out)
    assert "The books are what the ledger says." in out.getvalue()


TRADE = (
    "at_ms, contract, maker, taker, energy_wh, buy_e4, sell_e4, taker_side, buyer, seller, buy_order, sell_order, buy_area,"
    " sell_area, cost_e7, margin_e7, clearing"
)
MISSING, EXTRA = "expected a row, was missing", "expected no such row"
# Where, what is done there to the row {id}, the place that is named ("": that row) and what is said about it.
TAMPERING = [
    (models.Order, "UPDATE {t} SET energy_wh = energy_wh + 1 WHERE id = {id}", "", "energy_wh: expected"),
    (models.Order, "DELETE FROM {t} WHERE id = {id}", "", MISSING),
    (models.OrderDetail, 'DELETE FROM {t} WHERE "order" = {id}', "", MISSING),
    (models.Trade, "UPDATE {t} SET cost_e7 = cost_e7 - 1 WHERE id = {id}", "", "cost_e7: expected"),
    (models.Trade, "UPDATE {t} SET buyer = seller, seller = buyer WHERE id = {id}", "", "buyer: expected"),
    (models.Trade, "DELETE FROM {t} WHERE id = {id}", "", MISSING),
    (models.Trade, f"INSERT INTO {{t}} SELECT 1000000, {TRADE} FROM {{t}} WHERE id = {{id}}", "1000000", EXTRA),
    (models.OrderChange, "UPDATE {t} SET reason = 'x' WHERE seq = {id}", "", "reason: expected"),
    (models.OrderChange, "DELETE FROM {t} WHERE seq = {id}", "", MISSING),
    (models.Recall, "DELETE FROM {t} WHERE trade = {id}", r"\d+", MISSING),
    (models.Transfer, "UPDATE {t} SET amount = amount + 5 WHERE id = {id}", "", "amount: expected"),
    (models.Transfer, "DELETE FROM {t} WHERE id = {id}", "", MISSING),
    (
        models.Transfer,
        "INSERT INTO {t} SELECT id + 9, at_ms, kind, debit, credit, amount FROM {t} WHERE id = {id}",
        r"\d+",
        EXTRA,
    ),
    (models.Balance, "UPDATE {t} SET cash_e7 = cash_e7 + 1 WHERE account = {id}", "", "cash_e7: expected"),
    (models.Balance, "UPDATE {t} SET held_e7 = held_e7 + 1 WHERE account = {id}", "", "held_e7: expected"),
    (models.Balance, "DELETE FROM {t} WHERE account = {id}", "", MISSING),
    (models.Contract, "UPDATE {t} SET topup_e4 = 1 WHERE name = '{id}'", "", "topup_e4: expected"),
]


@pytest.mark.parametrize(("model", "sql", "place", "said"), TAMPERING, ids=[f"{n}" for n in range(len(TAMPERING))])
def test_any_change_in_the_tables_is_named(books_of_a_day: None, model: type, sql: str, place: str, said: str) -> None:
    key, table = first(model), model._meta.db_table
    with unguarded(), connection.cursor() as cursor:
        cursor.execute(sql.format(t=table, id=key))
        assert cursor.rowcount == 1
    with pytest.raises(CommandError, match=f"^{table} {place or re.escape(str(key))}: {said}") as caught:
        call_command("check_books")
    assert caught.value.returncode == 1
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("check_books", json=True, stdout=out)
    assert json.loads(out.getvalue())["verdict"] == "wrong"


def test_settlement_lines_are_compared_too(books_of_a_day: None) -> None:
    line = models.SettlementLine.objects.order_by("seq", "account").values_list("seq", "account")[0]
    with unguarded(), connection.cursor() as cursor:
        cursor.execute("UPDATE exchange_settlementline SET payout_e7 = 7 WHERE seq = %s AND account = %s", line)
    with pytest.raises(
        CommandError, match=rf"^exchange_settlementline {line[0]} {line[1]}: payout_e7: expected \d+, was 7"
    ):
        call_command("check_books")


def test_leaves_that_are_gone_or_against_the_rules_are_named(books_of_a_day: None) -> None:
    order = first(models.Order)
    with unguarded(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM ledger_entry WHERE seq = %s", [order])
    with pytest.raises(CommandError, match=f"^entry {order}: expected an entry, was missing"):
        call_command("check_books")


def test_it_reads_one_instant_while_the_market_goes_on(tmp_path: Path) -> None:
    stop, failures = threading.Event(), []
    with running_market(folder=tmp_path) as market:

        def trade() -> None:
            while not stop.is_set():
                try:
                    market.place(market.alice, SELL, "0.1500", 10)
                    market.buys(market.bob, "0.2000", 10)
                except Exception as error:
                    failures.append(error)
                    return

        thread = threading.Thread(target=trade)
        thread.start()
        try:
            sizes = [books.check().entries for _ in range(8)]
        finally:
            stop.set()
            thread.join()
    assert not failures
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
