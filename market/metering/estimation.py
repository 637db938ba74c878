"""What a home probably took and gave in an interval nobody measured. Pure.

From the home's own readings of the same time of day, of days that lie so far back that they are final
(``final_after_ms``): whatever still arrives, and in whatever order, an estimate stays the same. It is replaced by the
reading itself once that is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

DAY_MS = 86_400_000
WEEK_DAYS = 7
FINAL_AFTER_MS = 7 * DAY_MS  # how old a reading must be for an estimate to lean on it, where nobody says otherwise
HISTORY_DAYS = 28  # how many days before that are looked at
FEWEST = 2  # days that make an estimate
MOST = 5  # the newest of them

SAME_DAYS, ANY_DAYS, PROFILE = "same_weekdays", "same_time", "profile"


class Past(NamedTuple):
    """A measured or corrected reading of the home; estimates never lean on estimates."""

    import_wh: int
    export_wh: int


class Profile(NamedTuple):
    """What a home of this kind takes and gives in the interval by its standard profile."""

    import_wh: int
    export_wh: int


class Estimate(NamedTuple):
    """``basis``: how it was made; ``days``: how many days it leans on."""

    import_wh: int
    export_wh: int
    basis: str
    days: int


def days_before(start_ms: int, final_after_ms: int = FINAL_AFTER_MS) -> list[int]:
    """Return the starts (ms) of the same time of day that an estimate may lean on, newest first.

    ``final_after_ms``: how long after its start an interval is certainly final; a part of a day counts as a whole one.
    """
    first = start_ms - max(1, -(-final_after_ms // DAY_MS)) * DAY_MS
    return [first - day * DAY_MS for day in range(HISTORY_DAYS)]


def estimate(
    *,
    start_ms: int,
    history: Mapping[int, Past],
    profile: Profile | None = None,
    final_after_ms: int = FINAL_AFTER_MS,
) -> Estimate | None:
    """Return the estimate for the interval that starts at ``start_ms``; None where there is nothing to lean on.

    ``history``: final readings of the home by start (ms); what is outside of the fixed window is left alone. The median of
    the net energy on the same weekday, where there are two of them, else at the same time on any day, else the profile.
    """
    days = [(at, history[at]) for at in days_before(start_ms, final_after_ms) if at in history]
    same = [past for at, past in days if (start_ms - at) // DAY_MS % WEEK_DAYS == 0]
    for chosen, basis in ((same, SAME_DAYS), ([past for _at, past in days], ANY_DAYS)):
        if len(chosen) >= FEWEST:
            net_wh = _median([past.import_wh - past.export_wh for past in chosen[:MOST]])
            return Estimate(max(0, net_wh), max(0, -net_wh), basis, len(chosen[:MOST]))
    if profile is not None:
        return Estimate(profile.import_wh, profile.export_wh, PROFILE, 0)
    return None


def _median(values: Sequence[int]) -> int:
    """Return the middle one; of an even number the lower of both, so that it stays a value there was."""
    return sorted(values)[(len(values) - 1) // 2]
