"""`POST /api/v1/orders/sweep`: at once, over several contracts, best price first."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders/sweep"


def body(city: City, first: int = 1, final: int = 3, **changes: Any) -> dict[str, Any]:
    market = city.market
    fields: dict[str, Any] = {
        "contract": market.contract(first), "last": market.contract(final), "side": "buy", "price": "0.3000",
        "energy_wh": 1_000,
    }  # fmt: skip
    return {name: value for name, value in (fields | changes).items() if value is not None}


def test_it_takes_the_best_wherever_it_is(city: City, alice: Person, bob: Person) -> None:
    one, two, three = (city.market.contract(ahead) for ahead in (1, 2, 3))
    for contract, price in ((one, "0.2500"), (two, "0.1500"), (three, "0.3500")):
        alice.order("sell", price, 300, contract=contract)
    answer = shaped(bob.request("POST", PATH, json=body(city)), shapes.OrderAnswer, 201)
    assert [(t.contract, t.price, t.energy_wh) for t in answer.trades] == [(two, "0.1500", 300), (one, "0.2500", 300)]
    order = answer.order
    assert (order.kind, order.contract, order.last, order.time_in_force) == ("sweep", one, three, "ioc")
    assert (order.status, order.reason, order.filled_wh, order.remaining_wh) == ("cancelled", "ioc", 600, 0)
    assert answer.seq == order.changed_seq
    detail = shaped(bob.get(f"/api/v1/orders/{order.id}"), shapes.OrderDetail)
    assert (detail.order.filled_wh, detail.order.last, detail.order.waiting) == (600, three, None)
    assert [(t.contract, t.seq) for t in detail.trades] == [(t.contract, t.seq) for t in answer.trades]
    listed = shaped(bob.get("/api/v1/orders"), shapes.OrderPage).results[0]
    assert (listed.id, listed.filled_wh, listed.kind) == (order.id, 600, "sweep")
    positions = {p["contract"]: p["bought_wh"] for p in bob.get("/api/v1/me/positions").json()["results"]}
    assert (positions[one], positions[two]) == (300, 300)


def test_filled_at_once(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(4)
    alice.order("sell", "0.1000", 50, contract=contract)
    answer = shaped(bob.request("POST", PATH, json=body(city, 4, 4, energy_wh=20)), shapes.OrderAnswer, 201)
    assert (answer.order.status, answer.order.filled_wh) == ("filled", 20)


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"last": None}, 400, "missing_field", "last"),
        ({"last": "tomorrow"}, 422, "unknown_contract", "last"),
        ({"last": "2031-01-01T00:00Z"}, 422, "unknown_contract", "last"),
        ({"contract": "2031-01-01T00:00Z"}, 422, "unknown_contract", "contract"),
        ({"side": "hold"}, 422, "invalid_side", "side"),
        ({"price": "cheap"}, 422, "invalid_price", "price"),
        ({"price": 0.2}, 400, "invalid_type", "price"),
        ({"energy_wh": 0}, 422, "energy_out_of_range", "energy_wh"),
        ({"time_in_force": "gtg"}, 400, "unknown_field", "time_in_force"),
    ],
)  # fmt: skip
def test_bad_input_names_its_field(
    city: City, bob: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = city.state()
    refused(bob.request("POST", PATH, json=body(city, 5, 6, **changes)), status, code, field)
    assert city.state() == before


def test_with_nothing_to_take_it_is_cancelled_whole(city: City, bob: Person) -> None:
    order = shaped(bob.request("POST", PATH, json=body(city, 5, 6)), shapes.OrderAnswer, 201).order
    assert (order.status, order.reason, order.filled_wh) == ("cancelled", "ioc", 0)


def test_the_last_contract_comes_last(city: City, bob: Person) -> None:
    refused(bob.request("POST", PATH, json=body(city, 3, 2)), 422, "invalid_span", "last")


def test_a_field_stands_once(city: City, bob: Person) -> None:
    contract = city.market.contract()
    raw = b'{"contract":"%b","last":"%b","last":"%b","side":"buy","price":"0.1000","energy_wh":1}' % (
        (contract.encode(),) * 3
    )
    response = bob.request("POST", PATH, content=raw, headers={"Content-Type": "application/json"})
    refused(response, 400, "malformed_json", "last")


def test_a_repeated_key_sweeps_once(city: City, alice: Person, bob: Person) -> None:
    alice.order("sell", "0.1000", 500, contract=city.market.contract(7))
    headers = {"Idempotency-Key": "sweep-1"}
    first = bob.request("POST", PATH, json=body(city, 7, 8, energy_wh=50), headers=headers)
    assert first.json()["order"]["filled_wh"] == 50
    assert bob.request("POST", PATH, json=body(city, 7, 8, energy_wh=50), headers=headers).json() == first.json()
    other = bob.request("POST", PATH, json=body(city, 7, 7, energy_wh=50), headers=headers)
    refused(other, 409, "idempotency_conflict", "last")


def test_reading_keys_may_not(city: City, bob: Person) -> None:
    refused(bob.request("POST", PATH, json=body(city), key=bob.key_for("read")), 403, "missing_scope")
    refused(bob.request("GET", PATH), 405, "method_not_allowed")
