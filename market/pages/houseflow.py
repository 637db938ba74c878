"""Where a home's power comes from and goes to at this moment, so that both sides add up. Pure.

What crosses the meter is divided as settlement divides it (docs/market-rules.md, from meter to money): what the home
bought or sold for the running interval goes between it and its neighbours, the rest between it and the grid. A home that
sold more than it gives right now therefore gives its neighbours all they bought and takes what it lacks from the grid.
"""

from __future__ import annotations

from typing import NamedTuple

MS_AN_HOUR = 3_600_000

ROOF, BATTERY, HOME, NEIGHBOURS, GRID = "roof", "battery", "home", "neighbours", "grid"


class Flow(NamedTuple):
    """Power between the home and one of the places around it, and its part of a bar: from ``x`` on, permille long."""

    place: str
    power_w: int  # always positive
    x: int
    permille: int


class House(NamedTuple):
    """All flows at one moment, W. ``live`` False: the mean of the last interval that was read."""

    produced_w: int
    used_w: int
    battery_w: int  # into the battery; negative: out of it
    neighbours_w: int  # from the neighbours; negative: to them
    grid_w: int  # from the grid; negative: to it
    live: bool

    @property
    def total_w(self) -> int:
        """What flows in, which is what flows out."""
        return sum(power for _, power in self._inward())

    @property
    def left_w(self) -> int:
        """What goes out through the meter; negative: what comes in."""
        return -(self.neighbours_w + self.grid_w)

    @property
    def lack_w(self) -> int:
        """What comes in through the meter, as a positive number."""
        return -self.left_w

    @property
    def flows_in(self) -> list[Flow]:
        """Where power comes from, none of it zero."""
        return self._flows(self._inward())

    @property
    def flows_out(self) -> list[Flow]:
        """Where it goes, none of it zero; together as much as ``flows_in``."""
        return self._flows(self._outward())

    def _inward(self) -> list[tuple[str, int]]:
        return [
            (ROOF, self.produced_w),
            (BATTERY, max(0, -self.battery_w)),
            (NEIGHBOURS, max(0, self.neighbours_w)),
            (GRID, max(0, self.grid_w)),
        ]

    def _outward(self) -> list[tuple[str, int]]:
        return [
            (HOME, self.used_w),
            (BATTERY, max(0, self.battery_w)),
            (NEIGHBOURS, max(0, -self.neighbours_w)),
            (GRID, max(0, -self.grid_w)),
        ]

    def _flows(self, powers: list[tuple[str, int]]) -> list[Flow]:
        """Return the parts of a side that are not zero; their ends lie where the exact ones are, so the bar is full."""
        total_w = max(1, self.total_w)
        found: list[Flow] = []
        before_w = 0
        for place, power in powers:
            if power:
                x, end = before_w * 1000 // total_w, (before_w + power) * 1000 // total_w
                found.append(Flow(place, power, x, end - x))
                before_w += power
        return found


def balance(
    *, produced_w: int, used_w: int, battery_w: int, position_wh: int, interval_ms: int, live: bool = True
) -> House:
    """Return the flows of a home (W) that bought minus sold ``position_wh`` for the interval of ``interval_ms`` that runs."""
    size_w = abs(position_wh) * MS_AN_HOUR // interval_ms
    neighbours_w = size_w if position_wh > 0 else -size_w
    meter_w = used_w + battery_w - produced_w
    return House(produced_w, used_w, battery_w, neighbours_w, meter_w - neighbours_w, live)
