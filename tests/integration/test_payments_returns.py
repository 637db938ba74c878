"""Withdrawals that the bank does not take, or sends back: the money goes to another bank account, once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from market.households import erasure
from market.households import operations as households
from market.payments import bank, operations, payouts, personal, queries, returns
from market.payments.models import BankItem, Payment, State
from tests.bank import BANK, entry
from tests.integration.test_payments import EUR, IBAN, NOW, Desk, why
from tests.integration.test_payments import desk as desk

pytestmark = pytest.mark.django_db(transaction=True)


def now(desk: Desk) -> datetime:
    return datetime.fromtimestamp(desk.market.clock.at_ms / 1_000, UTC)


def paid(desk: Desk, amount_e7: int = 10 * EUR) -> Payment:
    """Mia leaves with her money; return the withdrawal, confirmed."""
    desk.fund(amount_e7)
    operations.confirm(desk.exchange, payment_id=left(desk).pk, by=desk.sam, now=now(desk))
    return Payment.objects.get()


def left(desk: Desk) -> Payment:
    erasure.close_and_pay_out(desk.exchange, user=desk.mia, now=now(desk), iban=IBAN, holder="Mia Sun")
    return Payment.objects.get()


def act(client: Client, url: str, **data: str) -> str:
    return client.post(url, data, follow=True).content.decode()


def test_a_bank_account_that_the_bank_does_not_take_is_not_the_end(desk: Desk, client: Client) -> None:
    payment = paid(desk)
    file = payouts.make(by=desk.sam, now=now(desk))
    assert why(operations.pay_elsewhere, payment_id=payment.pk, iban=BANK, holder="M", by=desk.sam, now=now(desk)) == (
        "already_decided"
    ), "the bank may have it"
    payouts.void(file_id=file.pk, by=desk.sam, now=now(desk))
    client.force_login(desk.sam)
    page = client.get("/staff/money").content.decode()
    assert 'value="elsewhere"' in page and 'value="confirm"' not in page and 'value="refuse"' not in page
    act(client, f"/staff/money/payments/{payment.pk}", decision="elsewhere", iban=BANK, holder="Mia Moon")
    assert why(payouts.make, by=desk.sam, now=now(desk)) == "nothing_to_send", "not to the old one meanwhile"
    assert why(desk.confirm, payment) == "second_person"
    desk.confirm(payment, by=desk.sue)
    data = payouts.content(payouts.make(by=desk.sam, now=now(desk)))
    assert BANK.encode() in data and IBAN.encode() not in data
    assert desk.funds() == [(10 * EUR, "deposit"), (-10 * EUR, "withdrawal")] and desk.cash() == 0


def test_a_void_file_of_an_open_account_lets_the_withdrawal_be_refused(desk: Desk, client: Client) -> None:
    desk.fund(10 * EUR)
    payment = desk.confirm(desk.withdraw(10 * EUR))
    assert not queries.recallable()
    payouts.void(file_id=payouts.make(by=desk.sam, now=NOW).pk, by=desk.sam, now=NOW)
    client.force_login(desk.sam)
    page = client.get("/staff/money").content.decode()
    assert 'value="refuse"' in page and 'value="confirm"' not in page and 'value="elsewhere"' not in page
    assert desk.refuse(payment, "wrong_account").returned_seq is not None
    assert desk.cash() == 10 * EUR and not queries.recallable()
    assert why(payouts.make, by=desk.sam, now=NOW) == "nothing_to_send"


def test_a_payout_of_somebody_who_left_that_comes_back_is_paid_out_again(desk: Desk, client: Client) -> None:
    payment = paid(desk)
    file = payouts.make(by=desk.sam, now=now(desk))
    back = entry("10.00", "AC04 closed", ref="1", end_to_end=payment.reference)
    statement = desk.take(back, entry("9.00", payment.reference, ref="2"))
    assert [(line.why, line.account) for line in bank.look(statement)] == [("payout_returned", desk.account)] * 2
    desk.book(statement)
    whole, part = queries.unplaced()
    assert whole.again and part.again
    how = {"by": desk.sam, "now": now(desk)}
    assert why(returns.reopen, item_id=whole.id, **how) == "file_open"
    payouts.hand_over(file_id=file.pk, **how)
    assert why(erasure.erase, user=desk.mia) == "payment_open", "the money is here again"
    assert why(returns.reopen, item_id=part.id, **how) == "other_amount"
    assert why(returns.reopen, item_id=whole.id, **how | {"by": desk.mia}) == "forbidden"
    client.force_login(desk.sam)
    assert client.get("/staff/money").content.decode().count('value="again"') == 2
    act(client, f"/staff/money/transfers/{whole.id}", decision="again")
    assert why(returns.reopen, item_id=whole.id, **how) == "already_decided"
    assert why(returns.reopen, item_id=part.id, **how) == "unknown_payment", "it waits already"
    row = BankItem.objects.get(pk=whole.id)
    assert (row.state, row.payment_id, row.details) == (BankItem.BOOKED, payment.pk, "")
    bank.set_aside(item_id=part.id, reason="settled", **how)
    payment.refresh_from_db()
    assert (payment.state, payment.file, payment.reason) == (State.REQUESTED, None, "payout_returned")
    # Nothing of the statement's is confirmed by reading it again, and the rest of it leaves the withdrawal alone.
    operations.pay_elsewhere(payment_id=payment.pk, iban=BANK, holder="Mia Moon", **how)
    desk.confirm(payment, by=desk.sue)
    again = payouts.make(**how)
    assert BANK.encode() in payouts.content(again)
    payouts.hand_over(file_id=again.pk, **how)
    file.refresh_from_db()
    assert why(payouts.content, file) == "file_gone"
    assert desk.funds() == [(10 * EUR, "deposit"), (-10 * EUR, "withdrawal")] and desk.cash() == 0
    # The statement of the week tells of the first return, too; the second payout has not come back.
    desk.book(desk.take(back, id="WEEK"))
    (told,) = queries.unplaced()
    assert (told.why, told.again) == ("possible_duplicate", False)
    assert why(returns.reopen, item_id=told.id, **how) == "unknown_payment"
    bank.set_aside(item_id=told.id, reason="duplicate", **how)
    assert erasure.erase(user=desk.mia).accounts == [desk.account]
    # Once more, too late: nobody knows whose it is.
    desk.book(desk.take(entry("10.00", "AC04 closed", ref="9", end_to_end=payment.reference), id="S2"))
    (late,) = queries.unplaced()
    assert why(returns.reopen, item_id=late.id, **how) == "unknown_account"


def test_a_payout_that_comes_back_in_a_statement_booked_in_part_is_not_confirmed_by_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = paid(desk)
    payouts.hand_over(file_id=payouts.make(by=desk.sam, now=NOW).pk, by=desk.sam, now=NOW)
    file = desk.take(entry("10.00", payment.reference, ref="1"), entry("3.00", "what", ref="2"))
    monkeypatch.setattr(bank, "BOOKED_AT_ONCE", 1)
    desk.book(file)
    (item,) = queries.unplaced()
    returns.reopen(item_id=item.id, by=desk.sam, now=NOW)
    desk.book(file)
    payment.refresh_from_db()
    assert payment.state == State.REQUESTED


def test_a_payout_that_an_older_version_put_on_the_list_is_known_by_its_text(desk: Desk) -> None:
    payment = paid(desk)
    payouts.hand_over(file_id=payouts.make(by=desk.sam, now=NOW).pk, by=desk.sam, now=NOW)
    desk.book(desk.take(entry("10.00", f"RETURN {payment.reference}", ref="1")))
    BankItem.objects.update(payment=None)
    (item,) = queries.unplaced()
    assert item.again
    assert returns.reopen(item_id=item.id, by=desk.sam, now=NOW).pk == payment.pk


def test_a_refused_withdrawal_whose_money_never_came_back_is_paid_out(
    desk: Desk, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fund(10 * EUR)
    first, second = desk.withdraw(6 * EUR), desk.withdraw(4 * EUR)

    def lost(*_args: Any, **_how: Any) -> None:
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(operations, "_give_back", lost)
        with pytest.raises(TimeoutError):
            desk.refuse(first, "request")
    desk.refuse(second, "request")
    Payment.objects.filter(pk=second.pk).update(returned_seq=None)  # cut short after the entry
    households.close_account(desk.exchange, account_index=desk.account, now=now(desk))
    client.force_login(desk.sam)
    page = client.get("/staff/money").content.decode()
    assert page.count('value="elsewhere"') == 2 and "Give it back" not in page
    assert personal.obstacle([desk.account]) is not None
    how = {"iban": BANK, "holder": "Mia Moon", "by": desk.sam, "now": now(desk)}
    assert why(operations.pay_elsewhere, payment_id=second.pk, **how) == "already_decided", "it is in the wallet"
    assert operations.find(second.pk).returned_seq is not None
    assert personal.obstacle([desk.account]) is not None, "the first is nowhere"
    operations.pay_elsewhere(payment_id=first.pk, **how)
    desk.confirm(first, by=desk.sue)
    assert payouts.make(by=desk.sam, now=now(desk)).sum_e7 == 6 * EUR
    assert desk.cash() == 4 * EUR
