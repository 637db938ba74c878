"""Days, months and years of statements in the market's time."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from market.settlement.periods import DAY, MONTH, YEAR, Period, after, before, parse_day, period_of, start_ms

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("kind", "day", "first", "end", "name"),
    [
        (DAY, "2026-06-06", "2026-06-06", "2026-06-07", "2026-06-06"),
        (DAY, "2026-12-31", "2026-12-31", "2027-01-01", "2026-12-31"),
        (MONTH, "2026-02-28", "2026-02-01", "2026-03-01", "2026-02"),
        (MONTH, "2026-12-31", "2026-12-01", "2027-01-01", "2026-12"),
        (YEAR, "2028-02-29", "2028-01-01", "2029-01-01", "2028"),
    ],
)
def test_a_day_is_in_one_period_of_each_kind(kind: str, day: str, first: str, end: str, name: str) -> None:
    period = period_of(kind, date.fromisoformat(day))
    assert period == Period(kind, date.fromisoformat(first), date.fromisoformat(end))
    assert period.name == name
    assert date.fromisoformat(day) in period.days()


@pytest.mark.parametrize("kind", [DAY, MONTH, YEAR])
def test_periods_follow_each_other(kind: str) -> None:
    period = period_of(kind, date(2026, 1, 31))
    following, previous = after(period), before(period)
    assert following is not None and previous is not None
    assert following.first == period.end and previous.end == period.first
    assert before(following) == period == after(previous)
    assert before(period_of(kind, date(2000, 1, 1))) is None
    assert after(period_of(kind, date(2199, 12, 31))) is None


def test_days_are_as_long_as_the_clock_says() -> None:
    hours = [
        (start_ms(date(2026, month, day + 1), BERLIN) - start_ms(date(2026, month, day), BERLIN)) // 3_600_000
        for month, day in ((3, 29), (6, 6), (10, 25))
    ]
    assert hours == [23, 24, 25]


@pytest.mark.parametrize(
    "text", ["", "2026-6-6", "20260606", "2026-W23-6", "2026-02-30", "２０２６-06-06", "2026-06-06T"]
)
def test_only_dates_are_dates(text: str) -> None:
    with pytest.raises(ValueError):
        parse_day(text)
    assert parse_day("2026-06-06") == date(2026, 6, 6)


def test_periods_out_of_the_calendar_are_refused() -> None:
    for kind, day, field in (("week", date(2026, 1, 1), "period"), (DAY, date(1999, 12, 31), "date"),
                             (DAY, date(2200, 1, 1), "date")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{field}"):
            period_of(kind, day)
