"""`GET /api/v1/market`: everybody's view of the market, the same bytes for a crowd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from market.api import shapes
from market.households import operations as households
from market.metering.operations import ReadingIn, record_batches
from market.overview import board as overview
from market.settlement.operations import run_due
from tests.api.conftest import NOW, City, refused, shaped
from tests.integration.witness_http import wait_for

MARKET = "/api/v1/market"
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    overview.KEEPER.forget()
    yield
    overview.KEEPER.forget()


def look(city: City) -> shapes.MarketBoard:
    overview.KEEPER.forget()
    return shaped(city.request("GET", MARKET), shapes.MarketBoard)


def test_few_homes_are_not_shown(city: City) -> None:
    """Three homes: neither their sun nor the prices that they ask are anybody's business."""
    city.alice.order("sell", "0.1500", contract=city.market.contract(6))
    board = look(city)
    assert board.sun is None
    assert {(one.bid, one.ask) for one in board.ahead} == {(None, None)}
    assert "LV" not in city.request("GET", MARKET).text


def test_the_day_of_ten_homes(city: City) -> None:
    """Alice sells to Bob in her street and to Charlie across town; what the meters saw is counted street by street."""
    names = [city.alice.account, city.bob.account, city.charlie.account]
    for n in range(7):
        user = households.create_person(username=f"home{n}", password=None)
        names.append(households.open_account(city.exchange, now=NOW, user=user, area="LV2.1").index)
    contract, next_one = city.market.contract(1), city.market.contract(6)
    city.alice.order("sell", "0.1500", 1_500, contract=contract)
    city.bob.order("buy", "0.1500", 1_000, contract=contract)
    city.charlie.order("buy", "0.2500", 500, contract=contract)
    city.alice.order("sell", "0.1500", contract=next_one)
    open_now = look(city)
    assert {one.contract: one.ask for one in open_now.ahead}[next_one] is not None
    assert open_now.sun is not None
    assert open_now.sun.permille is None

    city.market.clock.advance(minutes=31)
    wait_for(lambda: city.exchange.read(lambda engine: engine.contracts[contract].state) == "delivered")
    seen = {"LV1.1": [(0, 1_500), (900, 0)], "LV2.1": [(400, 0)] + [(0, 100)] * 7}
    batches = {
        area: [ReadingIn(account, *values) for account, values in zip(accounts, seen[area], strict=True)]
        for area, accounts in (("LV1.1", names[:2]), ("LV2.1", names[2:]))
    }
    record_batches(exchange=city.exchange, contract=contract, batches=batches, now_ms=city.market.clock.at_ms)
    run_due(exchange=city.exchange, now_ms=city.market.clock.at_ms)
    board = look(city)
    day = {one.contract: one for one in board.behind}
    assert (day[contract].volume_wh, day[contract].near_wh, day[contract].price) == (1_500, 1_000, "0.1500")
    # 1,500 + 700 Wh given; 900 used in Alice's street, 400 in Charlie's.
    assert board.sun is not None
    assert (board.sun.given_wh, board.sun.used_near_wh, board.sun.permille) == (2_200, 1_300, 590)
    assert board.sun.intervals >= 1

    correct = {"LV1.1": [ReadingIn(names[0], 0, 1_500), ReadingIn(names[1], 1_500, 0)]}
    record_batches(exchange=city.exchange, contract=contract, batches=correct, now_ms=city.market.clock.at_ms)
    run_due(exchange=city.exchange, now_ms=city.market.clock.at_ms)
    again = look(city).sun
    assert again is not None
    assert (again.given_wh, again.used_near_wh) == (2_200, 1_900)


def test_a_crowd_costs_nothing(city: City) -> None:
    first = city.request("GET", MARKET)
    assert first.headers["cache-control"] == f"public, max-age={int(overview.KEPT_S)}"
    with CaptureQueriesContext(connection) as asked:
        board = overview.board(city.exchange)
        assert all(overview.board(city.exchange) is board for _ in range(100))
    assert len(asked) == 0
    assert city.request("GET", MARKET).content == first.content


def test_one_reader_makes_the_next_board_and_the_others_do_not_wait(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    keeper = overview.Keeper(lambda: seconds[0])
    old = keeper.board(city.exchange)
    seconds[0] = overview.KEPT_S + 1
    with keeper._making:  # somebody makes the next one
        assert keeper.board(city.exchange) is old
    assert keeper.board(city.exchange) is not old


def test_how_the_ledger_does(city: City) -> None:
    health = look(city).ledger
    assert health.height > 0
    assert health.entries > 0
    assert health.age_ms is not None
    assert len(health.keys) == 1
    assert (health.witnesses, health.witnessed) == ("none", None)


def test_strict_and_closed(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(city.request("GET", MARKET + "?area=LV1.1"), 400, "unknown_field", "area")
    monkeypatch.setattr("market.exchange.gateway._current", None)
    refused(city.request("GET", MARKET), 503, "exchange_not_running")
