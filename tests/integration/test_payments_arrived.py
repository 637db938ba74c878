"""What arrived at the bank is booked as what arrived, whatever is cut short, refused, or done twice at once."""

from __future__ import annotations

from typing import Any

import pytest

from market.households import keystore
from market.households import operations as households
from market.payments import bank, operations, queries
from market.payments.models import BankFile, BankItem, Direction, Payment, State
from tests.bank import entry
from tests.integration.test_payments import EUR, NOW, Desk, why
from tests.integration.test_payments import desk as desk

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_arrived_counts_whoever_decides_and_whatever_is_cut_short(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = desk.deposit(10 * EUR)
    file = desk.take(entry("500.00", asked.reference, ref="1"))

    def lost(*_args: Any, **_how: Any) -> None:
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(operations, "confirm", lost)
        with pytest.raises(TimeoutError):
            desk.book(file)
    (waiting,) = queries.waiting(Direction.IN)
    assert waiting.amount_e7 == 500 * EUR and waiting.tied  # type: ignore[attr-defined]
    # A page that was loaded before still says what was announced.
    assert why(desk.confirm, asked, by=desk.sue, arrived_e7=10 * EUR) == "other_amount"
    desk.confirm(asked, by=desk.sue)
    desk.book(file)
    assert desk.cash() == 500 * EUR


def test_a_member_of_the_staff_who_books_a_deposit_of_their_own_leaves_what_arrived_to_another(desk: Desk) -> None:
    account = households.open_account(desk.exchange, now=NOW, user=desk.sam, area="LV1.1").index
    own = operations.request_deposit(account_index=account, amount_e7=10 * EUR, now=NOW)
    assert desk.book(desk.take(entry("70.00", own.reference, ref="1"))).waiting == 1
    assert desk.confirm(own, by=desk.sue).amount_e7 == 70 * EUR


def test_more_than_a_payment_may_be_is_placed_by_hand(desk: Desk) -> None:
    asked = desk.deposit(10 * EUR)
    file = desk.take(entry("150000.00", asked.reference, ref="1"))
    assert [(line.outcome, line.why) for line in bank.look(file)] == [("unplaced", "too_large")]
    assert desk.book(file).unplaced == 1
    (item,) = queries.unplaced()
    payment = bank.assign(desk.exchange, item_id=item.id, account_index=desk.account, by=desk.sam, now=NOW)
    assert payment.state == State.SECOND
    desk.confirm(payment, by=desk.sue)
    assert desk.cash() == 150_000 * EUR


def test_two_statements_that_name_one_deposit_at_once_are_both_booked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = desk.deposit(10 * EUR)
    one = desk.take(entry("10.00", asked.reference, ref="A1"), id="S1")
    other = desk.take(
        entry("25.00", asked.reference, ref="B1"), entry("10.00", asked.reference, ref="A1"), id="S2", message="M2"
    )
    looked = bank._lines

    def meanwhile(items: Any, file: BankFile) -> Any:
        lines = looked(items, file)
        if one in queries.waiting_files() and file == other:
            desk.book(one, by=desk.sue)
        return lines

    monkeypatch.setattr(bank, "_lines", meanwhile)
    done = desk.book(other)
    assert (done.booked, done.unplaced) == (1, 1), "the bank sent A1 in both"
    assert desk.cash() == 35 * EUR
    booked = BankItem.objects.filter(state=BankItem.BOOKED)
    assert {(item.amount_e7, item.payment and item.payment.amount_e7) for item in booked} == {
        (10 * EUR, 10 * EUR), (25 * EUR, 25 * EUR),
    }  # fmt: skip
    assert Payment.objects.count() == 2


def test_a_transfer_whose_deposit_is_refused_is_placed_by_somebody(desk: Desk) -> None:
    # The first person sees it at the bank, the statement comes, the second person refuses.
    by_hand, by_file = desk.deposit(5_000 * EUR), desk.deposit(3_000 * EUR)
    assert desk.confirm(by_hand).state == State.SECOND
    file = desk.take(entry("5000.00", by_hand.reference, ref="1"), entry("3000.00", by_file.reference, ref="2"))
    assert desk.book(file).waiting == 1
    for asked in (by_hand, by_file):
        desk.refuse(asked, "not_received", by=desk.sue)
    found = queries.unplaced()
    assert [(one.amount_e7, one.why) for one in found] == [(5_000 * EUR, "refused"), (3_000 * EUR, "refused")]
    # Into the same account after all, and once more.
    how = {"account_index": desk.account, "now": NOW}
    again = bank.assign(desk.exchange, item_id=found[0].id, by=desk.sam, **how)
    desk.refuse(again, "request", by=desk.sue)
    desk.confirm(bank.assign(desk.exchange, item_id=found[0].id, by=desk.sam, **how), by=desk.sue)
    assert desk.cash() == 5_000 * EUR
    assert [one.id for one in queries.unplaced()] == [found[1].id]


def test_a_statement_of_which_a_part_is_booked_is_not_discarded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "BOOKED_AT_ONCE", 1)
    one, other = desk.deposit(10 * EUR), desk.deposit(20 * EUR)
    file = desk.take(entry("10.00", one.reference, ref="1"), entry("20.00", other.reference, ref="2"))
    assert desk.book(file).left == 1
    assert why(bank.discard, file_id=file.pk) == "booked_in_part"
    assert desk.book(file).left == 0
    assert desk.cash() == 30 * EUR


def test_a_transfer_without_a_reference_of_the_bank_is_not_booked_again_from_another_statement(desk: Desk) -> None:
    asked = desk.deposit(10 * EUR)
    day = entry("10.00", asked.reference)
    assert desk.book(desk.take(day, id="DAY-1")).booked == 1
    # The week has it again, and another one that came from the same account.
    week = desk.take(entry("11.00", asked.reference), day, id="WEEK-1", message="M2")
    assert [(line.outcome, line.why) for line in bank.look(week)] == [
        ("matched", ""), ("unplaced", "possible_duplicate"),
    ]  # fmt: skip
    desk.book(week)
    assert desk.cash() == 21 * EUR
    # Twice in one statement it is two transfers.
    twice = entry("5.00", asked.reference)
    assert desk.book(desk.take(twice, twice, id="DAY-2", message="M3")).booked == 2


def test_who_paid_is_forgotten_once_a_transfer_is_booked_or_set_aside(desk: Desk) -> None:
    file = desk.take(entry("7.00", "one", ref="1"), entry("8.00", "other", ref="2"), entry("2000.00", "big", ref="3"))
    desk.book(file)
    one, other, large = BankItem.objects.order_by("pk")
    assert "Mia Sun" in one.details
    how = {"account_index": desk.account, "by": desk.sam, "now": NOW}
    bank.assign(desk.exchange, item_id=one.pk, **how)
    bank.set_aside(item_id=other.pk, by=desk.sam, reason="not_ours", now=NOW)
    payment = bank.assign(desk.exchange, item_id=large.pk, **how)
    large.refresh_from_db()
    assert "Mia Sun" in large.details, "the second person may give it back to those to be placed"
    desk.confirm(payment, by=desk.sue)
    for item in (one, other, large):
        assert keystore.store().destroyed(item.details_key)
        item.refresh_from_db()
        assert item.details == ""
