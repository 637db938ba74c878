"""A home's last week as its own meter counted it, in the shape that forecasts are made from. Pure.

A week is a ring of intervals: each place holds the newest reading there is for it, so that the forecaster's "what lies seven
days back is the future itself" is true here as well. Places without a reading get the mean of the same time of day.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WEEK_DAYS = 7
DAY_MS = 24 * 3_600_000
UNKNOWN = -1
MAX_WH = 2**31 - 1  # of one interval: what is more takes no more room


class Week(NamedTuple):
    """What a home took and gave in each interval of a week, Wh, by ``place``."""

    taken_wh: Sequence[int]
    given_wh: Sequence[int]


def places(interval_ms: int) -> int:
    """Return how many intervals a week has."""
    return WEEK_DAYS * DAY_MS // interval_ms


def place(start_ms: int, interval_ms: int) -> int:
    """Return where in the ring an interval stands."""
    return start_ms // interval_ms % places(interval_ms)


class Ring:
    """What is known of a home's week before a moment, 5 kB for quarters of an hour. Time only goes on."""

    def __init__(self, now_ms: int, interval_ms: int):
        self._interval_ms = interval_ms
        self._count = places(interval_ms)
        self._end = now_ms // interval_ms  # the interval that is not over yet
        self._taken_wh = array("i", [UNKNOWN]) * self._count
        self._given_wh = array("i", [UNKNOWN]) * self._count
        self._newest = -1  # interval of the newest reading

    def advance(self, now_ms: int) -> None:
        """Forget what is a week old by now."""
        end = now_ms // self._interval_ms
        for interval in range(max(self._end, end - self._count), end):
            self._taken_wh[interval % self._count] = self._given_wh[interval % self._count] = UNKNOWN
        self._end = max(self._end, end)

    def learn(self, readings: Mapping[int, tuple[int, int]]) -> None:
        """Take in what was taken and given (Wh) by the interval's start; what is no part of the week is left out."""
        for start_ms, (taken_wh, given_wh) in readings.items():
            interval = start_ms // self._interval_ms
            if self._end - self._count <= interval < self._end:
                self._taken_wh[interval % self._count] = min(taken_wh, MAX_WH)
                self._given_wh[interval % self._count] = min(given_wh, MAX_WH)
                self._newest = max(self._newest, interval)

    @property
    def end_ms(self) -> int:
        """Up to when (ms) it has learnt."""
        return self._end * self._interval_ms

    @property
    def silent_ms(self) -> int:
        """How long before its end the newest reading was, ms; the whole week where there is none."""
        return min(self._end - self._newest - 1, self._count) * self._interval_ms

    @property
    def known(self) -> int:
        """How many of its intervals are known."""
        return self._count - self._taken_wh.count(UNKNOWN)

    def week(self, fewest: int) -> Week | None:
        """Return the week without gaps, or None where fewer than ``fewest`` of its intervals are known."""
        if self.known < fewest:
            return None
        return Week(self._filled(self._taken_wh), self._filled(self._given_wh))

    def _filled(self, known: array[int]) -> array[int]:
        a_day = self._count // WEEK_DAYS
        filled = array("i", known)
        if UNKNOWN not in known:
            return filled
        for time in range(a_day):
            times = known[time::a_day]
            if UNKNOWN in times:
                of = [value for value in times if value != UNKNOWN]
                usual = sum(of) // len(of) if of else 0
                filled[time::a_day] = array("i", [usual if value == UNKNOWN else value for value in times])
        return filled
