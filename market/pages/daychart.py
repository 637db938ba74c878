"""The picture of a delivery day's prices: where each contract, price and hour stands. Pure.

It is drawn in units of its own, wider than a phone; texts are sized so that they can be read there too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from market.surveillance.concentration import Priced

WIDTH, HEIGHT, FOOT, AXIS = 720, 240, 60, 32  # prices, below them energy, below that times
EDGE = 40  # left and right: half of a time fits in
PADDING = 24  # above the highest price, where its number stands
HOURS = 3  # between two times
LOOK_MS = 15 * 60_000  # some zones are quarters of an hour apart


class Stick(NamedTuple):
    """A contract: from the lowest to the highest price, the mean, and its energy as a bar."""

    priced: Priced
    x: float
    bar_x: float
    top: float
    bottom: float
    mean: float
    bar_top: float
    bar_height: float
    width: float


class Mark(NamedTuple):
    """A line across the picture with its price."""

    y: float
    price_e4: int


class Hour(NamedTuple):
    """A time on the axis."""

    x: float
    at_ms: int


class Chart(NamedTuple):
    """All of it."""

    sticks: Sequence[Stick]
    marks: Sequence[Mark]
    hours: Sequence[Hour]
    width: int = WIDTH
    height: int = HEIGHT + FOOT + AXIS
    left: int = EDGE
    right: int = WIDTH - EDGE
    floor: int = HEIGHT + FOOT
    times: int = HEIGHT + FOOT + AXIS - 8


def chart_of(
    prices: Sequence[Priced], starts_ms: Sequence[int], length_ms: int, span_ms: tuple[int, int],
    local: Callable[[int], datetime],
) -> Chart:  # fmt: skip
    """Return the picture of the day ``span_ms``.

    ``starts_ms`` are those of the contracts, each ``length_ms`` long; ``local`` gives the reader's time of an instant.
    """
    low = min((one.low_e4 for one in prices), default=0)
    high = max(max((one.high_e4 for one in prices), default=1), low + 1)
    first_ms, end_ms = span_ms
    wide = (WIDTH - 2 * EDGE) / (end_ms - first_ms)  # of a millisecond

    def x_of(at_ms: int) -> float:
        return round(EDGE + (at_ms - first_ms) * wide, 1)

    def y_of(price_e4: int) -> float:
        return round(PADDING + (HEIGHT - PADDING - 8) * (high - price_e4) / (high - low), 1)

    most = max((one.energy_wh for one in prices), default=1)
    width = max(1.0, round(0.7 * length_ms * wide, 1))
    sticks = []
    for one, start_ms in zip(prices, starts_ms, strict=True):
        x, bar = x_of(start_ms + length_ms // 2), max(1.0, round((FOOT - 8) * one.energy_wh / most, 1))
        ends = (y_of(one.high_e4), y_of(one.low_e4), y_of(one.mean_e4))
        sticks.append(Stick(one, x, x - width / 2, *ends, HEIGHT + FOOT - bar, bar, width))
    marks = [Mark(y_of(price_e4), price_e4) for price_e4 in sorted({low, (low + high) // 2, high})] if prices else []
    at = [(at_ms, local(at_ms)) for at_ms in range(first_ms, end_ms + 1, LOOK_MS)]
    hours = [Hour(x_of(at_ms), at_ms) for at_ms, time in at if not time.minute and not time.hour % HOURS]
    return Chart(sticks, marks, hours)
