"""What one home will probably make and use in the next day, from its own meter alone. Pure.

The meter's last days take the place of the profiles ``forecast`` knows: they lie in a row that ends with the last interval
that was read, so that nothing later can be looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from market.agents.forecast import Forecaster

DAY_MS = 24 * 3_600_000
MAX_DAYS = 7  # of the past that are looked at
AHEAD_DAYS = 1  # as far as is worth saying
MAX_AGE_MS = 6 * 3_600_000  # a meter that has been silent for longer says nothing about the weather


class Expected(NamedTuple):
    """Energy by interval from ``start_ms`` on, Wh: a forecast, not a record."""

    start_ms: int
    made_wh: tuple[int, ...]
    used_wh: tuple[int, ...]


def expect(readings: Mapping[int, tuple[int, int]], *, next_ms: int, interval_ms: int) -> Expected | None:
    """Return what is expected from ``next_ms`` on, or None while there is no whole day to learn from.

    ``readings``: energy made and used (Wh) by start of interval; gaps are filled from the same time of other days.
    """
    if not readings:
        return None
    observed_ms, first_ms = max(readings), min(readings)
    lead = (next_ms - observed_ms) // interval_ms
    if lead < 1 or next_ms - observed_ms > MAX_AGE_MS + interval_ms:
        return None
    steps = DAY_MS // interval_ms
    days = min(MAX_DAYS, (observed_ms - first_ms) // DAY_MS)
    if days < 1:
        return None
    size = (days + 1) * steps
    begin_ms = observed_ms - (size - 1) * interval_ms
    rows = [readings.get(begin_ms + step * interval_ms) for step in range(size)]
    made, used = _filled([row and row[0] for row in rows], steps), _filled([row and row[1] for row in rows], steps)
    forecaster = Forecaster([made, used], steps)
    found = [forecaster.expect(size - 1, lead + ahead) for ahead in range(AHEAD_DAYS * steps)]
    return Expected(next_ms, tuple(values[0] for values in found), tuple(values[1] for values in found))


def _filled(values: list[int | None], steps: int) -> list[int]:
    """Return the values with each gap as the mean of the same time of day, 0 where that is never known."""
    found = []
    for step, value in enumerate(values):
        if value is None:
            same = [other for other in values[step % steps :: steps] if other is not None]
            value = sum(same) // len(same) if same else 0
        found.append(value)
    return found
