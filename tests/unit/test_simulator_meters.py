"""Meters tell what the profiles say, and what batteries made of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from market.agents.ahead import Calendar
from market.agents.battery import Battery
from market.metering.operations import ReadingIn
from market.metering.queries import Power
from market.simulator.meters import MeteredHome, Meters
from market.simulator.neighbourhood import SHARE, STEPS_A_DAY, Profiles

STEP_MS = 15 * 60_000
MONDAY_MS = int(datetime(2016, 6, 6, tzinfo=UTC).timestamp()) * 1000
CONTRACT = "2016-06-06T00:00Z"


def meters(steps: int = 1) -> Meters:
    use = [SHARE // 2] * STEPS_A_DAY
    use[1] = SHARE
    sun = [0, SHARE // 4] * (STEPS_A_DAY // 2)
    profiles = Profiles(datetime(2016, 6, 6), ["use", "sun"], [use, sun])
    calendar = Calendar(
        steps * STEP_MS, steps, lambda at_ms: (at_ms - MONDAY_MS) // STEP_MS, lambda at_ms: at_ms // 3_600_000 % 24
    )
    return Meters(profiles, calendar)


def read(found: Meters, start_ms: int, positions: dict[int, int] | None = None) -> dict[str, list[ReadingIn]]:
    return found.read(CONTRACT, start_ms, lambda fn: positions or {})


def test_use_and_generation_are_netted_at_the_meter() -> None:
    found = meters()
    found.set_homes(
        [
            MeteredHome(5, "A", ((0, 2_000),), (), None),
            MeteredHome(6, "A", ((0, 1_000),), ((1, 12_000),), None),
            MeteredHome(7, "B", ((0, 1_000), (0, 3_000)), (), None),
        ]
    )
    assert read(found, MONDAY_MS) == {
        "A": [ReadingIn(5, 250, 0, 0, 250), ReadingIn(6, 125, 0, 0, 125)],
        "B": [ReadingIn(7, 500, 0, 0, 500)],
    }
    assert read(found, MONDAY_MS + STEP_MS)["A"][1] == ReadingIn(6, 0, 500, 750, 250)


def test_longer_intervals_are_sums_of_steps() -> None:
    found = meters(steps=2)
    found.set_homes([MeteredHome(6, "A", ((0, 1_000),), ((1, 12_000),), None)])
    assert read(found, MONDAY_MS)["A"] == [ReadingIn(6, 0, 375, 750, 375)]


def test_a_battery_follows_the_position_and_remembers() -> None:
    found = meters()
    found.set_homes([MeteredHome(5, "A", ((0, 2_000),), (), Battery(10_000, 1_000))])
    assert found.charge_of(5) == 3_000
    assert read(found, MONDAY_MS, {5: 750})["A"] == [ReadingIn(5, 750, 0, 0, 250)]
    assert found.charge_of(5) == 3_500
    kept = found.charges()
    assert read(found, MONDAY_MS, {5: -100})["A"] == [ReadingIn(5, 0, 100, 0, 250)]
    assert found.charge_of(5) == 3_150
    found.put_back(kept)
    assert found.charge_of(5) == 3_500


@pytest.mark.parametrize(("stored", "charge"), [(0, 3_000), (500, 3_500), (-9_000, 0), (90_000, 10_000)])
def test_charges_are_told_again_from_the_readings(stored: int, charge: int) -> None:
    found = meters()
    found.set_homes([MeteredHome(5, "A", ((0, 2_000),), (), Battery(10_000, 1_000))])
    found.restore({5: stored, 99: 1})
    assert found.charge_of(5) == charge
    assert found.charge_of(99) == 0


def test_power_changes_evenly_between_the_middles_of_steps() -> None:
    found = meters()
    found.set_homes([MeteredHome(6, "A", ((0, 1_000),), ((1, 12_000),), None)])
    middle = MONDAY_MS + STEP_MS // 2
    assert found.power(6, middle, 0) == Power(middle, 0, 500, 0)
    assert found.power(6, middle + STEP_MS // 2, 0) == Power(middle + STEP_MS // 2, 1_500, 750, 0)
    assert found.power(6, middle + STEP_MS, 0) == Power(middle + STEP_MS, 3_000, 1_000, 0)
    assert found.power(8, middle, 0) is None


def test_power_of_a_battery() -> None:
    found = meters()
    found.set_homes([MeteredHome(5, "A", ((0, 2_000),), (), Battery(10_000, 1_000))])
    middle = MONDAY_MS + STEP_MS // 2
    assert found.power(5, middle, 750) == Power(middle, 0, 1_000, 2_000)
    assert found.power(5, middle, 0) == Power(middle, 0, 1_000, -1_000)
    assert found.charge_of(5) == 3_000, "looking changes nothing"


def test_what_a_home_is_expected_to_make_and_use_leaves_its_battery_out() -> None:
    found = meters()
    found.set_homes([MeteredHome(5, "A", ((0, 2_000),), ((1, 4_000),), Battery(5_000, 1_000))])
    assert found.expected(5, [[SHARE // 2, SHARE // 4]]) == (250, 250)
    assert found.expected(5, [[SHARE // 2, SHARE // 4], [SHARE, 0]]) == (250, 750)
