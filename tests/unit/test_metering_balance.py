"""Where an area's energy went: a table of areas with a known fault, each found by its rule."""

from __future__ import annotations

import random

import pytest

from market.metering import balance as b
from market.metering.balance import Interval, judge

HOMES = 20


def area(*residuals: int | None, missing: tuple[int, ...] = (), net_wh: int = 10_000) -> list[Interval]:
    """Intervals that leave these residuals over; ``missing``: places of intervals without one home."""
    return [
        Interval(n, None if left is None else net_wh + left, net_wh, 0, net_wh, HOMES, int(n in missing))
        for n, left in enumerate(residuals)
    ]


@pytest.mark.parametrize(
    ("window", "cause", "causes"),
    [
        (area(), "unknown", []),
        (area(None, None), "unknown", ["unknown"] * 2),
        (area(300, 250, 0, 600), "loss", ["loss"] * 4),
        (area(300, 1_500, 300, missing=(1,)), "loss", ["loss", "missing_meter", "loss"]),
        (area(300, 400, missing=(0, 1)), "missing_meter", ["loss"] * 2),
        (area(900, 900, missing=(0, 1)), "missing_meter", ["missing_meter"] * 2),
        (area(2_000, 1_800, 2_100, 300, 2_000), "theft", ["theft"] * 3 + ["loss", "theft"]),
        (area(-2_000, -1_800, -2_100, -900), "meter_error", ["meter_error"] * 4),
        (area(2_300, -1_700, 300, 2_000, -1_500), "clock", ["clock", "clock", "loss", "clock", "clock"]),
        (area(300, 300, 300, 300, 5_000), "unclear", ["loss"] * 4 + ["unclear"]),
        (area(5_000, 5_000), "unclear", ["unclear"] * 2),  # two intervals are no habit
        (area(-50, -51, 0, 0), "unclear", ["loss", "unclear", "loss", "loss"]),
    ],
)
def test_causes(window: list[Interval], cause: str, causes: list[str]) -> None:
    found, verdict = judge(window)
    assert (verdict.cause, [one.cause for one in found]) == (cause, causes)


def test_areas_below_count_as_what_flows_on() -> None:
    one = Interval(0, 1_000, 400, 580, 1_000, 5, 0)
    assert b.residual(one) == 20
    assert judge([one])[1].cause == "loss"
    assert b.residual(one._replace(below_wh=None)) is None


def test_a_shifted_clock_and_a_tapped_line_in_a_day_of_real_shapes() -> None:
    chance = random.Random(7)
    loads = [[chance.randint(50, 900) for _ in range(96)] for _ in range(HOMES)]
    true = [sum(home[n] for home in loads) for n in range(96)]
    shifted = [true[n] - loads[0][n] * 8 + loads[0][n - 4] * 8 for n in range(96)]  # a large one, an hour late
    for metered, extra, cause in ((true, 0, "loss"), (shifted, 0, "clock"), (true, 1_500, "theft")):
        window = [Interval(n, true[n] * 103 // 100 + extra, metered[n], 0, metered[n], HOMES, 0) for n in range(96)]
        assert judge(window)[1].cause == cause, cause


def test_the_order_of_intervals_is_nothing() -> None:
    window = area(2_000, -1_500, 300, 900, -700, 50)
    shuffled = list(window)
    random.Random(3).shuffle(shuffled)
    assert judge(shuffled) == judge(window)
