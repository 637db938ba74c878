"""Who a home's energy went to, by distance: enough homes in each group, and nothing lost between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.settlement.distances import LEAST_HOMES, RINGS, Amount, by_distance, ring_of

PARENTS = {"LV1": "MV1", "LV2": "MV1", "LV3": "MV2", "MV1": "", "MV2": ""}
AMOUNTS = {"LV1": Amount(100, 20), "LV2": Amount(200, 30), "LV3": Amount(400, 50)}


def groups(homes: dict[str, int], amounts: dict[str, Amount] = AMOUNTS) -> list[tuple[tuple[int, ...], int, int]]:
    return [tuple(group) for group in by_distance(amounts, area="LV1", parents=PARENTS, homes=homes)]


@pytest.mark.parametrize(
    ("homes", "expected"),
    [
        ({"LV1": 10, "LV2": 10, "LV3": 10}, [((0,), 100, 20), ((1,), 200, 30), ((2,), 400, 50)]),
        ({"LV1": 9, "LV2": 10, "LV3": 10}, [((0, 1), 300, 50), ((2,), 400, 50)]),
        ({"LV1": 10, "LV2": 9, "LV3": 10}, [((0,), 100, 20), ((1, 2), 600, 80)]),
        ({"LV1": 10, "LV2": 10, "LV3": 9}, [((0,), 100, 20), ((1, 2), 600, 80)]),
        ({"LV1": 4, "LV2": 4, "LV3": 40}, [((0, 1, 2), 700, 100)]),
        ({"LV1": 40, "LV2": 4, "LV3": 4}, [((0, 1, 2), 700, 100)]),
        ({"LV1": 1, "LV2": 1, "LV3": 1}, [((0, 1, 2), 700, 100)]),
        ({}, [((0, 1, 2), 700, 100)]),
    ],
)
def test_small_rings_are_merged(homes: dict[str, int], expected: list) -> None:
    assert groups(homes) == expected


def test_a_ring_that_is_not_there_hides_nobody() -> None:
    street = {"LV1": Amount(100, 20)}
    assert groups({"LV1": 30}, street) == [((0,), 100, 20)]
    assert groups({"LV1": 3, "LV3": 30}, street) == [((0, 2), 100, 20)]
    assert groups({"LV1": 30, "LV2": 30}, {}) == [((0,), 0, 0), ((1,), 0, 0)]
    assert by_distance({}, area="LV1", parents=PARENTS, homes={}) == []


def test_without_the_tree_everybody_else_is_across_town() -> None:
    assert [ring_of(other, "LV1", {}) for other in ("LV1", "LV2", "LV3")] == [0, 2, 2]
    assert ring_of("MV2", "MV1", PARENTS) == 2, "nothing stands above them"


@given(
    homes=st.dictionaries(st.sampled_from(["LV1", "LV2", "LV3"]), st.integers(0, 30)),
    amounts=st.dictionaries(
        st.sampled_from(["LV1", "LV2", "LV3"]), st.builds(Amount, st.integers(0, 10**6), st.integers(0, 10**9))
    ),
)
def test_every_group_has_enough_homes_and_nothing_is_lost(homes: dict[str, int], amounts: dict[str, Amount]) -> None:
    found = by_distance(amounts, area="LV1", parents=PARENTS, homes=homes)
    assert sum(group.energy_wh for group in found) == sum(amount.energy_wh for amount in amounts.values())
    assert sum(group.money_e7 for group in found) == sum(amount.money_e7 for amount in amounts.values())
    rings = [ring for group in found for ring in group.rings]
    assert rings == sorted(set(rings)) and set(rings) <= set(RINGS)
    by_ring = {0: homes.get("LV1", 0), 1: homes.get("LV2", 0), 2: homes.get("LV3", 0)}
    if len(found) > 1:
        assert all(sum(by_ring[ring] for ring in group.rings) >= LEAST_HOMES for group in found)
