"""Which edges of the grid may be shown so that nobody can work out what a few homes trade by subtracting flows.

The flows of the shown edges, and that the whole market buys what it sells, tell no more than what the parts of the tree
trade with each other that remain when all shown edges are cut. So every part has no home at all or enough of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush


def shown_edges(parents: Sequence[int], homes: Sequence[int], least: int) -> set[int]:
    """Return the areas whose edge to the parent may be shown.

    ``parents``: index of each area's parent, below its own, -1 for the root; ``homes``: how many are directly in it.
    An area with fewer than ``least`` homes in its subtree is hidden. While hidden children of a parent, with the homes
    that are directly there, have at least one and fewer than ``least``, the smallest shown area next to them is hidden
    too.
    """
    count = len(parents)
    subtree, part = list(homes), list(homes)
    for area in range(count - 1, 0, -1):
        subtree[parents[area]] += subtree[area]
    # Shown areas just below each area's part of the tree, a heap by homes; all done when an area's turn comes.
    below: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    shown = set()
    for area in range(count - 1, -1, -1):
        near = below[area]
        heapify(near)
        while 0 < part[area] < least and near:
            _, hidden = heappop(near)
            shown.discard(hidden)
            part[area] += part[hidden]
            for one in below[hidden]:
                heappush(near, one)
        if area == 0:
            break
        above = parents[area]
        if subtree[area] >= least:
            shown.add(area)
            below[above].append((subtree[area], area))
        else:
            part[above] += part[area]
    return shown
