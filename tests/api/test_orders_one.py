"""`GET/PATCH/DELETE /api/v1/orders/{id}`, `GET` and `DELETE /api/v1/orders`."""

from __future__ import annotations

import pytest

from market.api import shapes
from market.exchange.outcomes import NotRunning
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders"


def test_an_order_is_its_owners_alone(city: City, alice: Person, charlie: Person) -> None:
    order = alice.order("sell", "0.9000", contract=city.market.contract(1))["order"]
    before = city.state()
    for method, kwargs in (("GET", {}), ("PATCH", {"json": {"price": "0.1000"}}), ("DELETE", {})):
        theirs = refused(charlie.request(method, f"{PATH}/{order['id']}", **kwargs), 404, "unknown_order", "order")
        nobodys = refused(charlie.request(method, f"{PATH}/999999999", **kwargs), 404, "unknown_order", "order")
        assert theirs == nobodys
    assert city.state() == before
    assert shaped(alice.get(f"{PATH}/{order['id']}"), shapes.OrderDetail).order.id == order["id"]


def test_a_lower_price_can_meet_a_buyer(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(1)
    bid = bob.order("buy", "0.3000", 500, contract=contract)["order"]
    order = alice.order("sell", "0.5000", 800, contract=contract)["order"]
    changed = shaped(alice.request("PATCH", f"{PATH}/{order['id']}", json={"price": "0.2500"}), shapes.OrderAnswer)
    assert (changed.order.price, changed.order.filled_wh, changed.order.remaining_wh) == ("0.2500", 500, 300)
    assert [(trade.price, trade.energy_wh) for trade in changed.trades] == [("0.3000", 500)]
    assert changed.seq == changed.trades[0].seq
    assert bob.get(f"{PATH}/{bid['id']}").json()["order"]["status"] == "filled"


def test_a_smaller_quantity(city: City, alice: Person) -> None:
    order = alice.order("sell", "0.9000", 800, contract=city.market.contract(2))["order"]
    changed = shaped(alice.request("PATCH", f"{PATH}/{order['id']}", json={"energy_wh": 300}), shapes.OrderAnswer)
    assert (changed.order.energy_wh, changed.order.remaining_wh, changed.order.status) == (300, 300, "open")


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({}, 422, "nothing_to_change", ""),
        ({"price": "0.9000"}, 422, "nothing_to_change", "price"),
        ({"price": "0.0000"}, 422, "price_out_of_range", "price"),
        ({"price": "-0.0001"}, 422, "price_out_of_range", "price"),
        ({"price": "1.00001"}, 422, "price_off_tick", "price"),
        ({"price": 1}, 400, "invalid_type", "price"),
        ({"energy_wh": 0}, 422, "energy_out_of_range", "energy_wh"),
        ({"energy_wh": -1}, 422, "energy_out_of_range", "energy_wh"),
        ({"energy_wh": 10**40}, 422, "energy_out_of_range", "energy_wh"),
        ({"energy_wh": "5"}, 400, "invalid_type", "energy_wh"),
        ({"side": "buy"}, 400, "unknown_field", "side"),
    ],
)
def test_bad_changes(city: City, alice: Person, change: dict[str, object], status: int, code: str, field: str) -> None:
    order = alice.order("sell", "0.9000", contract=city.market.contract(3))["order"]
    before = city.state()
    refused(alice.request("PATCH", f"{PATH}/{order['id']}", json=change), status, code, field)
    assert city.state() == before


def test_an_order_is_taken_back_once(city: City, alice: Person) -> None:
    order = alice.order("sell", "0.9000", contract=city.market.contract(4))["order"]
    gone = shaped(alice.request("DELETE", f"{PATH}/{order['id']}"), shapes.OrderAnswer)
    assert (gone.order.status, gone.order.reason, gone.order.remaining_wh) == ("cancelled", "owner", 0)
    assert gone.seq == gone.order.changed_seq > order["id"]
    refused(alice.request("DELETE", f"{PATH}/{order['id']}"), 409, "order_not_open", "order")
    refused(alice.request("PATCH", f"{PATH}/{order['id']}", json={"price": "0.8000"}), 409, "order_not_open", "order")


def test_all_orders_of_a_contract_are_taken_back(city: City, bob: Person) -> None:
    here, there = city.market.contract(5), city.market.contract(6)
    mine = [bob.order("buy", "0.0100", contract=here)["order"]["id"] for _ in range(3)]
    other = bob.order("buy", "0.0100", contract=there)["order"]["id"]
    answer = shaped(bob.request("DELETE", f"{PATH}?contract={here}"), shapes.CancelledAll)
    assert answer.cancelled == mine
    assert bob.get(f"{PATH}/{other}").json()["order"]["status"] == "open"
    everything = shaped(bob.request("DELETE", PATH), shapes.CancelledAll)
    assert other in everything.cancelled
    assert shaped(bob.request("DELETE", PATH), shapes.CancelledAll) == shapes.CancelledAll([], None)


@pytest.mark.parametrize("query", ["contract=", "contract=tomorrow", "contract=2031-01-01T00:00Z"])
def test_taking_back_all_of_a_misspelt_contract_takes_back_nothing(city: City, bob: Person, query: str) -> None:
    bob.order("buy", "0.0100", contract=city.market.contract(5))
    before = city.state()
    refused(bob.request("DELETE", f"{PATH}?{query}"), 422, "unknown_contract", "contract")
    assert city.state() == before


def test_my_orders_in_pages(city: City) -> None:
    dora = city.person("dora", area="LV1.2")
    contract = city.market.contract(6)
    ids = [dora.order("buy", "0.0100", contract=contract)["order"]["id"] for _ in range(5)]
    dora.request("DELETE", f"{PATH}/{ids[2]}")

    seen, cursor = [], None
    for _ in range(4):
        page = shaped(dora.get(PATH, limit=2, **({"cursor": cursor} if cursor else {})), shapes.OrderPage)
        assert len(page.results) <= 2
        seen += [order.id for order in page.results]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ids[::-1]

    opened = shaped(dora.get(PATH, state="open"), shapes.OrderPage)
    assert [order.id for order in opened.results] == [i for i in ids[::-1] if i != ids[2]]
    cancelled = shaped(dora.get(PATH, state="cancelled", contract=contract), shapes.OrderPage)
    assert [order.id for order in cancelled.results] == [ids[2]]
    assert shaped(dora.get(PATH, contract=city.market.contract(1)), shapes.OrderPage).results == []
    first = shaped(dora.get(PATH, state="open", limit=1), shapes.OrderPage)
    rest = shaped(dora.get(PATH, state="open", cursor=first.next), shapes.OrderPage)
    assert [order.id for order in first.results + rest.results] == [order.id for order in opened.results]


def test_an_old_open_order_is_listed_however_many_finished_ones_came_after(city: City) -> None:
    emil = city.person("emil", area="LV1.2")
    contract, other = city.market.contract(6), city.market.contract(5)
    old, asleep, elsewhere = (
        emil.order("buy", "0.0100", contract=c)["order"]["id"] for c in (contract, contract, other)
    )
    emil.request("POST", f"{PATH}/{asleep}/hibernate")
    for _ in range(12):
        emil.order("buy", "0.0100", contract=contract, time_in_force="ioc")
    for state, wanted in (("open", old), ("hibernated", asleep)):
        page = shaped(emil.get(PATH, state=state, contract=contract, limit=1), shapes.OrderPage)
        assert ([order.id for order in page.results], page.next) == ([wanted], None)
    first = shaped(emil.get(PATH, state="open", limit=1), shapes.OrderPage)
    second = shaped(emil.get(PATH, state="open", limit=1, cursor=first.next), shapes.OrderPage)
    assert [order.id for order in first.results + second.results] == [elsewhere, old]
    assert second.next is None
    assert shaped(city.bob.get(PATH, state="open", contract=contract), shapes.OrderPage).results == []


def test_open_orders_are_listed_while_the_engine_cannot_be_asked(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    frida = city.person("frida", area="LV1.2")
    order = frida.order("buy", "0.0100", contract=city.market.contract(6))["order"]["id"]

    def stopped(fn: object) -> None:
        raise NotRunning("for the test")

    monkeypatch.setattr(city.exchange, "read", stopped)
    page = shaped(frida.get(PATH, state="open"), shapes.OrderPage)
    assert [(found.id, found.waiting) for found in page.results] == [(order, None)]


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("limit=0", 400, "out_of_range", "limit"),
        ("limit=501", 400, "out_of_range", "limit"),
        ("limit=ten", 400, "out_of_range", "limit"),
        ("limit=", 400, "out_of_range", "limit"),
        ("limit=1&limit=2", 400, "invalid_value", "limit"),
        ("limit=" + "9" * 30, 400, "out_of_range", "limit"),
        ("cursor=x", 400, "invalid_cursor", "cursor"),
        ("cursor=czEyMw", 400, "invalid_cursor", "cursor"),
        ("cursor=%00", 400, "invalid_cursor", "cursor"),
        ("state=lost", 400, "invalid_value", "state"),
        ("contract=x", 422, "unknown_contract", "contract"),
        ("colour=red", 400, "unknown_field", "colour"),
        ("%ff=1", 400, "bad_request", ""),
    ],
)
def test_bad_lists(alice: Person, query: str, status: int, code: str, field: str) -> None:
    refused(alice.request("GET", f"{PATH}?{query}"), status, code, field)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", PATH, "GET, POST, DELETE"),
        ("GET", PATH + "/batch", "POST"),
        ("POST", PATH + "/5", "GET, PATCH, DELETE"),
        ("OPTIONS", PATH, "GET, POST, DELETE"),
    ],
)
def test_other_methods(alice: Person, method: str, path: str, allow: str) -> None:
    response = alice.request(method, path)
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize("rest", ["/", "/x", "/-1", "/1/2", "/٣", "/99999999999999999", "/batch/"])
def test_addresses_that_do_not_exist(alice: Person, rest: str) -> None:
    refused(alice.get(PATH + rest), 404, "not_found")


def test_head_is_get_without_a_body(alice: Person) -> None:
    assert alice.request("HEAD", PATH).status_code == 200
