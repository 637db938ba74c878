"""Estimates lean on the home's own final readings of the same time of day, and on nothing that may still change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.metering.estimation import DAY_MS, HISTORY_DAYS, Estimate, Past, Profile, days_before, estimate

T = 1_780_740_000_000
DAYS = st.dictionaries(st.integers(1, 40), st.builds(Past, st.integers(0, 2_000), st.integers(0, 2_000)))


def history(**days: tuple[int, int]) -> dict[int, Past]:
    return {T - int(name[1:]) * DAY_MS: Past(*energies) for name, energies in days.items()}


@pytest.mark.parametrize(
    ("past", "profile", "expected"),
    [
        ({}, None, None),
        ({}, Profile(80, 0), Estimate(80, 0, "profile", 0)),
        (history(d7=(100, 0)), None, None),  # one day is no habit
        (history(d7=(100, 0)), Profile(80, 0), Estimate(80, 0, "profile", 0)),
        (history(d7=(100, 0), d14=(200, 0)), None, Estimate(100, 0, "same_weekdays", 2)),
        (history(d7=(100, 0), d14=(200, 0), d8=(900, 0)), None, Estimate(100, 0, "same_weekdays", 2)),
        (history(d8=(100, 0), d9=(300, 0), d10=(200, 0)), None, Estimate(200, 0, "same_time", 3)),
        (history(d7=(0, 500), d14=(0, 700), d21=(100, 0)), None, Estimate(0, 500, "same_weekdays", 3)),
        (history(d1=(100, 0), d2=(100, 0), d6=(100, 0)), None, None),  # not final yet
        (history(d36=(100, 0), d37=(100, 0)), None, None),  # another season
        ({T - 7 * DAY_MS + 900_000: Past(1, 0), T - 14 * DAY_MS + 900_000: Past(1, 0)}, None, None),  # another time
    ],
)
def test_estimates(past: dict[int, Past], profile: Profile | None, expected: Estimate | None) -> None:
    assert estimate(start_ms=T, history=past, profile=profile) == expected


def test_who_knows_when_readings_are_final_may_say_so() -> None:
    past = history(d2=(100, 0), d3=(120, 0), d1=(900, 0))
    assert estimate(start_ms=T, history=past, final_after_ms=2 * DAY_MS) == Estimate(100, 0, "same_time", 2)
    assert days_before(T, 2 * DAY_MS)[0] == T - 2 * DAY_MS
    assert days_before(T, 2 * DAY_MS + 1)[0] == T - 3 * DAY_MS
    assert len(days_before(T)) == HISTORY_DAYS


@given(DAYS, DAYS)
def test_what_is_not_final_changes_no_estimate(days: dict[int, Past], late: dict[int, Past]) -> None:
    past = {T - day * DAY_MS: one for day, one in days.items()}
    newer = {T - day * DAY_MS: one for day, one in late.items() if day < 7}
    assert estimate(start_ms=T, history=past | newer) == estimate(start_ms=T, history=past)


@given(DAYS)
def test_an_estimate_lies_within_what_there_was(days: dict[int, Past]) -> None:
    found = estimate(start_ms=T, history={T - day * DAY_MS: one for day, one in days.items()})
    if found is not None:
        nets = [one.import_wh - one.export_wh for one in days.values()]
        assert min(nets) <= found.import_wh - found.export_wh <= max(nets)
        assert found.import_wh == 0 or found.export_wh == 0
