"""`POST /api/v1/orders/batch`."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders/batch"


def orders(city: City, count: int, **changes: Any) -> list[dict[str, Any]]:
    fields = {"contract": city.market.contract(2), "side": "buy", "price": "0.0100", "energy_wh": 100} | changes
    return [dict(fields) for _ in range(count)]


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_order_gets_its_own_answer(city: City, alice: Person, wrapped: bool) -> None:
    batch = orders(city, 4)
    batch[1]["price"] = "cheap"
    batch[2]["energy_wh"] = 10**7
    answer = shaped(
        alice.request("POST", PATH, json={"orders": batch} if wrapped else batch), shapes.BatchAnswer
    ).results
    assert [item.status for item in answer] == [201, 422, 422, 201]
    assert (answer[1].problem.code, answer[1].problem.field) == ("invalid_price", "price")
    assert (answer[2].problem.code, answer[2].problem.field) == ("energy_out_of_range", "energy_wh")
    assert answer[3].order.id == answer[0].order.id + 1
    assert answer[0].order.status == "open"


def test_an_order_that_cannot_be_read_does_not_hurt_its_neighbours(city: City, alice: Person) -> None:
    batch: list[Any] = orders(city, 3)
    batch[1] = {"side": "buy", "colour": "red"}
    answer = shaped(alice.request("POST", PATH, json=batch), shapes.BatchAnswer).results
    assert [item.status for item in answer] == [201, 400, 201]
    batch[1] = 7
    answer = shaped(alice.request("POST", PATH, json={"orders": batch}), shapes.BatchAnswer).results
    assert [item.status for item in answer] == [201, 400, 201]
    assert answer[1].problem.code == "invalid_type"


def test_orders_of_one_batch_are_taken_in_their_sequence(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(3)
    alice.order("sell", "0.2000", 150, contract=contract)
    answer = shaped(
        bob.request("POST", PATH, json=orders(city, 2, contract=contract, price="0.2000")), shapes.BatchAnswer
    ).results
    assert [(item.order.status, item.order.filled_wh) for item in answer] == [("filled", 100), ("open", 50)]


def test_a_thousand_at_once_and_no_more(city: City, alice: Person) -> None:
    full = shaped(alice.request("POST", PATH, json=orders(city, 1_000, time_in_force="ioc")), shapes.BatchAnswer)
    assert [item.status for item in full.results] == [201] * 1_000
    before = city.state()
    problem = refused(alice.request("POST", PATH, json=orders(city, 1_001)), 422, "batch_size", "orders")
    assert "1000" in problem["detail"]
    refused(alice.request("POST", PATH, json=[]), 422, "batch_size", "orders")
    refused(alice.request("POST", PATH, json={"orders": []}), 422, "batch_size", "orders")
    assert city.state() == before


@pytest.mark.parametrize(
    ("raw", "code", "field"),
    [
        (b"{}", "missing_field", "orders"),
        (b'{"orders":5}', "invalid_type", "orders"),
        (b'{"orders":[],"more":1}', "unknown_field", "more"),
        (b"[", "malformed_json", ""),
        (b"[1,]", "malformed_json", ""),
        (b'"x"', "invalid_type", ""),
        (b"", "malformed_json", ""),
    ],
    ids=repr,
)
def test_what_is_no_batch(city: City, alice: Person, raw: bytes, code: str, field: str) -> None:
    before = city.state()
    response = alice.request("POST", PATH, content=raw, headers={"Content-Type": "application/json"})
    refused(response, 400, code, field)
    assert city.state() == before


def test_a_body_of_ten_megabytes(city: City, alice: Person) -> None:
    response = alice.request("POST", PATH, content=b" " * 10_000_000, headers={"Content-Type": "application/json"})
    refused(response, 413, "body_too_large")


def test_a_repeated_batch_is_done_once(city: City, bob: Person) -> None:
    batch = orders(city, 3)
    batch[1]["side"] = "hold"
    headers = {"Idempotency-Key": "batch-1"}
    first = bob.request("POST", PATH, json=batch, headers=headers)
    before = city.state()
    again = bob.request("POST", PATH, json=batch, headers=headers)
    assert [item["status"] for item in first.json()["results"]] == [201, 422, 201]
    assert again.json() == first.json()
    assert city.state() == before

    batch[1]["side"] = "buy"
    mended = bob.request("POST", PATH, json=batch, headers=headers).json()["results"]
    assert [item["status"] for item in mended] == [201, 201, 201]
    assert [mended[0], mended[2]] == [first.json()["results"][0], first.json()["results"][2]]

    batch[2]["price"] = "0.0200"
    other = bob.request("POST", PATH, json=batch, headers=headers).json()["results"]
    assert (other[2]["status"], other[2]["problem"]["code"]) == (409, "idempotency_conflict")
    assert other[2]["problem"]["field"] == "price"
