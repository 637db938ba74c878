"""Market time: it can run faster than life, and it never runs backwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from zoneinfo import ZoneInfo

OPENING_HOUR = 10  # of the first day, local: the sun is up and there is something to trade
DEFAULT_SPEED = 15  # one interval of 15 minutes a minute


class MarketClock:
    """Market time in ms since epoch UTC, from a start on, ``speed`` times as fast as the machine's clock."""

    def __init__(self, start_ms: int, speed: float = DEFAULT_SPEED, monotonic: Callable[[], float] = time.monotonic):
        if speed <= 0:
            raise ValueError(f"expected a speed above 0, was {speed}")
        self.start_ms = start_ms
        self.speed = speed
        self._monotonic = monotonic
        self._began = monotonic()

    def now_ms(self) -> int:
        """Return market time."""
        return self.start_ms + int((self._monotonic() - self._began) * 1000 * self.speed)

    def real_s(self, market_ms: int) -> float:
        """Return how long a span of market time lasts for those who wait, in seconds."""
        return market_ms / 1000 / self.speed


class SteppedClock:
    """Market time that stands still until it is set: simulations as fast as the machine, and tests."""

    def __init__(self, start_ms: int):
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Return market time."""
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """Go on to a time; ``ValueError`` when it lies in the past."""
        if now_ms < self._now_ms:
            raise ValueError(f"expected at least {self._now_ms}, was {now_ms}: time does not run backwards")
        self._now_ms = now_ms


def at_local(day: date, zone: str, hour: int = OPENING_HOUR) -> int:
    """Return ms since epoch UTC of a full hour of a day in a time zone."""
    local = datetime.combine(day, time_of_day(hour), ZoneInfo(zone))
    return int(local.timestamp()) * 1000


def local_time(at_ms: int, zone: ZoneInfo) -> datetime:
    """Return the local time of an instant."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
