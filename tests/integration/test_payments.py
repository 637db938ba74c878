"""Deposits, withdrawals, statements and payout files: each cent once, whoever clicks how often, and whatever is cut short."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import override_settings

from ledger import queries as ledger
from market.exchange import guards
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.households import erasure, keystore, renewal
from market.households import operations as households
from market.households.models import Account, Role, User
from market.households.operations import HouseholdError, Refusal
from market.payments import bank, booking, operations, payouts, queries
from market.payments.models import BankFile, BankItem, Direction, Payment, State, Transition
from tests.bank import BANK, entry, pay_out, statement
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
IBAN = "NL91ABNA0417164300"
EUR = 10**7


class Desk:
    """A market with a member and two of the staff."""

    def __init__(self, market: Market):
        self.market = market
        self.exchange = market.exchange
        self.mia = households.create_person(username="mia", password=None)
        self.account = households.open_account(self.exchange, now=NOW, user=self.mia, area="LV1.1").index
        self.sam, self.sue = (
            households.create_person(username=name, password=None, role=Role.STAFF) for name in ("sam", "sue")
        )

    def deposit(self, amount_e7: int = 50 * EUR, **asked: Any) -> Payment:
        return operations.request_deposit(account_index=self.account, amount_e7=amount_e7, now=NOW, **asked)

    def withdraw(self, amount_e7: int, **asked: Any) -> Payment:
        wanted = {"iban": IBAN, "holder": "Mia Sun", "now": NOW} | asked
        return operations.request_withdrawal(
            self.exchange, account_index=self.account, amount_e7=amount_e7, **wanted
        )  # fmt: skip

    def confirm(self, payment: Payment, by: User | None = None, **how: Any) -> Payment:
        return operations.confirm(self.exchange, payment_id=payment.pk, by=by or self.sam, now=NOW, **how)

    def refuse(self, payment: Payment, reason: str, by: User | None = None) -> Payment:
        return operations.refuse(self.exchange, payment_id=payment.pk, by=by or self.sam, reason=reason, now=NOW)

    def take(self, *entries: str, **how: str) -> BankFile:
        return bank.take(data=statement(*entries, **how), by=self.sam, now=NOW)

    def book(self, file: BankFile, by: User | None = None) -> bank.Done:
        return bank.book(self.exchange, file_id=file.pk, by=by or self.sam, now=NOW)

    def fund(self, amount_e7: int) -> None:
        exchange_operations.fund(self.exchange, account=self.account, amount_e7=amount_e7)

    def cash(self) -> int:
        found = exchange_queries.balance(self.account)
        assert found is not None
        assert sum(exchange_queries.money_by_kind().values()) == 0
        return found.cash_e7

    def funds(self) -> list[tuple[int, str]]:
        """Return amount and reason of the account's fund entries."""
        seqs = exchange_queries.fund_entries(account=self.account, since=0)
        return [(int(one["amount_e7"]), str(one["reason"])) for one in map(ledger.entry, seqs)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    files = {"PERSON_KEYS_FILE": tmp_path / "person_keys", "BANK_IBAN": BANK, "ONE_PERSON_LIMIT": 1_000}
    with override_settings(**files), running_market(cast=False) as market:
        yield Desk(market)


def states(payment: Payment) -> list[tuple[str, int | None, str]]:
    rows = Transition.objects.filter(payment=payment).order_by("n")
    return [(row.after, row.by, row.reason) for row in rows]


def why(call: Any, *args: Any, **how: Any) -> str:
    """Return the code something is refused with."""
    with pytest.raises(HouseholdError) as caught:
        call(*args, **how)
    assert str(caught.value.sentence)
    return caught.value.code


# --- deposits --------------------------------------------------------------------------------------------------------
def test_a_deposit_is_booked_once_and_says_who_confirmed_it(desk: Desk) -> None:
    asked = desk.deposit(once="a")
    assert asked.reference.startswith("RF") and desk.deposit(once="a").pk == asked.pk
    assert why(desk.deposit, 51 * EUR, once="a") == "idempotency_conflict"
    assert desk.cash() == 0
    done = desk.confirm(asked)
    entry_of = ledger.entry(done.seq or 0)
    assert (entry_of["amount_e7"], entry_of["reason"], entry_of["account"]) == (50 * EUR, "deposit", desk.account)
    assert asked.reference not in str(entry_of)
    assert why(desk.confirm, asked) == "already_decided"
    assert why(desk.refuse, asked, "not_received") == "already_decided"
    assert desk.cash() == 50 * EUR
    assert states(asked) == [("requested", None, ""), ("confirmed", desk.sam.pk, "")]


def test_a_deposit_counts_as_what_arrived(desk: Desk) -> None:
    assert desk.confirm(desk.deposit(), arrived_e7=30 * EUR).amount_e7 == 30 * EUR
    assert desk.cash() == 30 * EUR
    assert why(desk.confirm, desk.deposit(), arrived_e7=0) == "invalid_amount"


def test_above_the_limit_two_people_have_to_confirm(desk: Desk) -> None:
    at_the_limit = desk.confirm(desk.deposit(1_000 * EUR))
    assert at_the_limit.state == State.CONFIRMED
    asked = desk.deposit(1_000 * EUR + 1)
    assert desk.confirm(asked).state == State.SECOND
    assert desk.cash() == 1_000 * EUR
    assert why(desk.confirm, asked) == "second_person"
    # What the first one saw is what the second confirms.
    assert desk.confirm(asked, by=desk.sue, arrived_e7=5 * EUR).amount_e7 == 1_000 * EUR + 1
    assert desk.cash() == 2_000 * EUR + 1
    assert [step[:2] for step in states(asked)] == [
        ("requested", None), ("second", desk.sam.pk), ("confirmed", desk.sue.pk),
    ]  # fmt: skip
    assert why(desk.confirm, desk.deposit(), by=desk.mia) == "forbidden"


def test_a_deposit_that_was_booked_but_not_noted_is_booked_once_even_when_the_key_is_forgotten(desk: Desk) -> None:
    asked = desk.deposit()
    first = desk.confirm(asked).seq
    Payment.objects.filter(pk=asked.pk).update(seq=None)  # the crash
    exchange_operations.forget_keys(accounts=[desk.account])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_operations, "fund", lambda *_args, **_how: pytest.fail("it is on the ledger"))
        assert desk.confirm(asked).seq == first
    assert desk.cash() == 50 * EUR


def test_a_deposit_is_cut_short_before_it_is_booked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = desk.deposit()

    def lost(*_args: Any, **_how: Any) -> None:
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(booking.exchange_operations, "fund", lost)
        with pytest.raises(TimeoutError):
            desk.confirm(asked)
    assert [one.pk for one in queries.waiting(Direction.IN)] == [asked.pk], "it stays on the list"
    assert desk.confirm(asked).seq is not None
    assert desk.cash() == 50 * EUR


def test_money_for_a_number_that_was_renewed_reaches_the_new_one(desk: Desk) -> None:
    asked = desk.deposit()
    with override_settings(RENEWAL_DAYS=1):
        later = datetime(2026, 8, 6, tzinfo=UTC)
        new = renewal.renew_account(desk.exchange, user=desk.mia, now=later)
    desk.confirm(asked)
    found = exchange_queries.balance(new.index)
    assert found is not None and found.cash_e7 == 50 * EUR


def test_nothing_is_booked_into_an_account_that_is_closed(desk: Desk) -> None:
    asked = desk.deposit()
    households.close_account(desk.exchange, account_index=desk.account, now=NOW)
    assert why(desk.confirm, asked) == "account_closed"
    assert states(asked) == [("requested", None, "")]


def test_of_two_who_decide_at_the_same_moment_one_does(desk: Desk) -> None:
    asked = desk.deposit()
    one, other = operations.find(asked.pk), operations.find(asked.pk)
    operations.move(one, State.CONFIRMED, by=desk.sam, now=NOW)
    operations.move(one, State.REQUESTED, by=None, now=NOW, reason="account_closed")
    assert why(operations.move, other, State.REFUSED, by=desk.sue, now=NOW) == "already_decided"
    assert [step[0] for step in states(asked)] == ["requested", "confirmed", "requested"]


def test_requests_are_bounded(desk: Desk) -> None:
    for _ in range(operations.MAX_OPEN):
        desk.deposit(EUR)
    assert why(desk.deposit, EUR) == "too_many_payments"
    for amount_e7 in (0, -1, operations.MAX_AMOUNT_E7 + 1):
        assert why(desk.deposit, amount_e7) == "invalid_amount"


# --- withdrawals -----------------------------------------------------------------------------------------------------
def test_a_withdrawal_is_set_aside_at_once_and_given_back_when_it_is_refused(desk: Desk) -> None:
    desk.fund(100 * EUR)
    asked = desk.withdraw(60 * EUR, once="w")
    assert desk.cash() == 40 * EUR, "nobody can spend it twice"
    assert desk.withdraw(60 * EUR, once="w").pk == asked.pk
    assert why(desk.withdraw, 60 * EUR, once="w", iban=BANK) == "idempotency_conflict"
    assert why(desk.withdraw, 41 * EUR) == "insufficient_funds"
    desk.refuse(asked, "wrong_account")
    assert why(desk.refuse, asked, "wrong_account") == "already_decided"
    assert desk.cash() == 100 * EUR
    assert desk.funds()[1:] == [(-60 * EUR, "withdrawal"), (60 * EUR, "withdrawal_refused")]
    assert states(asked)[-1] == ("refused", desk.sam.pk, "wrong_account")


def test_less_than_a_cent_stays_in_the_wallet(desk: Desk) -> None:
    desk.fund(123_456_789)
    asked = desk.withdraw(123_456_789)
    assert (asked.asked_e7, asked.amount_e7) == (123_456_789, 123_400_000)
    assert desk.cash() == 56_789
    assert why(desk.withdraw, 56_789) == "invalid_amount"


@pytest.mark.parametrize(
    ("field", "value"), [("iban", "DE75512108001245126198"), ("iban", ""), ("holder", ""), ("holder", "米娅")]
)
def test_a_withdrawal_needs_a_bank_account(desk: Desk, field: str, value: str) -> None:
    desk.fund(10 * EUR)
    assert why(desk.withdraw, EUR, **{field: value}) == f"invalid_{field}"
    assert desk.cash() == 10 * EUR and not Payment.objects.exists()


def test_who_owes_something_takes_nothing_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fund(10 * EUR)
    found = exchange_queries.balance(desk.account)
    assert found is not None
    monkeypatch.setattr(exchange_queries, "balance", lambda _index: found._replace(arrears_e7=1))
    assert why(desk.withdraw, EUR) == "arrears"


def test_what_the_market_refuses_is_refused_for_good(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fund(10 * EUR)
    monkeypatch.setattr(operations, "check_free", lambda *_args: None)  # the money went between look and booking
    with pytest.raises(Refusal):
        desk.withdraw(11 * EUR, once="w")
    assert why(desk.withdraw, 11 * EUR, once="w") == "insufficient_funds"
    assert desk.cash() == 10 * EUR
    assert states(Payment.objects.get())[-1] == ("refused", None, "insufficient_funds")


def test_a_withdrawal_that_was_cut_short_is_set_aside_before_anything_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fund(10 * EUR)
    asked = desk.withdraw(4 * EUR, once="w")
    Payment.objects.filter(pk=asked.pk).update(seq=None)  # the crash came after the ledger
    exchange_operations.forget_keys(accounts=[desk.account])
    with monkeypatch.context() as patch:
        patch.setattr(booking.exchange_operations, "fund", lambda *_args, **_how: pytest.fail("it is on the ledger"))
        assert desk.withdraw(4 * EUR, once="w").seq == asked.seq
    Payment.objects.filter(pk=asked.pk).update(seq=None)
    desk.refuse(asked, "request")
    assert desk.cash() == 10 * EUR
    Payment.objects.filter(pk=asked.pk).update(returned_seq=None)
    assert [one.pk for one in queries.waiting(Direction.OUT)] == [asked.pk]
    desk.refuse(asked, "request")
    assert desk.cash() == 10 * EUR, "given back once"


# --- files for the bank ----------------------------------------------------------------------------------------------
def test_each_payout_is_in_one_file(desk: Desk) -> None:
    desk.fund(5_000 * EUR)
    small, large, waiting = desk.withdraw(10 * EUR), desk.withdraw(2_000 * EUR), desk.withdraw(EUR)
    assert why(payouts.make, by=desk.sam, now=NOW) == "nothing_to_send"
    desk.confirm(small)
    desk.confirm(large)
    assert desk.confirm(large, by=desk.sue).state == State.CONFIRMED
    assert queries.ready_for_bank() == (2, 2_010 * EUR)
    file = payouts.make(by=desk.sam, now=NOW)
    assert (file.count, file.sum_e7) == (2, 2_010 * EUR)
    data = payouts.content(file)
    assert data == payouts.content(file) and hashlib.sha256(data).hexdigest() == file.sha256
    assert data.count(b"<EndToEndId>") == 2 and b"<CtrlSum>2010.00</CtrlSum>" in data
    assert waiting.reference.encode() not in data
    assert why(payouts.make, by=desk.sam, now=NOW) == "nothing_to_send"
    assert why(desk.refuse, small, "request") == "already_decided"
    assert why(payouts.make, by=desk.mia, now=NOW) == "forbidden"
    desk.confirm(waiting)
    assert payouts.make(by=desk.sam, now=NOW).message_id != file.message_id
    for wrong in ("", "DE75512108001245126198"):
        with override_settings(BANK_IBAN=wrong):
            assert why(payouts.make, by=desk.sam, now=NOW) == "no_bank_account"


def test_a_bank_account_goes_with_its_person(desk: Desk) -> None:
    desk.fund(10 * EUR)
    asked = desk.withdraw(10 * EUR)
    assert Payment.objects.get(pk=asked.pk).iban == IBAN
    with connection.cursor() as cursor:
        cursor.execute("SELECT iban, holder FROM payments_payment")
        assert IBAN not in str(cursor.fetchall())
    households.close_account(desk.exchange, account_index=desk.account, now=NOW)
    assert why(erasure.erase, user=desk.mia) == "payment_open"
    # The money cannot go back into a closed account: it can only be paid out.
    assert why(desk.refuse, asked, "request") == "account_closed"
    desk.confirm(asked)
    file = payouts.make(by=desk.sam, now=NOW)
    assert why(erasure.erase, user=desk.mia) == "payment_open", "the bank does not have it yet"
    file = payouts.hand_over(file_id=file.pk, by=desk.sam, now=NOW)
    assert IBAN.encode() in payouts.content(file), "as long as somebody knows it"
    erasure.erase(user=desk.mia)
    left = Payment.objects.get(pk=asked.pk)
    assert (left.iban, left.holder, left.amount_e7) == ("", "", 10 * EUR)
    with connection.cursor() as cursor:
        cursor.execute("SELECT iban, holder FROM payments_payment")
        assert cursor.fetchall() == [("", "")]
    assert why(payouts.content, file) == "file_gone"


# --- statements ------------------------------------------------------------------------------------------------------
def test_a_statement_is_shown_before_anything_is_booked(desk: Desk) -> None:
    exact, less, large = desk.deposit(), desk.deposit(), desk.deposit(3_000 * EUR)
    file = desk.take(
        entry("50.00", structured=exact.reference, ref="1"),
        entry("20.00", text=f"for {less.reference.lower()} thanks", ref="2"),
        entry("3000.00", text=large.reference, ref="3"),
        entry("7.00", text="no idea", ref="4"),
        entry("9.00", direction="DBIT", ref="5"),
        entry("9.00", text=exact.reference, status="PDNG", ref="6"),
        entry("9.00", text=exact.reference, currency="USD", ref="7"),
        entry("9.00", text=exact.reference, reversal=True, ref="8"),
        entry("9.00", text=f"{exact.reference} {less.reference}", ref="9"),
    )
    lines = bank.look(file)
    assert [(line.outcome, line.why, line.differs, line.needs_two) for line in lines] == [
        ("matched", "", False, False), ("matched", "", True, False), ("matched", "", False, True),
        ("unplaced", "no_reference", False, False), ("outgoing", "", False, False), ("pending", "", False, False),
        ("unplaced", "other_currency", False, False), ("unplaced", "reversal", False, False),
        ("unplaced", "several_references", False, False),
    ]  # fmt: skip
    assert desk.cash() == 0 and not BankItem.objects.exists()
    assert desk.book(file) == bank.Done(booked=2, waiting=1, unplaced=4, left=0)
    assert desk.cash() == 70 * EUR
    assert desk.confirm(large, by=desk.sue).state == State.CONFIRMED
    assert desk.cash() == 3_070 * EUR
    file.refresh_from_db()
    assert (file.state, file.text) == ("booked", "") and keystore.store().destroyed(file.key)
    assert why(desk.book, file) == "already_decided"


def test_whatever_comes_twice_is_booked_once(desk: Desk) -> None:
    asked = desk.deposit()
    one = entry("50.00", structured=asked.reference, ref="B1")
    assert desk.book(desk.take(one, id="S1")).booked == 1
    assert why(desk.take, one, id="S1") == "file_known"
    # The same statement in another message, and the same transfer in another statement.
    again = desk.take(one, id="S1", message="M2")
    assert [line.outcome for line in bank.look(again)] == ["duplicate"]
    assert desk.book(again) == bank.Done(0, 0, 0, 0)
    moved = desk.take(one, id="S2")
    assert [(line.outcome, line.why) for line in bank.look(moved)] == [("unplaced", "possible_duplicate")]
    assert desk.book(moved).unplaced == 1
    assert desk.cash() == 50 * EUR
    # A second transfer with the same reference is money of its own.
    assert desk.book(desk.take(entry("8.00", structured=asked.reference, ref="B2"), id="S3")).booked == 1
    assert desk.cash() == 58 * EUR


def test_what_was_confirmed_by_hand_is_not_booked_again(desk: Desk) -> None:
    same, other = desk.deposit(), desk.deposit(60 * EUR)
    desk.confirm(same)
    desk.confirm(other)
    file = desk.take(entry("50.00", same.reference, ref="1"), entry("61.00", other.reference, ref="2"))
    assert [(line.outcome, line.why) for line in bank.look(file)] == [("noted", ""), ("unplaced", "booked_by_hand")]
    desk.book(file)
    assert desk.cash() == 110 * EUR
    assert BankItem.objects.get(payment=same).state == BankItem.BOOKED


def test_money_that_comes_after_all_is_booked(desk: Desk) -> None:
    asked = desk.deposit()
    desk.refuse(asked, "not_received")
    assert desk.book(desk.take(entry("50.00", asked.reference))).booked == 1
    assert desk.cash() == 50 * EUR
    assert states(asked)[-1][0] == "refused"


def test_booking_that_was_cut_short_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    payments = [desk.deposit(n * EUR) for n in (1, 2, 3, 4)]
    file = desk.take(*(entry(f"{n}.00", payment.reference, ref=str(n)) for n, payment in enumerate(payments, 1)))
    calls = 0

    def cut(*args: Any, **how: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise TimeoutError
        return fund(*args, **how)

    fund = exchange_operations.fund
    with monkeypatch.context() as patch:
        patch.setattr(booking.exchange_operations, "fund", cut)
        with pytest.raises(TimeoutError):
            desk.book(file)
    assert desk.cash() == 3 * EUR
    desk.book(file)
    assert desk.cash() == 10 * EUR
    assert [one.state for one in Payment.objects.all()] == ["confirmed"] * 4
    monkeypatch.setattr(bank, "BOOKED_AT_ONCE", 2)
    more = desk.take(*(entry(f"{n}.50", payment.reference, ref=f"x{n}") for n, payment in enumerate(payments)), id="S2")
    assert [desk.book(more).left for _ in range(2)] == [2, 0]
    assert desk.cash() == 18 * EUR


def test_a_transfer_nobody_could_place_is_assigned_or_set_aside(desk: Desk) -> None:
    file = desk.take(
        entry("7.00", "for Mia", ref="1"), entry("8.00", "rent", ref="2"), entry("1500.00", "big", ref="3")
    )
    desk.book(file)
    first, second, third = queries.unplaced()
    assert (first.payer, first.iban, first.text, first.why) == ("Mia Sun", IBAN, "for Mia", "no_reference")
    with connection.cursor() as cursor:
        cursor.execute("SELECT details FROM payments_bankitem")
        assert "Mia Sun" not in str(cursor.fetchall())
    how = {"account_index": desk.account, "by": desk.sam, "now": NOW}
    assert bank.assign(desk.exchange, item_id=first.id, **how).state == State.CONFIRMED
    assert why(bank.assign, desk.exchange, item_id=first.id, **how) == "already_decided"
    assert why(bank.assign, desk.exchange, item_id=second.id, **how | {"account_index": 10**6}) == "unknown_account"
    assert why(bank.set_aside, item_id=second.id, by=desk.sam, reason="whim", now=NOW) == "invalid_value"
    bank.set_aside(item_id=second.id, by=desk.sam, reason="not_ours", now=NOW)
    assert why(bank.assign, desk.exchange, item_id=second.id, **how) == "already_decided"
    assert bank.assign(desk.exchange, item_id=third.id, **how).state == State.SECOND
    assert desk.cash() == 7 * EUR and queries.unplaced() == []
    households.close_account(desk.exchange, account_index=desk.account, now=NOW)
    pay_out(desk.exchange, user=desk.mia, now=NOW)
    erasure.erase(user=desk.mia)
    assert BankItem.objects.get(pk=first.id).details == ""


def test_a_payout_that_comes_back_is_placed_by_somebody(desk: Desk) -> None:
    desk.fund(10 * EUR)
    asked = desk.confirm(desk.withdraw(10 * EUR))
    payouts.make(by=desk.sam, now=NOW)
    file = desk.take(entry("10.00", "account unknown", end_to_end=asked.reference))
    assert [line.why for line in bank.look(file)] == ["payout_returned"]


def test_files_that_are_none_are_refused(desk: Desk) -> None:
    assert why(desk.take, account="NL91ABNA0417164300") == "file_of_another"
    assert why(bank.take, data=b"<!DOCTYPE x><x/>", by=desk.sam, now=NOW) == "file_entities"
    assert not BankFile.objects.exists()
    file = desk.take()
    bank.discard(file_id=file.pk)
    assert why(desk.book, file) == "already_decided"
    assert desk.take().pk != file.pk, "what was discarded may come again"


def test_a_statement_from_the_command_line_waits_for_the_staff(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = desk.deposit()
    path = tmp_path / "statement.xml"
    path.write_bytes(statement(entry("50.00", asked.reference), entry("3.00", "what")))
    call_command("import_camt", path, by="sam")
    out = capsys.readouterr().out
    assert f"50.0000000 EUR  matched  account {desk.account}" in out and "1 matched, 1 unplaced" in out
    assert desk.cash() == 0
    assert desk.book(BankFile.objects.get()).booked == 1
    with pytest.raises(CommandError, match="file_known"):
        call_command("import_camt", path)
    with pytest.raises(CommandError, match="no member of staff"):
        call_command("import_camt", path, by="mia")
    large = tmp_path / "large.xml"
    with large.open("wb") as out_file:
        out_file.truncate(100 * 1024 * 1024)
    with pytest.raises(CommandError, match="file_too_large"):
        call_command("import_camt", large)


def test_what_was_done_stays_as_it_was_noted(desk: Desk) -> None:
    asked = desk.deposit()
    guards.install(connection)
    try:
        for change in (lambda: Transition.objects.update(after="confirmed"), lambda: Transition.objects.all().delete()):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                change()
    finally:
        guards.remove(connection)
    assert states(asked) == [("requested", None, "")]
    assert Account.objects.get(index=desk.account).payments.count() == 1
