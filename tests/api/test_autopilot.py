"""`/api/v1/me/autopilot`: limits, in force at once, and what came of them."""

from __future__ import annotations

from typing import Any

import pytest

from market.agents import members, operations, queries
from market.agents.models import Autopilot, PlacedOrder
from market.api import shapes
from market.exchange import operations as exchange_operations
from market.exchange.outcomes import Overloaded
from market.households.models import Account, Device, DeviceKind, Home
from tests.api.conftest import NOW, City, Person, refused, shaped
from tests.integration.test_autopilot_agents import meter

PATH = "/api/v1/me/autopilot"
OFF = {
    "on": False,
    "sell_from": None,
    "buy_to": None,
    "reserve_percent": 0,
    "has_battery": False,
    "open_orders": 0,
    "cancelled": 0,
    "waits_for": None,
    "today": {"orders": 0, "sold_wh": 0, "sold": "0.0000000", "bought_wh": 0, "bought": "0.0000000"},
}


@pytest.fixture
def ada(city: City) -> Person:
    """A household of each test's own."""
    return city.person(f"ada-{Account.objects.count()}", area="LV1.1")


def patch(person: Person, **fields: Any) -> dict[str, Any]:
    response = person.request("PATCH", PATH, json=fields)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def placed(person: Person, side: str, price: str, energy_wh: int = 1_000, ahead: int = 2) -> int:
    """Place an order as the autopilot does, and return its id."""
    market = person.city.market
    outcome = market.place(person.account, side, price, energy_wh, contract=market.contract(ahead))
    event = outcome.events[0]
    operations.note([operations.Placed(event.seq, person.account, event.contract, event.at_ms)])
    return event.seq


def waiting(person: Person) -> set[int]:
    return person.city.exchange.read(lambda engine: set(engine.accounts[person.account].open_ids))


def test_it_is_off_until_somebody_asks(ada: Person) -> None:
    assert ada.get(PATH).json() == OFF


def test_what_is_left_out_stays(ada: Person) -> None:
    assert patch(ada, on=True, sell_from="0.1200", buy_to="0.25") == OFF | {
        "on": True, "sell_from": "0.1200", "buy_to": "0.2500", "waits_for": "readings",
    }  # fmt: skip
    assert ada.get("/api/v1/me").json()["automatic"] is True
    assert patch(ada, sell_from=None) == OFF | {"on": True, "buy_to": "0.2500", "waits_for": "readings"}
    assert patch(ada) == OFF | {"on": True, "buy_to": "0.2500", "waits_for": "readings"}
    assert patch(ada, on=False) == OFF | {"buy_to": "0.2500"}


# --- two at the same time -------------------------------------------------------------------------------------------
def test_who_changes_what_somebody_else_has_changed_is_told(ada: Person) -> None:
    tag = ada.get(PATH).headers["ETag"]
    first = ada.request("PATCH", PATH, json={"sell_from": "0.2000"}, headers={"If-Match": tag})
    assert first.status_code == 200 and first.headers["ETag"] != tag
    assert ada.get(PATH).headers["ETag"] == first.headers["ETag"]
    for stale in (tag, '"99"', f"W/{first.headers['ETag']}", "cheap"):
        late = ada.request("PATCH", PATH, json={"sell_from": "0.3000", "on": True}, headers={"If-Match": stale})
        refused(late, 412, "changed_meanwhile", "If-Match")
    assert ada.get(PATH).json() == OFF | {"sell_from": "0.2000"}
    now = ada.request("PATCH", PATH, json={"sell_from": "0.3000"}, headers={"If-Match": first.headers["ETag"]})
    assert now.json()["sell_from"] == "0.3000"
    switched = ada.request("PATCH", PATH, json={"on": True}, headers={"If-Match": now.headers["ETag"]})
    assert switched.headers["ETag"] != now.headers["ETag"], "the switch is a setting, too"
    same = ada.request("PATCH", PATH, json={"on": True, "sell_from": "0.3"}, headers={"If-Match": "*"})
    assert same.headers["ETag"] == switched.headers["ETag"], "nothing was changed"


def test_two_who_change_different_limits_lose_neither(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes while the first one is being worked on; both know nothing of each other."""
    bounds, other = operations._bounds, []

    def meanwhile(engine: Any) -> Any:
        if not other:
            other.append(True)
            Autopilot.objects.update_or_create(user=ada.user, defaults={"buy_to_e4": 2_500})
        return bounds(engine)

    monkeypatch.setattr(operations, "_bounds", meanwhile)
    answer = patch(ada, sell_from="0.2000")
    assert (answer["sell_from"], answer["buy_to"]) == ("0.2000", "0.2500")


def test_new_limits_take_back_what_breaks_them_and_nothing_else(ada: Person) -> None:
    patch(ada, on=True)
    cheap, dear = placed(ada, "sell", "0.3500", ahead=2), placed(ada, "sell", "0.3600", ahead=3)
    high, low = placed(ada, "buy", "0.1500", ahead=4), placed(ada, "buy", "0.1000", ahead=5)
    own = ada.order("sell", "0.3400", contract=ada.city.market.contract(6))["order"]["id"]
    assert waiting(ada) == {cheap, dear, high, low, own}
    placed(ada.city.bob, "sell", "0.3900", ahead=7)  # of somebody whose autopilot is off: his next change takes it back
    assert ada.get(PATH).json()["open_orders"] == 4
    assert patch(ada, sell_from="0.3600")["cancelled"] == 1
    assert waiting(ada) == {dear, high, low, own}, "what she placed herself is hers"
    answer = patch(ada, buy_to="0.1499")
    assert (answer["cancelled"], answer["open_orders"]) == (1, 2)
    assert waiting(ada) == {dear, low, own}
    answer = patch(ada, on=False)
    assert (answer["cancelled"], answer["open_orders"]) == (2, 0)
    assert waiting(ada) == {own}
    assert patch(ada, on=False)["cancelled"] == 0


def test_the_day_counts_its_own_orders(city: City, ada: Person) -> None:
    patch(ada, on=True)
    placed(ada, "sell", "0.2000", 1_000)
    ada.order("sell", "0.2100", 300, contract=city.market.contract(2))
    city.bob.order("buy", "0.3000", 1_100, contract=city.market.contract(2))
    placed(ada, "buy", "0.2500", 500, ahead=3)
    city.bob.order("sell", "0.2000", 200, contract=city.market.contract(3))
    today = ada.get(PATH).json()["today"]
    assert today == {
        "orders": 2, "sold_wh": 1_000, "sold": "0.2000000", "bought_wh": 200, "bought": "0.0500000",
    }  # fmt: skip
    now_ms = city.market.clock.at_ms
    assert queries.done(ada.account, start_ms=now_ms + 1, end_ms=now_ms + 2) == queries.Done()
    assert queries.done(ada.account, start_ms=0, end_ms=now_ms) == queries.Done()
    PlacedOrder.objects.filter(account=ada.account).update(at_ms=city.market.clock.at_ms - 24 * 3_600_000)
    assert ada.get(PATH).json()["today"]["orders"] == 0, "placed yesterday"
    assert ada.get(PATH).json()["today"]["sold_wh"] == 1_000, "but sold today"


def test_old_notes_go(city: City, ada: Person) -> None:
    placed(ada, "sell", "0.3900")
    now_ms = city.market.clock.at_ms
    operations.forget_old(now_ms=now_ms + operations.KEEP_MS)
    assert PlacedOrder.objects.filter(account=ada.account).count() == 1
    operations.forget_old(now_ms=now_ms + operations.KEEP_MS + 3 * 3_600_000)
    assert PlacedOrder.objects.filter(account=ada.account).count() == 0


@pytest.mark.parametrize(
    ("fields", "status", "code", "field"),
    [
        ({"sell_from": "0.00001"}, 422, "invalid_price", "sell_from"),
        ({"sell_from": "cheap"}, 422, "invalid_price", "sell_from"),
        ({"sell_from": "0"}, 422, "price_out_of_range", "sell_from"),
        ({"buy_to": "-0.1"}, 422, "price_out_of_range", "buy_to"),
        ({"buy_to": "1.0001"}, 422, "price_out_of_range", "buy_to"),  # the market's highest price is 1.00
        ({"sell_from": "0.4001"}, 422, "invalid_value", "sell_from"),  # the grid charges 0.40
        ({"buy_to": "0.0799"}, 422, "invalid_value", "buy_to"),  # and pays 0.08
        ({"reserve_percent": 101}, 422, "invalid_value", "reserve_percent"),
        ({"reserve_percent": -1}, 422, "invalid_value", "reserve_percent"),
        ({"reserve_percent": 30}, 422, "no_battery", "reserve_percent"),
        ({"reserve_percent": "30"}, 400, "invalid_type", "reserve_percent"),
        ({"on": None}, 400, "invalid_type", "on"),
        ({"of": True}, 400, "unknown_field", "of"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(
    ada: Person, fields: dict[str, Any], status: int, code: str, field: str
) -> None:
    response = ada.request("PATCH", PATH, json={"on": True, **fields})
    assert (response.status_code, response.json()["code"], response.json()["field"]) == (status, code, field)
    assert ada.get(PATH).json() == OFF, "nothing of it was taken"


def test_a_battery_may_be_of_the_home_or_a_device(ada: Person) -> None:
    home = Home.objects.create(code=f"home-{ada.account}", area="LV1.1", battery_wh=10_000, battery_w=3_000)
    Account.objects.filter(index=ada.account).update(home=home)
    answer = patch(ada, reserve_percent=30)
    assert (answer["has_battery"], answer["reserve_percent"]) == (True, 30)
    Account.objects.filter(index=ada.account).update(home=None)
    Device.objects.create(
        device_id=f"{ada.account:032d}", user=ada.user, kind=DeviceKind.BATTERY, name="Cellar", rating_w=3_000,
        registered_at=NOW, opened_ms=0,
    )  # fmt: skip
    assert patch(ada, reserve_percent=40)["reserve_percent"] == 40
    Device.objects.filter(user=ada.user).update(revoked_ms=1)
    answer = patch(ada, sell_from="0.20", reserve_percent=40)
    assert (answer["sell_from"], answer["has_battery"]) == ("0.2000", False), "what stands is no obstacle to the rest"
    assert ada.request("PATCH", PATH, json={"reserve_percent": 41}).json()["code"] == "no_battery"
    assert patch(ada, reserve_percent=0)["reserve_percent"] == 0


def test_a_limit_that_stands_is_no_obstacle_when_the_market_s_prices_change(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(ada, sell_from="0.3500")
    monkeypatch.setattr(operations, "_bounds", lambda engine: (3_000, 2_900, 800))
    answer = patch(ada, buy_to="0.2000")
    assert (answer["sell_from"], answer["buy_to"]) == ("0.3500", "0.2000")
    answer = ada.request("PATCH", PATH, json={"sell_from": "0.3400"}).json()
    assert (answer["code"], answer["field"]) == ("price_out_of_range", "sell_from")


def test_a_busy_market_says_what_still_waits(city: City, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    order = placed(ada, "sell", "0.2000")
    with monkeypatch.context() as patched:
        patched.setattr(city.exchange, "submit_many", _busy)
        answer = patch(ada, on=False)
    assert (answer["on"], answer["cancelled"], answer["open_orders"]) == (False, 0, 1) and order in waiting(ada)
    assert patch(ada, on=False)["cancelled"] == 1


def _busy(commands: object) -> None:
    raise Overloaded(1)


def test_signed_orders_need_a_key_that_it_has_not(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.households.signing.is_signed", lambda exchange, account: True)
    response = ada.request("PATCH", PATH, json={"on": True})
    assert (response.status_code, response.json()["code"], response.json()["field"]) == (409, "orders_signed", "on")
    assert patch(ada, sell_from="0.20")["sell_from"] == "0.2000", "limits may be set all the same"


def test_it_says_why_it_does_nothing(city: City, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(ada, on=True)
    assert ada.get(PATH).json()["waits_for"] == "readings"
    meter(city.market, ada.account, import_wh=0, export_wh=500, days=1)
    assert ada.get(PATH).json()["waits_for"] is None
    halt = {"scope": "account", "target": str(ada.account), "reason": "surveillance"}
    exchange_operations.set_halt(city.exchange, on=True, **halt)
    assert ada.get(PATH).json()["waits_for"] == "halt"
    exchange_operations.set_halt(city.exchange, on=False, **halt)
    with monkeypatch.context() as patched:
        patched.setattr(members, "waits_for", lambda *about: members.Waits("refused"))
        assert shaped(ada.get(PATH), shapes.Autopilot).waits_for == "refused"
    assert patch(ada, on=False)["waits_for"] is None


def test_who_may(city: City, ada: Person) -> None:
    assert ada.request("PATCH", PATH, key=ada.key_for("read"), json={"on": True}).status_code == 403
    assert ada.request("GET", PATH, key=ada.key_for("read")).status_code == 200
    assert city.nora.get(PATH).json()["code"] == "no_account"
    assert city.request("GET", PATH).status_code == 401
    assert ada.by_hand("PATCH", PATH, json={"on": True}).status_code == 200
