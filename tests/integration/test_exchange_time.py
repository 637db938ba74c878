"""Gates, expiries and openings come by themselves when market time reaches them."""

import time

import pytest

from market.engine.commands import BUY, SELL
from market.exchange import queries
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)


def settle_down(market: Market) -> None:
    """Wait until the writer has looked at the clock again."""
    seq = -1
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        time.sleep(0.12)  # two of the writer's idle looks
        if (now := market.exchange.status()["seq"]) == seq:
            return
        seq = now
    raise AssertionError("the exchange does not come to rest")


def test_contracts_open_ahead_and_close_at_their_gate() -> None:
    with running_market() as market:
        names = [view.name for view in queries.contracts(state="open")]
        assert len(names) >= 8
        order = market.place(market.alice, SELL, contract=names[0]).events[0].seq
        market.clock.at_ms = market.exchange.read(lambda engine: engine.contracts[names[0]].start_ms)
        settle_down(market)
        first, last = queries.contract(names[0]), queries.contracts()[-1]
        assert first is not None and first.state == "closed"
        assert last.name > names[-1] and last.state == "open"
        view = queries.order(order)
        assert view is not None and (view.status, view.reason) == ("cancelled", "gate")
        assert market.place(market.alice, SELL, contract=names[0]).refused is not None
        market.clock.advance(minutes=15)
        settle_down(market)
        first = queries.contract(names[0])
        assert first is not None and first.state == "delivered"


def test_a_gate_that_has_passed_closes_before_the_next_order_is_looked_at() -> None:
    with running_market() as market:
        contract = market.contract()
        market.clock.advance(minutes=30)
        outcome = market.place(market.alice, SELL, contract=contract)
    assert outcome.refused is not None and outcome.refused.field == "contract"


def test_good_till_date_orders_expire_in_time() -> None:
    with running_market() as market:
        until = market.clock.at_ms + 60_000
        contract = market.contract(4)
        placed = market.place(market.bob, BUY, contract=contract, time_in_force="gtd", expires_at_ms=until)
        settle_down(market)
        order = placed.events[0].seq
        view = queries.order(order)
        assert view is not None and view.status == "open"
        market.clock.advance(minutes=1)
        settle_down(market)
        view = queries.order(order)
        assert view is not None and (view.status, view.reason) == ("cancelled", "expired")


def test_time_never_goes_back() -> None:
    with running_market() as market:
        contract = market.contract()
        first = market.place(market.alice, SELL, contract=contract).events[0].at_ms
        market.clock.advance(minutes=-5)
        assert market.place(market.alice, SELL, contract=contract).events[0].at_ms == first
        assert market.exchange.now_ms() == first
