"""Files for the bank stay what they were until the bank has them; one that it does not take is void, and nothing is lost."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import override_settings

from market.households import erasure
from market.payments import payouts, queries
from market.payments.models import Payment, PayoutFile, State
from tests.integration.test_payments import EUR, IBAN, NOW, Desk, states, why
from tests.integration.test_payments import desk as desk

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_file_is_what_it_was_when_it_was_made_whatever_is_set_afterwards(desk: Desk) -> None:
    desk.fund(10 * EUR)
    desk.confirm(desk.withdraw(10 * EUR))
    file = payouts.make(by=desk.sam, now=NOW)
    before = payouts.content(file)
    with override_settings(BANK_IBAN=IBAN, BANK_HOLDER="Another name", BANK_BIC="ABNANL2A"):
        assert payouts.content(PayoutFile.objects.get()) == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT text FROM payments_payoutfile")
        assert IBAN not in str(cursor.fetchall())
    handed = payouts.hand_over(file_id=file.pk, by=desk.sam, now=NOW)
    assert (handed.state, handed.text, handed.decided_by) == ("handed", "", desk.sam.pk)
    assert why(payouts.hand_over, file_id=file.pk, by=desk.sam, now=NOW) == "already_decided"
    assert why(payouts.void, file_id=file.pk, by=desk.sue, now=NOW) == "already_decided", "it would be paid twice"


def test_what_was_in_a_void_file_goes_into_the_next_one(desk: Desk) -> None:
    desk.fund(3_000 * EUR)
    small, large = desk.withdraw(10 * EUR), desk.withdraw(2_000 * EUR)
    for payment in (small, large):
        desk.confirm(payment)
    desk.confirm(large, by=desk.sue)
    file = payouts.make(by=desk.sam, now=NOW)
    assert why(payouts.void, file_id=file.pk, by=desk.mia, now=NOW) == "forbidden"
    assert why(payouts.void, file_id=file.pk, by=desk.sam, now=NOW) == "second_person"
    assert why(payouts.void, file_id=file.pk + 1, by=desk.sue, now=NOW) == "unknown_file"
    gone = payouts.void(file_id=file.pk, by=desk.sue, now=NOW)
    assert why(payouts.content, gone) == "file_void"
    assert why(payouts.void, file_id=file.pk, by=desk.sue, now=NOW) == "already_decided"
    assert states(small)[-2:] == [("sent", desk.sam.pk, ""), ("confirmed", desk.sue.pk, "file_void")]
    assert queries.ready_for_bank() == (2, 2_010 * EUR)
    again = payouts.make(by=desk.sam, now=NOW)
    assert again.message_id != file.message_id and again.sum_e7 == file.sum_e7
    small.refresh_from_db()
    assert (small.state, small.file_id) == (State.SENT, again.pk)
    assert desk.cash() == 990 * EUR


def test_who_leaves_is_paid_as_anybody_else(desk: Desk) -> None:
    desk.fund(2_000 * EUR + 12_345)
    how = {"user": desk.mia, "now": NOW}
    assert why(erasure.close_and_pay_out, desk.exchange, **how) == "invalid_iban"
    assert desk.cash() == 2_000 * EUR + 12_345 and not Payment.objects.exists()
    (paid,) = erasure.close_and_pay_out(desk.exchange, iban=IBAN, holder="Mia Sun", **how)
    assert (paid.amount_e7, desk.cash()) == (2_000 * EUR, 12_345)
    assert erasure.close_and_pay_out(desk.exchange, **how) == [], "once"
    payment = Payment.objects.get()
    assert (payment.state, payment.seq, payment.iban) == (State.REQUESTED, paid.seq, IBAN)
    assert why(erasure.erase, user=desk.mia) == "payment_open"
    assert desk.confirm(payment).state == State.SECOND, "above the limit it takes two"
    desk.confirm(payment, by=desk.sue)
    file = payouts.make(by=desk.sam, now=NOW)
    assert b"<CtrlSum>2000.00</CtrlSum>" in payouts.content(file)
    payouts.hand_over(file_id=file.pk, by=desk.sam, now=NOW)
    assert erasure.erase(user=desk.mia).accounts == [desk.account]
