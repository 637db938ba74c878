"""Which settlements may still be corrected is known without an engine: in the first days, and where nothing is corrected."""

from __future__ import annotations

from pathlib import Path

import pytest

from market.exchange import correctable, gateway
from market.exchange.models import Adjustment, Final, Snapshot
from market.settlement import personal
from market.settlement.operations import FINAL_GRACE_MS, finalise_due
from market.settlement.waiting import DEADLINE_MS, UNCORRECTED_DEADLINE_MS
from tests.factories import PARAMS, Market, running_exchange, running_market
from tests.integration.test_settlement_run import deliver, settle, trade_across_the_city

pytestmark = pytest.mark.django_db(transaction=True)


def known(market: Market) -> set[str]:
    """Return what the engine says, which the ledger has to say, too."""
    names = market.exchange.read(lambda engine: set(engine.provisional))
    assert correctable.provisional() == names
    return names


def settled(market: Market, wait_ms: int) -> str:
    contract = trade_across_the_city(market)
    deliver(market)
    market.clock.advance(ms=wait_ms)
    settle(market)
    return contract


@pytest.mark.parametrize("stops", [False, True])
def test_the_ledger_says_what_the_engine_says(tmp_path: Path, stops: bool) -> None:
    with running_market(folder=tmp_path) as market:
        clock, alice = market.clock, market.alice
        first = settled(market, DEADLINE_MS)
        assert known(market) == {first} and not Final.objects.exists() and not Adjustment.objects.exists()
        if not stops:
            _later(market, first)
            assert not Snapshot.objects.exists()
            return
    assert Snapshot.objects.exists()
    error = personal.obstacle([alice])  # no market runs here
    assert error is not None and error.code == "provisional"
    assert personal.obstacle([alice + 1_000]) is None
    with running_exchange(clock, folder=tmp_path) as (exchange, _):
        again = Market(exchange, clock)
        again.alice, again.bob, again.charlie = market.alice, market.bob, market.charlie
        _later(again, first)
        last = known(again)
    assert correctable.provisional() == last


def _later(market: Market, first: str) -> None:
    # From now on what is settled is final at once, and only what was settled before may be corrected.
    assert market.exchange.call(PARAMS._replace(final_after_min=0, sharing_scope=0)).refused is None
    at_once = settled(market, UNCORRECTED_DEADLINE_MS)
    assert at_once != first and known(market) == {first}
    assert market.exchange.call(PARAMS).refused is None
    third = settled(market, DEADLINE_MS)
    assert known(market) >= {first, third} and at_once not in known(market)
    market.clock.advance(ms=PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS)
    assert {first, third} <= known(market), "until it is said on the ledger"
    finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    assert known(market).isdisjoint({first, third})


def test_a_person_of_a_market_that_corrects_nothing_can_be_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_market() as market:
        first = settled(market, DEADLINE_MS)
        market.clock.advance(ms=PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS)
        finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms)
        assert market.exchange.call(PARAMS._replace(final_after_min=0, sharing_scope=0)).refused is None
        assert settled(market, UNCORRECTED_DEADLINE_MS) != first
        monkeypatch.setattr(gateway, "_current", None)
        assert personal.obstacle([market.alice, market.charlie]) is None
