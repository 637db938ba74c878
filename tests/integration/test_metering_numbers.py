"""What a home's devices say belongs to the account number the home had when the interval began."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from market.engine.commands import BUY, SELL
from market.engine.contracts import contract_start_ms
from market.exchange import operations as exchange_operations
from market.households import devices, operations, renewal
from market.households.models import User
from market.metering import intake
from market.metering.committing import commit_due
from market.metering.formats.values import Value
from market.metering.models import DeviceValue, Reading
from market.metering.operations import ReadingIn, record_readings
from market.settlement.operations import adjust_due, settle_due
from market.settlement.waiting import DEADLINE_MS
from tests.factories import DEPOSIT_E7, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
OPENED = datetime(2026, 4, 1, tzinfo=UTC)
QUARTER_MS = 900_000


@pytest.fixture
def market() -> Iterator[Market]:
    with running_market(seal_every_s=3_600) as running:
        yield running


def now_of(market: Market) -> datetime:
    return datetime.fromtimestamp(market.clock.at_ms / 1_000, UTC)


def home(market: Market, opened: datetime = OPENED, deposit_e7: int = DEPOSIT_E7) -> tuple[User, int]:
    """Open a home with a meter and some money; return its owner and number."""
    user = operations.create_person(username="nora", password=None)
    account = operations.open_account(market.exchange, now=opened, user=user, area="LV1.1")
    if deposit_e7:
        exchange_operations.fund(market.exchange, account=account.index, amount_e7=deposit_e7)
    devices.register(user=user, kind="meter", name="cellar", rating_w=20_000, now=opened, now_ms=0)
    return user, account.index


def send(
    market: Market, user: User, contract: str, *energies: int, evidence: str = "", commit: bool = True, **fields: Any
) -> None:  # fmt: skip
    """Have the home's meter say what a contract's quarter of an hour was: import and export in Wh."""
    meter = devices.live(pk=user.devices.get().pk)
    assert meter is not None
    value = Value("", contract_start_ms(contract), QUARTER_MS, *energies, False, "measured", 0, 0)._replace(**fields)
    now_ms = market.exchange.now_ms()
    taken = intake.take(sent=intake.Sent([value], {"": meter}, meter.pk, evidence), limits={}, now_ms=now_ms)
    assert taken.refused == 0
    if commit:
        commit_due(exchange=market.exchange, now_ms=now_ms)


def readings(contract: str) -> list[tuple[int, int, int]]:
    rows = Reading.objects.filter(start_ms=contract_start_ms(contract)).order_by("account", "version")
    return list(rows.values_list("account", "import_wh", "export_wh"))


def worth(market: Market, *accounts: int) -> list[int]:
    """Return what each has less what it owes."""
    return market.exchange.read(lambda e: [e.accounts[one].cash_e7 - e.accounts[one].arrears_e7 for one in accounts])


def deliver(market: Market, minutes: int = 30) -> None:
    market.clock.advance(minutes=minutes)
    market.member("LV1.2", deposit_e7=0)


def settle(market: Market) -> None:
    market.clock.advance(ms=DEADLINE_MS)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)


def test_a_new_number_is_not_paid_again_for_what_the_old_one_was_paid(market: Market) -> None:
    user, old = home(market)
    contract = market.contract()
    deliver(market)
    send(market, user, contract, 0, 2_000)
    settle(market)
    before = worth(market, old)[0]
    new = renewal.renew_account(market.exchange, user=user, now=now_of(market)).index
    send(market, user, contract, 0, 2_000, revision=1)
    adjust_due(exchange=market.exchange)
    assert before > DEPOSIT_E7
    assert sum(worth(market, old, new)) == before
    assert {account for account, _import, _export in readings(contract)} == {old}


def test_a_new_number_takes_no_seller_off_its_shortfall(market: Market) -> None:
    user, old = home(market)
    contract = market.contract()
    market.place(old, SELL, "0.2000", 1_000, contract=contract)
    market.place(market.charlie, BUY, "0.3000", 1_000, contract=contract)
    deliver(market)
    settle(market)
    before = worth(market, old)[0]
    new = renewal.renew_account(market.exchange, user=user, now=now_of(market)).index
    send(market, user, contract, 500, 0)
    adjust_due(exchange=market.exchange)
    assert readings(contract) == [(old, 500, 0)]
    assert sum(worth(market, old, new)) < before, "what it sold and did not deliver is bought for it"


def test_a_value_that_waits_while_the_number_changes_is_not_lost(market: Market) -> None:
    user, old = home(market)
    contract = market.contract()
    deliver(market)
    send(market, user, contract, 0, 2_000, commit=False)
    new = renewal.renew_account(market.exchange, user=user, now=now_of(market)).index
    later = market.contract()
    assert commit_due(exchange=market.exchange, now_ms=market.exchange.now_ms()).readings == 1
    assert readings(contract) == [(old, 0, 2_000)]
    deliver(market)
    send(market, user, later, 30, 0)
    assert readings(later) == [(new, 30, 0)]
    assert [*DeviceValue.objects.order_by("start_ms").values_list("account", flat=True)] == [old, new]


def test_the_interval_in_which_the_number_changes_is_the_old_ones(market: Market) -> None:
    user, old = home(market)
    contract = market.contract()
    market.clock.advance(minutes=20)
    renewal.renew_account(market.exchange, user=user, now=now_of(market))
    deliver(market, minutes=10)
    send(market, user, contract, 7, 0)
    assert readings(contract) == [(old, 7, 0)]


def test_a_value_over_both_numbers_goes_to_each_by_its_intervals(market: Market) -> None:
    user, old = home(market)
    first, second = market.contract(), market.contract(2)
    market.clock.advance(minutes=29)
    new = renewal.renew_account(market.exchange, user=user, now=now_of(market)).index
    deliver(market)
    send(market, user, first, 200, 0, duration_ms=2 * QUARTER_MS)
    assert (readings(first), readings(second)) == ([(old, 100, 0)], [(new, 100, 0)])


@pytest.mark.parametrize("length", [1, 2])
def test_a_newcomer_is_not_paid_for_what_was_before(market: Market, length: int) -> None:
    before, after = market.contract(), market.contract(2)
    deliver(market)
    record_readings(
        exchange=market.exchange, contract=before, area="LV1.1", now_ms=market.clock.at_ms,
        readings=[ReadingIn(market.alice, 0, 0), ReadingIn(market.bob, 0, 0)],
    )  # fmt: skip
    user, account = home(market, now_of(market), deposit_e7=0)
    deliver(market)
    send(market, user, before, 0, 2_000, duration_ms=length * QUARTER_MS)
    settle(market)
    adjust_due(exchange=market.exchange)
    assert account not in [number for number, _import, _export in readings(before)]
    assert readings(after) == ([(account, 0, 1_000)] if length == 2 else [])
    assert worth(market, account)[0] > 0 if length == 2 else worth(market, account) == [0]


def test_who_left_has_no_reading_of_later(market: Market) -> None:
    _user, account = home(market)
    [meter] = devices.of_account(account)
    first, second = market.contract(), market.contract(2)
    deliver(market)
    operations.close_account(market.exchange, account_index=account, now=now_of(market))
    deliver(market)
    for contract in (first, second):
        value = Value("", contract_start_ms(contract), QUARTER_MS, 5, 0, False, "measured", 0, 0)
        intake.take(sent=intake.Sent([value], {"": meter}, meter.pk), limits={}, now_ms=market.exchange.now_ms())
    assert commit_due(exchange=market.exchange, now_ms=market.exchange.now_ms()).waiting == 0
    assert [readings(one) for one in (first, second)] == [[(account, 5, 0)], []]
