"""Gates, expiries and openings come by themselves when market time reaches them."""

import time
from collections.abc import Callable

import pytest

from market.engine.commands import BUY, SELL
from market.exchange import queries
from tests.factories import running_market

pytestmark = pytest.mark.django_db(transaction=True)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the writer has looked at the clock and done what was due."""
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen within 20 s"
        time.sleep(0.02)


def state_of(contract: str) -> str:
    """Return the state of a contract in the database."""
    view = queries.contract(contract)
    assert view is not None
    return view.state


def status_of(order: int) -> tuple[str, str]:
    """Return an order's status and reason in the database."""
    view = queries.order(order)
    assert view is not None
    return view.status, view.reason


def test_contracts_open_ahead_and_close_at_their_gate() -> None:
    with running_market() as market:
        names = [view.name for view in queries.contracts(state="open")]
        assert len(names) >= 8
        order = market.place(market.alice, SELL, contract=names[0]).events[0].seq
        market.clock.at_ms = market.exchange.read(lambda engine: engine.contracts[names[0]].start_ms)
        eventually(lambda: state_of(names[0]) == "closed")
        assert status_of(order) == ("cancelled", "gate")
        eventually(lambda: queries.contracts()[-1].name > names[-1])
        assert queries.contracts()[-1].state == "open"
        assert market.place(market.alice, SELL, contract=names[0]).refused is not None
        market.clock.advance(minutes=15)
        eventually(lambda: state_of(names[0]) == "delivered")


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
        order = placed.events[0].seq
        time.sleep(0.2)  # some looks at a clock that stands still
        assert status_of(order) == ("open", "")
        market.clock.advance(minutes=1)
        eventually(lambda: status_of(order) == ("cancelled", "expired"))


def test_time_never_goes_back() -> None:
    with running_market() as market:
        contract = market.contract()
        first = market.place(market.alice, SELL, contract=contract).events[0].at_ms
        market.clock.advance(minutes=-5)
        assert market.place(market.alice, SELL, contract=contract).events[0].at_ms == first
        assert market.exchange.now_ms() == first
