"""`POST /api/v1/orders/{id}/hibernate` and `/reactivate`."""

from __future__ import annotations

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders"


def change(person: Person, order: int, action: str, **kwargs: object) -> object:
    return person.request("POST", f"{PATH}/{order}/{action}", **kwargs)


def test_asleep_it_neither_trades_nor_holds_money(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(1)
    held = bob.get("/api/v1/me/balance").json()["held"]
    order = bob.order("buy", "0.3000", 500, contract=contract)["order"]["id"]
    asleep = shaped(change(bob, order, "hibernate"), shapes.OrderAnswer)
    assert (asleep.order.status, asleep.order.remaining_wh, asleep.trades) == ("hibernated", 500, [])
    assert asleep.seq == asleep.order.changed_seq
    assert bob.get("/api/v1/me/balance").json()["held"] == held
    assert alice.order("sell", "0.2000", 200, contract=contract)["trades"] == []
    detail = shaped(bob.get(f"{PATH}/{order}"), shapes.OrderDetail).order
    assert (detail.status, detail.waiting.code) == ("hibernated", "hibernated")
    listed = shaped(bob.get(PATH, state="hibernated"), shapes.OrderPage).results
    assert [o.id for o in listed] == [order]
    assert order not in [o["id"] for o in bob.get(PATH, state="open").json()["results"]]

    awake = shaped(change(bob, order, "reactivate"), shapes.OrderAnswer)
    assert (awake.order.status, awake.order.filled_wh, awake.order.remaining_wh) == ("open", 200, 300)
    assert [(t.price, t.energy_wh) for t in awake.trades] == [("0.2000", 200)]
    kinds = [e["type"] for e in bob.get("/api/v1/events", after=asleep.seq - 1).json()["results"]]
    assert kinds == ["hibernate", "reactivate", "trade"]


def test_what_cannot_be_done(city: City, alice: Person, bob: Person) -> None:
    order = bob.order("buy", "0.0100", 500, contract=city.market.contract(2))["order"]["id"]
    refused(change(bob, order, "reactivate"), 409, "not_hibernated", "order")
    refused(change(alice, order, "hibernate"), 404, "unknown_order", "order")
    refused(change(bob, 10**15, "hibernate"), 404, "unknown_order", "order")
    shaped(change(bob, order, "hibernate"), shapes.OrderAnswer)
    refused(change(bob, order, "hibernate"), 409, "order_hibernated", "order")
    refused(bob.request("PATCH", f"{PATH}/{order}", json={"price": "0.0200"}), 409, "order_hibernated", "order")
    gone = shaped(bob.request("DELETE", f"{PATH}/{order}"), shapes.OrderAnswer).order
    assert (gone.status, gone.reason) == ("cancelled", "owner")
    refused(change(bob, order, "reactivate"), 409, "order_not_open", "order")


def test_addresses_and_methods(city: City, bob: Person) -> None:
    order = bob.order("buy", "0.0100", 500, contract=city.market.contract(3))["order"]["id"]
    refused(bob.request("GET", f"{PATH}/{order}/hibernate"), 405, "method_not_allowed")
    refused(change(bob, order, "sleep"), 404, "not_found")
    refused(bob.request("POST", f"{PATH}/{order}/"), 404, "not_found")
    refused(bob.request("POST", f"{PATH}/x/hibernate"), 404, "not_found")
    refused(change(bob, order, "hibernate", key=bob.key_for("read")), 403, "missing_scope")
    refused(bob.request("POST", f"{PATH}/{order}/hibernate?now=1"), 400, "unknown_field", "now")


def test_a_repeated_key_sleeps_once(city: City, bob: Person) -> None:
    order = bob.order("buy", "0.0100", 500, contract=city.market.contract(4))["order"]["id"]
    headers = {"Idempotency-Key": "sleep-1"}
    first = shaped(change(bob, order, "hibernate", headers=headers), shapes.OrderAnswer)
    again = change(bob, order, "hibernate", headers=headers)
    assert shaped(again, shapes.OrderAnswer) == first
    assert again.headers["idempotency-replayed"] == "true"
    refused(change(bob, order, "reactivate", headers=headers), 409, "idempotency_conflict", "type")
