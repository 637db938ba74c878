"""A forecast knows yesterday and the sky, never the future."""

from __future__ import annotations

import random

import pytest

from market.agents.forecast import Forecaster, noise

DAY = 96


def week(seed: int) -> list[int]:
    rolled = random.Random(seed)
    return [rolled.randrange(100_000) for _ in range(7 * DAY)]


@pytest.mark.parametrize("lead", [1, 4, 11, 12, 48, 95, 96, 97, 144, 200])
@pytest.mark.parametrize("observed", [0, 40, 95, 96, 400, 671])
def test_the_future_changes_nothing(observed: int, lead: int) -> None:
    """All steps after the observed one up to the forecast one are replaced; the forecast stays."""
    profile = week(1)
    other = list(profile)
    for step in range(observed + 1, observed + lead + 1):
        other[step % len(other)] = 77_777
    assert Forecaster([profile], DAY).expect(observed, lead) == Forecaster([other], DAY).expect(observed, lead)


def test_the_past_does_change_it() -> None:
    profile = week(2)
    other = list(profile)
    other[300 + 4 - DAY] += 5_000
    assert Forecaster([profile], DAY).expect(300, 4) != Forecaster([other], DAY).expect(300, 4)


def test_days_that_are_all_alike_are_foreseen() -> None:
    day = [step * 100 for step in range(DAY)]
    forecaster = Forecaster([day * 7, [500] * 7 * DAY], DAY)
    for observed, lead in ((10, 1), (90, 10), (200, 60)):
        assert forecaster.expect(observed, lead) == [day[(observed + lead) % DAY], 500]


def test_a_cloudy_morning_lowers_the_next_hours_only() -> None:
    sunny = [1_000] * DAY
    profile = sunny * 7
    profile[3 * DAY + 40] = 500
    forecaster = Forecaster([profile], DAY)
    near, later, far = (forecaster.expect(3 * DAY + 40, lead)[0] for lead in (1, 6, 12))
    assert 500 < near < later < far == 1_000


def test_profiles_are_kept_apart_when_time_goes_on() -> None:
    forecaster = Forecaster([week(3), week(4)], DAY)
    first = list(forecaster.expect(100, 2))
    forecaster.expect(101, 2)
    assert forecaster.expect(100, 2) == first


def test_noise_is_repeatable_and_even() -> None:
    values = [noise(7, home, 3) for home in range(4_000)]
    assert values == [noise(7, home, 3) for home in range(4_000)]
    assert min(values) >= -1000
    assert max(values) <= 1000
    assert abs(sum(values) / len(values)) < 50
    assert sum(value > 500 for value in values) == pytest.approx(1_000, rel=0.15)
    assert values != [noise(8, home, 3) for home in range(4_000)]
