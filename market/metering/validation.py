"""Which values can be right, which of several for the same time counts, and what a set of values says of an interval. Pure.

Everything here is a function of the set of values, never of the order they came in. Of values for the same device, time and
kind the highest ``revision`` counts; where the sender does not number its corrections, the one received last does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from market.metering.formats.values import ESTIMATED, MEASURED, Value

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
CLOCK_AHEAD_MS = 2 * MINUTE_MS  # how far a device's clock may go before ours
MAX_AGE_MS = 400 * 24 * HOUR_MS  # of what a device sends: older is a clock that has lost its time
MAX_FILE_AGE_MS = 20 * 366 * 24 * HOUR_MS  # of what a person uploads: another supplier's records
MAX_SPAN_MS = 24 * HOUR_MS  # between two readings of a counter, and of one value; longer ones are a gap
TOLERANCE_PERCENT = 110  # of a rating: plates are rounded, meters have classes
MAX_VERSIONS = 50  # values kept for one slot of a device: more corrections are a device gone mad
ROLLED_TENTHS = 1  # a counter that begins again was in its last tenth before and is in its first after

CORRECTED = "corrected"

# Verdicts of a value that is taken.
ACCEPTED, DUPLICATE, SUPERSEDED = "accepted", "duplicate", "superseded"
TAKEN = frozenset((ACCEPTED, CORRECTED, DUPLICATE, SUPERSEDED))
# Why a value is refused.
UNKNOWN_DEVICE, CLOCK_AHEAD, TOO_OLD, OFF_GRID, TOO_LONG, ABOVE_RATING, ABOVE_CONNECTION, TOO_MANY = (
    "unknown_device", "clock_ahead", "too_old", "off_grid", "too_long", "above_rating", "above_connection",
    "too_many_versions",
)  # fmt: skip
# Why an interval's value is not simply measured, or is none.
SPLIT, SENDER, ROLLOVER, REVISED = "split", "sender", "rollover", "revised"
# What an operator answered to an objection: nothing a device says later replaces it, only another answer does.
DECIDED = "decided"
GAP, RESET, SILENT = "gap", "counter_reset", "silent_meter"


class Rating(NamedTuple):
    """What can go through a device and the connection it hangs on, in W; 0 = no limit is known."""

    rating_w: int
    import_w: int = 0  # of the connection, for meters
    export_w: int = 0


def problem(value: Value, rating: Rating, *, now_ms: int, oldest_ms: int) -> str:
    """Return why a value cannot be right, "" if it can. Counters are held against ratings where they are subtracted."""
    end_ms = value.start_ms + value.duration_ms
    if end_ms > now_ms + CLOCK_AHEAD_MS:
        return CLOCK_AHEAD
    if value.start_ms < oldest_ms:
        return TOO_OLD
    if value.register:
        return OFF_GRID if value.start_ms % 1_000 else ""
    if value.start_ms % MINUTE_MS or value.duration_ms % MINUTE_MS:
        return OFF_GRID
    if not 0 < value.duration_ms <= MAX_SPAN_MS:
        return TOO_LONG
    if above(max(value.import_wh, value.export_wh), rating.rating_w, value.duration_ms):
        return ABOVE_RATING
    if above(value.import_wh, rating.import_w, value.duration_ms) or above(
        value.export_wh, rating.export_w, value.duration_ms
    ):
        return ABOVE_CONNECTION
    return ""


def above(energy_wh: int, power_w: int, duration_ms: int) -> bool:
    """Return whether an energy is more than a power (0 = any) gives in a time, with the tolerance."""
    return power_w > 0 and energy_wh * HOUR_MS * 100 > power_w * duration_ms * TOLERANCE_PERCENT


# --- which one counts ------------------------------------------------------------------------------------------------
Slot = tuple[int, int, bool]  # start, duration, register


def slot(value: Value) -> Slot:
    """Return what a value of a device is for."""
    return value.start_ms, value.duration_ms, value.register


def content(value: Value) -> tuple[int, int, str, int]:
    """Return what makes two values for one slot the same."""
    return value.import_wh, value.export_wh, value.quality, value.revision


def rank(value: Value) -> tuple[int, int, int, int, str]:
    """Return what orders the values of a slot; the highest counts. Two with one revision and other values: the larger."""
    unnumbered = value.received_ms if value.revision == 0 else 0
    return value.revision, unnumbered, value.import_wh, value.export_wh, value.quality


def judged(value: Value, known: Sequence[Value]) -> str:
    """Return the verdict of a good value beside those known for its slot."""
    if not known:
        return CORRECTED if value.revision else ACCEPTED
    if any(content(value) == content(other) for other in known):
        return DUPLICATE
    if len(known) >= MAX_VERSIONS:
        return TOO_MANY
    return CORRECTED if rank(value) > max(map(rank, known)) else SUPERSEDED


def winners(values: Iterable[Value]) -> list[tuple[Value, bool]]:
    """Return the value that counts of each slot of one device, and whether it is a correction."""
    slots: dict[Slot, list[Value]] = {}
    for value in values:
        slots.setdefault((value.start_ms, value.duration_ms, value.register), []).append(value)
    found = []
    for several in slots.values():
        if len(several) == 1:
            found.append((several[0], several[0].revision > 0))
            continue
        best = max(several, key=rank)
        found.append((best, best.revision > 0 or len({content(one) for one in several}) > 1))
    return found


# --- what they say of an interval ------------------------------------------------------------------------------------
class Segment(NamedTuple):
    """An energy that went through a device evenly, for all one knows, between two times."""

    start_ms: int
    end_ms: int
    import_wh: int
    export_wh: int
    register: bool
    quality: str
    reason: str


class Metered(NamedTuple):
    """What a device or home took and gave in an interval. ``reason`` is "" where it is simply measured."""

    import_wh: int
    export_wh: int
    quality: str
    reason: str


class Missing(NamedTuple):
    """Why nothing can be said of an interval."""

    reason: str


def segments(values: Iterable[Value], *, rating_w: int, register_digits: int) -> tuple[list[Segment], bool]:
    """Return what the values of one device say, and whether a counter went back without having rolled over."""
    found: list[Segment] = []
    counters: list[tuple[Value, bool]] = []
    for value, revised in winners(values):
        if value.register:
            counters.append((value, revised))
            continue
        found.append(
            Segment(
                value.start_ms, value.start_ms + value.duration_ms, value.import_wh, value.export_wh, False,
                *_quality(value.quality == ESTIMATED, revised, False),
            )
        )  # fmt: skip
    reset = False
    counters.sort(key=lambda one: one[0].start_ms)

    def possible(before: Value, after: Value) -> bool:
        taken = _difference(before.import_wh, after.import_wh, register_digits)
        given = _difference(before.export_wh, after.export_wh, register_digits)
        if taken is None or given is None:
            return False
        return not above(max(taken, given), rating_w, after.start_ms - before.start_ms)

    # One that fits neither the one before nor the one after, which fit each other, is a slip.
    counters = [
        one
        for place, one in enumerate(counters)
        if not 0 < place < len(counters) - 1
        or possible(counters[place - 1][0], one[0])
        or possible(one[0], counters[place + 1][0])
        or not possible(counters[place - 1][0], counters[place + 1][0])
    ]
    for (before, revised_before), (after, revised_after) in pairwise(counters):
        span_ms = after.start_ms - before.start_ms
        taken = _difference(before.import_wh, after.import_wh, register_digits)
        given = _difference(before.export_wh, after.export_wh, register_digits)
        if taken is None or given is None:
            reset = True
            continue
        if span_ms > MAX_SPAN_MS or above(max(taken, given), rating_w, span_ms):
            continue
        rolled = after.import_wh < before.import_wh or after.export_wh < before.export_wh
        estimated = ESTIMATED in (before.quality, after.quality)
        found.append(
            Segment(
                before.start_ms, after.start_ms, taken, given, True,
                *_quality(estimated, revised_before or revised_after, rolled),
            )
        )  # fmt: skip
    return found, reset


def _difference(before: int, after: int, digits: int) -> int | None:
    """Return what a counter went on by, None when it went back without having rolled over."""
    if after >= before:
        return after - before
    whole: int = 10**digits if digits else 0
    if whole and before * 10 >= whole * (10 - ROLLED_TENTHS) and after * 10 <= whole * ROLLED_TENTHS:
        return whole - before + after
    return None


def _quality(estimated: bool, revised: bool, rolled: bool) -> tuple[str, str]:
    if estimated:
        return ESTIMATED, SENDER
    if revised:
        return CORRECTED, REVISED
    return MEASURED, ROLLOVER if rolled else ""


def of_device(
    values: Iterable[Value], *, start_ms: int, end_ms: int, rating_w: int, register_digits: int
) -> Metered | Missing:
    """Return what one device took and gave in [start_ms, end_ms).

    What is for exactly this interval counts, else what lies inside, energies before counters and the finer before the
    coarser; what reaches over an edge fills the rest, by its share of the time, and makes it an estimate.
    """
    found, reset = segments(values, rating_w=rating_w, register_digits=register_digits)
    found = [one for one in found if one.start_ms < end_ms and one.end_ms > start_ms]
    exact = [one for one in found if one.start_ms == start_ms and one.end_ms == end_ms]
    if exact:
        best = min(exact, key=lambda one: one.register)
        return Metered(best.import_wh, best.export_wh, best.quality, best.reason)
    found.sort(key=lambda one: (_outside(one, start_ms, end_ms), one.register, one.end_ms - one.start_ms, one.start_ms))
    parts: list[tuple[int, int, Segment]] = []
    for one in found:
        low, high = max(one.start_ms, start_ms), min(one.end_ms, end_ms)
        for free_low, free_high in _free(parts, low, high):
            parts.append((free_low, free_high, one))
    if sum(high - low for low, high, _one in parts) < end_ms - start_ms:
        return Missing(RESET if reset else GAP)
    whole = all((low, high) == (one.start_ms, one.end_ms) for low, high, one in parts)
    import_wh = sum(_share(one.import_wh, one, low, high) for low, high, one in parts)
    export_wh = sum(_share(one.export_wh, one, low, high) for low, high, one in parts)
    quality, reason = _gravest((one.quality, one.reason) for _low, _high, one in parts)
    if not whole and quality != ESTIMATED:
        quality, reason = ESTIMATED, SPLIT
    return Metered(import_wh, export_wh, quality, reason)


def _outside(one: Segment, start_ms: int, end_ms: int) -> bool:
    return one.start_ms < start_ms or one.end_ms > end_ms


def _free(parts: list[tuple[int, int, Segment]], low: int, high: int) -> list[tuple[int, int]]:
    """Return what of [low, high) no part has yet."""
    free, at = [], low
    for taken_low, taken_high in sorted((one[0], one[1]) for one in parts):
        if taken_high <= at or taken_low >= high:
            continue
        if taken_low > at:
            free.append((at, taken_low))
        at = max(at, taken_high)
    if at < high:
        free.append((at, high))
    return free


def _share(energy_wh: int, one: Segment, low: int, high: int) -> int:
    """Return the part of an energy that falls in [low, high); the parts of a segment sum up to it exactly."""
    length = one.end_ms - one.start_ms
    return energy_wh * (high - one.start_ms) // length - energy_wh * (low - one.start_ms) // length


_GRAVITY = (MEASURED, CORRECTED, ESTIMATED)


def _gravest(found: Iterable[tuple[str, str]]) -> tuple[str, str]:
    return max(found, key=lambda one: (_GRAVITY.index(one[0]), one[1]), default=(MEASURED, ""))


class DeviceValues(NamedTuple):
    """A device that counts in an interval, and all that is known of it around it."""

    rating_w: int
    register_digits: int
    values: Sequence[Value]


class Home(NamedTuple):
    """What a home's devices say of an interval; ``produced_wh``/``used_wh`` None = not known."""

    metered: Metered | Missing
    produced_wh: int | None
    used_wh: int | None


def of_home(
    meters: Mapping[int, DeviceValues], inverters: Mapping[int, DeviceValues], batteries: Mapping[int, DeviceValues], *,
    start_ms: int, end_ms: int,
) -> Home:  # fmt: skip
    """Return what went through a home's connection, the sum of its meters, and what it made and used behind it.

    One silent meter leaves the whole connection unsaid. Use is what came in and was made, less what went out and into
    batteries.
    """

    def say(devices: Mapping[int, DeviceValues]) -> list[Metered | Missing]:
        return [
            of_device(
                one.values, start_ms=start_ms, end_ms=end_ms, rating_w=one.rating_w, register_digits=one.register_digits
            )
            for one in devices.values()
        ]

    net = _sum(say(meters))
    if not inverters and not batteries:
        return Home(net, None, None)
    made, stored = _sum(say(inverters)), _sum(say(batteries))
    produced = made.export_wh if isinstance(made, Metered) else None if inverters else 0
    used = None
    if isinstance(net, Metered) and produced is not None and (isinstance(stored, Metered) or not batteries):
        into = stored.import_wh - stored.export_wh if isinstance(stored, Metered) else 0
        used = max(0, net.import_wh - net.export_wh + produced - into)
    return Home(net, produced if inverters else None, used)


def _sum(found: list[Metered | Missing]) -> Metered | Missing:
    known = [one for one in found if isinstance(one, Metered)]
    if not known:
        return found[0] if found else Missing(SILENT)
    if len(known) < len(found):
        return Missing(SILENT)
    if len(known) == 1:
        return known[0]
    quality, reason = _gravest((one.quality, one.reason) for one in known)
    return Metered(sum(one.import_wh for one in known), sum(one.export_wh for one in known), quality, reason)
