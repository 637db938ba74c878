"""The days, months and years of statements, in the market's own time. Pure.

A period is a run of market-local days. Intervals belong to the day in which their delivery starts; a day has 23 or 25
hours when clocks change, and every interval is in exactly one day, month and year.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY, MONTH, YEAR = "day", "month", "year"
KINDS = (DAY, MONTH, YEAR)
WEEK = "week"  # Monday to Sunday, of the weekly summary
FIRST_YEAR, LAST_YEAR = 2000, 2199  # whoever asks for others has mistyped; contracts are named with four digits
MAX_DAYS = 366  # of one period


class Period(NamedTuple):
    """Market-local days, ``first <= day < end``."""

    kind: str
    first: date
    end: date

    @property
    def name(self) -> str:
        """Return "2026-06-06", "2026-06" or "2026"; of a week "2026-W23"."""
        if self.kind == WEEK:
            year, week, _day = self.first.isocalendar()
            return f"{year}-W{week:02d}"
        return self.first.isoformat()[: {DAY: 10, MONTH: 7, YEAR: 4}[self.kind]]

    def days(self) -> list[date]:
        """Return its days, at most ``MAX_DAYS``."""
        return [self.first + timedelta(days=n) for n in range((self.end - self.first).days)]


def period_of(kind: str, day: date) -> Period:
    """Return the period of a kind that a day is in; raise ``ValueError`` for an unknown kind or a year out of bounds."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"date: expected a year from {FIRST_YEAR} to {LAST_YEAR}, was {day.year}")
    if kind == DAY:
        return Period(DAY, day, day + timedelta(days=1))
    if kind == MONTH:
        first = day.replace(day=1)
        return Period(MONTH, first, (first + timedelta(days=31)).replace(day=1))
    if kind == YEAR:
        return Period(YEAR, date(day.year, 1, 1), date(day.year + 1, 1, 1))
    raise ValueError(f"period: expected day, month or year, was {kind!r:.40}")


def parse_day(text: str) -> date:
    """Return the day of a text YYYY-MM-DD; raise ``ValueError`` on anything else."""
    day = date.fromisoformat(text) if len(text) == 10 and text.isascii() and text[4] == text[7] == "-" else None
    if day is None:
        raise ValueError(f"date: expected YYYY-MM-DD, was {text!r:.40}")
    return day


def parse_week(text: str) -> Period:
    """Return the week of a text YYYY-Www (ISO 8601); raise ``ValueError`` on anything else."""
    found = re.fullmatch(r"([0-9]{4})-W([0-9]{2})", text, re.ASCII)
    if found is None or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
        raise ValueError(f"expected YYYY-Www, was {text!r:.40}")
    first = date.fromisocalendar(int(found[1]), int(found[2]), 1)
    return Period(WEEK, first, first + timedelta(days=7))


def last_week(today: date) -> Period:
    """Return the last week that is over."""
    end = today - timedelta(days=today.weekday())
    return Period(WEEK, end - timedelta(days=7), end)


def before(period: Period) -> Period | None:
    """Return the period of the same kind that ends where this one begins; None at the edge of the calendar."""
    day = period.first - timedelta(days=1)
    return None if day.year < FIRST_YEAR else period_of(period.kind, day)


def after(period: Period) -> Period | None:
    """Return the period of the same kind that begins where this one ends; None at the edge of the calendar."""
    return None if period.end.year > LAST_YEAR else period_of(period.kind, period.end)


def months(period: Period) -> list[Period]:
    """Return the months of a year; a shorter period as it is."""
    if period.kind != YEAR:
        return [period]
    return [period_of(MONTH, date(period.first.year, month, 1)) for month in range(1, 13)]


def start_ms(day: date, zone: ZoneInfo) -> int:
    """Return when a local day begins, ms since epoch UTC."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
