"""What values say of an interval: a table of cases, and the same result in whatever order the same values came in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.metering import validation as v
from market.metering.formats.values import Value

T = 1_780_740_000_000  # 2026-06-06T10:00:00Z
MIN = 60_000
QUARTER = 15 * MIN
DAY = 86_400_000


def energy(minute: int, minutes: int, import_wh: int, export_wh: int = 0, **more) -> Value:
    return value(minute, minutes, import_wh, export_wh, False, **more)


def counter(minute: float, import_wh: int, export_wh: int = 0, **more) -> Value:
    return value(minute, 0, import_wh, export_wh, True, **more)


def value(minute, minutes, import_wh, export_wh, register, quality="measured", revision=0, received=1) -> Value:
    start_ms = T + int(minute * MIN)
    return Value("", start_ms, minutes * MIN, import_wh, export_wh, register, quality, revision, received)


# --- what cannot be right --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (energy(0, 15, 2_000), ""),
        (energy(0, 15, 2_500), ""),  # 10 kW
        (energy(0, 15, 2_750), ""),  # within the tolerance
        (energy(0, 15, 2_751), "above_rating"),
        (energy(0, 15, 0, 2_751), "above_rating"),
        (energy(0, 15, 0, 1_376), "above_connection"),  # 5 kW out of the connection
        (energy(0, 5, 900), ""),
        (energy(0, 5, 917), "above_rating"),
        (energy(7, 15, 10), ""),  # beside the intervals, on the minute
        (energy(0.05, 15, 10), "off_grid"),
        (energy(-25 * 60, 24 * 60 + 1, 10), "too_long"),
        (energy(30, 15, 10), ""),
        (energy(60, 15, 10), "clock_ahead"),
        (energy(46, 15, 10), ""),  # a minute ahead
        (energy(48, 15, 10), "clock_ahead"),
        (energy(-401 * 24 * 60, 15, 10), "too_old"),
        (counter(59, 10**12), ""),
        (counter(0.001, 10), "off_grid"),
        (counter(0.05, 10), ""),
        (counter(63, 10), "clock_ahead"),
    ],
)
def test_values_that_cannot_be_right(one: Value, problem: str) -> None:
    now_ms = T + 60 * MIN
    rating = v.Rating(10_000, 10_000, 5_000)
    assert v.problem(one, rating, now_ms=now_ms, oldest_ms=now_ms - v.MAX_AGE_MS) == problem


def test_without_a_known_limit_anything_may_go_through_the_connection() -> None:
    assert v.problem(energy(0, 15, 0, 2_700), v.Rating(10_000), now_ms=T + DAY, oldest_ms=0) == ""


# --- which one counts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "known", "verdict"),
    [
        (energy(0, 15, 5), [], "accepted"),
        (energy(0, 15, 5, revision=1), [], "corrected"),
        (energy(0, 15, 5, received=9), [energy(0, 15, 5)], "duplicate"),
        (energy(0, 15, 6, received=9), [energy(0, 15, 5)], "corrected"),
        (energy(0, 15, 5, received=9), [energy(0, 15, 5), energy(0, 15, 6, received=4)], "duplicate"),
        (energy(0, 15, 6, revision=1), [energy(0, 15, 5, received=9)], "corrected"),
        (energy(0, 15, 5, received=9), [energy(0, 15, 6, revision=1)], "superseded"),
        (energy(0, 15, 5, revision=1), [energy(0, 15, 6, revision=2)], "superseded"),
        (energy(0, 15, 99, revision=99), [energy(0, 15, n, revision=n) for n in range(50)], "too_many_versions"),
        (energy(0, 15, 7, revision=7), [energy(0, 15, n, revision=n) for n in range(50)], "duplicate"),
    ],
)
def test_the_verdict_on_a_value_beside_what_is_known(one: Value, known: list[Value], verdict: str) -> None:
    assert v.judged(one, known) == verdict


# --- what they say of an interval ------------------------------------------------------------------------------------
MEASURED = [
    ("one value", [energy(0, 15, 100, 20)], (100, 20, "measured", "")),
    ("twice the same", [energy(0, 15, 100), energy(0, 15, 100, received=2)], (100, 0, "measured", "")),
    ("corrected by number", [energy(0, 15, 100), energy(0, 15, 90, revision=1)], (90, 0, "corrected", "revised")),
    ("corrected by time", [energy(0, 15, 100), energy(0, 15, 90, received=2)], (90, 0, "corrected", "revised")),
    ("three times five minutes", [energy(0, 5, 1), energy(5, 5, 2), energy(10, 5, 3)], (6, 0, "measured", "")),
    ("a gap between", [energy(0, 5, 1), energy(10, 5, 3)], "gap"),
    ("nothing", [], "gap"),
    ("another time", [energy(15, 15, 100)], "gap"),
    ("an hour", [energy(0, 60, 400, 8)], (100, 2, "estimated", "split")),
    ("an hour off by seven minutes", [energy(-7, 30, 300)], (150, 0, "estimated", "split")),
    ("an hour and a quarter of it", [energy(0, 60, 400), energy(0, 15, 7)], (7, 0, "measured", "")),
    ("a quarter and five minutes of it", [energy(0, 15, 100), energy(0, 5, 10)], (100, 0, "measured", "")),
    ("the sender's estimate", [energy(0, 15, 100, quality="estimated")], (100, 0, "estimated", "sender")),
    ("counters at the edges", [counter(0, 1_000, 50), counter(15, 1_100, 70)], (100, 20, "measured", "")),
    ("counters within", [counter(0, 1_000), counter(5, 1_030), counter(15, 1_100)], (100, 0, "measured", "")),
    ("counters beyond", [counter(-15, 1_000), counter(30, 1_300)], (100, 0, "estimated", "split")),
    ("counters two days apart", [counter(-24 * 60, 0), counter(24 * 60, 5_000)], "gap"),
    ("energies come before counters", [counter(0, 0), counter(15, 9), energy(0, 15, 8)], (8, 0, "measured", "")),
    ("a counter rolls over", [counter(0, 9_999_960), counter(15, 40)], (80, 0, "measured", "rollover")),
    ("a counter is reset", [counter(0, 5_000_000), counter(15, 40)], "counter_reset"),
    ("an absurd counter", [counter(0, 1_000), counter(15, 900_000)], "gap"),
    ("a slip of a counter", [counter(0, 1_000), counter(5, 900_000), counter(15, 1_100)], (100, 0, "measured", "")),
    ("a counter corrected", [counter(0, 0), counter(15, 50), counter(15, 60, revision=1)], (60, 0, "corrected", "revised")),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), [case[1:] for case in MEASURED], ids=[case[0] for case in MEASURED])
def test_what_a_device_says_of_an_interval(values: list[Value], expected) -> None:
    said = say(values)
    assert said == (v.Missing(expected) if isinstance(expected, str) else v.Metered(*expected))


def say(values: list[Value], minute: int = 0):
    start_ms = T + minute * MIN
    return v.of_device(values, start_ms=start_ms, end_ms=start_ms + QUARTER, rating_w=20_000, register_digits=7)


def device(*values: Value) -> v.DeviceValues:
    return v.DeviceValues(20_000, 0, values)


def test_a_home_is_the_sum_of_its_meters() -> None:
    home = v.of_home(
        {1: device(energy(0, 15, 100, 0)), 2: device(energy(0, 15, 30, 10, quality="estimated"))},
        {3: device(energy(0, 15, 0, 500))},
        {4: device(energy(0, 15, 200, 0))},
        start_ms=T,
        end_ms=T + QUARTER,
    )
    assert home == v.Home(v.Metered(130, 10, "estimated", "sender"), 500, 130 - 10 + 500 - 200)


def test_one_silent_meter_leaves_the_home_unsaid_and_one_silent_inverter_does_not() -> None:
    silent = v.of_home({1: device(energy(0, 15, 1)), 2: device()}, {}, {}, start_ms=T, end_ms=T + QUARTER)
    assert silent.metered == v.Missing("silent_meter")
    dark = v.of_home({1: device(energy(0, 15, 1))}, {2: device()}, {}, start_ms=T, end_ms=T + QUARTER)
    assert dark == v.Home(v.Metered(1, 0, "measured", ""), None, None)
    assert v.of_home({}, {}, {}, start_ms=T, end_ms=T + QUARTER).metered == v.Missing("silent_meter")


# --- whatever the order ----------------------------------------------------------------------------------------------
energies = st.builds(
    energy,
    st.sampled_from([-30, -15, -7, 0, 5, 10, 15, 30, 45]),
    st.sampled_from([5, 10, 15, 30, 60]),
    st.integers(0, 2_000),
    st.integers(0, 2_000),
    quality=st.sampled_from(["measured", "estimated"]),
    revision=st.integers(0, 3),
    received=st.integers(1, 5),
)
counters = st.builds(
    counter,
    st.sampled_from([-60, -15, -3, 0, 5, 15, 20, 60]),
    st.one_of(st.integers(0, 9_000), st.integers(9_999_000, 9_999_999)),
    st.integers(0, 5_000),
    revision=st.integers(0, 2),
    received=st.integers(1, 5),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.one_of(energies, counters), max_size=14), st.integers())
def test_any_order_of_arrival_says_the_same(values: list[Value], seed: int) -> None:
    first = [say(values, minute) for minute in (0, 15, 30)]
    shuffled = [*values, *values[:3]]  # some of them twice
    random.Random(seed).shuffle(shuffled)
    assert [say(shuffled, minute) for minute in (0, 15, 30)] == first


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(energies.map(lambda one: one._replace(revision=one.revision + 1)), max_size=10), st.integers())
def test_with_numbered_corrections_the_time_of_arrival_is_nothing(values: list[Value], seed: int) -> None:
    chance = random.Random(seed)
    later = [one._replace(received_ms=chance.randint(1, 99)) for one in values]
    assert say(later) == say(values)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([15, 30, 45, 60, 90]), st.integers(0, 40))
def test_what_is_split_sums_up_to_the_whole(total: int, minutes: int, offset: int) -> None:
    one = energy(offset, minutes, total)
    edges = range(T, T + 180 * MIN, QUARTER)
    [segment], _reset = v.segments([one], rating_w=0, register_digits=0)
    parts = [
        v._share(total, segment, max(segment.start_ms, low), min(segment.end_ms, low + QUARTER))
        for low in edges
        if segment.start_ms < low + QUARTER and segment.end_ms > low
    ]
    assert sum(parts) == total


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(energies, min_size=1, max_size=8), st.integers())
def test_what_was_taken_first_or_last_the_same_value_wins(values: list[Value], seed: int) -> None:
    shuffled = list(values)
    random.Random(seed).shuffle(shuffled)
    first, second = (
        sorted((v.slot(one), v.content(one), revised) for one, revised in v.winners(some))
        for some in (values, shuffled)
    )
    assert first == second
