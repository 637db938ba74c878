"""`/api/v1/regulator/…`: Rita searches everything and learns nobody's name."""

from __future__ import annotations

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

BASE = "/api/v1/regulator"


def test_orders_and_trades_of_everybody(city: City, alice: Person, bob: Person, rita: Person) -> None:
    contract = city.market.contract(2)
    sold = alice.order("sell", "0.2000", 500, contract=contract)["order"]["id"]
    bought = bob.order("buy", "0.2000", 200, contract=contract)
    page = shaped(rita.get(f"{BASE}/orders", contract=contract), shapes.SearchedOrderPage)
    assert [(order.id, order.account, order.filled_wh) for order in page.results] == [
        (bought["order"]["id"], bob.account, 200), (sold, alice.account, 200),
    ]  # fmt: skip
    (trade,) = shaped(rita.get(f"{BASE}/trades", account=alice.account), shapes.SearchedTradePage).results
    assert (trade.buyer, trade.seller, trade.buy_order, trade.sell_order) == (
        bob.account, alice.account, bought["order"]["id"], sold,
    )  # fmt: skip
    assert (trade.buy_area, trade.sell_area) == ("LV1.1", "LV1.1")
    one = shaped(rita.get(f"{BASE}/orders", limit=1), shapes.SearchedOrderPage)
    two = shaped(rita.get(f"{BASE}/orders", limit=1, cursor=one.next), shapes.SearchedOrderPage)
    assert [order.id for order in one.results + two.results] == [bought["order"]["id"], sold]
    assert shaped(rita.get(f"{BASE}/orders", account=99_999), shapes.SearchedOrderPage).results == []
    for path in ("orders", "trades"):
        text = rita.get(f"{BASE}/{path}").text
        assert not any(name in text for name in ("alice", "bob", "charlie"))


def test_what_was_refused(city: City, alice: Person, rita: Person) -> None:
    body = {"contract": city.market.contract(2), "side": "buy", "price": "0.0100", "energy_wh": 10**8}
    refused(alice.request("POST", "/api/v1/orders", json=body), 422, "energy_out_of_range", "energy_wh")
    newest = shaped(rita.get(f"{BASE}/refusals", account=alice.account), shapes.RefusalPage).results[0]
    assert (newest.code, newest.field, newest.account) == ("energy_out_of_range", "energy_wh", alice.account)
    assert newest.command[0] == "PlaceOrder"


@pytest.mark.parametrize("path", ["orders", "trades", "refusals"])
def test_nobody_else(city: City, path: str) -> None:
    for person in (city.alice, city.olga, city.nora):
        refused(person.get(f"{BASE}/{path}"), 403, "forbidden")
    refused(city.request("GET", f"{BASE}/{path}"), 401, "not_authenticated")
    assert city.sam.get(f"{BASE}/{path}").status_code == 200


@pytest.mark.parametrize("path", ["orders", "trades", "refusals"])
def test_bad_questions(city: City, rita: Person, path: str) -> None:
    refused(rita.get(f"{BASE}/{path}", account="x"), 400, "out_of_range", "account")
    refused(rita.get(f"{BASE}/{path}", account=str(2**70)), 400, "out_of_range", "account")
    refused(rita.get(f"{BASE}/{path}", cursor="zzz"), 400, "invalid_cursor", "cursor")
    refused(rita.get(f"{BASE}/{path}", name="alice"), 400, "unknown_field", "name")
