"""Whatever is traded, metered, corrected and shared: a statement is what its ledger entries moved, and days add up."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from types import SimpleNamespace
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from market.engine.commands import SettleRow
from market.exchange import transfers
from market.exchange.views import LineView
from market.settlement import rules, statements
from market.settlement.levies import Charge, Table
from market.settlement.periods import MONTH, YEAR, period_of
from market.settlement.statements import CENT_E11, Correction, Deal, Interval, Later, Shared, Sums
from tests.properties.test_settlement_rules import READINGS, TARIFFS, TRADES, Tally

DAYS = (date(2025, 12, 30), date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2), date(2026, 2, 28), date(2026, 3, 1))
ALL = statements.KINDS
FIRST = 10  # accounts from here on: those before are the market's own
OWN = st.dictionaries(st.integers(0, 5), st.integers(0, 5_000))
# Later readings, one correction each, and agreements: giver, receiver, price, fee.
LATER = st.lists(READINGS, max_size=3)
AGREEMENTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5_000), st.integers(0, 900)), max_size=4
)
MARKETS = st.tuples(TRADES, READINGS, TARIFFS, st.booleans(), OWN, LATER, AGREEMENTS)
CHARGES = st.builds(
    lambda tax, price, on, included: (
        Charge("levy", (("en", "Levy"),), ("topup", "bought"), 0, price, False),
        Charge("tax", (("en", "Tax"),), (*on, "levy"), tax, 0, included),
    ),
    st.integers(1, 5_000),
    st.integers(1, 5_000),
    st.sets(st.sampled_from(["bought", "fee", "topup", "sold", "short", "spill", "given", "received"])),
    st.booleans(),
)
TABLES = st.tuples(CHARGES, CHARGES).map(
    lambda both: (Table(date(2025, 1, 1), both[0]), Table(date(2026, 1, 1), both[1]))
)


class Settled(NamedTuple):
    """One contract of one area: its intervals, and what its entries moved, told apart from the statement's own words."""

    intervals: list[Interval]
    moved: dict[int, dict[int, int]]  # by account and entry: e7 into its pocket, the supply bill included; 0: settling
    operator: int
    supplier: int
    rows: dict[int, SettleRow]  # as they stand in the end, before sharing


class Agreement(NamedTuple):
    id: int
    giver: int
    receiver: int
    price_e4: int
    fee_e4: int


class Books:
    """What later entries move, by the exchange's own transfers; supply bills by home, which transfers do not name."""

    def __init__(self) -> None:
        self.moved: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.system: dict[int, int] = defaultdict(int)

    def book(self, seq: int, moves: list[transfers.Row]) -> None:
        for _id, _at, _kind, debit, credit, amount in moves:
            for account, signed in ((debit, -amount), (credit, amount)):
                if account < FIRST:
                    self.system[account] += signed
                else:
                    self.moved[account][seq] += signed


def tariffed(market: Any) -> tuple[dict[int, Tally], dict[int, list[Deal]], Books]:
    """Trade in a contract: everything of trades and settlement is booked under the entry 0."""
    tallies: dict[int, Tally] = {}
    deals: dict[int, list[Deal]] = defaultdict(list)
    books = Books()
    trades, _, tariff, *_rest = market
    for seq, (buys_by, sells_by, wh, sell_e4, fee_e4) in enumerate(trades, 1):
        if buys_by == sells_by:
            continue
        buyer, seller = buys_by + FIRST, sells_by + FIRST
        margin = max(0, tariff.topup_e4 - sell_e4) * wh
        buys, sells = tallies.setdefault(buyer, Tally()), tallies.setdefault(seller, Tally())
        buys.bought_wh += wh
        buys.fee_e7 += fee_e4 * wh
        sells.sold_wh += wh
        sells.proceeds_e7 += sell_e4 * wh
        sells.margin_e7 += margin
        books.moved[buyer][0] -= (sell_e4 + fee_e4) * wh
        books.moved[seller][0] -= margin
        deals[buyer].append(Deal(seq, "", buyer, True, wh, sell_e4 + fee_e4, fee_e4))
        deals[seller].append(Deal(seq, "", seller, False, wh, sell_e4, 0))
    return tallies, deals, books


def settled(market: Any, day: date, listed: int = 1_000) -> Settled:
    """Settle a contract, correct it and share it out as the exchange does."""
    _, readings, tariff, estimated, own, later, agreed = market
    contract = f"{day}T12:00Z"
    tallies, deals, books = tariffed(market)
    quality = rules.ESTIMATED if estimated else rules.MEASURED
    metered = {account + FIRST: rules.Metered(*values, quality) for account, values in readings.items()}
    rows = {row.account: row for row in rules.settle_area(tallies, metered, tariff)}
    first = dict(rows)
    for row in rows.values():
        books.moved[row.account][0] += row.payout_e7 + row.spill_e7 - row.topup_e7
    agreements = [
        Agreement(number, giver + FIRST, receiver + FIRST, price, fee)
        for number, (giver, receiver, price, fee) in enumerate(agreed, 1)
        if giver != receiver
    ]
    corrections: dict[int, list[Correction]] = defaultdict(list)
    shared: dict[int, list[Shared]] = defaultdict(list)
    before: dict[int, int] = {}
    seq = 100
    for changed in [{}, *later]:
        seq += 1
        new = {account + FIRST: rules.Metered(*values, rules.MEASURED) for account, values in changed.items()}
        changes = rules.changes(rows, new, tariff)
        adjusted: Any = SimpleNamespace(seq=seq, at_ms=0, rows=changes)
        books.book(seq, transfers.of_adjustment(adjusted))
        for row, was in changes:
            rows[row.account] = row
            books.moved[row.account][seq] -= row.topup_e7 - was.topup_e7
            corrections[row.account].append(
                Correction(
                    seq, contract, row.account, row.quality,
                    *(getattr(row, name) - getattr(was, name) for name in Correction._fields[4:]),
                )
            )  # fmt: skip
        seq += 1
        moves = rules.shared(agreements, rows, before)
        parties = [(one.giver, one.receiver, one.price_e4, one.fee_e4) for one in agreements]
        event: Any = SimpleNamespace(
            seq=seq, at_ms=0, rows=moves, parties=parties, spill_e4=tariff.spill_e4, topup_e4=tariff.topup_e4
        )
        books.book(seq, transfers.of_sharing(event))
        for part, one in zip(moves, agreements, strict=True):
            more = part.energy_wh - part.was_wh
            books.moved[one.receiver][seq] += (tariff.topup_e4 - one.price_e4 - one.fee_e4) * more
            for account in (one.giver, one.receiver):
                gives = account == one.giver
                shared[account].append(
                    Shared(seq, contract, account, one.id, gives, more, one.price_e4, one.fee_e4)
                )  # fmt: skip
            before[one.id] = part.energy_wh
    intervals = []
    for account in sorted(rows):
        row = first.get(account)
        view = (
            statements.nothing_settled(corrections[account][0])
            if row is None
            else LineView(50, account, 0, contract, "LV1", *row[1:])
        )
        mine = deals[account]
        intervals.append(
            statements.settled_interval(
                view, mine[:listed], statements.tally(mine), tariff, own.get(account - FIRST),
                Later(tuple(corrections[account]), tuple(shared[account])),
            )
        )  # fmt: skip
    sums = rules.totals(tuple(first.values()))
    supplier = sums.short_e7 + sums.topup_e7 - sums.spill_e7 + books.system[transfers.SUPPLIER]
    moved = {account: dict(found) for account, found in books.moved.items()}
    return Settled(intervals, moved, sums.fee_e7 + books.system[transfers.OPERATOR], supplier, rows)


def net(intervals: Iterable[Interval]) -> int:
    return sum(interval.sums.net_e7 for interval in intervals)


@given(MARKETS, st.integers(0, 3))
def test_every_e7_of_the_ledger_is_on_the_statement_once(market: Any, listed: int) -> None:
    """With all trades listed, or some summed up: the lines are what each entry moved, for every home."""
    found = settled(market, DAYS[0], listed)
    assert {interval.account for interval in found.intervals} >= {
        a for a, by in found.moved.items() if any(by.values())
    }
    for interval in found.intervals:
        sums, lines = interval.sums, interval.lines
        by_kind: dict[str, tuple[int, int]] = dict.fromkeys(ALL, (0, 0))
        by_entry: dict[int, int] = defaultdict(int)
        for line in lines:
            energy_wh, money_e7 = by_kind[line.kind]
            by_kind[line.kind] = energy_wh + line.energy_wh, money_e7 + line.money_e7
            assert line.seq is not None
            by_entry[line.seq if line.seq > 100 else 0] += line.money_e7
            assert line.price_e4 is None or abs(line.money_e7) == line.price_e4 * abs(line.energy_wh)
        moved = found.moved.get(interval.account, {})
        assert {seq: e7 for seq, e7 in by_entry.items() if e7} == {seq: e7 for seq, e7 in moved.items() if e7}
        assert sum(line.money_e7 for line in lines) == sums.net_e7 == sums.wallet_e7 + sums.bill_e7
        assert sum(line.fee_e7 for line in lines) == sums.fee_e7 + sums.shared_fee_e7
        assert by_kind["own"] == (sums.own_wh, 0)
        assert by_kind["bought"] == (sums.bought_wh, -sums.bought_e7)
        assert by_kind["sold"] == (sums.sold_wh, sums.sold_e7)
        assert by_kind["given"] == (sums.given_wh, sums.given_e7)
        assert by_kind["received"] == (sums.received_wh, -sums.received_e7)
        assert by_kind["corrected"][1] == sums.corrected_e7
        uncorrected = sum(by_kind[kind][1] for kind in ("short", "topup", "spill"))
        assert uncorrected + sums.corrected_e7 == sums.spill_e7 - sums.topup_e7 - sums.short_e7
        assert sum(money for _, money in sums.by_base().values()) == sums.net_e7


@given(MARKETS, st.integers(0, 3))
def test_the_sums_are_the_newest_rows_and_the_newest_sales_are_short(market: Any, listed: int) -> None:
    found = settled(market, DAYS[0], listed)
    for interval in found.intervals:
        sums, row = interval.sums, found.rows[interval.account]
        assert (sums.short_wh, sums.short_e7) == (row.short_wh, row.short_e7)
        assert (sums.topup_wh + sums.received_wh, sums.spill_wh + sums.given_wh) == (row.topup_wh, row.spill_wh)
        assert (sums.import_wh, sums.export_wh) == (row.import_wh, row.export_wh)
        assert min(sums.topup_wh, sums.spill_wh, sums.given_wh, sums.received_wh) >= 0
        assert interval.estimated == (row.quality == rules.ESTIMATED)
        sales = [line for line in interval.lines if line.kind == "sold"]
        assert sum(line.short_wh for line in sales) == sums.short_wh
        for older, newer in itertools.pairwise(sales):
            assert not older.short_wh or newer.short_wh == newer.energy_wh, "who sold first was promised first"
        stage = "corrected" if any(line.kind == "corrected" for line in interval.lines) else "provisional"
        assert interval.stage == stage


@given(MARKETS)
def test_over_an_area_members_operator_and_supplier_sum_to_zero(market: Any) -> None:
    found = settled(market, DAYS[0])
    assert net(found.intervals) + found.operator + found.supplier == 0


@given(MARKETS)
def test_what_the_meters_saw_is_what_the_lines_say(market: Any) -> None:
    tariff = market[2]
    for interval in settled(market, DAYS[0]).intervals:
        sums = interval.sums
        took = sums.bought_wh + sums.topup_wh + sums.short_wh + sums.received_wh
        assert sums.import_wh - sums.export_wh == took - sums.sold_wh - sums.spill_wh - sums.given_wh
        assert sums.without_e7 == sums.export_wh * tariff.spill_e4 - sums.import_wh * tariff.topup_e4


@given(st.lists(MARKETS, min_size=1, max_size=len(DAYS)), TABLES, st.integers(0, 5))
def test_days_add_up_to_months_and_years(markets: list[Any], tables: tuple[Table, ...], account: int) -> None:
    """Energy, money, taxes and levies; only the rounding belongs to each statement by itself."""
    days: dict[date, Sums] = {}
    for day, market in zip(DAYS, markets, strict=False):
        mine = [interval.sums for interval in settled(market, day).intervals if interval.account == account + FIRST]
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
