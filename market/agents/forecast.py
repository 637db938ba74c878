"""What a home can expect of the next hours: ordinary days, the last days and the sky as it is. Never the future. Pure.

Profiles are lists of shares by quarter of an hour over whole days (integers; what 1 means is the caller's business).
They are read only up to the step that was observed last: ``tests/unit/test_strategies_forecast.py`` changes what comes
later and expects the same forecast.
"""

from __future__ import annotations

from collections.abc import Sequence

PERSISTENCE_STEPS = 12  # how far ahead the present weather says anything: three hours
MIN_RATIO = 300  # permille; one cloud does not promise a night
MAX_RATIO = 2_500
HISTORY_DAYS = 6  # the week of data goes round: what lies seven days back is the future itself


class Forecaster:
    """Forecasts of all profiles at once, for homes to mix their own from."""

    def __init__(self, profiles: Sequence[Sequence[int]], steps_a_day: int):
        self._profiles = profiles
        self._day = steps_a_day
        self._steps = len(profiles[0])
        self._cache: dict[tuple[int, int], list[int]] = {}
        self._cached_for = -1

    def expect(self, observed: int, lead: int) -> list[int]:
        """Return the expected share of each profile ``lead`` steps (>= 1) after ``observed``, the last known step.

        Callers share the list; they must not change it.
        """
        if observed != self._cached_for:
            self._cache.clear()
            self._cached_for = observed
        found = self._cache.get((observed, lead))
        if found is None:
            found = [self._one(profile, observed, lead) for profile in self._profiles]
            self._cache[observed, lead] = found
        return found

    def _one(self, profile: Sequence[int], observed: int, lead: int) -> int:
        base = self._ordinary(profile, observed, observed + lead)
        if lead < PERSISTENCE_STEPS and base:
            ordinary_now = self._ordinary(profile, observed, observed)
            if ordinary_now:
                now = profile[observed % self._steps]
                ratio = min(MAX_RATIO, max(MIN_RATIO, now * 1000 // ordinary_now))
                weight = PERSISTENCE_STEPS - lead
                base = base * (1000 * PERSISTENCE_STEPS + weight * (ratio - 1000)) // (1000 * PERSISTENCE_STEPS)
        return base

    def _ordinary(self, profile: Sequence[int], observed: int, step: int) -> int:
        """Return half of what the last known day had at this time of day and half of the mean of the days before it."""
        back = max(1, -((observed - step) // self._day))  # days from the step to the last known one like it
        latest = profile[(step - self._day * back) % self._steps]
        days = min(HISTORY_DAYS, self._steps // self._day - 1)
        earlier = [profile[(step - self._day * day) % self._steps] for day in range(back + 1, days + 1)]
        return (latest + sum(earlier) // len(earlier)) // 2 if earlier else latest


def noise(*parts: int) -> int:
    """Return a number from -1000 to 1000, the same for the same parts: everybody errs in a way of their own."""
    mixed = 0x9E3779B9
    for part in parts:
        mixed = ((mixed ^ (part & 0xFFFFFFFF)) * 0x85EBCA6B) & 0xFFFFFFFF
        mixed ^= mixed >> 15
        mixed = (mixed * 0xC2B2AE35) & 0xFFFFFFFF
        mixed ^= mixed >> 13
    return mixed % 2001 - 1000
