"""`Idempotency-Key` on writes: sent again, an order is there once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import City, Person, refused

PATH = "/api/v1/orders"


def body(city: City, **changes: Any) -> dict[str, Any]:
    return {"contract": city.market.contract(2), "side": "buy", "price": "0.0100", "energy_wh": 100} | changes


def test_the_first_answer_comes_again(city: City, alice: Person) -> None:
    headers = {"Idempotency-Key": "a-1"}
    first = alice.request("POST", PATH, json=body(city), headers=headers)
    seq = city.exchange.read(lambda engine: len(engine.orders))
    again = alice.request("POST", PATH, json=body(city), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert city.exchange.read(lambda engine: len(engine.orders)) == seq


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price": "0.0200"}, "price"),
        ({"energy_wh": 200}, "energy_wh"),
        ({"side": "sell"}, "side"),
        ({"time_in_force": "ioc"}, "time_in_force"),
    ],
)
def test_other_content_names_the_field(city: City, alice: Person, change: dict[str, Any], field: str) -> None:
    headers = {"Idempotency-Key": f"b-{field}"}
    assert alice.request("POST", PATH, json=body(city), headers=headers).status_code == 201
    before = city.state()
    refused(alice.request("POST", PATH, json=body(city, **change), headers=headers), 409, "idempotency_conflict", field)
    assert city.state() == before


def test_a_refusal_is_an_answer_too(city: City, alice: Person) -> None:
    headers = {"Idempotency-Key": "c-1"}
    bad = body(city, energy_wh=10**8)
    first = alice.request("POST", PATH, json=bad, headers=headers)
    refused(first, 422, "energy_out_of_range", "energy_wh")
    assert alice.request("POST", PATH, json=bad, headers=headers).content == first.content


def test_keys_belong_to_an_account(city: City, alice: Person, bob: Person) -> None:
    headers = {"Idempotency-Key": "d-1"}
    first = alice.request("POST", PATH, json=body(city), headers=headers).json()
    other = bob.request("POST", PATH, json=body(city), headers=headers).json()
    assert first["order"]["id"] != other["order"]["id"]


def test_a_cancellation_can_be_repeated(city: City, alice: Person) -> None:
    order = alice.order("buy", "0.0100", contract=city.market.contract(2))["order"]
    headers = {"Idempotency-Key": "e-1"}
    first = alice.request("DELETE", f"{PATH}/{order['id']}", headers=headers)
    again = alice.request("DELETE", f"{PATH}/{order['id']}", headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 65, "schlüssel".encode("latin-1"), b"tab\there"], ids=repr)
def test_what_is_no_key(city: City, alice: Person, key: Any) -> None:
    before = city.state()
    response = alice.request("POST", PATH, json=body(city), headers={"Idempotency-Key": key})
    refused(response, 400, "invalid_idempotency_key", "Idempotency-Key")
    assert city.state() == before


def test_the_longest_key(city: City, alice: Person) -> None:
    headers = {"Idempotency-Key": "x" * 64}
    assert alice.request("POST", PATH, json=body(city), headers=headers).status_code == 201
    assert alice.request("POST", PATH + "/batch", json=[body(city)] * 1_000, headers=headers).status_code == 200
