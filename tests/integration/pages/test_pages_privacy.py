"""What a person sees of who looked, and the way to a new number or to being forgotten, on both sides of the desk."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.test import override_settings

from market.households import accesslog, operations
from market.households.models import Access, Account, User
from market.payments import payouts
from market.payments import queries as payment_queries
from market.payments.models import Direction
from tests.bank import BANK, pay_out
from tests.integration.pages.conftest import NOW, PASSWORD, Town, Visitor


@pytest.fixture(autouse=True)
def nobody_looked(town: Town) -> None:
    """Begin every test with an empty log."""
    Access.objects.all().delete()
    accesslog.forget_remembered()


def seen(visitor: Visitor) -> list[tuple[str, ...]]:
    """Return (who, what, account) of the rows that a person's account page shows, newest first."""
    page = visitor.html("/account")
    part = page[page.index('id="seen"') :].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", part.partition("<tbody>")[2], re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in rows]
    return [tuple(re.sub(r"<[^>]+>", "", cell).strip() for cell in row[1:]) for row in cells]


def test_a_household_sees_who_looked_at_its_account(town: Town) -> None:
    assert seen(town.alice) == []
    town.rita.html(f"/regulator/accounts/{town.alice.account}")
    looked = ("Regulator · rita", "Account: money, orders, trades, settlement", str(town.alice.account))
    assert seen(town.alice) == [looked]
    assert seen(town.bob) == [], "nobody looked at Bob"
    assert seen(town.rita) == [looked], "the regulator's own looks"
    assert seen(town.olga) == []


def test_looking_again_within_the_hour_is_one_note_and_no_write(town: Town) -> None:
    for _ in range(3):
        town.rita.html(f"/regulator/accounts/{town.alice.account}")
    assert Access.objects.count() == 1
    accesslog.forget_remembered()  # another process
    town.rita.html(f"/regulator/accounts/{town.alice.account}")
    assert Access.objects.count() == 1
    town.sam.html(f"/regulator/accounts/{town.alice.account}")
    assert Access.objects.count() == 2


def test_entries_orders_and_the_desk_are_noted(town: Town) -> None:
    opened = Account.objects.get(index=town.alice.account).opened_seq
    town.sealed(opened)
    town.olga.html(f"/regulator/entries/{opened}")
    assert seen(town.alice)[0] == ("Grid operator · olga", "Entries of the ledger", str(town.alice.account))
    order = town.market.buys(town.bob.account, "0.0500", 100).events[0].seq
    town.rita.html(f"/regulator/orders/{order}")
    assert seen(town.bob)[0] == ("Regulator · rita", "Orders", str(town.bob.account))
    waiting = operations.sign_up(
        username="wanda", password=PASSWORD, area="LV1.1", address="3 Sun Street", meter_number="M-wanda"
    )
    town.sam.html("/staff")
    assert seen(Visitor(town, waiting))[0] == ("Market operator · sam", "Name, address and meter number", "–")


def test_reading_the_whole_ledger_concerns_everybody(town: Town) -> None:
    assert town.rita.get("/ledger/tile/entries/000.p/5").status_code in (200, 404)
    for visitor in (town.alice, town.bob):
        assert seen(visitor) == [("Regulator · rita", "The whole ledger", "–")]


def test_a_page_of_many_accounts_is_one_transaction(
    town: Town, django_assert_num_queries: object, django_assert_max_num_queries: object
) -> None:
    with django_assert_max_num_queries(7):  # type: ignore[operator]  # SQLite takes 999 values a statement
        accesslog._pruned[:] = [NOW]
        accesslog.note(reader=town.rita.user.pk, role="regulator", kind=accesslog.TRADES, now=NOW, accounts=range(500))
    assert Access.objects.count() == 500
    with django_assert_num_queries(0):  # type: ignore[operator]
        accesslog.note(reader=town.rita.user.pk, role="regulator", kind=accesslog.TRADES, now=NOW, accounts=range(500))


def test_households_leave_no_notes_and_old_ones_go(town: Town) -> None:
    town.alice.html("/home")
    town.alice.html("/account")
    assert not Access.objects.exists()
    old = datetime.now(UTC) - timedelta(days=settings.ACCESS_LOG_DAYS + 1)
    accesslog.note(reader=1, role="staff", kind=accesslog.ACCOUNT, now=old, accounts=[1])
    assert Access.objects.count() == 1
    town.rita.html(f"/regulator/accounts/{town.alice.account}")
    assert list(Access.objects.values_list("account", flat=True)) == [town.alice.account]


def test_a_new_number_is_had_on_the_account_page(town: Town) -> None:
    vera = town.person("vera", area="LV1.1")
    response = vera.post("/account/renew", page="/account")
    assert response.status_code == 302
    assert "28 days" in vera.html("/account")
    with override_settings(RENEWAL_DAYS=1):
        Account.objects.filter(index=vera.account).update(opened_at=NOW - timedelta(days=2))
        vera.post("/account/renew", page="/account")
        page = vera.html("/account")
    account = Account.objects.get(user=vera.user, closed_at=None)
    assert f"Your new account number is {account.index}." in page
    assert f"Earlier number {vera.account}" in page


def test_a_person_asks_to_be_erased_and_staff_does_it(town: Town) -> None:
    paula = town.person("paula", area="LV1.1")
    asked = paula.html("/account/erasure")
    assert "What is erased, for good" in asked and "What stays" in asked and "is paid out to your bank account" in asked
    paula.prove()
    unsure = paula.post("/account/erasure", decision="ask")
    assert unsure.status_code == 422 and "Tick this if you are sure." in unsure.content.decode()
    assert User.objects.get(pk=paula.user.pk).erasure_requested_at is None, "a click alone asks for nothing"
    paula.post("/account/erasure", decision="ask", sure="on")
    assert "I want to stay" in paula.html("/account")
    desk = town.sam.html("/staff")
    assert "Close and pay out" in desk and "Erase for good" not in desk and "still open" in desk

    path = f"/staff/people/{paula.user.pk}/erase"
    town.sam.post(path, page="/staff", decision="erase")
    assert User.objects.filter(pk=paula.user.pk).exists(), "not while the account is open"
    town.sam.post(path, page="/staff", decision="close")
    assert "This is not an IBAN" in town.sam.html("/staff")
    town.sam.post(path, page="/staff", decision="close", iban=BANK, holder="Paula")
    assert "wait as a withdrawal" in town.sam.html("/staff")
    (waiting,) = payment_queries.waiting(Direction.OUT)
    assert (waiting.account.index, waiting.iban) == (paula.account, BANK)
    assert "Erase for good" not in town.sam.html("/staff"), "the bank does not have it yet"
    pay_out(town.exchange, user=paula.user, now=NOW)
    with override_settings(BANK_IBAN=BANK):
        file = payouts.make(by=town.sam.user, now=NOW)
    payouts.hand_over(file_id=file.pk, by=town.sam.user, now=NOW)
    assert "Erase for good" in town.sam.html("/staff")
    town.sam.post(path, page="/staff", decision="erase")
    assert not User.objects.filter(pk=paula.user.pk).exists()
    assert "paula" not in town.sam.html("/staff")
    assert paula.get("/account").status_code == 302


def test_who_wants_to_stay_is_not_erased(town: Town) -> None:
    ines = town.person("ines", area="LV1.1").prove()
    ines.post("/account/erasure", page="/account", decision="ask", sure="on")
    ines.post("/account/erasure", page="/account", decision="withdraw")
    assert town.sam.post(f"/staff/people/{ines.user.pk}/erase", page="/staff", decision="close").status_code == 404
    assert not Account.objects.get(index=ines.account).closed_at
    for visitor in (town.alice, town.olga, town.rita):
        assert visitor.client.post(f"/staff/people/{ines.user.pk}/erase").status_code == 403
