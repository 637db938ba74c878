"""`POST /api/v1/orders/block`: all or none over contiguous contracts."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from market.exchange import queries
from market.exchange.units import at_text
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders/block"


def body(city: City, first: int = 1, final: int = 2, **changes: Any) -> dict[str, Any]:
    market = city.market
    fields: dict[str, Any] = {
        "contract": market.contract(first), "last": market.contract(final), "side": "buy", "price": "0.3000",
        "energy_wh": 200,
    }  # fmt: skip
    return {name: value for name, value in (fields | changes).items() if value is not None}


def test_a_block_waits_until_it_can_trade_whole(city: City, alice: Person, bob: Person) -> None:
    one, two = city.market.contract(1), city.market.contract(2)
    alice.order("sell", "0.2000", 200, contract=one)
    made = shaped(bob.request("POST", PATH, json=body(city)), shapes.OrdersAnswer, 201)
    first, second = made.orders
    assert [(o.contract, o.kind, o.group, o.leg, o.legs) for o in made.orders] == [
        (one, "block", first.id, 1, 2), (two, "block", first.id, 2, 2),
    ]  # fmt: skip
    assert [o.status for o in made.orders] == ["open", "open"] and made.trades == [] and made.seq == second.id
    waits = shaped(bob.get(f"/api/v1/orders/{first.id}"), shapes.OrderDetail).order.waiting
    assert waits.code == "block" and two in waits.detail and "200 Wh" in waits.detail
    book = city.olga.get(f"/api/v1/contracts/{two}/book", area="CITY").json()
    assert book["bids"] == [], "it waits outside the book"
    alice.order("sell", "0.2500", 300, contract=two)
    legs = {o.id: o for o in shaped(bob.get("/api/v1/orders"), shapes.OrderPage).results if o.kind == "block"}
    assert [(o.status, o.filled_wh) for o in (legs[first.id], legs[second.id])] == [("filled", 200), ("filled", 200)]
    assert [view.id for view in queries.legs(first.id)] == [first.id, second.id]


def test_trades_name_their_leg(city: City, alice: Person, bob: Person) -> None:
    for ahead in (3, 4):
        alice.order("sell", "0.2000", 100, contract=city.market.contract(ahead))
    made = shaped(bob.request("POST", PATH, json=body(city, 3, 4, energy_wh=100)), shapes.OrdersAnswer, 201)
    assert [o.status for o in made.orders] == ["filled", "filled"]
    assert [(t.order, t.energy_wh) for t in made.trades] == [(o.id, 100) for o in made.orders]
    assert made.seq == made.trades[-1].seq


def test_a_leg_takes_the_block_along(city: City, bob: Person) -> None:
    made = shaped(bob.request("POST", PATH, json=body(city, 5, 6, price="0.0100")), shapes.OrdersAnswer, 201)
    first, second = made.orders
    refused(bob.request("PATCH", f"/api/v1/orders/{second.id}", json={"price": "0.0200"}), 409, "linked_order", "order")
    refused(bob.request("POST", f"/api/v1/orders/{second.id}/hibernate"), 409, "linked_order", "order")
    gone = shaped(bob.request("DELETE", f"/api/v1/orders/{second.id}"), shapes.OrderAnswer)
    assert (gone.order.status, gone.order.reason) == ("cancelled", "owner")
    assert shaped(bob.get(f"/api/v1/orders/{first.id}"), shapes.OrderDetail).order.status == "cancelled"


def test_kill_leaves_no_trace(city: City, alice: Person, bob: Person) -> None:
    alice.order("sell", "0.2000", 100, contract=city.market.contract(7))
    before = city.state()
    json = body(city, 7, 8, energy_wh=100, time_in_force="fok")
    refused(bob.request("POST", PATH, json=json), 422, "fill_or_kill_unfilled", "energy_wh")
    assert city.state() == before


def test_good_till_date(city: City, bob: Person) -> None:
    at = at_text(city.market.clock.at_ms + 60_000)
    json = body(city, 5, 6, price="0.0100", time_in_force="gtd", expires_at=at)
    made = shaped(bob.request("POST", PATH, json=json), shapes.OrdersAnswer, 201)
    assert [o.expires_at for o in made.orders] == [at, at]


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"time_in_force": "ioc"}, 422, "invalid_time_in_force", "time_in_force"),
        ({"time_in_force": "gtd"}, 422, "expiry_invalid", "expires_at"),
        ({"expires_at": "soon"}, 422, "expiry_invalid", "expires_at"),
        ({"last": "2026-06-06T10:00Z"}, 422, "unknown_contract", "last"),
        ({"last": 7}, 400, "invalid_type", "last"),
        ({"display_wh": 5}, 400, "unknown_field", "display_wh"),
        ({"energy_wh": -1}, 422, "energy_out_of_range", "energy_wh"),
        ({"price": "0.20005"}, 422, "price_off_tick", "price"),
    ],
)  # fmt: skip
def test_bad_input_names_its_field(
    city: City, bob: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = city.state()
    refused(bob.request("POST", PATH, json=body(city, 1, 8, **changes)), status, code, field)
    assert city.state() == before


def test_money_for_all_legs(city: City) -> None:
    poor = city.person("poor_in_blocks", area="LV1.2")
    json = body(city, 1, 8, energy_wh=100_000, price="1.0000")  # 800.00 in eight legs
    assert poor.request("POST", PATH, json=json).status_code == 201
    refused(poor.request("POST", PATH, json=json), 422, "insufficient_funds", "energy_wh")


def test_a_repeated_key_gets_the_first_answer(city: City, bob: Person) -> None:
    headers = {"Idempotency-Key": "block-1"}
    json = body(city, 3, 5, price="0.0100")
    first = bob.request("POST", PATH, json=json, headers=headers)
    assert bob.request("POST", PATH, json=json, headers=headers).json() == first.json()
    refused(
        bob.request("POST", PATH, json=json | {"energy_wh": 7}, headers=headers),
        409,
        "idempotency_conflict",
        "energy_wh",
    )
