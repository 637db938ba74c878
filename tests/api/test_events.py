"""`GET /api/v1/events?after=`: what happened, as far as the caller may see."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/events"


def events(person: Person, **params: Any) -> list[dict[str, Any]]:
    return shaped(person.get(PATH, **params), shapes.EventPage).results


def test_a_household_sees_its_own(city: City, alice: Person, bob: Person, charlie: Person) -> None:
    start = city.seq() - 1
    contract = city.market.contract(2)
    order = alice.order("sell", "0.2000", 500, contract=contract)["order"]
    taken = bob.order("buy", "0.2100", 200, contract=contract)
    alice.request("PATCH", f"/api/v1/orders/{order['id']}", json={"price": "0.2200"})
    alice.request("DELETE", f"/api/v1/orders/{order['id']}")

    mine = events(alice, after=start)
    assert [(event["type"], event["order"]) for event in mine] == [
        ("order", order["id"]), ("trade", order["id"]), ("amend", order["id"]), ("cancel", order["id"]),
    ]  # fmt: skip
    placed, trade, amended, cancelled = mine
    assert (placed["price"], placed["energy_wh"], placed["side"]) == ("0.2000", 500, "sell")
    assert "expires_at" not in placed
    assert (trade["seq"], trade["price"], trade["amount"]) == (taken["seq"], "0.2000", "0.0400000")
    assert amended["price"] == "0.2200"
    assert (cancelled["remaining_wh"], cancelled["reason"]) == (300, "owner")
    assert all(event["at"].endswith("Z") for event in mine)
    assert [event["seq"] for event in mine] == sorted(event["seq"] for event in mine)
    assert [event["type"] for event in events(bob, after=start)] == ["order", "trade"]
    assert events(charlie, after=start) == []


def test_the_other_side_of_a_trade_stays_unknown(city: City, alice: Person, bob: Person) -> None:
    trades = [event for event in events(alice) if event["type"] == "trade"]
    assert trades
    for event in trades:
        assert not {"buyer", "seller", "maker", "taker", "buy_order", "sell_order", "account"} & set(event)


@pytest.mark.parametrize("name", ["rita", "olga", "sam"])
def test_officials_see_everything(city: City, name: str) -> None:
    person = getattr(city, name)
    page = events(person, limit=5)
    assert [event["seq"] for event in page] == [0, 1, 2, 3, 4]
    assert page[0]["type"] == "genesis"
    assert all("salt" not in event for event in page)
    assert [event["seq"] for event in events(person, after=4, limit=2)] == [5, 6]


def test_following_in_pages(city: City, rita: Person) -> None:
    total = city.seq()
    seen: list[int] = []
    cursor = None
    while True:
        page = shaped(rita.get(PATH, limit=20, **({"cursor": cursor} if cursor else {})), shapes.EventPage)
        seen += [event["seq"] for event in page.results]
        cursor = page.next
        if cursor is None or len(seen) >= total:
            break
    assert seen[:total] == list(range(total))


def test_who_may_not(city: City, alice: Person) -> None:
    refused(city.request("GET", PATH), 401, "not_authenticated")
    refused(city.nora.get(PATH), 403, "no_account")
    refused(alice.request("GET", PATH, key=alice.key_for("trade")), 403, "missing_scope")
    refused(alice.get(PATH, after="x"), 400, "out_of_range", "after")
