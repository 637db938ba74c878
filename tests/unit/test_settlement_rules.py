"""Settlement rules as a table: what was traded and metered, and what it must come to. Prices are the demo's."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from market.settlement import rules

TARIFF = rules.Tariff(topup_e4=3_000, spill_e4=800)


class Tally(NamedTuple):
    bought_wh: int = 0
    sold_wh: int = 0
    proceeds_e7: int = 0
    margin_e7: int = 0
    fee_e7: int = 0


def bought(wh: int, fee_e4: int = 0) -> Tally:
    return Tally(bought_wh=wh, fee_e7=fee_e4 * wh)


def sold(wh: int, price_e4: int = 2_000) -> Tally:
    return Tally(sold_wh=wh, proceeds_e7=price_e4 * wh, margin_e7=max(0, TARIFF.topup_e4 - price_e4) * wh)


MEASURED = "measured"

# name, tally, (import, export), expected: position, short, topup, spill (Wh), payout, fee, short, topup, spill (e7)
CASES = [
    ("bought what it used", bought(500, 200), (500, 0), (500, 0, 0, 0), (0, 100_000, 0, 0, 0)),
    ("bought less than it used", bought(300), (500, 0), (300, 0, 200, 0), (0, 0, 0, 600_000, 0)),
    ("bought more than it used", bought(500), (300, 0), (500, 0, 0, 200), (0, 0, 0, 0, 160_000)),
    ("bought and then exported", bought(500), (0, 100), (500, 0, 0, 600), (0, 0, 0, 0, 480_000)),
    ("sold what it had", sold(400), (0, 400), (-400, 0, 0, 0), (1_200_000, 0, 0, 0, 0)),
    ("sold and had more", sold(400), (0, 500), (-400, 0, 0, 100), (1_200_000, 0, 0, 0, 80_000)),
    ("sold and had a little less", sold(400), (0, 300), (-400, 100, 0, 0), (900_000, 0, 300_000, 0, 0)),
    ("sold and had nothing", sold(400), (0, 0), (-400, 400, 0, 0), (0, 0, 1_200_000, 0, 0)),
    # What it sold is charged to the margin, what it used besides is its ordinary consumption.
    ("sold and used instead", sold(400), (250, 0), (-400, 400, 250, 0), (0, 0, 1_200_000, 750_000, 0)),
    ("sold above the top-up price", sold(400, 3_500), (0, 0), (-400, 400, 0, 0), (200_000, 0, 1_200_000, 0, 0)),
    ("traded nothing, used", None, (700, 0), (0, 0, 700, 0), (0, 0, 0, 2_100_000, 0)),
    ("traded nothing, made", None, (0, 700), (0, 0, 0, 700), (0, 0, 0, 0, 560_000)),
    ("import and export in one interval", None, (300, 100), (0, 0, 200, 0), (0, 0, 0, 600_000, 0)),
    ("nothing at all", None, (0, 0), (0, 0, 0, 0), (0, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(
    ("tally", "metered", "energy", "money"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_table(tally: Tally | None, metered: tuple[int, int], energy: tuple[int, ...], money: tuple[int, ...]) -> None:
    row = rules.settle_account(7, tally, rules.Metered(*metered, MEASURED), TARIFF)
    assert (row.account, row.import_wh, row.export_wh, row.quality) == (7, *metered, MEASURED)
    assert (row.position_wh, row.short_wh, row.topup_wh, row.spill_wh) == energy
    assert (row.payout_e7, row.fee_e7, row.short_e7, row.topup_e7, row.spill_e7) == money


def test_buying_back_lowers_what_can_be_short() -> None:
    """Bought 150 of the 400 Wh back: only the 250 Wh still owed can be short, the rest is consumption."""
    tally = Tally(bought_wh=150, sold_wh=400, proceeds_e7=800_000, margin_e7=400_000, fee_e7=15_000)
    row = rules.settle_account(1, tally, rules.Metered(90, 0, MEASURED), TARIFF)
    assert (row.position_wh, row.short_wh, row.topup_wh, row.spill_wh) == (-250, 250, 90, 0)
    assert row.payout_e7 == 1_200_000 - 750_000
    assert row.fee_e7 == 15_000


@pytest.mark.parametrize("tally", [bought(500, 100), sold(400), Tally(150, 400, 800_000, 400_000, 0)])
def test_a_missing_reading_moves_no_imbalance(tally: Tally) -> None:
    row = rules.settle_account(3, tally, None, TARIFF)
    assert row.quality == "estimated"
    assert row.import_wh - row.export_wh == row.position_wh == tally.bought_wh - tally.sold_wh
    assert (row.short_wh, row.topup_wh, row.spill_wh) == (0, 0, 0)
    assert row.payout_e7 == tally.proceeds_e7 + tally.margin_e7


def test_an_area_has_everybody_once_in_order() -> None:
    tallies = {9: bought(100), 4: sold(100)}
    readings = {4: rules.Metered(0, 100, MEASURED), 2: rules.Metered(50, 0, MEASURED)}
    rows = rules.settle_area(tallies, readings, TARIFF)
    assert [row.account for row in rows] == [2, 4, 9]
    assert [row.quality for row in rows] == ["measured", "measured", "estimated"]
    assert rules.totals(rows) == rules.Totals(300_000, 0, 0, 150_000, 0)
    assert rules.settle_area({}, {}, TARIFF) == ()


@pytest.mark.parametrize(
    ("sales", "short_wh", "short"),
    [
        ([(10, 300), (20, 200), (30, 100)], 0, {}),
        ([(10, 300), (20, 200), (30, 100)], 100, {30: 100}),
        ([(10, 300), (20, 200), (30, 100)], 150, {30: 100, 20: 50}),
        ([(30, 100), (10, 300), (20, 200)], 150, {30: 100, 20: 50}),  # whatever order they are told in
        ([(10, 300), (20, 200), (30, 100)], 600, {30: 100, 20: 200, 10: 300}),
        ([], 0, {}),
    ],
)
def test_the_newest_sales_are_short_first(sales: list[tuple[int, int]], short_wh: int, short: dict[int, int]) -> None:
    assert rules.short_of_sales(sales, short_wh) == short


@pytest.mark.parametrize(("sales", "short_wh"), [([], 1), ([(10, 300)], 301), ([(10, 300), (10, 300)], 10)])
def test_more_cannot_be_short_than_was_sold(sales: list[tuple[int, int]], short_wh: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        rules.short_of_sales(sales, short_wh)


@pytest.mark.parametrize(
    ("tally", "metered"), [case[1:3] for case in CASES if case[1]], ids=[c[0] for c in CASES if c[1]]
)
def test_a_row_settled_again_is_what_settling_at_once_gives(tally: Tally, metered: tuple[int, int]) -> None:
    was = rules.settle_account(7, tally, None, TARIFF)
    last = rules.Metered(*metered, MEASURED)
    assert rules.corrected(was, last, TARIFF) == rules.settle_account(7, tally, last, TARIFF)


def test_only_rows_that_change_are_corrected() -> None:
    one, two = rules.Metered(500, 0, MEASURED), rules.Metered(400, 0, MEASURED)
    rows = {7: rules.settle_account(7, bought(500), one, TARIFF), 8: rules.settle_account(8, bought(500), None, TARIFF)}
    assert [(change.row.account, change.was) for change in rules.changes(rows, {7: one, 8: two, 9: two}, TARIFF)] == [
        (8, rows[8]), (9, rules.nothing_settled(9)),
    ]  # fmt: skip
    assert rules.changes(rows, {}, TARIFF) == ()
