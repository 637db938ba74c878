"""Orders, one rule a test (docs/market-rules.md, chapters 4 and 5)."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import commands as c
from market.engine import events as ev
from tests.unit.engine_cast import FEE_E4, LATER, MONEY_E7, NOON, OPENING_MS, TOPUP_E4, Market


@pytest.fixture
def market() -> Market:
    return Market()


GOOD: dict[str, Any] = {
    "account": 4, "contract": NOON, "side": "buy", "price_e4": 2_000, "energy_wh": 1_000, "time_in_force": "gtg",
    "expires_at_ms": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"contract": "2026-06-06T12:01Z"}, "unknown_contract", "contract"),
        ({"contract": "nonsense"}, "unknown_contract", "contract"),
        ({"account": 99}, "unknown_account", "account"),
        ({"account": -1}, "unknown_account", "account"),
        ({"account": 0}, "account_closed", "account"),  # the bank is nobody's wallet
        ({"side": "give"}, "invalid_side", "side"),
        ({"price_e4": 0}, "price_out_of_range", "price"),
        ({"price_e4": -5}, "price_out_of_range", "price"),
        ({"price_e4": 40_001}, "price_out_of_range", "price"),
        ({"price_e4": 10.5}, "price_out_of_range", "price"),
        ({"price_e4": True}, "price_out_of_range", "price"),
        ({"energy_wh": 0}, "energy_out_of_range", "energy_wh"),
        ({"energy_wh": -1}, "energy_out_of_range", "energy_wh"),
        ({"energy_wh": 1_000_001}, "energy_out_of_range", "energy_wh"),
        ({"energy_wh": 2**70}, "energy_out_of_range", "energy_wh"),
        ({"time_in_force": "day"}, "invalid_time_in_force", "time_in_force"),
        ({"time_in_force": "gtd"}, "expiry_invalid", "expires_at"),
        ({"expires_at_ms": OPENING_MS + 5}, "expiry_invalid", "expires_at"),
        ({"time_in_force": "gtd", "expires_at_ms": OPENING_MS}, "expiry_invalid", "expires_at"),
        ({"price_e4": 2_000, "energy_wh": 500_001}, "insufficient_funds", "energy_wh"),
        ({"time_in_force": "fok"}, "fill_or_kill_unfilled", "energy_wh"),
    ],
)
def test_bad_orders_are_refused_without_a_trace(market: Market, change: dict[str, Any], code: str, field: str) -> None:
    assert market.refused(c.PlaceOrder(**{**GOOD, **change})) == (code, field)


def test_off_tick_price(market: Market) -> None:
    market.do(c.SetParams(40_000, 10, 1_000_000, 5, 180, 0, 1_000))
    assert market.refused(c.PlaceOrder(**{**GOOD, "price_e4": 2_005})) == ("price_off_tick", "price")
    market.do(c.PlaceOrder(**GOOD))


def test_too_many_orders(market: Market) -> None:
    for _ in range(5):
        market.order(market.bob, "buy", 1_000, 10)
    assert market.refused(c.PlaceOrder(**{**GOOD, "account": market.bob})) == ("too_many_orders", "account")


def test_maker_sets_the_price_and_the_buyer_pays_the_path(market: Market) -> None:
    market.order(market.alice, "sell", 1_500, 800)
    events = market.order(market.bob, "buy", 2_500, 500)
    assert market.trades(events) == [(market.alice, market.bob, 500, 1_500, 1_500 + 2 * FEE_E4)]
    events = market.order(market.charlie, "buy", 2_500, 500)
    assert market.trades(events) == [(market.alice, market.charlie, 300, 1_500, 1_500)]
    events = market.order(market.dora, "sell", 1_000, 50)
    assert market.trades(events) == [(market.dora, market.charlie, 50, 2_500 - 2 * FEE_E4, 2_500)]


def test_limits_are_all_in(market: Market) -> None:
    market.order(market.alice, "sell", 1_500, 100)
    assert market.trades(market.order(market.bob, "buy", 1_699, 100)) == []
    assert market.trades(market.order(market.dora, "buy", 1_700, 100)) == [
        (market.alice, market.dora, 100, 1_500, 1_700)
    ]


def test_best_all_in_price_first_then_time(market: Market) -> None:
    far = market.order(market.alice, "sell", 1_400, 10)[0].seq
    near = market.order(market.dora, "sell", 1_500, 10)[0].seq
    early = market.order(market.charlie, "sell", 1_400, 10)[0].seq
    events = market.order(market.bob, "buy", 2_000, 30)
    assert [event.maker for event in events if isinstance(event, ev.Traded)] == [near, far, early]


def test_holds_cover_before_matching(market: Market) -> None:
    market.order(market.bob, "buy", 2_000, 1_000)
    assert market.wallet(market.bob) == (MONEY_E7, 2_000_000)
    market.order(market.alice, "sell", 1_000, 400)
    assert market.wallet(market.bob) == (MONEY_E7 - 2_000 * 400, 2_000 * 600)
    # alice got the maker's price less two edges' fees; her margin is top-up minus that
    margin_e7 = (TOPUP_E4 - (2_000 - 2 * FEE_E4)) * 400
    assert market.wallet(market.alice) == (MONEY_E7 - margin_e7, 0)
    clearing = market.engine.contracts[NOON].account
    assert market.wallet(clearing) == (2_000 * 400 + margin_e7, 0)
    market.assert_replays()


def test_a_seller_above_the_top_up_price_needs_no_cover(market: Market) -> None:
    poor = market.member("LV1", money_e7=0)
    market.order(poor, "sell", TOPUP_E4, 1_000)
    assert market.wallet(poor) == (0, 0)
    assert market.refused(c.PlaceOrder(poor, NOON, "sell", TOPUP_E4 - 1, 1, "gtg", 0))[0] == "insufficient_funds"


def test_immediate_or_cancel_never_rests(market: Market) -> None:
    market.order(market.alice, "sell", 1_500, 100)
    events = market.order(market.charlie, "buy", 1_500, 300, "ioc")
    assert market.trades(events) == [(market.alice, market.charlie, 100, 1_500, 1_500)]
    assert (events[-1].reason, events[-1].remaining_wh) == ("ioc", 200)
    assert not market.engine.orders and market.wallet(market.charlie)[1] == 0


def test_fill_or_kill_is_whole_or_nothing(market: Market) -> None:
    market.order(market.alice, "sell", 1_500, 100)
    market.order(market.dora, "sell", 1_600, 100)
    kill = c.PlaceOrder(market.charlie, NOON, "buy", 1_700, 201, "fok", 0)
    assert market.refused(kill) == ("fill_or_kill_unfilled", "energy_wh")
    events = market.order(market.charlie, "buy", 1_800, 200, "fok")
    assert market.trades(events) == [
        (market.alice, market.charlie, 100, 1_500, 1_500),
        (market.dora, market.charlie, 100, 1_600, 1_800),
    ]


def test_fill_or_kill_does_not_count_its_own_groups_energy(market: Market) -> None:
    one, other = market.member("LV1", "family"), market.member("LV1", "family")
    market.order(one, "sell", 1_500, 100)
    assert market.refused(c.PlaceOrder(other, NOON, "buy", 2_000, 100, "fok", 0))[0] == "fill_or_kill_unfilled"


def test_good_till_date_expires(market: Market) -> None:
    id = market.order(market.bob, "buy", 2_000, 10, "gtd", expires=OPENING_MS + 1_000)[0].seq
    market.order(market.dora, "buy", 2_000, 10)
    assert market.engine.due_ms() == OPENING_MS + 1_000
    market.tick(OPENING_MS + 999)
    assert id in market.engine.orders
    market.tick(OPENING_MS + 1_000)
    assert [(e.order, e.reason) for e in market.log if isinstance(e, ev.OrderCancelled)] == [(id, "expired")]
    assert market.engine.due_ms() is None and market.wallet(market.bob) == (MONEY_E7, 0)
    market.assert_replays()


def test_self_trade_cancels_the_resting_order_across_areas(market: Market) -> None:
    one, other = market.member("LV1", "family"), market.member("LV2", "family")
    own = market.order(one, "sell", 1_000, 50)[0].seq
    market.order(market.alice, "sell", 1_200, 50)
    events = market.order(other, "buy", 2_000, 50)
    assert [(e.order, e.reason) for e in events if isinstance(e, ev.OrderCancelled)] == [(own, "self_trade")]
    assert market.trades(events) == [(market.alice, other, 50, 1_200, 1_400)]
    assert market.wallet(one) == (MONEY_E7, 0)


def test_less_energy_keeps_priority_anything_else_loses_it(market: Market) -> None:
    first = market.order(market.alice, "sell", 1_500, 100)[0].seq
    second = market.order(market.charlie, "sell", 1_500, 100)[0].seq
    assert market.do(c.AmendOrder(market.alice, first, -1, 60))[0].requeued == 0
    assert market.trades(market.order(market.bob, "buy", 1_700, 10))[0][0] == market.alice
    assert market.do(c.AmendOrder(market.alice, first, -1, 200))[0].requeued == 1
    assert market.trades(market.order(market.bob, "buy", 1_700, 10))[0][0] == market.charlie
    assert market.do(c.AmendOrder(market.charlie, second, 1_501, -1))[0].requeued == 1
    assert market.trades(market.order(market.bob, "buy", 1_701, 10))[0][0] == market.alice
    market.assert_replays()


def test_an_amended_price_trades_at_once(market: Market) -> None:
    id = market.order(market.alice, "sell", 2_000, 100)[0].seq
    market.order(market.charlie, "buy", 1_500, 40)
    events = market.do(c.AmendOrder(market.alice, id, 1_400, -1))
    assert market.trades(events) == [(market.alice, market.charlie, 40, 1_500, 1_500)]
    assert market.engine.orders[id].remaining_wh == 60
    assert market.wallet(market.alice)[1] == (TOPUP_E4 - 1_400) * 60


@pytest.mark.parametrize(
    ("price_e4", "energy_wh", "code"),
    [
        (-1, -1, "nothing_to_change"), (2_000, 100, "nothing_to_change"), (0, -1, "price_out_of_range"),
        (-1, 40, "energy_out_of_range"), (-1, 0, "energy_out_of_range"), (40_000, 900_000, "insufficient_funds"),
    ],
)  # fmt: skip
def test_bad_amends(market: Market, price_e4: int, energy_wh: int, code: str) -> None:
    id = market.order(market.bob, "buy", 2_000, 100)[0].seq
    market.order(market.dora, "sell", 2_000, 40)
    assert market.refused(c.AmendOrder(market.bob, id, price_e4, energy_wh))[0] == code


def test_nobody_else_touches_an_order(market: Market) -> None:
    id = market.order(market.bob, "buy", 2_000, 100)[0].seq
    assert market.refused(c.CancelOrder(market.alice, id, "owner")) == ("not_your_order", "order")
    assert market.refused(c.AmendOrder(market.alice, id, 100, -1)) == ("not_your_order", "order")
    assert market.refused(c.CancelOrder(market.bob, 10**9, "owner")) == ("unknown_order", "order")
    market.do(c.CancelOrder(market.bob, id, "owner"))
    assert market.refused(c.CancelOrder(market.bob, id, "owner")) == ("unknown_order", "order")
    assert market.wallet(market.bob) == (MONEY_E7, 0)


def test_cancel_all_of_one_contract_or_of_all(market: Market) -> None:
    market.order(market.bob, "buy", 2_000, 100)
    kept = market.order(market.bob, "buy", 2_000, 100, contract=LATER)[0].seq
    other = market.order(market.dora, "buy", 2_000, 100)[0].seq
    market.do(c.CancelAll(market.bob, NOON, "owner"))
    assert set(market.engine.orders) == {kept, other}
    market.do(c.CancelAll(market.bob, "", "owner"))
    assert set(market.engine.orders) == {other}
    assert market.do(c.CancelAll(market.bob, "", "owner")) == []
    assert market.refused(c.CancelAll(99, "", "owner")) == ("unknown_account", "account")
    assert market.refused(c.CancelAll(market.bob, "x", "owner")) == ("unknown_contract", "contract")
    market.assert_replays()
