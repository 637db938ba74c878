"""`POST /api/v1/orders/basket`: linked fill-or-kill orders, across contracts and accounts of one person."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from market.exchange import operations
from market.households import operations as households
from tests.api.conftest import NOW, City, Person, refused, shaped
from tests.factories import DEPOSIT_E7

PATH = "/api/v1/orders/basket"


def leg(
    city: City, ahead: int, way: str, limit: str = "0.3000", quantity: int = 100, **changes: Any
) -> dict[str, Any]:  # fmt: skip
    """A sound leg with some fields changed; None drops a field."""
    fields = {"contract": city.market.contract(ahead), "side": way, "price": limit, "energy_wh": quantity} | changes
    return {name: value for name, value in fields.items() if value is not None}


def post(person: Person, legs: Any, **kwargs: Any) -> Any:
    return person.request("POST", PATH, json={"legs": legs}, **kwargs)


def test_a_battery_buys_and_sells_or_does_neither(city: City, alice: Person, bob: Person, charlie: Person) -> None:
    alice.order("sell", "0.1000", 100, contract=city.market.contract(1))
    charge, discharge = leg(city, 1, "buy", "0.1500"), leg(city, 3, "sell", "0.2500")
    before = city.state()
    refused(post(bob, [charge, discharge]), 422, "fill_or_kill_unfilled", "legs")
    assert city.state() == before
    charlie.order("buy", "0.4000", 100, contract=city.market.contract(3))
    made = shaped(post(bob, [charge, discharge]), shapes.OrdersAnswer, 201)
    assert [(o.kind, o.side, o.status, o.leg, o.legs) for o in made.orders] == [
        ("basket", "buy", "filled", 1, 2), ("basket", "sell", "filled", 2, 2),
    ]  # fmt: skip
    assert [t.order for t in made.trades] == [o.id for o in made.orders]
    assert made.orders[0].group == made.orders[1].group == made.orders[0].id
    detail = shaped(bob.get(f"/api/v1/orders/{made.orders[1].id}"), shapes.OrderDetail)
    assert (detail.order.filled_wh, detail.order.leg) == (100, 2)


def test_legs_of_my_other_account(city: City, alice: Person, charlie: Person) -> None:
    second = households.open_account(city.exchange, now=NOW, user=charlie.user, area="LV1.2")
    operations.fund(city.exchange, account=second.index, amount_e7=DEPOSIT_E7)
    for ahead in (4, 5):
        alice.order("sell", "0.1000", 100, contract=city.market.contract(ahead))
    legs = [leg(city, 4, "buy"), leg(city, 5, "buy", account=second.account_id)]
    made = shaped(post(charlie, legs), shapes.OrdersAnswer, 201)
    assert [(o.area, o.status) for o in made.orders] == [("LV2.1", "filled"), ("LV1.2", "filled")]


def test_accounts_of_others(city: City, alice: Person, bob: Person) -> None:
    alices = alice.get("/api/v1/me").json()["account_id"]
    before = city.state()
    for stranger in (alices, "0" * 32, "", "x" * 500):
        refused(post(bob, [leg(city, 1, "buy"), leg(city, 2, "buy", account=stranger)]), 422, "not_your_account",
                "legs[1].account")  # fmt: skip
    assert city.state() == before


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"price": "cheap"}, 422, "invalid_price", "legs[1].price"),
        ({"price": 0.2}, 400, "invalid_type", "legs[1].price"),
        ({"price": "0.0000"}, 422, "price_out_of_range", "legs[1].price"),
        ({"price": "0.20001"}, 422, "price_off_tick", "legs[1].price"),
        ({"energy_wh": 0}, 422, "energy_out_of_range", "legs[1].energy_wh"),
        ({"energy_wh": 10**30}, 422, "energy_out_of_range", "legs[1].energy_wh"),
        ({"energy_wh": "9"}, 400, "invalid_type", "legs[1].energy_wh"),
        ({"side": "hold"}, 422, "invalid_side", "legs[1].side"),
        ({"side": None}, 400, "missing_field", "legs[1].side"),
        ({"contract": "tomorrow"}, 422, "unknown_contract", "legs[1].contract"),
        ({"contract": "2031-01-01T00:00Z"}, 422, "unknown_contract", "legs[1].contract"),
        ({"time_in_force": "fok"}, 400, "unknown_field", "legs[1].time_in_force"),
        ({"account": 5}, 400, "invalid_type", "legs[1].account"),
    ],
)  # fmt: skip
def test_bad_legs_are_named(
    city: City, bob: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = city.state()
    refused(post(bob, [leg(city, 1, "buy"), leg(city, 2, "buy", **changes)]), status, code, field)
    assert city.state() == before


def test_how_many_legs(city: City, bob: Person) -> None:
    for legs in ([], [leg(city, 1, "buy")], [leg(city, 1, "buy")] * 101):
        refused(post(bob, legs), 422, "invalid_legs", "legs")
    refused(post(bob, {}), 400, "invalid_type", "legs")
    refused(bob.request("POST", PATH, json={}), 400, "missing_field", "legs")
    refused(post(bob, [leg(city, 1, "buy", "0.0001", 1)] * 100), 422, "fill_or_kill_unfilled", "legs")


def test_a_field_of_a_leg_stands_once(city: City, bob: Person) -> None:
    contract = city.market.contract().encode()
    one = b'{"contract":"%b","side":"buy","price":"0.1000","energy_wh":1,"energy_wh":2}' % contract
    raw = b'{"legs":[%b,%b]}' % (one, one)
    response = bob.request("POST", PATH, content=raw, headers={"Content-Type": "application/json"})
    refused(response, 400, "malformed_json", "energy_wh")


def test_a_repeated_key_names_the_leg_that_differs(city: City, alice: Person, bob: Person) -> None:
    for ahead in (6, 7):
        alice.order("sell", "0.1000", 500, contract=city.market.contract(ahead))
    legs = [leg(city, 6, "buy"), leg(city, 7, "buy")]
    headers = {"Idempotency-Key": "basket-1"}
    first = post(bob, legs, headers=headers)
    assert first.status_code == 201, first.text
    assert post(bob, legs, headers=headers).json() == first.json()
    other = [legs[0], legs[1] | {"price": "0.3100"}]
    refused(post(bob, other, headers=headers), 409, "idempotency_conflict", "legs[1].price")
    refused(post(bob, [*legs, legs[0]], headers=headers), 409, "idempotency_conflict", "legs")
