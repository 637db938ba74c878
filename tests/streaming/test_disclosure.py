"""The capacity map keeps single homes to themselves: what the shown edges give away, by brute force."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest

from market.streaming.disclosure import shown_edges

LEAST = 10
WORLDS = 1_500
MAX_TREE = 8


def tree(seed: int) -> tuple[list[int], list[int]]:
    """Return parents and homes of a small random tree; empty, small and large areas are all common."""
    rng = random.Random(seed)
    count = rng.randint(2, MAX_TREE)
    parents = [-1, *(rng.randrange(area) for area in range(1, count))]
    return parents, [rng.choice((0, 0, rng.randint(1, 6), rng.randint(1, 12), rng.randint(8, 25))) for _ in parents]


def inside(parents: Sequence[int], top: int) -> set[int]:
    found = {top}
    for area in range(top + 1, len(parents)):
        if parents[area] in found:
            found.add(area)
    return found


def given_away(parents: list[int], homes: list[int], shown: set[int]) -> list[set[int]]:
    """Return the sets of 1 to 9 homes, by their areas, whose net flow is a sum and difference of shown ones.

    The root counts as shown: all that is bought is sold, so its net flow is 0. That of all homes at once tells nothing.
    """
    known = [inside(parents, area) for area in (0, *sorted(shown))]
    found = []
    for signs in product((-1, 0, 1), repeat=len(known)):
        weight = [
            sum(sign for sign, areas in zip(signs, known, strict=True) if area in areas) for area in range(len(homes))
        ]
        populated = {area for area, here in enumerate(homes) if here and weight[area]}
        few = 0 < sum(homes[area] for area in populated) < min(LEAST, sum(homes))
        if few and all(weight[area] == 1 for area in populated):
            found.append(populated)
    return found


@pytest.mark.parametrize("start", range(0, WORLDS, 300))
def test_no_difference_of_shown_flows_is_that_of_a_few_homes(start: int) -> None:
    some = 0
    for seed in range(start, start + 300):
        parents, homes = tree(seed)
        shown = shown_edges(parents, homes, LEAST)
        assert given_away(parents, homes, shown) == [], f"seed {seed}: {parents} {homes} {shown}"
        for area, parent in enumerate(parents):
            children = {child for child in shown if parents[child] == area}
            if area in shown or parent < 0:
                rest = sum(homes[i] for i in inside(parents, area)) - sum(
                    homes[i] for child in children for i in inside(parents, child)
                )
                assert rest == 0 or rest >= min(LEAST, sum(homes)), f"seed {seed}: {area}"
        some += bool(shown)
    assert some > 30, "hiding everything is no map"


def test_the_brute_force_finds_what_hiding_small_areas_alone_gives_away() -> None:
    parents, homes = [-1, 0, 0, 0], [0, 40, 12, 3]
    assert given_away(parents, homes, {1, 2}) == [{3}]
    assert shown_edges(parents, homes, LEAST) == {1}, "the smallest sibling is hidden as well"


@pytest.mark.parametrize(
    ("parents", "homes", "shown"),
    [
        ([-1, 0, 0], [0, 20, 30], {1, 2}),
        ([-1, 0, 0], [5, 20, 30], {2}),  # homes directly at the root
        ([-1, 0, 0, 0], [0, 5, 6, 30], {3}),  # eleven together
        ([-1, 0, 0, 0], [0, 5, 6, 0], {}),  # nobody else is there: hidden of themselves
        ([-1, 0, 0, 1, 1], [0, 0, 30, 12, 9], {1, 2}),  # 3 goes, and 1 stays: 21 homes
        ([-1, 0, 1, 1], [3, 0, 15, 20], {3}),  # 1 has nobody itself: what is hidden takes 2 with it
        ([-1, 0], [0, 9], {}),
    ],
)
def test_hides_no_more_than_it_must(parents: list[int], homes: list[int], shown: set[int]) -> None:
    assert shown_edges(parents, homes, LEAST) == set(shown)
