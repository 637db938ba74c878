"""How much of the sun stays close to where it shines. Pure; docs/public.md has the definition in words.

Of one delivery interval and one lowest area (the homes behind one street transformer) the meters say what roofs gave to
the wires and what homes took from them. What both have in common, the smaller of the two sums, was used in the street
it was made in: no wire above the transformer carried it. The share of local sun is the sum of that over all areas and
intervals, of all that roofs gave.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Measured(NamedTuple):
    """What the meters of one area saw in one interval, Wh: taken from the wires, given to them."""

    import_wh: int
    export_wh: int


class LocalSun(NamedTuple):
    """What roofs gave to the wires, and how much of that their own street used, Wh."""

    given_wh: int
    used_near_wh: int

    @property
    def permille(self) -> int | None:
        """The share, rounded down so that it never flatters; None where nothing was given."""
        return self.used_near_wh * 1000 // self.given_wh if self.given_wh else None


def local_sun(measured: Iterable[Measured]) -> LocalSun:
    """Return the sums over areas and intervals."""
    given = near = 0
    for one in measured:
        given += one.export_wh
        near += min(one.import_wh, one.export_wh)
    return LocalSun(given, near)
