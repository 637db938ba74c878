"""History is the statement summed up by the database: the same sums, part by part, whatever came later."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from datetime import date, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from market.engine.contracts import contract_name
from market.exchange import models
from market.metering.models import Reading
from market.settlement import statement_queries, statements
from market.settlement.distances import Amount
from market.settlement.history import History, history
from market.settlement.levies import Charge, Table
from market.settlement.operations import settle_due
from market.settlement.periods import DAY, MONTH, YEAR, Period, period_of, start_ms
from market.settlement.statements import Sums
from tests.factories import Clock, Market, running_market
from tests.integration import test_statement_later as later
from tests.integration import test_statements as plain
from tests.integration.test_statements import SIXTH

pytestmark = pytest.mark.django_db(transaction=True)

QUARTER_MS = 15 * 60_000
YEAR_ROWS = 365 * 96
COUNTS = ("estimated", "corrected", "final")  # how far single intervals have come: a statement's matter
PERIODS = [SIXTH, period_of(DAY, date(2026, 6, 7)), period_of(MONTH, SIXTH.first), period_of(YEAR, SIXTH.first)]


def shown(sums: Sums) -> Sums:
    return sums._replace(**dict.fromkeys(COUNTS, 0))


def same(accounts: Collection[int], period: Period) -> History:
    """Check a history against the statement of the same period, and return it."""
    found = history(accounts, period)
    expected = statement_queries.statement(accounts, period)
    assert shown(found.total.sums) == shown(expected.total.sums)
    assert (found.total.net_e11, found.total.cents) == (expected.total.net_e11, expected.total.cents)
    assert found.total.gain_e11 == expected.total.gain_e11
    if period.kind == YEAR:
        wanted = {date.fromisoformat(f"{name}-01"): shown(sums) for name, sums in expected.months()}
    else:
        wanted = {day: shown(sums) for day, sums in expected.days.items()}
    parts: dict[date, list[Sums]] = {}
    for part in found.parts:
        parts.setdefault(part.day, []).append(part.sums)
    assert {day: shown(statements.add(of)) for day, of in parts.items() if statements.add(of).intervals} == wanted
    for areas, energy_wh, money_e7 in (
        (found.sold, found.total.sums.sold_wh, found.total.sums.sold_e7),
        (found.bought, found.total.sums.bought_wh, found.total.sums.bought_e7),
    ):
        assert sum(amount.energy_wh for amount in areas.values()) == energy_wh
        assert sum(amount.money_e7 for amount in areas.values()) == money_e7
    return found


@pytest.fixture
def street() -> Iterator[Market]:
    """Half an hour before midnight of 6 June, Berlin."""
    with running_market(Clock("2026-06-06T21:30:00Z")) as market:
        yield market


@pytest.mark.parametrize("period", PERIODS, ids=lambda period: period.name)
def test_the_same_as_the_statement(street: Market, period: Period) -> None:
    first, second = street.contract(), street.contract(2)
    plain.trade(street, first)
    plain.trade(street, second)
    cast = (street.alice, street.bob, street.charlie)
    for account in cast:
        assert same([account], period).total.sums == statements.NOTHING, "nothing is settled yet"
    plain.settle(street, first, second)  # in the second interval Charlie still waits
    for accounts in [[account] for account in cast] + [[street.alice, street.bob]]:
        same(accounts, period)
    street.clock.advance(ms=plain.DEADLINE_MS)
    settle_due(exchange=street.exchange, now_ms=street.clock.at_ms)
    for account in cast:
        assert same([account], period).total.sums.intervals


def test_a_day_comes_by_the_hour_and_by_area(street: Market) -> None:
    first, second = street.contract(), street.contract(2)
    plain.trade(street, first)
    plain.trade(street, second)
    plain.settle(street, first, second)
    found = history([street.alice], SIXTH)
    assert len(found.parts) == 24
    assert [n for n, part in enumerate(found.parts) if part.sums.intervals] == [23]
    assert found.sold == {
        "LV1.1": Amount(100, 100 * 2_500),
        "LV2.1": Amount(1_000, 600 * 2_000 + 400 * 2_100),
    }, "what was taken back is not there"
    assert history([street.charlie], SIXTH).bought == {"LV1.1": Amount(1_000, 600 * 2_300 + 400 * 2_400)}


@pytest.mark.parametrize("period", PERIODS, ids=lambda period: period.name)
def test_corrections_and_agreements_count(period: Period) -> None:
    with running_market(Clock("2026-06-06T21:30:00Z")) as market:
        corrected = later.Street(market)
        for step in (corrected.settle, corrected.correct, corrected.finish):
            step()
            for account in (market.alice, market.bob, market.charlie):
                same([account], period)
        assert history([market.alice], SIXTH).total.sums.corrected_e7 < 0
        assert history([market.bob], SIXTH).total.sums.given_wh > 0


# --- a year of one home ----------------------------------------------------------------------------------------------
class Past:
    """A year of quarter hours that were settled long ago: one home's rows, made up."""

    def __init__(self, year: int = 2025, account: int = 7, seed: int = 1):
        rolled = random.Random(seed)
        self.account = account
        zone = statement_queries.market_zone()
        first_ms, end_ms = start_ms(date(year, 1, 1), zone), start_ms(date(year + 1, 1, 1), zone)
        contracts, lines, trades, readings = [], [], [], []
        for n, at_ms in enumerate(range(first_ms, end_ms, QUARTER_MS)):
            name, seq = contract_name(at_ms), 10 * n
            topup_e4, spill_e4 = 3_000 + n % 7, 800 + n % 3
            contracts.append(
                models.Contract(
                    name=name, state="settled", account=0, topup_e4=topup_e4, spill_e4=spill_e4, opened_seq=seq,
                    opened_at_ms=at_ms, changed_seq=seq + 9,
                )
            )  # fmt: skip
            made, used = rolled.randrange(900), rolled.randrange(900)
            out, into = max(0, made - used), max(0, used - made)
            area = rolled.choice(["LV1.1", "LV1.2", "LV2.1"])
            sold, bought = out * rolled.randrange(101) // 100, into * rolled.randrange(101) // 100
            for seller, energy_wh in ((account, sold), (99, bought)):
                if energy_wh:
                    sell_e4 = rolled.randrange(800, 2_500)
                    trades.append(
                        models.Trade(
                            id=seq + 1, at_ms=at_ms, contract=name, maker=0, taker=0, energy_wh=energy_wh,
                            buy_e4=sell_e4 + 200, sell_e4=sell_e4, taker_side="buy",
                            buyer=99 if seller == account else account, seller=seller, buy_order=0, sell_order=0,
                            buy_area=area, sell_area=area, cost_e7=(sell_e4 + 200) * energy_wh, margin_e7=0, clearing=0,
                        )
                    )  # fmt: skip
            lines.append(
                models.SettlementLine(
                    seq=seq + 9, account=account, at_ms=at_ms, contract=name, area="LV1.1", import_wh=into, export_wh=out,
                    quality="measured", position_wh=bought - sold, short_wh=0, topup_wh=into - bought,
                    spill_wh=out - sold, payout_e7=0, fee_e7=0, short_e7=0, topup_e7=(into - bought) * topup_e4,
                    spill_e7=(out - sold) * spill_e4,
                )
            )  # fmt: skip
            for version in range(2 if n % 50 == 0 else 1):
                readings.append(
                    Reading(
                        start_ms=at_ms, account=account, version=version, area="LV1.1", import_wh=into, export_wh=out,
                        produced_wh=made + version, used_wh=used, quality="measured", received_ms=at_ms, seq=seq, n=0,
                    )
                )  # fmt: skip
        for model, rows in (
            (models.Contract, contracts), (models.SettlementLine, lines), (models.Trade, trades), (Reading, readings),
        ):  # fmt: skip
            model.objects.bulk_create(rows, batch_size=5_000)
        self.rows = len(lines)


def test_a_year_is_right_in_as_few_queries_as_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past()
    assert past.rows == YEAR_ROWS
    year = period_of(YEAR, date(2025, 6, 6))
    # A table of levies that begins in the middle of a month: its charges are those of its days.
    levy = Charge("levy", (("en", "Levy"),), ("topup", "bought"), 0, 100, False)
    tables = (Table(date(2024, 1, 1), ()), Table(date(2025, 3, 17), (levy,)))
    monkeypatch.setattr("market.settlement.history.levy_tables", lambda: tables)
    monkeypatch.setattr("market.settlement.statement_queries.levy_tables", lambda: tables)
    found = same([past.account], year)
    assert len(found.parts) == 12
    assert all(part.sums.intervals for part in found.parts)
    assert found.total.net_e11 < found.total.sums.net_e7 * 10_000, "the levy is charged"
    same([past.account], period_of(MONTH, date(2025, 3, 1)))
    for day in (date(2025, 3, 30), date(2025, 10, 26), date(2025, 12, 31)):  # 23, 25 and 24 hours
        same([past.account], period_of(DAY, day))
    counts = []
    for period in (year, period_of(DAY, date(2025, 6, 6))):
        with CaptureQueriesContext(connection) as captured:
            history([past.account], period)
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 9


def test_a_period_without_a_market_is_empty(street: Market) -> None:
    found = history([street.alice], period_of(MONTH, date(2031, 2, 1)))
    assert (found.total.cents, len(found.parts), found.sold, found.bought) == (0, 28, {}, {})
    assert {part.sums for part in found.parts} == {statements.NOTHING}
    assert found.parts[1].day - found.parts[0].day == timedelta(days=1)
    for accounts in ([], range(statement_queries.MAX_ACCOUNTS + 1)):
        with pytest.raises(ValueError, match="accounts"):
            history(accounts, SIXTH)
