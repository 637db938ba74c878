"""A home's last week as its own meter counted it, in the shape that forecasts are made from. Pure.

A week is a ring of intervals: each place holds the newest reading there is for it, so that the forecaster's "what lies seven
days back is the future itself" is true here as well. Places without a reading get the mean of the same time of day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

WEEK_DAYS = 7
DAY_MS = 24 * 3_600_000


class Week(NamedTuple):
    """What a home took and gave in each interval of a week, Wh, by ``place``."""

    taken_wh: list[int]
    given_wh: list[int]


def places(interval_ms: int) -> int:
    """Return how many intervals a week has."""
    return WEEK_DAYS * DAY_MS // interval_ms


def place(start_ms: int, interval_ms: int) -> int:
    """Return where in the ring an interval stands."""
    return start_ms // interval_ms % places(interval_ms)


def week_of(readings: Mapping[int, tuple[int, int]], now_ms: int, interval_ms: int, fewest: int) -> Week | None:
    """Return a home's week before ``now_ms``, or None where fewer than ``fewest`` of its intervals are known.

    ``readings``: what was taken and given (Wh) by the interval's start; older ones than a week are left out.
    """
    count, a_day = places(interval_ms), DAY_MS // interval_ms
    first_ms = now_ms // interval_ms * interval_ms - count * interval_ms
    known: dict[int, tuple[int, int]] = {}
    for start_ms, energies in readings.items():
        if first_ms <= start_ms < now_ms:
            known[place(start_ms, interval_ms)] = energies
    if len(known) < fewest:
        return None
    by_time: list[list[tuple[int, int]]] = [[] for _ in range(a_day)]
    for at, energies in known.items():
        by_time[at % a_day].append(energies)
    usual = [
        (sum(taken for taken, _ in of) // len(of), sum(given for _, given in of) // len(of)) if of else (0, 0)
        for of in by_time
    ]
    both = [known.get(at) or usual[at % a_day] for at in range(count)]
    return Week([taken for taken, _ in both], [given for _, given in both])
