"""What an opened edge is foreseen to do where groups and the price collar come in: seldom in random worlds, so set up here."""

from __future__ import annotations

from market.engine import commands as c
from market.engine import events as ev
from market.engine.foreseeing import Foreseen
from tests.unit.engine_cast import NOON, Market

ROOMY_W = 40_000
COLLAR_E4 = 300  # around 1900, half of top-up plus spill


def opened(market: Market) -> tuple[Foreseen, list[object]]:
    """Return what opening LV2 is foreseen to do, and what it does."""
    before = market.engine.state_hash()
    found = market.engine.foresee_capacity(NOON, "LV2", ROOMY_W, ROOMY_W)
    assert found is not None and market.engine.state_hash() == before
    return found, market.do(c.SetCapacity("LV2", ROOMY_W, ROOMY_W, "restored"))


def collared() -> Market:
    """Return a market with a collar whose LV2 is cut off."""
    market = Market()
    market.do(c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, 1_000, COLLAR_E4, 60, 300))
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    return market


def test_an_order_that_would_meet_its_own_group_is_counted_as_taken_back() -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    first, second = market.member("LV1", "family"), market.member("LV2", "family")
    market.order(first, "sell", 1_000, 100)
    market.order(second, "buy", 2_000, 100)
    found, events = opened(market)
    assert (found.trades, found.cancelled) == (0, 1)
    assert [e.reason for e in events if isinstance(e, ev.OrderCancelled)] == ["self_trade"]


def test_a_price_outside_the_collar_halts_instead_of_trading() -> None:
    market = collared()
    market.order(market.alice, "sell", 1_000, 100)
    market.order(market.bob, "buy", 2_000, 100)
    found, events = opened(market)
    assert (found.trades, found.collar) == (0, True)
    assert [e.reason for e in events if isinstance(e, ev.HaltSet)] == ["collar"]
    assert market.trades(events) == []


def test_the_collar_is_about_what_the_seller_gets_after_the_fee() -> None:
    market = collared()
    market.order(market.bob, "buy", 2_250, 100)  # 200 of it are the path's fee: the seller gets 2050
    market.order(market.alice, "sell", 1_900, 100)
    found, events = opened(market)
    assert (found.trades, found.traded_wh, found.collar) == (1, 100, False)
    assert market.trades(events) == [(market.alice, market.bob, 100, 2_050, 2_250)]
