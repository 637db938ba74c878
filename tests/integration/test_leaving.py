"""Who leaves takes the money along, once, and is not forgotten while later readings may still move some."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from market.engine.commands import BUY, SELL
from market.exchange import books, gateway
from market.exchange import queries as exchange_queries
from market.households import erasure, renewal
from market.households.models import Account
from market.households.operations import HouseholdError
from market.metering.operations import ReadingIn, record_batches
from market.payments import operations, payouts, queries
from market.payments.models import Direction, Payment, State
from market.settlement import personal
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due
from market.settlement.waiting import DEADLINE_MS
from tests.bank import BANK
from tests.factories import PARAMS
from tests.integration.test_payments import EUR, IBAN, Desk, why
from tests.integration.test_payments import desk as desk

pytestmark = pytest.mark.django_db(transaction=True)
SOLD_WH = 5_000


def now(desk: Desk) -> datetime:
    return datetime.fromtimestamp(desk.market.clock.at_ms / 1_000, UTC)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call from as many threads at the same moment; return what each said, a refusal as its code."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            gate.wait()
            return call()
        except HouseholdError as error:
            return error.code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def leave(desk: Desk) -> list[Any]:
    """Two of the staff close and pay out at the same moment."""
    how = {"user": desk.mia, "now": now(desk), "iban": IBAN, "holder": "Mia Sun"}
    return at_once(*[lambda: erasure.close_and_pay_out(desk.exchange, **how)] * 2)  # type: ignore[arg-type]


def meter(desk: Desk, contract: str, export_wh: int) -> None:
    record_batches(
        exchange=desk.exchange, contract=contract, now_ms=desk.market.clock.at_ms,
        batches={"LV1.1": [ReadingIn(desk.account, 0, export_wh)]},
    )  # fmt: skip


def gone(desk: Desk) -> str:
    """Mia sold, closed her account in the middle of the delivery, and was paid once it was settled; return the contract."""
    market, contract = desk.market, desk.market.contract()
    desk.fund(100 * EUR)
    market.place(desk.account, SELL, "0.2000", SOLD_WH, contract=contract)
    market.place(market.member("LV1.1"), BUY, "0.3000", SOLD_WH, contract=contract)
    market.clock.advance(minutes=20)
    leave(desk)
    assert not Payment.objects.exists(), "it may be needed yet"
    assert why(erasure.erase, user=desk.mia) == "unsettled"
    market.clock.advance(minutes=10)
    market.member("LV1.2", deposit_e7=0)
    meter(desk, contract, SOLD_WH)
    market.clock.advance(ms=DEADLINE_MS)
    settle_due(exchange=desk.exchange, now_ms=market.clock.at_ms)
    leave(desk)
    (out,) = [one for one in queries.waiting(Direction.OUT) if one.state == State.REQUESTED]
    assert (out.amount_e7, desk.cash()) == (101 * EUR, 0), "once, with what the sale brought"
    desk.confirm(out)
    file = payouts.make(by=desk.sam, now=now(desk))
    assert file.sum_e7 == 101 * EUR
    payouts.hand_over(file_id=file.pk, by=desk.sam, now=now(desk))
    return contract


def test_who_leaves_in_the_middle_is_paid_once_and_kept_until_nothing_can_be_corrected(desk: Desk) -> None:
    contract = gone(desk)
    assert why(erasure.erase, user=desk.mia) == "provisional"
    meter(desk, contract, SOLD_WH + 4_000)
    assert adjust_due(exchange=desk.exchange).accounts == 1
    assert why(erasure.erase, user=desk.mia) == "money_left"
    meter(desk, contract, 0)
    assert adjust_due(exchange=desk.exchange).accounts == 1
    balance = exchange_queries.balance(desk.account)
    assert balance is not None and balance.arrears_e7 == SOLD_WH * 4_000 - 0
    assert why(erasure.erase, user=desk.mia) == "arrears"
    books.check()
    meter(desk, contract, SOLD_WH)
    adjust_due(exchange=desk.exchange)
    desk.market.clock.advance(ms=PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS)
    assert why(erasure.erase, user=desk.mia) == "provisional", "until it is said on the ledger"
    finalise_due(exchange=desk.exchange, now_ms=desk.market.clock.at_ms)
    assert erasure.erase(user=desk.mia).accounts == [desk.account]
    assert Payment.objects.filter(state=State.SENT).count() == 1


def test_money_of_a_closed_account_can_go_to_another_bank_account_but_not_by_one_person(desk: Desk) -> None:
    desk.fund(10 * EUR)
    [[paid]] = [one for one in leave(desk) if one and isinstance(one, list)]  # the other found nothing, or nothing left
    payment = Payment.objects.get(seq=paid.seq)
    other = {"payment_id": payment.pk, "iban": BANK, "holder": "Mia Moon", "now": now(desk)}
    assert why(desk.refuse, payment, "wrong_account") == "account_closed"
    assert why(operations.pay_elsewhere, by=desk.mia, **other) == "forbidden"
    assert why(operations.pay_elsewhere, by=desk.sam, **other | {"iban": "DE0"}) == "invalid_iban"
    seen = operations.find(payment.pk).steps
    changed = operations.pay_elsewhere(by=desk.sam, **other)
    assert (changed.state, changed.iban, changed.holder) == (State.SECOND, BANK, "Mia Moon")
    assert why(desk.confirm, payment) == "second_person", "however small it is"
    assert why(desk.confirm, payment, by=desk.sue, steps=seen) == "already_decided", "who saw the old bank account"
    # The second thinks of a third bank account: then the first has to confirm that.
    operations.pay_elsewhere(by=desk.sue, **other | {"iban": IBAN})
    assert why(desk.confirm, payment, by=desk.sue) == "second_person"
    desk.confirm(payment, steps=operations.find(payment.pk).steps)
    data = payouts.content(payouts.make(by=desk.sam, now=now(desk)))
    assert why(operations.pay_elsewhere, by=desk.sam, **other) == "already_decided"
    assert IBAN.encode() in data and b"Mia Moon" in data
    assert [step.reason for step in payment.transitions.order_by("n")][1:3] == ["other_account"] * 2


def test_money_that_can_go_back_into_a_wallet_goes_nowhere_else(desk: Desk) -> None:
    desk.fund(10 * EUR)
    payment = desk.withdraw(EUR)
    how = {"payment_id": payment.pk, "iban": BANK, "holder": "Sam", "by": desk.sam, "now": now(desk)}
    assert why(operations.pay_elsewhere, **how) == "can_be_refused"
    assert why(operations.pay_elsewhere, **how | {"payment_id": desk.deposit().pk}) == "already_decided"


def test_a_number_is_changed_while_money_comes_and_goes(desk: Desk, settings: Any) -> None:
    settings.RENEWAL_DAYS = 1
    desk.fund(100 * EUR)
    coming, going = desk.deposit(30 * EUR), desk.withdraw(5 * EUR)
    how = {"user": desk.mia, "now": now(desk) + timedelta(days=2)}
    at_once(
        *[lambda: renewal.renew_account(desk.exchange, **how)] * 2,  # type: ignore[arg-type]
        *[lambda: desk.withdraw(20 * EUR, once="x")] * 2,
        lambda: desk.confirm(coming),
        lambda: desk.refuse(going, "request"),
    )
    # Whatever met a number that was being closed is done again, as the staff would.
    renewal.finish(desk.exchange, user=desk.mia)
    for payment in queries.waiting(Direction.IN) + queries.waiting(Direction.OUT):
        if payment.pk == coming.pk:
            desk.confirm(payment)
        elif payment.pk == going.pk:
            desk.refuse(payment, "request")
    renewal.fetch_left(desk.exchange, user=desk.mia)
    accounts = Account.objects.filter(user=desk.mia).order_by("index")
    assert [account.closed_at is None for account in accounts] == [False, True]
    wallets = [exchange_queries.balance(account.index) for account in accounts]
    left = Payment.objects.filter(once="x").exclude(state=State.REFUSED).count()
    assert left in (0, 1), "refused where the number was closed, never twice"
    assert [one.cash_e7 for one in wallets if one is not None] == [0, (130 - 20 * left) * EUR]
    assert not renewal.under_way(desk.mia) and sum(exchange_queries.money_by_kind().values()) == 0
    books.check()


def test_what_is_provisional_is_known_where_no_market_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = gone(desk)
    meter(desk, contract, SOLD_WH - 1)
    adjust_due(exchange=desk.exchange)
    monkeypatch.setattr(gateway, "_current", None)
    error = personal.obstacle([desk.account])
    assert error is not None and error.code == "provisional"
    # Who came later and neither traded nor was metered has nothing to do with it.
    assert personal.obstacle([desk.account + 1_000]) is None
