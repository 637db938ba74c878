"""Statements out of the database: what the ledger moved, in the period asked for, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from market.engine.commands import SELL
from market.engine.contracts import contract_start_ms
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange
from market.metering.operations import ReadingIn, record_batches
from market.settlement import statement_queries, statements
from market.settlement.operations import settle_due
from market.settlement.periods import DAY, MONTH, YEAR, period_of
from market.settlement.waiting import DEADLINE_MS
from tests.factories import Clock, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

TOPUP, SPILL = 4_000, 800
SIXTH, SEVENTH = period_of(DAY, date(2026, 6, 6)), period_of(DAY, date(2026, 6, 7))


def deliver(market: Market, minutes: float) -> None:
    """Move on and wait until the market's timetable has followed."""
    market.clock.advance(minutes=minutes)
    market.member("LV1.2", deposit_e7=0)


def meter(market: Market, contract: str, area: str, *readings: ReadingIn) -> None:
    record_batches(
        exchange=market.exchange, contract=contract, batches={area: list(readings)}, now_ms=market.clock.at_ms
    )


@pytest.fixture
def street() -> Iterator[Market]:
    """Half an hour before midnight of 6 June, Berlin: the first interval belongs to the sixth, the second to the seventh."""
    with running_market(Clock("2026-06-06T21:30:00Z")) as market:
        yield market


def trade(market: Market, contract: str) -> None:
    """Alice sells 600 and 400 Wh to Charlie across the city, 100 to Bob, and gets a sale to Bob taken back."""
    market.place(market.alice, SELL, "0.2000", 600, contract=contract)
    market.place(market.alice, SELL, "0.2100", 400, contract=contract)
    market.buys(market.charlie, "0.3000", 1_000, contract=contract)
    market.place(market.alice, SELL, "0.2500", 100, contract=contract)
    market.buys(market.bob, "0.2500", 100, contract=contract)
    market.place(market.alice, SELL, "0.2600", 300, contract=contract)
    taken_back = market.buys(market.bob, "0.2600", 300, contract=contract).events[-1]
    exchange_operations.recall_trade(market.exchange, trade=taken_back.seq, reason="error")  # type: ignore[union-attr]


def settle(market: Market, first: str, second: str) -> None:
    deliver(market, 15 * 3)
    meter(market, first, "LV1.1", ReadingIn(market.alice, 0, 900, 1_200, 300), ReadingIn(market.bob, 400, 0))
    meter(market, first, "LV2.1", ReadingIn(market.charlie, 950, 0))
    meter(market, second, "LV1.1", ReadingIn(market.alice, 50, 0, 10, 60), ReadingIn(market.bob, 70, 0))
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)


def moved(account: int, contracts: set[str]) -> int:
    """Return what the ledger moved into an account's wallet and onto its supply bill in settled contracts, e7."""
    lines = {line.seq: line for line in exchange.settlement_lines(account=account) if line.contract in contracts}
    trades = {one.seq: one for one in exchange.trades(account=account) if one.contract in contracts}
    recalls = {one.recalled_seq for one in trades.values()} - {0}
    wallet = sum(
        move.amount if move.credit == account else -move.amount
        for move in exchange.transfers(account=account, money_only=True)
        if move.seq in lines or move.seq in trades or move.seq in recalls
    )
    return wallet - sum(line.topup_e7 for line in lines.values())


def test_a_statement_is_what_the_ledger_moved(street: Market) -> None:
    first, second = street.contract(), street.contract(2)
    trade(street, first)
    trade(street, second)
    settle(street, first, second)
    for account, sixth in ((street.alice, 1), (street.bob, 1), (street.charlie, 1)):
        found = statement_queries.statement([account], SIXTH)
        assert found.total.sums.intervals == sixth
        assert found.total.sums.net_e7 == moved(account, {first})
    alice = statement_queries.statement([street.alice], SIXTH).total.sums
    # She delivered 900 of 1,100 Wh; 300 of the roof's 1,200 stayed in the home.
    assert (alice.sold_wh, alice.sold_e7) == (1_100, 600 * 2_000 + 400 * 2_100 + 100 * 2_500)
    assert (alice.short_wh, alice.short_e7, alice.spill_wh, alice.topup_wh) == (200, 200 * TOPUP, 0, 0)
    assert (alice.own_wh, alice.own_known, alice.without_e7) == (300, 1, 900 * SPILL)
    charlie = statement_queries.statement([street.charlie], SIXTH).total.sums
    assert (charlie.bought_wh, charlie.bought_e7, charlie.fee_e7) == (1_000, 600 * 2_300 + 400 * 2_400, 300 * 1_000)
    assert (charlie.spill_wh, charlie.without_e7, charlie.own_known) == (50, -950 * TOPUP, 0)
    bob = statement_queries.statement([street.bob], SIXTH).total.sums
    assert (bob.bought_wh, bob.fee_e7, bob.topup_wh) == (100, 0, 300), "what was taken back is not there"


def test_days_are_the_market_s_own_and_add_up(street: Market) -> None:
    first, second = street.contract(), street.contract(2)
    trade(street, first)
    trade(street, second)
    settle(street, first, second)
    for account in (street.alice, street.bob, street.charlie):
        sixth, seventh, month, year = (
            statement_queries.statement([account], period)
            for period in (SIXTH, SEVENTH, period_of(MONTH, SIXTH.first), period_of(YEAR, SIXTH.first))
        )
        assert statements.add([sixth.total.sums, seventh.total.sums]) == month.total.sums == year.total.sums
        assert month.days == year.days == sixth.days | seventh.days
        assert set(month.days) >= {SIXTH.first}
    assert contract_start_ms(second) == contract_start_ms(first) + 15 * 60_000


def test_what_is_not_settled_is_shown_and_not_counted(street: Market) -> None:
    first, second = street.contract(), street.contract(2)
    trade(street, first)
    trade(street, second)
    settle(street, first, second)
    # Charlie's meter is silent in the second interval: it waits, and nobody else does.
    charlie = statement_queries.statement([street.charlie], SEVENTH)
    assert (charlie.total.sums, charlie.waiting) == (statements.NOTHING, 1)
    (waiting,) = statement_queries.intervals([street.charlie], SEVENTH)
    assert (waiting.state, waiting.seq, [line.kind for line in waiting.lines]) == ("waiting", None, ["bought"] * 2)
    assert statement_queries.statement([street.alice], SEVENTH).waiting == 0
    street.clock.advance(ms=DEADLINE_MS)
    settle_due(exchange=street.exchange, now_ms=street.clock.at_ms)
    charlie = statement_queries.statement([street.charlie], SEVENTH)
    assert (charlie.waiting, charlie.total.sums.estimated) == (0, 1)
    assert charlie.total.sums.net_e7 == moved(street.charlie, {second})


def test_each_line_leads_to_its_entry(street: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = street.contract(), street.contract(2)
    trade(street, first)
    settle(street, first, second)
    (interval,) = [one for one in statement_queries.intervals([street.alice], SIXTH) if one.contract == first]
    trades = [one.seq for one in exchange.trades(account=street.alice) if not one.recalled_seq]
    settled = exchange.settlement_lines(account=street.alice, contract=first)[0].seq
    assert [(line.kind, line.energy_wh, line.price_e4, line.seq) for line in interval.lines] == [
        ("own", 300, None, settled),
        ("sold", 600, 2_000, trades[0]),
        ("sold", 400, 2_100, trades[1]),
        ("sold", 100, 2_500, trades[2]),
        ("short", 200, TOPUP, settled),
    ]
    assert sum(line.money_e7 for line in interval.lines) == interval.sums.net_e7
    monkeypatch.setattr(statement_queries, "MAX_DEALS", 1)
    (cut,) = [one for one in statement_queries.all_intervals([street.alice], SIXTH) if one.contract == first]
    assert [(line.kind, line.energy_wh, line.price_e4, line.seq) for line in cut.lines[1:3]] == [
        ("sold", 600, 2_000, trades[0]), ("sold", 500, None, settled),
    ]  # fmt: skip
    assert sum(line.money_e7 for line in cut.lines) == interval.sums.net_e7


def test_a_home_with_two_numbers_has_one_statement(street: Market) -> None:
    first, second = street.contract(), street.contract(2)
    trade(street, first)
    settle(street, first, second)
    both = statement_queries.statement([street.alice, street.bob, street.alice], SIXTH).total.sums
    apart = [statement_queries.statement([account], SIXTH).total.sums for account in (street.alice, street.bob)]
    assert both == statements.add(apart)
    for accounts in ([], range(statement_queries.MAX_ACCOUNTS + 1)):
        with pytest.raises(ValueError, match="accounts"):
            statement_queries.statement(accounts, SIXTH)


def test_a_year_asks_as_often_as_a_day(street: Market) -> None:
    first, second = street.contract(), street.contract(2)
    trade(street, first)
    settle(street, first, second)
    counts = []
    for kind in (DAY, YEAR):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            statement_queries.statement([street.alice], period_of(kind, SIXTH.first))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 11
    for kind in (MONTH, YEAR):
        listed = statement_queries.all_intervals([street.alice], period_of(kind, SIXTH.first))
        assert [one.contract for one in listed] == [first, second]


def test_a_period_without_a_market_is_empty(street: Market) -> None:
    found = statement_queries.statement([street.alice], period_of(YEAR, date(2031, 1, 1)))
    assert (found.days, found.waiting, found.total.cents) == ({}, 0, 0)
    assert statement_queries.intervals([street.alice], period_of(DAY, date(2031, 1, 1))) == []
