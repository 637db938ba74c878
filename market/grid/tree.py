"""The grid drawn as a tree: which areas are shown, where, and what is folded. Pure.

A row an area: the drawing stays readable in a narrow window and needs no crossing lines. Below the chosen area branches
unfold, hottest first, while rows last; what does not fit is one row that says how many areas it stands for and how
full the fullest of them is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

MAX_ROWS = 40  # two screens of a desk
SHOWN_CHILDREN = 12  # of one area, the hottest; the rest is folded
OPENED_ROWS = 400  # when somebody asks for all children of one area
FOUND = 20  # areas that a search names


class Placed(NamedTuple):
    """A row. ``kind`` "area", or "more": ``count`` areas below ``area`` that are folded, ``heat`` the fullest of their edges.

    ``trunk`` is how many rows the line down from this area is long, to its last child shown; 0 without one.
    """

    row: int
    depth: int
    area: str
    kind: str
    count: int
    heat: int
    trunk: int


def heat_below(parents: Mapping[str, str], heat: Mapping[str, int]) -> dict[str, int]:
    """Return for each area the load of the fullest edge of it and all below. ``parents``: parents before their children."""
    hottest = {area: heat.get(area, 0) for area in parents}
    for area, parent in reversed(list(parents.items())):
        if parent:
            hottest[parent] = max(hottest[parent], hottest[area])
    return hottest


def place(
    parents: Mapping[str, str], heat: Mapping[str, int], *, chosen: str = "", whole: bool = False
) -> list[Placed]:
    """Return the rows of the drawing from the root down.

    ``parents``: every area's parent, "" for the root, parents before their children. ``heat``: load of the edge above an
    area. ``chosen``: the area whose branch is opened ("" or unknown: the root); of the areas above it only the way down is
    shown. ``whole``: show all children of it, however many.
    """
    if not parents:
        return []
    children: dict[str, list[str]] = {area: [] for area in parents}
    for area, parent in parents.items():
        if parent:
            children[parent].append(area)
    hottest = heat_below(parents, heat)
    for below in children.values():
        below.sort(key=lambda area: (-hottest[area], area))
    root = next(area for area, parent in parents.items() if not parent)
    chosen = chosen if chosen in parents else root
    way = [chosen]
    while parents[way[-1]]:
        way.append(parents[way[-1]])
    way.reverse()
    shown = _unfold(chosen, children, hottest, 2 * len(way) - 1, whole)
    shown |= {above: [below] for above, below in pairwise(way)}
    return _rows(root, shown, children, hottest)


def _unfold(
    chosen: str, children: Mapping[str, list[str]], hottest: Mapping[str, int], used: int, whole: bool
) -> dict[str, list[str]]:
    """Return which children of which areas are shown: level by level, in each the hottest branches first."""
    shown: dict[str, list[str]] = {}
    # A child costs its row, and one for what is folded below it until it is opened itself.
    cost = {area: 1 + bool(below) for area, below in children.items()}
    level, left = [chosen], (OPENED_ROWS if whole else MAX_ROWS) - used - 1
    while level:
        following: list[str] = []
        for area in sorted(level, key=lambda area: (-hottest[area], area)):
            below = children[area]
            if not below:
                continue
            most = OPENED_ROWS if whole and area == chosen else SHOWN_CHILDREN
            taken: list[str] = []
            room = left + 1  # its row of what is folded is not needed if all of it is shown
            for child in below[:most]:
                rest = len(taken) + 1 < len(below)
                if room < cost[child] + rest:
                    break
                room -= cost[child]
                taken.append(child)
            if taken:
                shown[area] = taken
                left = room - (len(taken) < len(below))
                following += taken
        level = following
    return shown


def _rows(
    root: str, shown: Mapping[str, list[str]], children: Mapping[str, list[str]], hottest: Mapping[str, int]
) -> list[Placed]:
    rows: list[Placed] = []

    def add(area: str, depth: int) -> None:
        at = len(rows)
        rows.append(Placed(at, depth, area, "area", 0, hottest[area], 0))
        last = at
        for child in shown.get(area, ()):
            last = len(rows)
            add(child, depth + 1)
        opened = set(shown.get(area, ()))
        folded = [child for child in children[area] if child not in opened]
        if folded:
            last = len(rows)
            heat = max(hottest[child] for child in folded)
            rows.append(Placed(last, depth + 1, area, "more", _count(folded, children), heat, 0))
        rows[at] = rows[at]._replace(trunk=last - at)

    add(root, 0)
    return rows


def _count(areas: Iterable[str], children: Mapping[str, list[str]]) -> int:
    todo, count = list(areas), 0
    while todo:
        count += 1
        todo += children[todo.pop()]
    return count


def search(areas: Iterable[str], text: str) -> list[str]:
    """Return the areas whose name has a text in it, those that begin with it first; none for an empty text."""
    wanted = text.strip().casefold()
    if not wanted:
        return []
    hits = [area for area in areas if wanted in area.casefold()]
    return sorted(hits, key=lambda area: (not area.casefold().startswith(wanted), area))[:FOUND]
