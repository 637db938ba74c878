"""How far a home's energy went, without saying to whom: by streets, never by home. Pure.

A ring with few homes could tell who they are, so rings are merged until each has enough (DESIGN, section 7). Homes are those
that were there then and still are, the home itself not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

STREET, NEAR, TOWN = 0, 1, 2  # my area; areas with the same parent; all others
RINGS = (STREET, NEAR, TOWN)
LEAST_HOMES = 10


class Amount(NamedTuple):
    """Energy and what it cost or brought."""

    energy_wh: int = 0
    money_e7: int = 0


class Group(NamedTuple):
    """Rings that are told together, nearest first, and what went there or came from there."""

    rings: tuple[int, ...]
    energy_wh: int
    money_e7: int


def ring_of(other: str, area: str, parents: Mapping[str, str]) -> int:
    """Return in which ring an area lies, seen from ``area``; TOWN where nobody knows the tree."""
    if other == area:
        return STREET
    parent = parents.get(area)
    return NEAR if parent and parents.get(other) == parent else TOWN


def by_distance(
    amounts: Mapping[str, Amount],
    *,
    area: str,
    parents: Mapping[str, str],
    homes: Mapping[str, int],
    least: int = LEAST_HOMES,
) -> list[Group]:
    """Return amounts by area as groups of rings, each with at least ``least`` homes; all of them one group where even
    together there are fewer. ``homes``: other homes by area. The groups' sums are the amounts'.
    """
    sums = {ring: Amount() for ring in RINGS}
    for other, amount in amounts.items():
        ring = ring_of(other, area, parents)
        sums[ring] = Amount(sums[ring].energy_wh + amount.energy_wh, sums[ring].money_e7 + amount.money_e7)
    people = dict.fromkeys(RINGS, 0)
    for other, count in homes.items():
        people[ring_of(other, area, parents)] += count
    groups: list[list[int]] = []
    for ring in RINGS:
        if not people[ring] and sums[ring] == Amount():
            continue  # there is no such ring
        if groups and _homes(groups[-1], people) < least:
            groups[-1].append(ring)
        else:
            groups.append([ring])
    if len(groups) > 1 and _homes(groups[-1], people) < least:
        last = groups.pop()
        groups[-1] += last
    return [
        Group(tuple(group), sum(sums[ring].energy_wh for ring in group), sum(sums[ring].money_e7 for ring in group))
        for group in groups
    ]


def _homes(group: list[int], people: Mapping[int, int]) -> int:
    return sum(people[ring] for ring in group)
