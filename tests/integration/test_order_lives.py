"""The life of an iceberg, told from rows alone, shows each next part where the engine showed it: halts and uncrossings, too."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from market.engine import commands
from market.engine.commands import (
    AmendOrder,
    CancelOrder,
    HibernateOrder,
    PlaceIceberg,
    ReactivateOrder,
    SetCapacity,
    SetHalt,
)
from market.engine.trading import Trading
from market.exchange import models, orderviews, queries
from market.pages.orderlife import life_of
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
Clip = tuple[int, int, int]  # order, entry of the trade that used the one before up, Wh shown anew
STEPS = 400
AREAS = ("LV1.1", "LV1.2", "LV2.1")
NARROW_W, WIDE_W = 400, 40_000  # what a line carries: next to nothing, or more than there is


@pytest.fixture
def market() -> Iterator[Market]:
    with running_market() as running:
        yield running


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """What the engine showed anew."""
    found: list[Clip] = []
    genuine = Trading._next_clip

    def noted(engine: Any, book: Any, order: Any) -> bool:
        showed = genuine(engine, book, order)
        if showed:
            found.append((order.id, engine.seq - 1, order.remaining_wh))
        return showed

    monkeypatch.setattr(Trading, "_next_clip", noted)
    return found


def told() -> list[Clip]:
    """What the lives of all icebergs say."""
    found: list[Clip] = []
    for order_id in models.OrderDetail.objects.values_list("order", flat=True):
        order = queries.order(order_id)
        assert order is not None
        found += [(order_id, step.seq, step.energy_wh) for step in life_of(order) if step.kind == "clip"]
    return sorted(found)


def width(market: Market, area: str, power_w: int) -> None:
    market.exchange.call(SetCapacity(area, power_w, power_w, "maintenance"))


def test_a_part_that_is_used_up_where_an_edge_opens_is_followed_by_the_next(market: Market, shown: list[Clip]) -> None:
    """The iceberg came last, so it is the taker of what meets when the line is wide again."""
    contract = market.contract(2)
    width(market, "LV2.1", 0)
    seller, buyer = market.member("LV1.1"), market.member("LV2.1")
    market.place(seller, "sell", "0.1000", 2_000, contract=contract)
    order = PlaceIceberg(buyer, contract, "buy", 2_000, 1_000, "gtg", 0, 300)
    iceberg = market.exchange.call(order).events[0].seq
    width(market, "LV2.1", WIDE_W)
    assert [(number, wh) for number, _seq, wh in shown] == [(iceberg, 300), (iceberg, 300), (iceberg, 100)]
    assert told() == sorted(shown)
    assert {trade.taker for trade in queries.trades(contract=contract)} == {iceberg}


def test_what_arrives_past_orders_of_its_own_group_has_not_rested(
    market: Market, shown: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orderviews, "LOOKED_AT_ONCE", 2)
    contract, other, mine = market.contract(2), market.member("LV1.1"), market.member("LV1.1")
    market.place(other, "sell", "0.1000", 500, contract=contract)
    for price in ("0.1100", "0.1110", "0.1120", "0.1130"):
        market.place(mine, "sell", price, 100, contract=contract)
    market.place(other, "sell", "0.1200", 500, contract=contract)
    market.exchange.call(PlaceIceberg(mine, contract, "buy", 2_000, 1_400, "gtg", 0, 300))
    market.place(other, "sell", "0.1200", 500, contract=contract)
    gone = list(models.OrderChange.objects.filter(reason="self_trade").order_by("seq").values_list("seq", flat=True))
    assert gone == list(range(gone[0], gone[0] + 4))
    assert queries.only_self_trades(gone[0], gone[-1] + 1) and queries.only_self_trades(gone[-1], gone[-1])
    assert not queries.only_self_trades(gone[0] - 1, gone[-1] + 1)
    assert not queries.only_self_trades(gone[0], gone[-1] + 2)
    assert len(shown) == 1, "400 Wh were left: 300 and the rest"
    assert told() == sorted(shown)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_part_is_told_where_the_engine_showed_it(market: Market, shown: list[Clip], seed: int) -> None:
    rng, contract = random.Random(seed), market.contract(2)
    people = [market.member(area) for area in AREAS for _ in range(3)]
    mine: list[tuple[int, int]] = []
    halted = False
    for _ in range(STEPS):
        kind = rng.random()
        if kind < 0.1:
            width(market, rng.choice(AREAS), rng.choice((0, NARROW_W, WIDE_W)))
        elif kind < 0.14:
            halted = not halted
            scope, target = ("area", "LV1.1") if rng.random() < 0.5 else ("contract", contract)
            for each in ((scope, target),) if halted else (("area", "LV1.1"), ("contract", contract)):
                market.exchange.call(SetHalt(*each, int(halted), "grid_fault", 0, 0))
        elif kind < 0.34 and mine:
            market.exchange.call(_change(rng, *rng.choice(mine)))
        else:
            account, side = rng.choice(people), rng.choice(("buy", "sell"))
            price_e4, energy_wh = rng.randrange(1_600, 2_500, 100), rng.randrange(100, 2_000, 50)
            if kind < 0.7:
                order = PlaceIceberg(account, contract, side, price_e4, energy_wh, "gtg", 0, max(50, energy_wh // 5))
                outcome = market.exchange.call(order)
                mine += [(account, event.seq) for event in outcome.events[:1]]
            else:
                market.place(account, side, f"0.{price_e4:04d}", energy_wh, contract=contract)
    resting = {number for number, _seq, _wh in shown} & set(models.Trade.objects.values_list("taker", flat=True))
    assert len(shown) > 50 and resting
    assert told() == sorted(shown)


def _change(rng: random.Random, account: int, order: int) -> commands.Command:
    kind = rng.randrange(5)
    if kind == 0:
        return CancelOrder(account, order, "owner")
    if kind == 1:
        return HibernateOrder(account, order)
    if kind == 2:
        return ReactivateOrder(account, order)
    return AmendOrder(account, order, rng.choice((-1, rng.randrange(1_600, 2_500, 100))), rng.randrange(300, 2_000, 50))
