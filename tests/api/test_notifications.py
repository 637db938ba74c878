"""`/api/v1/me/notifications` and `/me/push`: a person's own, in their language, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client, override_settings

from market.api import shapes
from market.households.models import User
from market.notices.models import PushDevice
from market.notices.operations import THIS_DEVICE
from tests.api.conftest import City, Person, refused, shaped
from tests.integration.test_push import HOST, Browser
from tests.integration.witness_http import wait_for

LIST, PUSH = "/api/v1/me/notifications", "/api/v1/me/push"
ALL = ["sold", "bought", "money", "order", "correction", "objection", "connection"]


@pytest.fixture(autouse=True)
def push_key(tmp_path: Path) -> Iterator[None]:
    with override_settings(PUSH_SERVICES=[HOST], PUSH_KEY_FILE=tmp_path / "push_key"):
        yield


def test_what_happened_and_that_i_have_seen_it(city: City) -> None:
    seller, buyer = city.person("seller", area="LV1.1"), city.person("buyer", area="LV1.1")
    contract = city.market.contract(3)
    seller.order("sell", "0.2000", 600, contract=contract)
    seller.order("sell", "0.2100", 400, contract=contract)
    buyer.order("buy", "0.2100", 1_000, contract=contract)
    page = shaped(seller.get(LIST), shapes.NotificationPage)
    assert [(one.kind, one.title, one.read) for one in page.results] == [
        ("sold", "You sold energy", False),
        ("money", "Your deposit arrived", False),
    ]
    assert page.results[0].text.startswith("1.00 kWh for ")
    assert page.results[0].text.endswith("€0.20.")
    assert (page.unread, page.next) == (2, None)
    bought = shaped(buyer.get(LIST, limit=1), shapes.NotificationPage)
    assert [one.kind for one in bought.results] == ["bought"]
    chinese = seller.request("GET", LIST, headers={"Accept-Language": "zh-hans"})
    assert shaped(chinese, shapes.NotificationPage).results[0].title == "您卖出了电量"

    read = seller.by_hand("POST", LIST + "/read", json={"mark": page.results[1].mark})
    assert shaped(read, shapes.Unread).unread == 1
    after = shaped(seller.get(LIST), shapes.NotificationPage)
    assert [one.read for one in after.results] == [False, True]
    assert shaped(buyer.get(LIST), shapes.NotificationPage).unread == 2  # theirs is theirs


def test_an_order_that_ended_is_news_and_one_taken_back_by_oneself_is_not(city: City) -> None:
    seller = city.person("patient", area="LV1.1")
    number = seller.order("sell", "0.3900", contract=city.market.contract(4))["order"]["id"]
    assert seller.request("DELETE", f"/api/v1/orders/{number}").status_code == 200
    contract = city.market.contract(1)
    seller.order("sell", "0.3900", contract=contract)
    city.market.clock.advance(minutes=16)

    def ended() -> list[str]:
        found = shaped(seller.get(LIST), shapes.NotificationPage).results
        return [one.title for one in found if one.kind == "order"]

    wait_for(lambda: bool(ended()))
    assert ended() == ["An order ended without a trade"]


def test_settings(alice: Person) -> None:
    first = shaped(alice.get(LIST + "/settings"), shapes.NotificationSettings)
    assert (first.kinds, first.amounts) == (["sold", "correction", "objection", "connection"], False)
    assert len(first.public_key) == 87
    wish = {"kinds": ALL, "amounts": True, "quiet_from": 22, "quiet_until": 7}
    assert shaped(alice.by_hand("PUT", LIST + "/settings", json=wish), shapes.NotificationSettings).kinds == ALL
    kept = shaped(alice.get(LIST + "/settings"), shapes.NotificationSettings)
    assert (kept.amounts, kept.quiet_from, kept.quiet_until) == (True, 22, 7)
    half = {"kinds": [], "quiet_from": 22}
    refused(alice.by_hand("PUT", LIST + "/settings", json=half), 422, "invalid_value", "quiet_until")
    refused(alice.by_hand("PUT", LIST + "/settings", json={"kinds": ["gossip"]}), 422, "invalid_value", "kinds[0]")


def test_devices_come_and_go_and_only_by_their_owner(alice: Person, bob: Person) -> None:
    browser = Browser("api")
    wish = {"endpoint": browser.endpoint, "name": "Phone", **browser.keys}
    made = shaped(alice.by_hand("POST", PUSH, json=wish), shapes.PushDevice, 201)
    page = alice.get(PUSH)
    assert shaped(page, shapes.PushDevicePage).results == [made]
    assert HOST not in page.text
    assert len(shaped(bob.by_hand("DELETE", f"{PUSH}/{made.id}"), shapes.PushDevicePage).results) == 0
    assert len(shaped(alice.get(PUSH), shapes.PushDevicePage).results) == 1
    assert shaped(alice.by_hand("DELETE", f"{PUSH}/{made.id}"), shapes.PushDevicePage).results == []
    inside = {**wish, "endpoint": "https://169.254.169.254/latest"}
    refused(alice.by_hand("POST", PUSH, json=inside), 422, "invalid_endpoint", "endpoint")


def test_who_signs_out_is_not_told_on_this_browser_any_more(alice: Person, bob: Person) -> None:
    browser, other = Browser("here"), Browser("elsewhere")
    for one in (other, browser):
        made = alice.by_hand("POST", PUSH, json={"endpoint": one.endpoint, "name": "", **one.keys})
    cookie = made.cookies[THIS_DEVICE]
    theirs = Browser("bob")
    bobs = bob.by_hand("POST", PUSH, json={"endpoint": theirs.endpoint, "name": "", **theirs.keys}).json()["id"]
    for sent, left in ((str(bobs), 2), ("x", 2), ("9" * 30, 2), (cookie, 1)):
        client = Client()
        client.force_login(User.objects.get(username="alice"))
        client.cookies[THIS_DEVICE] = sent
        assert client.post("/sign-out").status_code == 302
        assert PushDevice.objects.filter(user__username="alice").count() == left, sent
    assert PushDevice.objects.filter(pk=bobs).exists()
    assert PushDevice.objects.get(user__username="alice").endpoint == other.endpoint


def test_who_may(city: City, alice: Person, rita: Person) -> None:
    browser = Browser("key")
    wish = {"endpoint": browser.endpoint, **browser.keys}
    refused(city.request("GET", LIST), 401, "not_authenticated")
    refused(rita.get(LIST), 403, "no_account")
    refused(alice.request("POST", PUSH, json=wish), 403, "forbidden")  # a stolen key must not listen
    refused(alice.request("PUT", LIST + "/settings", json={"kinds": []}), 403, "forbidden")
    refused(alice.request("POST", LIST + "/read", json={"mark": "1.1"}), 403, "forbidden")
    refused(alice.by_hand("POST", LIST + "/read", json={"mark": "soon"}), 422, "invalid_value", "mark")
