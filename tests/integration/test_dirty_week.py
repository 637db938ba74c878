"""The dirty week in small: ten homes and five days of hours, three lives; and broken code, which it has to notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from market.engine.contracts import contract_start_ms
from market.exchange.exchange import Exchange
from market.metering import estimation
from market.metering import queries as metering
from market.settlement import operations, rules, waiting
from market.simulator.life import Life
from market.simulator.neighbourhood import load_city
from tests.load import dirty_life, dirty_plan, dirty_week
from tests.load.dirty_life import Scenario
from tests.load.dirty_plan import ABSURD, CORRECTED, DOUBLED, HOUR_MS, LATE, MISSING, Arrival, Meter, Result, Script

pytestmark = pytest.mark.django_db(transaction=True)
AREAS = ("LV1.101", "LV1.201")
HOMES, ROOFS = 5, 3  # of each area
SHARES = {MISSING: 60, LATE: 90, CORRECTED: 50, DOUBLED: 30, ABSURD: 20}
_clean: list[Result] = []  # the clean life is lived once for all tests here


def scenario() -> Scenario:
    """Five days of hours: of the last one's values some are estimated by the first two days, which are final by then."""
    city = load_city(areas=AREAS)
    # Roofs first, three of them an area: there is something to trade.
    ordered = sorted(city.homes, key=lambda home: not home.pv_w)
    some = []
    for area in AREAS:
        homes = [home for home in ordered if home.area == area]
        some += homes[:ROOFS] + homes[ROOFS - HOMES :]
    needed = load_city(areas=AREAS, homes=len(city.homes))
    return Scenario(needed._replace(homes=some), 5 * 24, 30 * 60, 26 * HOUR_MS, moments=1)


@pytest.fixture
def live(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that lives once, cleanly (``order`` None) or dirtily."""
    settings.MARKET_INTERVAL_MIN = 60
    settings.PUBLISHED_CHECKPOINT_FILE = tmp_path / "published_checkpoint"
    monkeypatch.setattr(dirty_plan, "SHARES", SHARES)

    def once(order: int | None, **how: Any) -> Result:
        call_command("flush", verbosity=0, interactive=False)
        settings.PUBLISHED_CHECKPOINT_FILE.unlink(missing_ok=True)
        folder = tmp_path / f"life{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if order is None:
            return dirty_life.live(scenario(), folder=folder, **how)
        what = dirty_week.place_kinds(clean(once))

        def arriving(meters: list[Meter], script: Script) -> list[Arrival]:
            return dirty_plan.arrivals(
                script.truth, what, meters, length_ms=HOUR_MS, longest_ms=scenario().longest_ms, order=order
            )

        return dirty_life.live(scenario(), folder=folder, script=clean(once).script, arriving=arriving, **how)

    clean(once)
    return once


def clean(live: Callable[..., Result]) -> Result:
    if not _clean:
        _clean.append(live(None))
    return _clean[0]


def test_two_orders_of_arrival_end_alike_and_clean_where_the_truth_arrived(live: Callable[..., Result]) -> None:
    one, other = live(1), live(2)
    what = dirty_week.place_kinds(clean(live))
    assert dirty_week.compare(clean(live), one, other, what) == []
    assert len(clean(live).trades) > 20
    assert one.bases["same_time"] > 3 and one.bases["profile"] > 50
    assert one.counts["corrected areas"] > 50 and one.counts["above_rating"] > 5 and one.counts["duplicate"] > 10
    assert one.counts["longest wait"] == waiting.DEADLINE_MS and one.counts["values settled later"] > 50
    assert clean(live).counts["longest wait"] == 0, "where all meters answer nobody waits"
    assert one.counts["accepted"] != other.counts["accepted"], "another order"
    must = dirty_week.statements_that_must_be_clean(clean(live), what)
    assert dirty_week.lines(clean(live), one, other, what)[-1].startswith(f"A and B: the same {len(one.rows):,} rows")
    # It notices a single row, statement and balance that is another one.
    place, row = next(iter(other.rows.items()))
    spoiled = [
        other._replace(rows=other.rows | {place: row._replace(import_wh=row.import_wh + 1)}),
        other._replace(statements=other.statements | {next(iter(must)): (0,)}),
        other._replace(net_e7=[1, *other.net_e7[1:]]),
        other._replace(trades=other.trades[:-1]),
    ]
    for wrong in spoiled:
        assert dirty_week.compare(clean(live), one, wrong, what), wrong
    both = one._replace(rows=one.rows | {place: row._replace(import_wh=row.import_wh + 1)})
    found = dirty_week.compare(clean(live), both, both, what)
    arrived = what[contract_start_ms(place[0]), place[1]] in dirty_plan.ARRIVE
    assert bool(found) == arrived


@pytest.mark.once
def test_an_estimate_that_leans_on_what_is_not_final_is_noticed(live: Callable[..., Result]) -> None:
    def hasty(exchange: Exchange, life: Life) -> Any:
        def estimates(contract: str, area: str, accounts: Sequence[int]) -> dict[int, estimation.Estimate]:
            start_ms = contract_start_ms(contract)
            known = metering.history(accounts, start_ms=start_ms, final_after_ms=0)
            found = {
                account: estimation.estimate(
                    start_ms=start_ms, history=known.get(account, {}), profile=life.meters.typical(account, start_ms),
                    final_after_ms=0,
                )
                for account in accounts
            }  # fmt: skip
            return {account: guess for account, guess in found.items() if guess is not None}

        return estimates

    broken = live(1, estimator=hasty)
    assert any(text.startswith("estimates: account") for text in broken.violations)


@pytest.mark.once
def test_late_readings_that_are_ignored_are_noticed(
    live: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "adjust_due", lambda **_how: operations.Corrections(0, 0, 0, 0))
    broken = live(1)
    found = dirty_week.compare(clean(live), broken, broken, dirty_week.place_kinds(clean(live)))
    assert any(text.startswith("A is not clean: (") for text in found)
    assert any("are not final in the end" in text for text in found)


@pytest.mark.once
def test_homes_that_wait_for_another_homes_meter_are_noticed(
    live: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was once: an hour for the whole area, whichever of its meters is silent."""
    monkeypatch.setattr(waiting, "deadline_ms", lambda _engine, _name: HOUR_MS)
    monkeypatch.setattr(dirty_life._Lived, "audit", lambda _self: None)
    broken = live(1)
    assert any(text.startswith("waiting: LV1.") for text in broken.violations)
    told = [text for text in broken.violations if text.startswith("home: account")]
    assert told and "its value arrived 0 min after delivery and it was settled 60 min later" in told[0]


@pytest.mark.once
def test_a_home_that_is_not_settled_by_its_value_is_noticed(
    live: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = rules.changes
    monkeypatch.setattr(rules, "changes", lambda *args: tuple(one for one in changes(*args) if one.row.account % 3))
    monkeypatch.setattr(dirty_life._Lived, "audit", lambda _self: None)
    broken = live(1)
    assert any("never settled by it" in text for text in broken.violations if text.startswith("home: account"))


@pytest.mark.once
def test_money_that_is_made_is_noticed(tmp_path: Path) -> None:
    """The books would stop an exchange before; here the sum alone is looked at."""
    one = dirty_life._Lived(scenario(), tmp_path, dirty_life.plain)
    for total, told in ((0, 0), (7, 1)):
        one.exchange.read = lambda _look, total=total: total  # type: ignore[method-assign,misc]
        assert one._done("settled", 3) == 3
        assert len(one.told) == told and one.counts["sums"] == told + 1
