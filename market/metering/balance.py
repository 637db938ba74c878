"""Does the energy of an area add up? What flowed in over its edge, against what its homes and the areas below it took. Pure.

``residual = exchange with the parent - Σ net of its homes - Σ exchange of the areas below it`` (Wh; import positive). In
a sound area that is what lines and transformer lose. What else it can be follows from fixed rules over the intervals of a
window, and each answer names the figures it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LOSS_PERMILLE = 60  # of what flowed: lines and transformers of a distribution area lose two to five per cent
FLOOR_WH = 50  # an interval below this says nothing: meters count in whole Wh
FEWEST = 4  # intervals of a window that say something
STEADY_PERCENT = 75  # of intervals beyond the losses on one side: a steady cause
CANCELS_PERMILLE = 100  # of the sum of deviations: what is left when they cancel each other out

UNKNOWN, MISSING, LOSS, CLOCK, THEFT, METER, UNCLEAR = (
    "unknown", "missing_meter", "loss", "clock", "theft", "meter_error", "unclear",
)  # fmt: skip


class Interval(NamedTuple):
    """One area in one interval, energies in Wh. ``exchange_wh`` (import - export of its own edge) None: not measured."""

    start_ms: int
    exchange_wh: int | None
    net_wh: int  # Σ import - export of its homes
    below_wh: int | None  # Σ exchange of the areas below it; None: one of them is not measured
    flow_wh: int  # Σ of all energies that went through meters, for the losses
    homes: int
    missing: int  # homes without a reading, or with an estimate


class Balance(NamedTuple):
    """What is left, and why. ``allowed_wh`` is what losses explain."""

    start_ms: int
    residual_wh: int | None
    allowed_wh: int
    missing: int
    cause: str


class Verdict(NamedTuple):
    """The likely cause over a window, with what it rests on."""

    cause: str
    intervals: int  # that say something
    beyond: int  # of them with more than losses explain
    residual_wh: int  # their sum
    allowed_wh: int


def residual(one: Interval) -> int | None:
    """Return what an interval leaves over, None where an edge is not measured."""
    if one.exchange_wh is None or one.below_wh is None:
        return None
    return one.exchange_wh - one.net_wh - one.below_wh


def allowed(one: Interval) -> int:
    """Return what losses explain in an interval."""
    return max(FLOOR_WH, one.flow_wh * LOSS_PERMILLE // 1_000)


def judge(window: Sequence[Interval]) -> tuple[list[Balance], Verdict]:
    """Return each interval of an area with its cause, and the likely cause over all of them.

    By the first rule that holds: no measured edge: ``unknown``. Homes missing in an interval: ``missing_meter`` for that
    one, and nothing else is concluded from it. Between zero and the losses: ``loss``. Deviations to both sides that cancel
    each other out: ``clock``, for a meter whose time is shifted moves energy between intervals and makes none. More flows in
    than is metered, steadily: ``theft`` (or a load without a meter). Less flows in than is metered, steadily:
    ``meter_error``. Else ``unclear``.
    """
    window = sorted(window, key=lambda one: one.start_ms)
    plain = [one for one in window if residual(one) is not None and not one.missing]
    verdict = _verdict(plain, window)
    found = []
    for one in window:
        left, most = residual(one), allowed(one)
        if left is None:
            cause = UNKNOWN
        elif one.missing:
            cause = LOSS if -FLOOR_WH <= left <= most else MISSING
        elif -FLOOR_WH <= left <= most:
            cause = LOSS
        else:
            cause = verdict.cause if verdict.cause in (CLOCK, THEFT, METER) else UNCLEAR
        found.append(Balance(one.start_ms, left, most, one.missing, cause))
    return found, verdict


def _verdict(plain: Sequence[Interval], window: Sequence[Interval]) -> Verdict:
    lefts = [(residual(one) or 0, allowed(one)) for one in plain]
    total, most = sum(left for left, _ in lefts), sum(allowed for _, allowed in lefts)
    high = [left for left, allowed in lefts if left > allowed]
    low = [left for left, _ in lefts if left < -FLOOR_WH]
    beyond = len(high) + len(low)
    if not plain:
        known = any(residual(one) is not None for one in window)
        return Verdict(MISSING if known else UNKNOWN, 0, 0, 0, 0)
    if not beyond:
        return Verdict(LOSS, len(plain), 0, total, most)
    cause = UNCLEAR
    if len(plain) >= FEWEST:
        moved = sum(high) - sum(low)
        if high and low and abs(total) <= max(most, moved * CANCELS_PERMILLE // 1_000):
            cause = CLOCK
        elif len(high) * 100 >= len(plain) * STEADY_PERCENT:
            cause = THEFT
        elif len(low) * 100 >= len(plain) * STEADY_PERCENT:
            cause = METER
    return Verdict(cause, len(plain), beyond, total, most)
