"""The exact optimum of a city's interval, against exhaustive search, and the engine's welfare against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.engine.contracts import contract_start_ms
from tests.load.city_market import STEP_MS, CityMarket, Interval, Judge, Tree
from tests.load.optimum import Offer, cost_e7, optimum_e7, split

START_MS = contract_start_ms("2016-06-06T12:00Z")
MOST_UNITS = 4  # Wh for sale in a searched world: each goes to any buyer or to nobody


class World(NamedTuple):
    """A small grid with orders. Lists by area; ``offers`` in the order of their arrival, one a home."""

    parents: list[int]
    fees_e4: list[int]
    import_wh: list[int]
    export_wh: list[int]
    offers: list[Offer]

    def best_e7(self) -> int:
        """Return the optimum."""
        return optimum_e7(self.parents, self.fees_e4, self.import_wh, self.export_wh, self.offers)


def path(parents: list[int], source: int, sink: int) -> tuple[set[int], set[int]]:
    """Return the areas whose edge energy climbs and those whose edge it descends, by the ancestors of both."""

    def line(area: int) -> list[int]:
        return [area] if area < 0 else [area, *line(parents[area])]

    return set(line(source)) - set(line(sink)), set(line(sink)) - set(line(source))


def assignments(units: int, left_wh: list[int]) -> Iterator[list[int]]:
    """Yield every way to give each unit to one of the buyers, who take so much at the most, or to nobody (-1)."""
    if not units:
        yield []
        return
    for rest in assignments(units - 1, left_wh):
        yield [-1, *rest]
        for buyer, wh in enumerate(left_wh):
            if rest.count(buyer) < wh:
                yield [buyer, *rest]


def searched_e7(world: World) -> int:
    """Return the best of all ways to give every Wh for sale to a buyer or to nobody, trade by trade."""
    units = [(area, price) for area, buys, price, wh in world.offers if not buys for _ in range(wh)]
    buyers = [(area, price, wh) for area, buys, price, wh in world.offers if buys]
    best = 0
    for given_to in assignments(len(units), [wh for _, _, wh in buyers]):
        gain = 0
        flows = [0] * len(world.parents)
        for (source, ask), buyer in zip(units, given_to, strict=True):
            if buyer < 0:
                continue
            sink, bid, _ = buyers[buyer]
            up, down = path(world.parents, source, sink)
            gain += bid - ask - sum(world.fees_e4[edge] for edge in up | down)
            for edge in up:
                flows[edge] += 1
            for edge in down:
                flows[edge] -= 1
        within = all(
            -down <= flow <= up for flow, up, down in zip(flows, world.export_wh, world.import_wh, strict=True)
        )
        if within:
            best = max(best, gain)
    return best


@st.composite
def worlds(draw: st.DrawFn, *, orders: int, wh: int, capacity_wh: int, one_fee: bool = False) -> World:
    """Return a random world of up to five areas."""
    count = draw(st.integers(1, 5))
    parents = [-1] + [draw(st.integers(0, area - 1)) for area in range(1, count)]
    fees = st.integers(0, 4)
    fees_e4 = [draw(fees)] * count if one_fee else [draw(fees) for _ in range(count)]
    limits = st.integers(0, capacity_wh)
    import_wh = [draw(limits) for _ in range(count)]
    export_wh = import_wh if one_fee else [draw(limits) for _ in range(count)]
    offer = st.tuples(st.integers(0, count - 1), st.booleans(), st.integers(1, 20), st.integers(1, wh))
    return World(parents, fees_e4, import_wh, export_wh, draw(st.lists(offer, max_size=orders)))


@settings(max_examples=400, deadline=None)
@given(worlds(orders=6, wh=2, capacity_wh=3))
def test_the_optimum_is_what_exhaustive_search_finds(world: World) -> None:
    for_sale = 0
    offers = []
    for offer in world.offers:  # bounded, or the search would take for ever
        for_sale += 0 if offer[1] else offer[3]
        if offer[1] or for_sale <= MOST_UNITS:
            offers.append(offer)
    world = world._replace(offers=offers)
    assert world.best_e7() == searched_e7(world)


@settings(max_examples=300, deadline=None)
@given(worlds(orders=30, wh=400, capacity_wh=500, one_fee=True))
def test_the_market_never_gains_more_than_the_optimum(world: World) -> None:
    tree = Tree(
        [f"A{area}" for area in range(len(world.parents))],
        world.parents,
        ["LV"] * len(world.parents),
        [len(path(world.parents, area, 0)[0]) for area in range(len(world.parents))],
        [4 * wh for wh in world.import_wh],
    )
    areas = [area for area, *_ in world.offers]
    net_wh = [-wh if buys else wh for _, buys, _, wh in world.offers]
    prices_e4 = [price for _, _, price, _ in world.offers]
    interval = Interval(START_MS, areas, net_wh, prices_e4, list(range(len(areas))), 0, 0)
    market = CityMarket(tree, areas, tree.capacity_w, world.fees_e4[0], START_MS - STEP_MS)
    market.fund([3_000 * abs(wh) for wh in net_wh])
    judge = Judge(tree, world.fees_e4[0], market.accounts)
    outcome = judge.judge(interval, market.trade(interval))
    market.check(interval, outcome)
    assert 0 <= outcome.welfare_e7 <= world.best_e7()
    assert all(abs(flow) <= wh for flow, wh in zip(outcome.flows_wh, world.import_wh, strict=True))
    assert interval.offers() == world.offers


def test_one_seller_two_buyers_over_an_edge() -> None:
    offers = [(1, False, 10, 6), (1, True, 12, 2), (2, True, 20, 9)]
    # Without limits the buyer beyond both edges gains 20 - 10 - 2 * 3 = 4 on each of 6 Wh.
    assert optimum_e7([-1, 0, 0], [0, 3, 3], [0, 9, 9], [0, 9, 9], offers) == 6 * 4
    # With 5 Wh through the narrower edge the sixth goes to the neighbour.
    assert optimum_e7([-1, 0, 0], [0, 3, 3], [0, 9, 5], [0, 9, 9], offers) == 5 * 4 + 1 * 2
    assert optimum_e7([-1, 0, 0], [0, 3, 3], [0, 9, 9], [0, 0, 9], offers) == 2 * 2


def test_a_stack_is_cut_within_a_piece() -> None:
    stack = [(3 << 48) + 4, (5 << 48) + 6]
    head, rest = split(stack, 7)
    assert (cost_e7(head), cost_e7(rest)) == (3 * 4 + 5 * 3, 5 * 3)
    assert split(stack, 0) == ([], stack)
    assert split(stack, 10)[1] == []
    assert split(stack, 11) == (stack, [])


def test_a_forest_is_no_grid() -> None:
    with pytest.raises(ValueError, match="expected one root, was 2"):
        optimum_e7([-1, -1], [0, 0], [0, 0], [0, 0], [])
