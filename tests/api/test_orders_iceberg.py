"""Icebergs: `display_wh` in `POST /api/v1/orders` and in a batch."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders"


def body(contract: str, **changes: Any) -> dict[str, Any]:
    """A sound iceberg with some fields changed; None drops a field."""
    fields: dict[str, Any] = {
        "contract": contract, "side": "sell", "price": "0.2000", "energy_wh": 1_000, "display_wh": 100,
    }  # fmt: skip
    return {name: value for name, value in (fields | changes).items() if value is not None}


def asks(city: City, contract: str) -> list[tuple[str, int]]:
    page = city.olga.get(f"/api/v1/contracts/{contract}/book", area="CITY").json()
    return [(level["price"], level["energy_wh"]) for level in page["asks"]]


def test_the_book_shows_a_clip_and_takers_get_all(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(1)
    made = shaped(alice.request("POST", PATH, json=body(contract)), shapes.OrderAnswer, 201)
    assert (made.order.kind, made.order.display_wh, made.order.energy_wh) == ("iceberg", 100, 1_000)
    assert (made.order.status, made.order.remaining_wh) == ("open", 1_000)
    assert asks(city, contract) == [("0.2150", 100)]
    answer = bob.order("buy", "0.2000", 250, contract=contract)
    assert answer["order"]["status"] == "filled" and [t["energy_wh"] for t in answer["trades"]] == [100, 100, 50]
    detail = shaped(alice.get(f"{PATH}/{made.order.id}"), shapes.OrderDetail).order
    assert (detail.kind, detail.filled_wh, detail.remaining_wh, detail.visible_wh) == ("iceberg", 250, 750, 50)
    assert asks(city, contract) == [("0.2150", 50)]


def test_an_iceberg_trades_at_once_when_it_can(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(2)
    bob.order("buy", "0.3000", 400, contract=contract)
    made = shaped(alice.request("POST", PATH, json=body(contract)), shapes.OrderAnswer, 201)
    assert [(t.price, t.energy_wh) for t in made.trades] == [("0.3000", 400)]
    assert (made.order.filled_wh, made.order.remaining_wh, made.order.changed_seq) == (400, 600, made.trades[0].seq)
    assert made.seq == made.trades[0].seq


def test_plain_orders_do_not_speak_of_it(city: City, alice: Person) -> None:
    answer = alice.order("sell", "0.9000", contract=city.market.contract(3))
    more = {"kind", "last", "display_wh", "visible_wh", "group", "leg", "legs"}
    assert not more & answer["order"].keys()
    assert not more & alice.get(f"{PATH}/{answer['order']['id']}").json()["order"].keys()


def test_icebergs_in_a_batch(city: City, alice: Person) -> None:
    contract = city.market.contract(4)
    orders = [body(contract), body(contract, display_wh=None), body(contract, display_wh=5)]
    page = shaped(alice.request("POST", f"{PATH}/batch", json=orders), shapes.BatchAnswer)
    first, second, third = page.results
    assert (first.status, first.order.kind, second.status, third.status) == (201, "iceberg", 201, 422)
    assert (third.problem.code, third.problem.field) == ("display_out_of_range", "display_wh")


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"display_wh": 0}, 422, "display_out_of_range", "display_wh"),
        ({"display_wh": -5}, 422, "display_out_of_range", "display_wh"),
        ({"display_wh": 1_000}, 422, "display_out_of_range", "display_wh"),
        ({"display_wh": 9}, 422, "display_out_of_range", "display_wh"),
        ({"display_wh": 10**30}, 422, "display_out_of_range", "display_wh"),
        ({"display_wh": "100"}, 400, "invalid_type", "display_wh"),
        ({"display_wh": 100.0}, 400, "invalid_type", "display_wh"),
        ({"time_in_force": "ioc"}, 422, "invalid_time_in_force", "time_in_force"),
        ({"time_in_force": "gtd"}, 422, "expiry_invalid", "expires_at"),
    ],
)  # fmt: skip
def test_bad_icebergs_change_nothing(
    city: City, alice: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = city.state()
    refused(alice.request("POST", PATH, json=body(city.market.contract(5), **changes)), status, code, field)
    assert city.state() == before


def test_amend_and_cancel(city: City, alice: Person) -> None:
    contract = city.market.contract(6)
    order = alice.request("POST", PATH, json=body(contract, price="0.7000")).json()["order"]["id"]
    changed = shaped(alice.request("PATCH", f"{PATH}/{order}", json={"energy_wh": 600}), shapes.OrderAnswer).order
    assert (changed.energy_wh, changed.kind, changed.display_wh) == (600, "iceberg", 100)
    gone = shaped(alice.request("DELETE", f"{PATH}/{order}"), shapes.OrderAnswer).order
    assert (gone.status, gone.remaining_wh) == ("cancelled", 0)


def test_a_repeated_key_gets_the_first_answer(city: City, alice: Person) -> None:
    headers = {"Idempotency-Key": "iceberg-1"}
    contract = city.market.contract(7)
    first = alice.request("POST", PATH, json=body(contract, price="0.8000"), headers=headers)
    again = alice.request("POST", PATH, json=body(contract, price="0.8000"), headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = alice.request("POST", PATH, json=body(contract, price="0.8000", display_wh=200), headers=headers)
    refused(other, 409, "idempotency_conflict", "display_wh")
