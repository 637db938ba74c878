"""Money in and out on the pages: what is typed wrongly, sent twice, or asked for by the wrong person."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from market.disputes.models import Dispute
from market.grid import queries as grid
from market.households import erasure
from market.households.models import Role
from market.metering.operations import ReadingIn, record_readings
from market.pages import treasury
from market.pages.context import market_now
from market.pages.templatetags.market import clock, day
from market.pages.templatetags.payments import ms, state_word
from market.payments import operations, queries
from market.payments.models import BankItem, Payment
from tests.bank import BANK, entry, statement
from tests.integration.pages.conftest import NOW, Town

OUT = {"out-amount": "10", "out-iban": "NL91 ABNA 0417 1643 00", "out-holder": "Bob"}


@pytest.fixture(autouse=True)
def bank(settings: Any) -> None:
    settings.BANK_IBAN = BANK


def upload(town: Town, data: bytes) -> Any:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', town.sam.html("/staff/money"))
    assert token
    file = SimpleUploadedFile("day.xml", data, "application/xml")
    return town.sam.client.post("/staff/money/statements", {"csrfmiddlewaretoken": token[1], "file": file})


def test_a_deposit_gets_a_reference_and_counts_only_later(town: Town) -> None:
    wallet = town.state()[1]
    for _ in range(2):
        assert town.charlie.post("/money/deposits", page="/money", once="d1", amount="25.50")["Location"] == "/money"
    [deposit] = Payment.objects.filter(account__index=town.charlie.account)
    assert deposit.amount_e7 == 255_000_000
    html = town.charlie.html("/money")
    assert " ".join(re.findall("....", deposit.reference)) in html and "announced, not here yet" in html
    assert "DE75 5121 0800 1245 1261 99" in html
    assert town.state()[1] == wallet


def test_impossible_amounts_are_refused_at_the_field(town: Town) -> None:
    town.bob.prove()
    for amount in ("", "0", "-5", "0.001", "100000.01", "NaN", "ten"):
        response = town.bob.post("/money/deposits", page="/money", once="d2", amount=amount)
        assert response.status_code == 422, amount
        assert 'id="id_amount_error"' in response.content.decode(), amount
        response = town.bob.post("/money/withdrawals", page="/money", **OUT | {"out-once": "w1", "out-amount": amount})
        assert response.status_code == 422 and 'id="id_out-amount_error"' in response.content.decode(), amount
    for field, value in (("iban", "NL91"), ("holder", "鲍勃")):
        form = OUT | {"out-once": "w2", f"out-{field}": value}
        response = town.bob.post("/money/withdrawals", page="/money", **form)
        assert response.status_code == 422 and f'id="id_out-{field}_error"' in response.content.decode(), field
    response = town.bob.post("/money/withdrawals", page="/money", **OUT | {"out-once": "w3", "out-amount": "99999"})
    assert re.search(r"Only \d+\.\d\d EUR is free to take out\.", response.content.decode())
    assert not Payment.objects.filter(account__index=town.bob.account).exists()


def test_a_withdrawal_sent_twice_leaves_once(town: Town) -> None:
    town.bob.prove()
    for _ in range(2):
        town.bob.post("/money/withdrawals", page="/money", **OUT | {"out-once": "w4"})
    [asked] = Payment.objects.filter(account__index=town.bob.account, direction="out")
    desk = town.sam.html("/staff/money")
    assert "NL91 ABNA 0417 1643 00" in desk and "to Bob" in desk
    town.sam.post(f"/staff/money/payments/{asked.pk}", page="/staff/money", decision="refuse", reason="whim")
    assert "Choose a reason." in town.sam.html("/staff/money")
    town.sam.post(f"/staff/money/payments/{asked.pk}", page="/staff/money", decision="confirm")
    assert "It goes into the next file for the bank." in town.sam.html("/staff/money")
    town.sam.post("/staff/money/payouts", page="/staff/money")
    file = queries.payout_files()[0]
    response = town.sam.get(f"/staff/money/payouts/{file.pk}.xml")
    assert response["Content-Disposition"] == f'attachment; filename="{file.message_id}.xml"'
    assert asked.reference.encode() in response.content
    assert town.alice.get(f"/staff/money/payouts/{file.pk}.xml").status_code == 403
    assert town.sam.get("/staff/money/payouts/99999.xml").status_code == 404


def test_a_decision_about_a_withdrawal_is_of_when_it_was_made(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.bob.prove()
    asked = []
    for n in range(2):
        town.bob.post("/money/withdrawals", page="/money", **OUT | {"out-once": f"later{n}"})
        asked.append(Payment.objects.get(account__index=town.bob.account, once=f"later{n}"))
    decided = market_now() + timedelta(hours=3, minutes=20)
    monkeypatch.setattr(treasury, "market_now", lambda: decided)
    for one in reversed(asked):  # what was asked for last is decided first
        town.sam.post(f"/staff/money/payments/{one.pk}", page="/staff/money", decision="confirm")
        told = grid.decisions(limit=1)[0]
        assert (told.seq, told.at_ms) == (one.seq, ms(decided))
    for path in ("/staff", "/staff/money"):
        assert town.sam.html(path).count(f"{day(ms(decided))} {clock(ms(decided))}</time>") == 2, path


def test_play_money_is_for_the_demo_only(town: Town, settings: Any) -> None:
    wallet = town.state()[1]
    assert "play money" not in town.alice.html("/money")
    assert town.alice.post("/money/top-up", page="/money", once="t1").status_code == 404
    assert town.state()[1] == wallet
    settings.DEMO = True
    for _ in range(2):
        town.alice.post("/money/top-up", page="/money", once="t1")
    [topped] = Payment.objects.filter(account__index=town.alice.account, once="t1")
    assert topped.state == "confirmed"
    assert town.state()[1][0] == wallet[0] + operations.TOP_UP_E7


def test_what_came_is_what_is_confirmed(town: Town) -> None:
    assert town.alice.account is not None
    asked = operations.request_deposit(account_index=town.alice.account, amount_e7=10**8, now=NOW)
    address = f"/staff/money/payments/{asked.pk}"
    town.sam.post(address, page="/staff/money", decision="confirm", arrived="ten")
    asked.refresh_from_db()
    assert asked.state == "requested"
    town.sam.post(address, page="/staff/money", decision="confirm", arrived="9.50")
    asked.refresh_from_db()
    assert (asked.state, asked.amount_e7) == ("confirmed", 95_000_000)
    town.sam.post(address, page="/staff/money", decision="confirm", arrived="9.50")
    assert "has been decided already" in town.sam.html("/staff/money")


def test_a_statement_is_read_and_then_booked_or_discarded(town: Town) -> None:
    before = town.seq()
    response = upload(town, statement(entry("12.00", "no idea &lt;b&gt;", ref="1")))
    html = town.sam.html(response["Location"])
    assert "no idea &lt;b&gt;" in html and "It names no reference of ours." in html
    town.sam.post(response["Location"] + "/decide", page=response["Location"], decision="discard")
    assert town.sam.get(response["Location"])["Location"] == "/staff/money"
    response = upload(town, statement(entry("12.00", "no idea", ref="1")))
    town.sam.post(response["Location"] + "/decide", page=response["Location"], decision="book")
    assert town.seq() == before
    item = BankItem.objects.get(state="open")
    town.sam.post(f"/staff/money/transfers/{item.pk}", page="/staff/money", decision="assign", account="")
    assert "Say which account it is for" in town.sam.html("/staff/money")
    town.sam.post(
        f"/staff/money/transfers/{item.pk}", page="/staff/money", decision="assign", account=str(town.alice.account)
    )
    assert "is in the wallet of account" in town.sam.html("/staff/money")
    for bad in (b"", b"<!DOCTYPE x><x/>", b"\xff\xfe", b"<x/>"):
        assert upload(town, bad).status_code == 422


def test_what_no_account_can_get_is_only_left_aside(town: Town) -> None:
    away = entry("7.00", "booked by mistake", ref="91", direction="DBIT", reversal=True)
    response = upload(town, statement(away, entry("9.00", "hello", ref="92", currency="USD"), id="AWAY"))
    html = town.sam.html(response["Location"])
    # Another currency adds nothing to a sum of ours.
    assert re.search(r"has to be placed by hand</dt><dd>2<small>-[^<]*7\.00[^<]*</small>", html.replace("−", "-"))
    town.sam.post(response["Location"] + "/decide", page=response["Location"], decision="book")
    assert "The bank takes it away again." in town.sam.html("/staff/money")
    for item in BankItem.objects.filter(state="open"):
        form = re.search(
            rf'<form action="/staff/money/transfers/{item.pk}".*?</form>', town.sam.html("/staff/money"), re.S
        )
        assert form and 'value="aside"' in form[0] and 'value="assign"' not in form[0]
        town.sam.post(f"/staff/money/transfers/{item.pk}", page="/staff/money", decision="aside", reason="settled")
    assert not BankItem.objects.filter(state="open").exists()


def test_a_withdrawal_of_a_closed_account_is_sent_elsewhere(town: Town) -> None:
    gone = town.person("gone", area="LV1.1")
    erasure.close_and_pay_out(town.exchange, user=gone.user, now=NOW, iban=BANK, holder="Gone")
    payment = Payment.objects.get(account__index=gone.account)
    address = f"/staff/money/payments/{payment.pk}"

    def shown() -> str:
        form = re.search(rf'<form action="{address}".*?</form>', town.sam.html("/staff/money"), re.S)
        assert form
        return form[0]

    assert 'value="elsewhere"' in shown() and 'value="refuse"' not in shown()
    assert f'name="steps" value="{payment.steps}"' in shown()
    wrong = {"decision": "elsewhere", "iban": "NL91", "holder": "Gone"}
    town.sam.post(address, page="/staff/money", **wrong)
    assert "This is not an IBAN" in town.sam.html("/staff/money")
    town.sam.post(address, page="/staff/money", **wrong | {"decision": "confirm"})
    assert "Another bank account is typed in." in town.sam.html("/staff/money")
    assert operations.find(payment.pk).state == "requested"
    town.sam.post(address, page="/staff/money", **wrong | {"iban": OUT["out-iban"]})
    assert "Somebody else of the staff confirms the other bank account." in town.sam.html("/staff/money")
    assert OUT["out-iban"] in shown() and "You have confirmed it." in shown()
    sue = town.person("sue", role=Role.STAFF)
    sue.post(address, page="/staff/money", decision="confirm", steps=str(payment.steps))
    assert "This payment has been decided already." in sue.html("/staff/money"), "the page is from before"
    sue.post(address, page="/staff/money", decision="confirm", steps=str(payment.steps + 1))
    assert operations.find(payment.pk).state == "confirmed"


def test_a_refused_withdrawal_says_where_the_money_is() -> None:
    words = [
        state_word(Payment(direction="out", state="refused", seq=seq, returned_seq=back))
        for seq, back in ((None, None), (5, None), (5, 6))
    ]
    assert words == [
        "refused, it never left your wallet", "refused, on its way back into your wallet", "refused, back in your wallet",
    ]  # fmt: skip


def test_what_the_staff_sees_of_a_person_is_noted(town: Town) -> None:
    town.bob.prove()
    town.bob.post("/money/withdrawals", page="/money", **OUT | {"out-once": "w5", "out-amount": "1"})
    town.sam.html("/staff/money")
    assert "Name, address and meter number" in town.bob.html("/account")


def test_an_objection_is_answered_and_the_household_is_told(town: Town) -> None:
    contract = town.market.contract()
    town.market.clock.advance(minutes=30)
    town.market.member("LV1.2", deposit_e7=0)
    assert town.alice.account is not None
    reading = ReadingIn(town.alice.account, 900, 100)
    record_readings(
        exchange=town.exchange, contract=contract, area="LV1.1", readings=[reading], now_ms=town.market.clock.at_ms
    )
    form = {"contract": contract, "code": "meter_shows_other", "text": "<i>seven hundred</i>", "import_wh": "0.700"}
    assert town.alice.post("/disputes", **form | {"code": "whim"}).status_code == 422
    assert town.alice.post("/disputes", **form)["Location"] == "/disputes"
    assert "You have contested this already." in town.alice.post("/disputes", **form).content.decode()
    html = town.olga.html("/operator/disputes")
    assert "&lt;i&gt;seven hundred" in html and "700 Wh taken" in html
    asked = Dispute.objects.get().pk
    assert town.rita.post(f"/operator/disputes/{asked}", page="/account", decision="accept").status_code == 403
    answer = {
        "decision": "accept",
        "accepted": "meter_read_again",
        "import_wh": "",
        "export_wh": "0.1",
        "text": "Right.",
    }
    asked_at = f"/operator/disputes/{asked}"
    town.olga.post(asked_at, page="/operator/disputes", **answer)
    assert "Say what the right values are." in town.olga.html("/operator/disputes")
    town.olga.post(asked_at, page="/operator/disputes", **answer | {"import_wh": "0.7"})
    assert "the corrected reading is on the ledger" in town.olga.html("/operator/disputes")
    assert "Your objection has been answered." in town.alice.html("/home")
    html = town.alice.html("/disputes")
    assert "Right." in html and "Your objection has been answered." not in html
    town.alice.post(f"/disputes/{asked}", page="/disputes", decision="close")
    assert "Your objection has been answered." not in town.alice.html("/home")
    assert town.alice.get("/disputes/lines/nonsense")["Location"] == "/statement"
    response = town.alice.post(f"/disputes/lines/{contract}", **form)
    assert "This interval is not settled yet." in response.content.decode()
