"""Whom an area waits for: meters that may still answer, a short time; never one that is known to be silent or was not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from market.engine.commands import CloseAccount
from market.engine.contracts import contract_start_ms
from market.exchange import books
from market.households.models import Account
from market.metering.estimation import Estimate
from market.metering.models import Reading
from market.settlement import board, queries
from market.settlement.operations import adjust_due, finalise_due, settle_due
from market.settlement.waiting import DEADLINE_MS, SILENT_AFTER, UNCORRECTED_DEADLINE_MS
from tests.factories import PARAMS, Market, running_market
from tests.integration.test_settlement_run import deliver, meter

pytestmark = pytest.mark.django_db(transaction=True)
INTERVAL_MS = 15 * 60_000


class Asked:
    """Notes whom of LV1.1 settlement wants estimates for; each is estimated at 70 Wh."""

    def __init__(self) -> None:
        self.accounts: list[tuple[str, int]] = []

    def __call__(self, contract: str, area: str, accounts: Sequence[int]) -> dict[int, Estimate]:
        if area == "LV1.1":
            self.accounts += [(contract, account) for account in accounts]
        return {account: Estimate(70, 0, "same_time", 2) for account in accounts}


def settled(market: Market, account: int, contract: str) -> tuple[int, str] | None:
    """Return how long after delivery an account was settled (ms), and on what."""
    line = queries.line(account, contract)
    return None if line is None else (line.at_ms - contract_start_ms(contract) - INTERVAL_MS, line.row.quality)


def delivered_at_once(market: Market, contract: str) -> None:
    """Move on to the very end of a contract's delivery."""
    market.clock.at_ms = contract_start_ms(contract) + INTERVAL_MS
    deliver(market, 0)


def household(account: int, opened_ms: int, closed_ms: int | None = None) -> None:
    Account.objects.create(
        index=account, account_id=f"{account:032x}", area="LV1.1", salt=b"",
        opened_at=datetime.fromtimestamp(opened_ms / 1_000, UTC),
        closed_at=None if closed_ms is None else datetime.fromtimestamp(closed_ms / 1_000, UTC),
    )  # fmt: skip


def test_a_meter_that_stays_silent_is_waited_for_a_few_times_and_then_never_until_it_answers() -> None:
    with running_market() as market:
        asked = Asked()
        first_ms = contract_start_ms(market.contract())

        def live(n: int, *, alice_answers: bool = False) -> tuple[tuple[int, str] | None, ...]:
            market.clock.at_ms = first_ms + n * INTERVAL_MS - 1
            deliver(market, 0)
            contract = market.contract()
            delivered_at_once(market, contract)
            for _ in range(2):
                meter(market, contract, bob=(300, 0), charlie=(0, 0))
                settle_due(exchange=market.exchange, now_ms=market.clock.at_ms, estimate=asked)
                if alice_answers:
                    meter(market, contract, alice=(0, 90))
                market.clock.advance(ms=DEADLINE_MS)
                deliver(market, 0)
            adjust_due(exchange=market.exchange)
            return settled(market, market.bob, contract), settled(market, market.alice, contract)

        waited = (DEADLINE_MS, "measured"), (DEADLINE_MS, "estimated")
        assert [live(n) for n in range(SILENT_AFTER)] == [waited] * SILENT_AFTER
        assert live(SILENT_AFTER) == ((0, "measured"), (0, "estimated")), "Bob waits for nobody any more"
        # It answers, after Bob was settled; from then on it is waited for again.
        assert live(SILENT_AFTER + 1, alice_answers=True) == ((0, "measured"), (0, "estimated"))
        assert live(SILENT_AFTER + 2, alice_answers=True) == ((DEADLINE_MS, "measured"), (DEADLINE_MS, "measured"))
        assert {account for _contract, account in asked.accounts} == {market.alice}
        books.check()


def test_a_meter_that_always_answers_too_late_is_not_waited_for_either() -> None:
    with running_market() as market:
        first_ms = contract_start_ms(market.contract())
        names = []
        for n in range(SILENT_AFTER + 1):
            market.clock.at_ms = first_ms + n * INTERVAL_MS - 1
            deliver(market, 0)
            names.append(market.contract())
            delivered_at_once(market, names[-1])
            meter(market, names[-1], bob=(300, 0))
            settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
            market.clock.advance(ms=DEADLINE_MS + 60_000)
            deliver(market, 0)
            meter(market, names[-1], alice=(0, 90))
            settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
        assert settled(market, market.bob, names[-2]) == (DEADLINE_MS + 60_000, "measured")
        assert settled(market, market.bob, names[-1]) == (0, "measured")


def test_only_homes_that_were_there_are_waited_for_and_estimated() -> None:
    with running_market() as market:
        market.clock.advance(minutes=15)
        contract = market.contract()
        start_ms = contract_start_ms(contract)
        old, left, moved_on, early = (market.member(deposit_e7=0) for _ in range(4))
        household(old, start_ms)
        household(left, start_ms - INTERVAL_MS, start_ms + 1)
        household(moved_on, start_ms - INTERVAL_MS, start_ms)
        household(early, start_ms + 1)
        for account in (left, moved_on):
            market.exchange.call(CloseAccount(account))
        delivered_at_once(market, contract)
        newcomer = market.member(deposit_e7=0)
        household(newcomer, start_ms + 2 * INTERVAL_MS)
        meter(market, contract, alice=(0, 90), bob=(0, 0))
        asked = Asked()
        settle_due(exchange=market.exchange, now_ms=market.clock.at_ms, estimate=asked)
        assert settled(market, market.alice, contract) is None, "two were there and have not answered"
        wait = next(one for one in board.page(market.exchange).intervals if one.contract == contract).waits[0]
        assert (wait.area, wait.homes, wait.missing) == ("LV1.1", 4, 2)
        area = next(one for one in queries.board(market.exchange) if one.contract == contract).areas[0]
        assert (area.area, area.homes, area.readings) == ("LV1.1", 4, 2)
        market.clock.advance(ms=DEADLINE_MS)
        deliver(market, 0)
        settle_due(exchange=market.exchange, now_ms=market.clock.at_ms, estimate=asked)
        assert [
            account
            for name, account in asked.accounts
            if name == contract and account in range(market.bob, newcomer + 1) and account != market.charlie
        ] == [old, left]
        estimated = Reading.objects.filter(start_ms=start_ms, quality="estimated", area="LV1.1")
        assert set(estimated.values_list("account", flat=True)) == {old, left}
        books.check()


def test_who_joins_after_delivery_holds_nobody_up() -> None:
    with running_market() as market:
        contract = market.contract()
        delivered_at_once(market, contract)
        newcomer = market.member(deposit_e7=0)
        household(newcomer, contract_start_ms(contract) + INTERVAL_MS)
        meter(market, contract, alice=(0, 90), bob=(0, 0))
        settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
        assert settled(market, market.alice, contract) == (0, "measured")


@pytest.mark.parametrize("final_after_min", [0, 3, 59])
def test_where_little_or_nothing_can_be_corrected_meters_have_an_hour(final_after_min: int) -> None:
    with running_market() as market:
        params = PARAMS._replace(final_after_min=final_after_min, sharing_scope=0)
        assert market.exchange.call(params).refused is None
        contract = market.contract()
        delivered_at_once(market, contract)
        meter(market, contract, bob=(300, 0))
        for wait_ms in (DEADLINE_MS, UNCORRECTED_DEADLINE_MS - DEADLINE_MS - 1):
            market.clock.advance(ms=wait_ms)
            deliver(market, 0)
            settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
            assert settled(market, market.bob, contract) is None
        found = next(one for one in board.page(market.exchange).intervals if one.contract == contract)
        assert found.deadline_ms == contract_start_ms(contract) + INTERVAL_MS + UNCORRECTED_DEADLINE_MS
        meter(market, contract, alice=(0, 90))
        settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
        assert settled(market, market.alice, contract) == (UNCORRECTED_DEADLINE_MS - 1, "measured")
        assert finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms) == 0
