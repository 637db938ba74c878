"""Statements of what later entries changed: corrections, sharing by private agreement, and the end of both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from market.engine.commands import SELL, Agree, Propose
from market.exchange import gateway, models, transfers
from market.exchange.receipts import has_row
from market.settlement import queries, statement_queries
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due, share_due
from market.settlement.periods import MONTH, period_of
from market.settlement.statements import Interval, Sums
from market.settlement.waiting import DEADLINE_MS, UNCORRECTED_DEADLINE_MS
from tests.factories import PARAMS, Clock, Market, running_market
from tests.integration.test_settlement_run import deliver, meter
from tests.integration.test_statements import SIXTH, SPILL, TOPUP

pytestmark = pytest.mark.django_db(transaction=True)
PRICE = 1_000  # of the agreement; its grid fee is that of the path across the city
FEE = 300


class Street:
    """One interval of the sixth of June. Alice sells 600 and 400 Wh to Charlie, to whom Bob gives what he has left over."""

    def __init__(self, market: Market):
        self.market = market
        self.contract = market.contract()
        market.place(market.alice, SELL, "0.2000", 600)
        market.place(market.alice, SELL, "0.2100", 400)
        market.buys(market.charlie, "0.3000", 1_000)
        proposed = market.exchange.call(Propose(market.bob, market.bob, market.charlie, PRICE, self.contract), key="p")
        self.agreement = proposed.events[0].seq  # type: ignore[union-attr]
        assert market.exchange.call(Agree(market.charlie, self.agreement), key="a").refused is None

    def settle(self) -> None:
        """Settle the interval at its deadline: Alice's meter is silent, Bob has 900 Wh left over, Charlie lacks 600."""
        deliver(self.market)
        meter(self.market, self.contract, bob=(0, 900), charlie=(1_600, 0))
        self.market.clock.advance(ms=DEADLINE_MS)
        deliver(self.market, 0)
        settle_due(exchange=self.market.exchange, now_ms=self.market.clock.at_ms)
        assert share_due(exchange=self.market.exchange) == 1

    def correct(self) -> None:
        """Alice delivered 700 of 1,000 Wh, and Charlie lacked 200 only."""
        meter(self.market, self.contract, alice=(0, 700), charlie=(1_200, 0))
        assert adjust_due(exchange=self.market.exchange).accounts == 2
        assert share_due(exchange=self.market.exchange) == 1

    def finish(self) -> None:
        """Wait until nothing corrects the interval any more."""
        self.market.clock.advance(ms=PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS)
        deliver(self.market, 0)
        assert finalise_due(exchange=self.market.exchange, now_ms=self.market.clock.at_ms) >= 1

    def interval(self, account: int) -> Interval:
        found = statement_queries.intervals([account], SIXTH)
        return next(one for one in found if one.contract == self.contract)


@pytest.fixture
def street() -> Iterator[Street]:
    with running_market(Clock("2026-06-06T21:30:00Z")) as market:
        yield Street(market)


def sums(account: int) -> Sums:
    return statement_queries.statement([account], SIXTH).total.sums


def test_stages_follow_each_other(street: Street) -> None:
    alice, bob = street.market.alice, street.market.bob
    assert street.interval(alice).stage == "waiting"
    street.settle()
    assert (street.interval(alice).stage, sums(alice).provisional, sums(alice).estimated) == ("provisional", 1, 1)
    street.correct()
    assert (street.interval(alice).stage, street.interval(bob).stage) == ("corrected", "provisional")
    assert (sums(alice).corrected, sums(alice).estimated, sums(bob).corrected) == (1, 0, 0), "measured now"
    street.finish()
    for account, corrected in ((alice, 1), (bob, 0)):
        assert street.interval(account).stage == "final"
        assert (sums(account).provisional, sums(account).final, sums(account).corrected) == (0, 1, corrected)


@pytest.mark.parametrize("final", [False, True])
def test_a_correction_is_a_line_with_its_entry_and_the_newest_sale_is_short(street: Street, final: bool) -> None:
    alice = street.market.alice
    street.settle()
    before = sums(alice)
    assert (before.short_wh, before.export_wh) == (0, 1_000)
    street.correct()
    if final:
        street.finish()
    (adjusted,) = queries.adjustments(alice, contracts=[street.contract])
    lines = street.interval(alice).lines
    assert [(line.kind, line.energy_wh, line.money_e7, line.short_wh) for line in lines] == [
        ("sold", 600, 600 * 2_000, 0),
        ("sold", 400, 400 * 2_100, 300),
        ("corrected", 300, -300 * TOPUP, 0),
    ]
    assert lines[-1].seq == adjusted.seq and has_row(adjusted.seq, alice)
    after = sums(alice)
    assert (after.short_wh, after.short_e7, after.export_wh) == (300, 300 * TOPUP, 700)
    assert after.net_e7 == before.net_e7 - 300 * TOPUP
    assert after.corrected_e7 == -300 * TOPUP


def test_sharing_is_lines_of_both_parties(street: Street) -> None:
    market, number = street.market, street.agreement
    street.settle()
    street.correct()
    first, second = models.SharedLine.objects.order_by("seq").values_list("seq", flat=True)
    told = [line for line in street.interval(market.bob).lines if line.agreement]
    assert [(line.kind, line.energy_wh, line.price_e4, line.fee_e7, line.money_e7, line.seq) for line in told] == [
        ("given", 600, PRICE, 0, 600 * PRICE, first),
        ("spill", -600, SPILL, 0, -600 * SPILL, first),
        ("given", -400, PRICE, 0, -400 * PRICE, second),
        ("spill", 400, SPILL, 0, 400 * SPILL, second),
    ]
    told = [line for line in street.interval(market.charlie).lines if line.agreement]
    assert [(line.kind, line.energy_wh, line.price_e4, line.fee_e7, line.money_e7, line.seq) for line in told] == [
        ("received", 600, PRICE + FEE, 600 * FEE, -600 * (PRICE + FEE), first),
        ("topup", -600, TOPUP, 0, 600 * TOPUP, first),
        ("received", -400, PRICE + FEE, -400 * FEE, 400 * (PRICE + FEE), second),
        ("topup", 400, TOPUP, 0, -400 * TOPUP, second),
    ]
    assert {line.agreement for line in told} == {number}
    bob, charlie, alice = sums(market.bob), sums(market.charlie), sums(market.alice)
    assert (bob.given_wh, bob.given_e7, bob.spill_wh, bob.spill_e7) == (200, 200 * PRICE, 700, 700 * SPILL)
    assert (charlie.received_wh, charlie.received_e7, charlie.shared_fee_e7) == (200, 200 * (PRICE + FEE), 200 * FEE)
    assert (charlie.topup_wh, charlie.topup_e7) == (0, 0)
    assert (alice.given_wh, alice.received_wh) == (0, 0), "it concerns nobody else"


@pytest.mark.parametrize("final", [False, True])
def test_statements_are_what_the_ledger_moved_over_all_homes(street: Street, final: bool) -> None:
    """Every transfer of money there is, but deposits: of homes, the supplier, supply bills and the grid operator."""
    market = street.market
    street.settle()
    street.correct()
    if final:
        street.finish()
    wallets: dict[int, int] = {}
    for trade in models.Trade.objects.all():
        wallets[trade.buyer] = wallets.get(trade.buyer, 0) - trade.cost_e7
        wallets[trade.seller] = wallets.get(trade.seller, 0) - trade.margin_e7
    for move in models.Transfer.objects.exclude(kind="fund"):
        wallets[move.debit] = wallets.get(move.debit, 0) - move.amount
        wallets[move.credit] = wallets.get(move.credit, 0) + move.amount
    month = period_of(MONTH, SIXTH.first)
    homes = (market.alice, market.bob, market.charlie)
    found = {account: statement_queries.statement([account], month).total.sums for account in homes}
    for account in homes:
        assert found[account].wallet_e7 == wallets[account], "every entry once"
    assert sum(one.bill_e7 for one in found.values()) == wallets[transfers.BILLING]
    system = wallets[transfers.SUPPLIER] + wallets[transfers.OPERATOR]
    assert sum(one.net_e7 for one in found.values()) + system == 0
    balances = {row.account: row for row in models.Balance.objects.filter(account__in=homes)}
    for account in homes:
        assert sum(line.money_e7 for line in street.interval(account).lines) == found[account].net_e7
        assert balances[account].cash_e7 - balances[account].arrears_e7 - 10**10 == wallets[account]


def test_a_home_that_had_no_row_has_one_by_its_correction(street: Street) -> None:
    market = street.market
    street.settle()
    newcomer = market.member("LV1.1", deposit_e7=0)
    assert statement_queries.intervals([newcomer], SIXTH) == []
    market.alice = newcomer
    meter(market, street.contract, alice=(250, 0))
    adjust_due(exchange=market.exchange)
    (interval,) = statement_queries.intervals([newcomer], SIXTH)
    (adjusted,) = queries.adjustments(newcomer, contracts=[street.contract])
    assert (interval.stage, interval.seq, interval.estimated) == ("corrected", adjusted.seq, False)
    assert [(line.kind, line.energy_wh, line.money_e7) for line in interval.lines] == [
        ("corrected", 250, -250 * TOPUP)
    ]  # fmt: skip
    assert (sums(newcomer).intervals, sums(newcomer).topup_wh, sums(newcomer).bill_e7) == (1, 250, -250 * TOPUP)


def test_a_market_that_corrects_nothing_is_final_at_once(street: Street) -> None:
    market = street.market
    assert market.exchange.call(PARAMS._replace(final_after_min=0, sharing_scope=0)).refused is None
    deliver(market)
    market.clock.advance(ms=UNCORRECTED_DEADLINE_MS)
    deliver(market, 0)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    assert street.interval(market.alice).stage == "final"
    gateway.disconnect()
    assert street.interval(market.alice).stage == "provisional", "no entry says so, and no engine is there to tell"
    gateway.connect(market.exchange)


def test_movements_know_what_an_entry_was_about(street: Street) -> None:
    market = street.market
    street.settle()
    street.correct()
    seqs = list(models.Transfer.objects.values_list("id", flat=True))
    entries = {id_ // models.TRANSFERS_AN_ENTRY for id_ in seqs}
    (adjusted,) = queries.adjustments(market.alice, contracts=[street.contract])
    assert queries.moved(market.alice, seqs=entries) == {adjusted.seq: (street.contract, False, 300)}
    first, second = models.SharedLine.objects.order_by("seq").values_list("seq", flat=True)
    moved = {first: (street.contract, True, 600), second: (street.contract, True, -400)}
    assert queries.moved(market.bob, seqs=entries) == moved
    assert queries.moved(market.bob, seqs=[]) == {}
