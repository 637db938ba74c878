"""The home page's sums: what one press would send, and that the house takes in what it gives out."""

from __future__ import annotations

import itertools

import pytest

from market.pages import plans
from market.pages.houseflow import balance
from market.pages.plans import BUY, SELL, Line

QUARTER_MS = 900_000
NOW_MS = 1_780_740_000_000 // QUARTER_MS * QUARTER_MS


def line(ahead: int = 1, net_wh: int | None = 500, **changes: object) -> Line:
    """Return an interval that begins ``ahead`` quarters of an hour from now."""
    start_ms = NOW_MS + ahead * QUARTER_MS
    made = Line(f"c{ahead:03d}", start_ms, 4_000, 800, 0, False, net_wh, 0, 0, 0, 10**6, 10**6, 10**5)
    return made._replace(**changes)  # type: ignore[arg-type]


def plan(side: str, lines: list[Line], books: dict[str, plans.Levels] | None = None, **changes: object) -> plans.Plan:
    """Return what one press would do with these intervals."""
    chosen = plans.choose(lines, side, NOW_MS, changes.pop("within", None))  # type: ignore[arg-type]
    return plans.plan(
        side, chosen, books or {}, now_ms=NOW_MS, interval_ms=QUARTER_MS, tick_e4=1, nearby=lines[:12], **changes
    )  # type: ignore[arg-type]


# --- the house -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("powers", "position_wh", "neighbours_w", "grid_w"),
    [
        ((2_400, 400, 0), 0, 0, -2_000),  # all of the surplus to the grid
        ((2_400, 400, 0), -300, -1_200, -800),  # sold 300 Wh for a quarter of an hour: 1,200 W go to neighbours
        ((2_400, 400, 0), -600, -2_400, 400),  # sold more than there is: the grid fills in
        ((0, 400, 0), 50, 200, 200),  # half of it bought
        ((0, 400, 0), 200, 800, -400),  # bought more than it needs: the grid takes the rest
        ((2_400, 400, 1_500), -125, -500, 0),
        ((0, 900, -900), 0, 0, 0),  # the battery does it all
    ],
)
def test_what_crosses_the_meter_is_divided_as_it_was_traded(
    powers: tuple[int, int, int], position_wh: int, neighbours_w: int, grid_w: int
) -> None:
    made, used, battery = powers
    house = balance(produced_w=made, used_w=used, battery_w=battery, position_wh=position_wh, interval_ms=QUARTER_MS)
    assert (house.neighbours_w, house.grid_w) == (neighbours_w, grid_w)


def test_a_house_always_balances() -> None:
    values = (0, 1, 333, 2_500, 7_001)
    for made, used, battery, position in itertools.product(
        values, values, (-2_500, -7, 0, 13, 999), (-777, -3, 0, 3, 50)
    ):
        house = balance(produced_w=made, used_w=used, battery_w=battery, position_wh=position, interval_ms=QUARTER_MS)
        flows_in, flows_out = house.flows_in, house.flows_out
        assert sum(flow.power_w for flow in flows_in) == sum(flow.power_w for flow in flows_out) == house.total_w
        for side in (flows_in, flows_out):
            if side:  # both bars are full, without a gap
                assert side[0].x == 0
                assert side[-1].x + side[-1].permille == 1000
                assert all(a.x + a.permille == b.x for a, b in itertools.pairwise(side))
        assert {flow.place for flow in flows_in}.isdisjoint({flow.place for flow in flows_out})
        assert house.left_w == made - used - battery


# --- what is traded --------------------------------------------------------------------------------------------------
def test_the_farther_ahead_the_smaller_the_part() -> None:
    shares = [plans.share(quarters * QUARTER_MS) for quarters in range(1, 97)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (plans.NEAR_SHARE, plans.FAR_SHARE)
    assert [line(ahead).wanted_wh(SELL, NOW_MS) for ahead in (1, 8, 20)] == [450, 370, 250]


def test_what_is_placed_or_has_no_room_is_not_offered_again() -> None:
    assert line(sold_wh=100, selling_wh=150).wanted_wh(SELL, NOW_MS) == 200
    assert line(sell_room_wh=120).wanted_wh(SELL, NOW_MS) == 120
    assert line(most_wh=300).wanted_wh(SELL, NOW_MS) == 300
    assert line(sold_wh=700).wanted_wh(SELL, NOW_MS) == 0
    assert line(net_wh=-500, sold_wh=-100, buying_wh=50).wanted_wh(BUY, NOW_MS) == 300
    assert line(net_wh=-500).wanted_wh(SELL, NOW_MS) == line(net_wh=None).wanted_wh(SELL, NOW_MS) == 0


def test_a_press_covers_three_hours_from_the_first_with_surplus() -> None:
    lines = [line(ahead, net_wh=-100 if ahead < 5 else 400) for ahead in range(1, 40)]
    chosen = plans.choose(lines, SELL, NOW_MS)
    assert [found.contract for found in chosen] == [f"c{ahead:03d}" for ahead in range(5, 17)]
    assert [found.contract for found in plans.choose(lines, BUY, NOW_MS)] == ["c001", "c002", "c003", "c004"]
    within = frozenset({"c004", "c020", "c021"})
    assert [found.contract for found in plans.choose(lines, SELL, NOW_MS, within)] == ["c020", "c021"]


def test_a_sale_takes_what_is_clearly_better_than_the_grid() -> None:
    levels = [(2_000, 300), (1_500, 400), (1_000, 400)]
    whole = plans.leg(line(), SELL, 500, levels, 1)
    assert (whole.price_e4, whole.now_wh, whole.now_e7) == (1_500, 500, 300 * 2_000 + 200 * 1_500)
    part = plans.leg(line(), SELL, 900, levels, 1)
    assert (part.now_wh, part.total_e7) == (700, 300 * 2_000 + 600 * 1_500)
    assert (part.grid_e7, part.hold_e7) == (900 * 800, 900 * 2_500)
    waits = plans.leg(line(last_e4=3_003), SELL, 500, levels[2:], 10)
    assert (waits.now_wh, waits.price_e4) == (0, 3_000)
    assert plans.leg(line(), SELL, 500, (), 1).price_e4 == 2_400  # half-way between the grid's prices


def test_a_purchase_takes_what_is_clearly_cheaper_than_the_grid() -> None:
    levels = [(2_000, 300), (3_000, 400), (3_900, 400)]
    found = plans.leg(line(net_wh=-900), BUY, 900, levels, 1)
    assert (found.price_e4, found.now_wh, found.total_e7) == (3_000, 700, 300 * 2_000 + 600 * 3_000)
    assert (found.grid_e7, found.hold_e7) == (900 * 4_000, 900 * 3_000)


def test_a_plan_adds_up_and_names_its_hours() -> None:
    lines = [line(ahead) for ahead in (1, 2, 3)]
    found = plan(SELL, lines, {"c001": [(2_000, 1_000)], "c002": [(3_000, 100)]})
    assert (found.energy_wh, found.now_wh, found.later_wh, found.expected_wh) == (1_350, 550, 800, 1_500)
    assert found.total_e7 == 450 * 2_000 + 450 * 3_000 + 450 * 2_400
    assert found.waiting_e4 == 2_400  # the lowest limit of what waits
    assert (found.start_ms, found.end_ms) == (NOW_MS + QUARTER_MS, NOW_MS + 4 * QUARTER_MS)


def test_why_there_is_nothing_to_do() -> None:
    assert plan(SELL, [line(net_wh=-100)]).why == "none"
    assert plan(SELL, [line(net_wh=None)]).why == "unknown"
    little = plan(SELL, [line(net_wh=40)])  # too little for a tap
    assert (little.why, little.expected_wh) == ("little", 40)
    placed = plan(SELL, [line(sold_wh=460)])
    assert (placed.why, placed.placed_wh) == ("placed", 460)


def test_halted_hours_are_left_out_and_named_when_nothing_else_is_left() -> None:
    one = plan(SELL, [line(1, halted=True), line(2)])
    assert [leg.contract for leg in one.legs] == ["c002"]
    assert plan(SELL, [line(1, halted=True), line(2, halted=True)]).blocked == "contract_halted"
    assert plan(BUY, [line(1, halted=True), line(2, net_wh=100)]).blocked == ""
