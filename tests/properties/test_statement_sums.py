"""Whatever is traded and metered: a statement is what its ledger entries moved, and days add up to months and years."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from market.exchange.views import LineView
from market.settlement import rules, statements
from market.settlement.levies import Charge, Table
from market.settlement.periods import MONTH, YEAR, period_of
from market.settlement.statements import CENT_E11, Correction, Deal, Interval, Sums
from tests.properties.test_settlement_rules import READINGS, TARIFFS, TRADES, Tally

DAYS = (date(2025, 12, 30), date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2), date(2026, 2, 28), date(2026, 3, 1))
ALL = statements.KINDS
CORRECTIONS = st.lists(
    st.tuples(st.integers(0, 5), *[st.integers(-9_999, 9_999)] * 2, *[st.integers(-(10**9), 10**9)] * 2), max_size=3
)
OWN = st.dictionaries(st.integers(0, 5), st.integers(0, 5_000))
MARKETS = st.tuples(TRADES, READINGS, TARIFFS, st.booleans(), OWN, CORRECTIONS)
CHARGES = st.builds(
    lambda tax, price, on, included: (
        Charge("levy", (("en", "Levy"),), ("topup", "bought"), 0, price, False),
        Charge("tax", (("en", "Tax"),), (*on, "levy"), tax, 0, included),
    ),
    st.integers(1, 5_000),
    st.integers(1, 5_000),
    st.sets(st.sampled_from(["bought", "fee", "topup", "sold", "short", "spill", "corrected"])),
    st.booleans(),
)
TABLES = st.tuples(CHARGES, CHARGES).map(
    lambda both: (Table(date(2025, 1, 1), both[0]), Table(date(2026, 1, 1), both[1]))
)


class Settled(NamedTuple):
    """One contract of one area: its intervals, and what its entries moved, told apart from the statement's own words."""

    intervals: list[Interval]
    moved: dict[int, int]  # e7 into an account's pocket, the supply bill included
    operator: int
    supplier: int


def settled(market: Any, day: date, listed: int = 1_000) -> Settled:
    """Settle a contract as the exchange does (``transfers.of_trade``, ``transfers.of_settlement``)."""
    trades, readings, tariff, estimated, own, changes = market
    contract = f"{day}T12:00Z"
    tallies: dict[int, Tally] = {}
    deals: dict[int, list[Deal]] = defaultdict(list)
    moved: dict[int, int] = defaultdict(int)
    for seq, (buyer, seller, wh, sell_e4, fee_e4) in enumerate(trades, 1):
        if buyer == seller:
            continue
        margin = max(0, tariff.topup_e4 - sell_e4) * wh
        buys, sells = tallies.setdefault(buyer, Tally()), tallies.setdefault(seller, Tally())
        buys.bought_wh += wh
        buys.fee_e7 += fee_e4 * wh
        sells.sold_wh += wh
        sells.proceeds_e7 += sell_e4 * wh
        sells.margin_e7 += margin
        moved[buyer] -= (sell_e4 + fee_e4) * wh
        moved[seller] -= margin
        deals[buyer].append(Deal(seq, contract, buyer, True, wh, sell_e4 + fee_e4, fee_e4))
        deals[seller].append(Deal(seq, contract, seller, False, wh, sell_e4, 0))
    quality = rules.ESTIMATED if estimated else rules.MEASURED
    metered = {account: rules.Metered(*values, quality) for account, values in readings.items()}
    rows = rules.settle_area(tallies, metered, tariff)
    corrections: dict[int, list[Correction]] = defaultdict(list)
    for account, import_wh, export_wh, wallet_e7, bill_e7 in changes:
        if any(row.account == account for row in rows):
            corrections[account].append(Correction(99, contract, account, import_wh, export_wh, wallet_e7, bill_e7))
            moved[account] += wallet_e7 + bill_e7
    intervals = []
    for row in rows:
        moved[row.account] += row.payout_e7 + row.spill_e7 - row.topup_e7
        view = LineView(
            50, row.account, 0, contract, "LV1", row.import_wh, row.export_wh, row.quality, row.position_wh, row.short_wh,
            row.topup_wh, row.spill_wh, row.payout_e7, row.fee_e7, row.short_e7, row.topup_e7, row.spill_e7,
        )  # fmt: skip
        mine = deals[row.account]
        intervals.append(
            statements.settled_interval(
                view, mine[:listed], statements.tally(mine), tariff, own.get(row.account), corrections[row.account]
            )
        )
    sums = rules.totals(rows)
    corrected = sum(one.wallet_e7 + one.bill_e7 for found in corrections.values() for one in found)
    supplier = sums.short_e7 + sums.topup_e7 - sums.spill_e7 - corrected
    return Settled(intervals, dict(moved), sums.fee_e7, supplier)


def net(intervals: Iterable[Interval]) -> int:
    return sum(interval.sums.net_e7 for interval in intervals)


@given(MARKETS, st.integers(0, 3))
def test_every_e7_of_the_ledger_is_on_the_statement_once(market: Any, listed: int) -> None:
    """With all trades listed, or some summed up: the lines are what the entries moved, for every home."""
    found = settled(market, DAYS[0], listed)
    assert {interval.account: net([interval]) for interval in found.intervals} == found.moved
    for interval in found.intervals:
        sums, lines = interval.sums, interval.lines
        by_kind: dict[str, tuple[int, int]] = dict.fromkeys(ALL, (0, 0))
        for line in lines:
            energy_wh, money_e7 = by_kind[line.kind]
            by_kind[line.kind] = energy_wh + line.energy_wh, money_e7 + line.money_e7
            assert line.price_e4 is None or abs(line.money_e7) == line.price_e4 * line.energy_wh
        assert sum(line.money_e7 for line in lines) == sums.net_e7 == sums.wallet_e7 + sums.bill_e7
        assert sum(line.fee_e7 for line in lines) == sums.fee_e7
        assert by_kind["own"] == (sums.own_wh, 0)
        assert by_kind["bought"] == (sums.bought_wh, -sums.bought_e7)
        assert by_kind["sold"] == (sums.sold_wh, sums.sold_e7)
        assert by_kind["short"] == (sums.short_wh, -sums.short_e7)
        assert by_kind["topup"] == (sums.topup_wh, -sums.topup_e7)
        assert by_kind["spill"] == (sums.spill_wh, sums.spill_e7)
        assert by_kind["corrected"][1] == sums.corrected_e7
        assert all(line.seq is not None for line in lines)


@given(MARKETS)
def test_over_an_area_members_operator_and_supplier_sum_to_zero(market: Any) -> None:
    found = settled(market, DAYS[0])
    assert net(found.intervals) + found.operator + found.supplier == 0


@given(MARKETS)
def test_what_the_meters_saw_is_what_the_lines_say(market: Any) -> None:
    trades, readings, tariff, estimated, own, _changes = market
    for interval in settled((trades, readings, tariff, estimated, own, []), DAYS[0]).intervals:
        sums = interval.sums
        bought, sold = sums.bought_wh + sums.topup_wh + sums.short_wh, sums.sold_wh + sums.spill_wh
        assert sums.import_wh - sums.export_wh == bought - sold
        assert sums.without_e7 == sums.export_wh * tariff.spill_e4 - sums.import_wh * tariff.topup_e4


@given(st.lists(MARKETS, min_size=1, max_size=len(DAYS)), TABLES, st.integers(0, 5))
def test_days_add_up_to_months_and_years(markets: list[Any], tables: tuple[Table, ...], account: int) -> None:
    """Energy, money, taxes and levies; only the rounding belongs to each statement by itself."""
    days: dict[date, Sums] = {}
    for day, market in zip(DAYS, markets, strict=False):
        mine = [interval.sums for interval in settled(market, day).intervals if interval.account == account]
        if mine:
            days[day] = statements.add(mine)
    whole = statements.total(days, tables)
    for kind in (MONTH, YEAR):
        parts: dict[date, dict[date, Sums]] = defaultdict(dict)
        for day, sums in days.items():
            parts[period_of(kind, day).first][day] = sums
        totals = [statements.total(part, tables) for part in parts.values()]
        assert statements.add(one.sums for one in totals) == whole.sums
        assert sum(one.net_e11 for one in totals) == whole.net_e11
        assert sum(one.gain_e11 for one in totals) == whole.gain_e11
        on_top = [statements.on_top_e11(one.charges) for one in totals]
        assert sum(on_top) == statements.on_top_e11(whole.charges) == whole.net_e11 - whole.sums.net_e7 * 10_000
        for one in totals:
            assert one.cents * CENT_E11 == one.net_e11 + one.rounding_e11
            assert abs(one.rounding_e11) <= CENT_E11 // 2
