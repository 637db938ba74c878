"""A silent meter is estimated by what is certainly final, told on the ledger with its reason, and replaced by the truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from market.engine.contracts import contract_start_ms
from market.exchange import books, operations
from market.metering.estimation import DAY_MS, Estimate
from market.metering.models import Reading
from market.settlement import estimates, queries
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due
from market.settlement.service import SettlementService
from market.settlement.waiting import DEADLINE_MS
from tests.factories import PARAMS, Market, running_market
from tests.integration.test_demo_market import INTERVAL_MS, stepped
from tests.integration.test_settlement_run import deliver, meter, trade_across_the_city

pytestmark = pytest.mark.django_db(transaction=True)


def lived(account: int, start_ms: int, days: dict[int, int], quality: str = "measured") -> None:
    """Note exports (Wh) of an account so many days before an interval, as if they had been metered."""
    Reading.objects.bulk_create(
        Reading(
            start_ms=start_ms - day * DAY_MS, account=account, version=0, area="LV1.1", import_wh=0, export_wh=wh,
            quality=quality, received_ms=0, seq=0, n=0,
        )
        for day, wh in days.items()
    )  # fmt: skip


def estimated(account: int) -> tuple[Any, ...]:
    """Return the newest reading of an account."""
    found = Reading.objects.filter(account=account).order_by("start_ms", "version").last()
    return () if found is None else (found.export_wh, found.quality, found.reason)


def settle(market: Market) -> None:
    estimate = estimates.estimator(market.exchange)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms, estimate=estimate)


def test_a_home_is_estimated_by_its_own_final_days_and_one_without_any_by_what_it_traded() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        start_ms = contract_start_ms(contract)
        lived(market.alice, start_ms, {1: 10, 7: 20, 14: 30, 21: 800, 28: 700, 35: 900, 16: 40})
        lived(market.alice, start_ms, {42: 100}, "estimated")
        deliver(market)
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        assert estimated(market.alice) == (800, "estimated", "same_weekdays")
        row = queries.line(market.alice, contract).row
        assert (row.export_wh, row.quality, row.short_wh) == (800, "estimated", 200)
        assert Reading.objects.get(account=market.alice, seq__gt=0).seq < queries.line(market.alice, contract).seq
        assert not Reading.objects.filter(account=market.charlie).exists()
        row = queries.line(market.charlie, contract).row
        assert (row.import_wh, row.quality, row.topup_wh, row.spill_wh) == (1_000, "estimated", 0, 0)
        # What is measured in the end counts, even where the estimate was right.
        meter(market, contract, alice=(0, 800))
        assert adjust_due(exchange=market.exchange).accounts == 1
        assert queries.adjustments(market.alice, contracts=[contract])[-1].row.quality == "measured"
        books.check()


def test_what_is_old_enough_and_not_final_all_the_same_is_left_out() -> None:
    """An interval keeps the time in force when it was settled: one settled for 14 days is open when now 0 are the rule."""
    with running_market() as market:
        before = trade_across_the_city(market)
        deliver(market)
        meter(market, before, alice=(0, 900), bob=(0, 0), charlie=(1_000, 0))
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        assert queries.line(market.alice, before).row.export_wh == 900
        operations.set_params(market.exchange, params=PARAMS._replace(final_after_min=0), reason="planning")
        start_ms = contract_start_ms(before) + DAY_MS
        market.clock.at_ms = start_ms - INTERVAL_MS
        market.member("LV1.2", deposit_e7=0)
        contract = market.contract()
        assert contract_start_ms(contract) == start_ms
        lived(market.alice, start_ms, {2: 2_000, 3: 3_000})
        estimate = estimates.estimator(market.exchange)
        assert estimate(contract, "LV1.1", [market.alice]) == {market.alice: Estimate(0, 3_000, "same_time", 2)}
        market.clock.at_ms = contract_start_ms(before) + INTERVAL_MS + PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS
        market.member("LV1.2", deposit_e7=0)
        assert finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms) == 1
        assert estimate(contract, "LV1.1", [market.alice]) == {market.alice: Estimate(0, 2_000, "same_time", 3)}


def test_a_reading_that_comes_in_while_its_home_is_estimated_stays() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        market.clock.advance(ms=DEADLINE_MS)

        def slow(name: str, area: str, accounts: Sequence[int]) -> dict[int, Estimate]:
            if market.alice not in accounts:
                return {}
            meter(market, contract, alice=(0, 950))
            return {market.alice: Estimate(0, 100, "profile", 0)}

        settle_due(exchange=market.exchange, now_ms=market.clock.at_ms, estimate=slow)
        assert estimated(market.alice) == (950, "measured", "")
        assert queries.line(market.alice, contract).row.export_wh == 950


def test_the_server_estimates() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        lived(market.alice, contract_start_ms(contract), {21: 800, 28: 700})
        deliver(market)
        market.clock.advance(ms=DEADLINE_MS)
        service = SettlementService(every_s=0.02)
        service.start()
        try:
            deadline_s = time.monotonic() + 20
            while queries.line(market.alice, contract) is None:
                assert time.monotonic() < deadline_s, "nothing was settled"
                time.sleep(0.02)
        finally:
            service.stop()
        assert estimated(market.alice) == (800, "estimated", "same_weekdays")
        assert queries.line(market.alice, contract).row.export_wh == 800


def test_the_demo_estimates_by_the_profile_of_such_homes(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        market.run(1.0)
        silent = min(market.life.meters.accounts())
        read = market.life.meters.read

        def without(*args: Any) -> dict[str, list[Any]]:
            found = read(*args)
            return {area: [one for one in some if one.account != silent] for area, some in found.items()}

        market.life.meters.read = without
        market.clock.set(market.clock.now_ms() + 2 * INTERVAL_MS + DEADLINE_MS)
        market.catch_up()
        market.life.measure(market.clock.now_ms())
        market.life.settle(market.clock.now_ms())
        readings = list(Reading.objects.filter(account=silent))
        assert readings and {(one.quality, one.reason) for one in readings} == {("estimated", "profile")}
        for one in readings:
            typical = market.life.meters.typical(silent, one.start_ms)
            assert typical == (one.import_wh, one.export_wh) != (0, 0)
