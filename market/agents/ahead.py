"""What is expected of the contracts that agents look at, the same for all homes of one look. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from market.agents.forecast import Forecaster
from market.engine.contracts import contract_name, contract_start_ms

DEMO_LEADS = (48, 16, 4, 3, 2, 1)  # intervals before delivery at which a home looks at a contract, farthest first


class Calendar(NamedTuple):
    """How market time meets the profiles. All instants in ms."""

    interval_ms: int
    steps: int  # profile steps of one interval
    step_of: Callable[[int], int]  # instant -> step
    hour_of: Callable[[int], int]  # instant -> local hour


class Sun(NamedTuple):
    """Which profiles are roofs, and the most they bring together in a week."""

    profiles: tuple[int, ...]
    best: int


class Outlook(NamedTuple):
    """What is expected of one contract."""

    contract: str
    shares: list[int]  # by profile, summed over the interval's steps
    sun: int  # permille of the best
    hour: int
    rank: int  # of the look it is: 0 = the farthest
    lead: int


class Ahead:
    """Outlooks of one interval, kept until the next one or another forecast. ``leads``: the farthest first."""

    def __init__(self, calendar: Calendar, leads: Sequence[int], forecaster: Forecaster, sun: Sun):
        self._calendar = calendar
        self._leads = leads
        self.know(forecaster, sun)

    def know(self, forecaster: Forecaster, sun: Sun) -> None:
        """Forecast from this from now on."""
        self._forecaster, self._sun = forecaster, sun
        self._since = -1
        self._found: dict[int, Outlook] = {}  # by lead

    def expect(self, now_ms: int, only: str = "") -> list[Outlook]:
        """Return what is expected of the contracts looked at now, or of one; of none whose delivery has begun."""
        interval_ms = self._calendar.interval_ms
        current = now_ms // interval_ms * interval_ms
        if self._since != current:
            self._since, self._found = current, {}
        leads = [(contract_start_ms(only) - current) // interval_ms] if only else self._leads
        for lead in leads:
            if lead not in self._found and lead > 0:
                self._found[lead] = self._outlook(current, lead)
        return [self._found[lead] for lead in leads if lead > 0]

    def _outlook(self, current: int, lead: int) -> Outlook:
        calendar = self._calendar
        observed = calendar.step_of(current) - 1
        start = current + lead * calendar.interval_ms
        ahead = lead * calendar.steps + 1
        parts = [self._forecaster.expect(observed, ahead + step) for step in range(calendar.steps)]
        shares = parts[0] if len(parts) == 1 else [sum(values) for values in zip(*parts, strict=True)]
        sunny = sum(shares[profile] for profile in self._sun.profiles)
        best = self._sun.best * calendar.steps
        sun = min(1000, sunny * 1000 // best) if best else 0
        rank = max(0, sum(other >= lead for other in self._leads) - 1)  # between two looks the former one holds
        return Outlook(contract_name(start), shares, sun, calendar.hour_of(start), rank, lead)
