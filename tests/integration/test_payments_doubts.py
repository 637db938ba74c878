"""What a bank does that looks like something else: pages, numbers used again, returns, bookings it takes back."""

from __future__ import annotations

import pytest
from django.test import Client

from market.payments import bank, operations, payouts, queries
from market.payments.formats import camt053
from market.payments.models import BankItem
from tests.bank import BANK, entry, statement
from tests.integration.test_payments import EUR, NOW, Desk, why
from tests.integration.test_payments import desk as desk

pytestmark = pytest.mark.django_db(transaction=True)
TURNED = ("<StmtPgntn><PgNb>{}</PgNb><LastPgInd>false</LastPgInd></StmtPgntn>", "<Acct>")


def page(number: int, *entries: str) -> bytes:
    """Return a page of a statement, which has the number of all its pages."""
    text, before = TURNED
    return statement(*entries).decode().replace(before, text.format(number) + before).encode()


def take(desk: Desk, data: bytes) -> bank.BankFile:
    return bank.take(data=data, by=desk.sam, now=NOW)


def outcomes(file: bank.BankFile) -> list[tuple[str, str]]:
    return [(line.outcome, line.why) for line in bank.look(file)]


def test_each_page_of_a_statement_is_booked(desk: Desk) -> None:
    first, second = desk.deposit(10 * EUR), desk.deposit(20 * EUR)
    for number, asked in enumerate((first, second), 1):
        assert desk.book(take(desk, page(number, entry(f"{number}0.00", asked.reference)))).booked == 1
    assert desk.cash() == 30 * EUR
    # The bank's first page is what a bank without pages sends.
    assert outcomes(desk.take(entry("10.00", first.reference))) == [("duplicate", "")]


def test_a_number_that_the_bank_uses_again_hides_no_transfer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = desk.deposit(10 * EUR), desk.deposit(20 * EUR)
    assert desk.book(desk.take(entry("10.00", first.reference, ref="NONREF"))).booked == 1
    again = desk.take(entry("20.00", second.reference, ref="NONREF"), message="MSG-2")
    assert outcomes(again) == [("unplaced", "same_number")]
    assert desk.book(again).unplaced == 1
    (item,) = queries.unplaced()
    bank.assign(desk.exchange, item_id=item.id, account_index=desk.account, by=desk.sam, now=NOW)
    assert desk.cash() == 30 * EUR
    # Both are known from now on, by whichever file.
    both = entry("20.00", second.reference, ref="NONREF"), entry("10.00", first.reference, ref="NONREF")
    for one in both:
        assert outcomes(desk.take(one, message=one)) == [("duplicate", "")]
    # Two in one file, in two statements that have one number: the same amount from somebody else is another transfer.
    half = statement(entry("5.00", "hello", ref="NONREF"), id="S7").decode()
    other = statement(entry("5.00", "good day", ref="NONREF"), id="S7").decode()
    file = take(desk, half.replace("</Stmt>", "</Stmt>" + _stmt(other)).encode())
    assert outcomes(file) == [("unplaced", "no_reference"), ("unplaced", "same_number")]
    monkeypatch.setattr(bank, "BOOKED_AT_ONCE", 1)
    assert desk.book(file) == bank.Done(0, 0, 1, 1)
    assert outcomes(file) == [("duplicate", ""), ("unplaced", "same_number")]
    assert desk.book(file) == bank.Done(0, 0, 1, 0)
    assert BankItem.objects.count() == 4


def test_a_statement_booked_in_part_goes_on_where_it_was_whatever_an_older_version_noted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = desk.deposit(10 * EUR), desk.deposit(20 * EUR)
    file = desk.take(entry("10.00", first.reference), entry("20.00", second.reference))
    monkeypatch.setattr(bank, "BOOKED_AT_ONCE", 1)
    assert desk.book(file) == bank.Done(1, 0, 0, 1)
    BankItem.objects.update(like="f" * 64)
    assert desk.book(file) == bank.Done(1, 0, 0, 0)
    assert desk.cash() == 30 * EUR


def _stmt(file: str) -> str:
    return file[file.index("<Stmt>") : file.index("</BkToCstmrStmt>")]


@pytest.mark.parametrize("ref", ["B1", ""])
def test_a_transfer_in_two_statements_of_one_file_is_booked_once(desk: Desk, ref: str) -> None:
    asked = desk.deposit(10 * EUR)
    day, week = (statement(entry("10.00", asked.reference, ref=ref), id=id).decode() for id in ("DAY", "WEEK"))
    file = take(desk, day.replace("</Stmt>", "</Stmt>" + _stmt(week)).encode())
    assert outcomes(file) == [("matched", ""), ("unplaced", "possible_duplicate")]
    desk.book(file)
    assert desk.cash() == 10 * EUR
    # Two of a kind in one statement are two.
    asked = desk.deposit(10 * EUR)
    desk.book(desk.take(*[entry("10.00", asked.reference)] * 2, id="TWO"))
    assert desk.cash() == 30 * EUR


def test_a_payout_that_comes_back_is_known_by_its_text_too(desk: Desk) -> None:
    desk.fund(100 * EUR)
    payment = desk.withdraw(10 * EUR)
    desk.confirm(payment)
    text = f"RETURN AC04 Sunledger {payment.reference}"
    assert outcomes(desk.take(entry("10.00", text, ref="1"))) == [("unplaced", "unknown_reference")], "it never went"
    payouts.make(by=desk.sam, now=NOW)
    assert outcomes(desk.take(entry("10.00", text, ref="1"), id="S2")) == [("unplaced", "payout_returned")]


def test_money_that_the_bank_takes_away_again_is_looked_at_and_credited_to_nobody(desk: Desk) -> None:
    asked = desk.deposit(10 * EUR)
    desk.book(desk.take(entry("10.00", asked.reference, ref="1")))
    back = desk.take(
        entry("10.00", asked.reference, ref="2", direction="DBIT", reversal=True),
        entry("3.00", "fees of the bank", ref="3", direction="DBIT"),
        id="S2",
    )
    assert outcomes(back) == [("unplaced", "taken_back"), ("outgoing", "")]
    assert desk.book(back).unplaced == 1
    (item,) = queries.unplaced()
    how = {"item_id": item.id, "by": desk.sam, "now": NOW}
    assert why(bank.assign, desk.exchange, account_index=desk.account, **how) == "taken_back"
    bank.set_aside(reason="settled", **how)
    assert desk.cash() == 10 * EUR and not queries.unplaced()


def test_the_same_request_with_another_payee_is_another_one(desk: Desk) -> None:
    desk.fund(100 * EUR)
    desk.withdraw(10 * EUR, once="a")
    assert why(desk.withdraw, 10 * EUR, once="a", holder="Somebody Else") == "idempotency_conflict"
    assert desk.cash() == 90 * EUR
    assert operations.find(desk.withdraw(10 * EUR, once="a").pk).holder == "Mia Sun"


def before_the_upgrade(file: bank.BankFile, id: str = "STMT-1") -> None:
    """Make the rows of a file those of a version for which NONREF was a reference and pages did not count."""
    for number, item in enumerate(BankItem.objects.filter(file=file).order_by("pk"), 1):
        item.key = camt053._digest(BANK, id, "NONREF", "", number, 0)
        item.like = camt053._digest(BANK, "NONREF", item.amount_e7, item.booked_on, 0)
        item.save(update_fields=["key", "like"])


def test_what_an_older_version_booked_is_not_booked_again_from_another_statement(desk: Desk) -> None:
    asked = desk.deposit(10 * EUR)
    one = entry("10.00", asked.reference, ref="NONREF")
    day = desk.take(one, id="DAY")
    desk.book(day)
    before_the_upgrade(day, "DAY")
    week = desk.take(one, entry("20.00", asked.reference, ref="NONREF"), id="WEEK")
    assert outcomes(week) == [("unplaced", "possible_duplicate"), ("matched", "")]
    assert outcomes(desk.take(one, id="DAY", message="AGAIN")) == [("duplicate", "")]
    desk.book(week)
    assert desk.cash() == 30 * EUR


def test_a_page_that_an_older_version_booked_is_not_booked_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = desk.deposit(10 * EUR)
    both = entry("10.00", asked.reference, ref="NONREF"), entry("5.00", asked.reference, ref="NONREF")
    file = take(desk, page(2, *both))
    monkeypatch.setattr(bank, "BOOKED_AT_ONCE", 1)
    desk.book(file)
    before_the_upgrade(file)
    assert outcomes(file) == [("unplaced", "possible_duplicate"), ("matched", "")], "a part is booked already"
    assert outcomes(take(desk, page(2, both[0]))) == [("unplaced", "possible_duplicate")]
    # The oldest rows of transfers without a reference have nothing but their number.
    BankItem.objects.update(like="")
    assert outcomes(take(desk, page(2, *both[:1], " "))) == [("unplaced", "possible_duplicate")]
    assert outcomes(take(desk, page(3, both[1]))) == [("unplaced", "possible_duplicate")], "which page was it?"
    assert outcomes(take(desk, page(3, entry("10.00", asked.reference, ref="OTHER")))) == [("matched", "")]


def test_that_it_may_be_there_twice_is_said_whatever_else_is_in_the_way(desk: Desk, client: Client) -> None:
    asked = desk.deposit(10 * EUR)
    taken = entry("10.00", asked.reference, ref="2", direction="DBIT", reversal=True)
    entries = [taken, entry("150000.00", asked.reference, ref="3"), entry("7.00", "x", ref="4", currency="CHF")]
    whys = ["taken_back", "too_large", "other_currency"]
    for id, alike in (("DAY", False), ("WEEK", True)):
        file = desk.take(*entries, id=id)
        assert [(line.why, line.alike) for line in bank.look(file)] == [(why, alike) for why in whys]
        client.force_login(desk.sam)
        said = "sent the same transfer in another statement"
        assert client.get(f"/staff/money/statements/{file.pk}").content.decode().count(said) == 3 * alike
        desk.book(file)
    assert [one.alike for one in queries.unplaced()] == [False] * 3 + [True] * 3
    assert client.get("/staff/money").content.decode().count(said) == 3
    # What the bank takes away is not the like of what it gave, though it has the same number.
    gave = desk.take(entry("10.00", asked.reference, ref="2"), id="BEFORE")
    assert outcomes(gave) == [("matched", "")]
    desk.book(gave)
    assert desk.cash() == 10 * EUR


def test_an_entry_that_comes_whole_and_then_taken_apart_is_looked_at_in_all_its_parts(desk: Desk) -> None:
    asked = [desk.deposit(one * EUR) for one in (6, 4)]
    whole = entry("10.00", asked[0].reference, ref="B1")
    parts = entry("10.00", ref="B1", parts=[("6.00", asked[0].reference), ("4.00", asked[1].reference)])
    desk.book(desk.take(whole))
    split = desk.take(parts, entry("3.00", asked[1].reference, ref="B2"), message="M2")
    assert outcomes(split) == [("unplaced", "same_number")] * 2 + [("matched", "")]
    desk.book(split)
    assert outcomes(desk.take(parts, message="M3")) == [("duplicate", "")] * 2
    assert desk.cash() == 13 * EUR
