"""Deposits, withdrawals and disputes by REST."""

from __future__ import annotations

import pytest

from market.api import shapes
from market.disputes import operations as disputes
from market.metering.operations import ReadingIn, record_readings
from market.payments import operations
from tests.api.conftest import CSRF, HOST, NOW, City, Person, refused, shaped

IBAN = "NL91 ABNA 0417 1643 00"
OUT = {"amount": "12.3456789", "iban": IBAN, "holder": "Bob Müller"}
HEADERS = {"X-CSRFToken": CSRF, "Origin": f"http://{HOST}"}


def test_a_deposit_is_announced_once_and_listed(city: City, alice: Person, bob: Person) -> None:
    key = {"Idempotency-Key": "d-1"}
    made = shaped(
        alice.request("POST", "/api/v1/me/deposits", json={"amount": "25.5"}, headers=key), shapes.Deposit, 201
    )
    assert (made.state, made.announced, made.amount) == ("requested", "25.5000000", "25.5000000")
    again = shaped(
        alice.request("POST", "/api/v1/me/deposits", json={"amount": "25.5"}, headers=key), shapes.Deposit, 201
    )
    assert again.id == made.id
    refused(
        alice.request("POST", "/api/v1/me/deposits", json={"amount": "26"}, headers=key),
        409,
        "idempotency_conflict",
        "amount",
    )
    operations.confirm(city.exchange, payment_id=made.id, by=city.sam.user, now=NOW, arrived_e7=20 * 10**7)
    page = shaped(alice.get("/api/v1/me/deposits"), shapes.DepositPage)
    assert [(one.id, one.state, one.amount, one.announced) for one in page.results] == [
        (made.id, "confirmed", "20.0000000", "25.5000000")
    ]
    assert page.results[0].seq is not None and page.next is None
    assert shaped(bob.get("/api/v1/me/deposits"), shapes.DepositPage).results == []


def test_a_withdrawal_takes_a_person_and_whole_cents(city: City, bob: Person) -> None:
    refused(bob.request("POST", "/api/v1/me/withdrawals", json=OUT), 403, "forbidden")
    cookies = bob.session()
    call = {"json": OUT, "cookies": cookies, "headers": HEADERS | {"Idempotency-Key": "w-1"}}
    made = shaped(city.request("POST", "/api/v1/me/withdrawals", **call), shapes.Withdrawal, 201)
    assert (made.asked, made.amount, made.kept) == ("12.3456789", "12.3400000", "0.0056789")
    assert (made.iban, made.holder, made.state) == ("NL91ABNA0417164300", "Bob Muller", "requested")
    assert shaped(city.request("POST", "/api/v1/me/withdrawals", **call), shapes.Withdrawal, 201).id == made.id
    assert shaped(bob.get("/api/v1/me/balance"), shapes.Balance).free == "987.6600000"
    assert [one.id for one in shaped(bob.get("/api/v1/me/withdrawals"), shapes.WithdrawalPage).results] == [made.id]


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"amount": "5000"}, "insufficient_funds", "amount"),
        ({"amount": "0.001"}, "invalid_amount", "amount"),
        ({"iban": "NL91 ABNA 0417 1643 01"}, "invalid_iban", "iban"),
        ({"holder": "鲍勃"}, "invalid_holder", "holder"),
    ],
)
def test_bad_withdrawals(city: City, bob: Person, change: dict[str, str], code: str, field: str) -> None:
    before = city.state()
    answer = city.request("POST", "/api/v1/me/withdrawals", json=OUT | change, cookies=bob.session(), headers=HEADERS)
    refused(answer, 422, code, field)
    assert city.state() == before


@pytest.mark.parametrize("amount", ["-1", "1,5", "1e3", "", "1.12345678", "NaN"])
def test_amounts_that_are_none(alice: Person, amount: str) -> None:
    response = alice.request("POST", "/api/v1/me/deposits", json={"amount": amount})
    assert response.status_code == 422 and response.json()["field"] == "amount", response.text


def test_lists_come_in_pages(city: City) -> None:
    petra = city.person("petra", area="LV1.2")
    ids = [
        petra.request("POST", "/api/v1/me/deposits", json={"amount": str(n)}).json()["id"] for n in (1, 2, 3)
    ]  # fmt: skip
    first = shaped(petra.get("/api/v1/me/deposits", limit=2), shapes.DepositPage)
    rest = shaped(petra.get("/api/v1/me/deposits", limit=2, cursor=first.next), shapes.DepositPage)
    assert [one.id for one in (*first.results, *rest.results)] == ids[::-1] and rest.next is None


def test_a_reading_is_contested_and_the_answer_closed(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract()
    city.market.clock.advance(minutes=30)
    city.market.member("LV1.2", deposit_e7=0)
    assert alice.account is not None
    reading = ReadingIn(alice.account, 900, 0)
    record_readings(
        exchange=city.exchange, contract=contract, area="LV1.1", readings=[reading], now_ms=city.market.clock.at_ms
    )
    body = {"kind": "reading", "contract": contract, "code": "meter_shows_other", "text": "700", "import_wh": 700}
    refused(alice.request("POST", "/api/v1/me/disputes", json=body), 403, "forbidden")
    made = shaped(alice.by_hand("POST", "/api/v1/me/disputes", json=body), shapes.Dispute, 201)
    refused(alice.by_hand("POST", "/api/v1/me/disputes", json=body), 409, "already_contested", "contract")
    refused(bob.by_hand("POST", f"/api/v1/me/disputes/{made.id}/close"), 404, "unknown_dispute", "dispute")
    refused(alice.by_hand("POST", f"/api/v1/me/disputes/{made.id}/close"), 409, "not_answered", "dispute")
    disputes.decline(dispute_id=made.id, by=city.olga.user, code="reading_confirmed", text="It is 900.", now=NOW)
    path = f"/api/v1/me/disputes/{made.id}"
    again = shaped(alice.by_hand("POST", f"{path}/reopen", json={"text": "no"}), shapes.Dispute)
    assert (again.state, again.reopened) == ("open", True)
    disputes.decline(dispute_id=made.id, by=city.olga.user, code="reading_confirmed", text="Still.", now=NOW)
    refused(alice.by_hand("POST", f"{path}/reopen", json={"text": "no"}), 409, "cannot_reopen", "dispute")
    done = shaped(alice.by_hand("POST", f"{path}/close"), shapes.Dispute)
    assert [(step.by, step.text) for step in done.steps] == [
        ("household", "700"), ("operator", "It is 900."), ("household", "no"), ("operator", "Still."), ("household", ""),
    ]  # fmt: skip
    assert [one.id for one in shaped(alice.get("/api/v1/me/disputes"), shapes.DisputePage).results] == [made.id]
    assert shaped(bob.get("/api/v1/me/disputes"), shapes.DisputePage).results == []
