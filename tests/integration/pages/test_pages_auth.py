"""The front door: who gets in, who does not, and what a stranger sees."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client

from market.exchange.figures import figures
from market.households import operations as households
from market.households import queries
from market.households.demo import PEOPLE, ensure_demo_people
from market.households.models import User
from tests.integration.pages.conftest import NOW, PASSWORD, Town, Visitor

OWN_PAGES = {"alice": "/home", "olga": "/operator", "rita": "/regulator", "sam": "/staff"}
NEW_HOME = {
    "username": "nora",
    "email": "nora@sunledger.example",
    "password": "a kettle and a lamp",
    "address": "1 Sun Street",
    "meter_number": "DE 0001",
    "area": "LV1.2",
}


@pytest.fixture(autouse=True)
def forget_failures(db: None) -> None:
    cache.clear()
    figures.clear()


def test_the_front_page_tells_a_stranger_what_this_is_with_live_figures(town: Town) -> None:
    town.market.place(town.alice.account, "sell", "0.1000", 1_500)
    town.market.buys(town.bob.account, "0.1000", 1_500)
    figures.clear()
    html = town.nobody.html("/")
    assert "The sun on one roof" in html
    assert re.search(r"Energy shared</dt><dd>1\.50 kWh", html)
    assert 'href="/sign-in"' in html
    assert "demo/sign-in" not in html


@pytest.mark.parametrize("name", OWN_PAGES)
def test_signing_in_leads_everybody_to_their_own_page(town: Town, name: str) -> None:
    stranger = Visitor(town, None)
    response = stranger.post("/sign-in", username=name, password=PASSWORD)
    assert (response.status_code, response["Location"]) == (302, OWN_PAGES[name])
    assert stranger.get("/")["Location"] == OWN_PAGES[name]


def test_a_wrong_password_signs_nobody_in_and_the_page_says_so(town: Town) -> None:
    stranger = Visitor(town, None)
    response = stranger.post("/sign-in", username="alice", password="guessing along")
    assert response.status_code == 200
    assert "Name and password do not belong together." in response.content.decode()
    assert stranger.get("/account").status_code == 302


def test_guessing_passwords_is_stopped_for_a_while_even_with_the_right_one(town: Town) -> None:
    stranger = Visitor(town, None)
    for _ in range(10):
        assert stranger.post("/sign-in", username="bob", password="guess").status_code == 200
    assert stranger.post("/sign-in", username="bob", password=PASSWORD).status_code == 429
    assert stranger.get("/account").status_code == 302
    assert Visitor(town, None).post("/sign-in", username="alice", password=PASSWORD).status_code == 302


def test_who_wanted_a_page_gets_there_after_signing_in(town: Town) -> None:
    stranger = Visitor(town, None)
    response = stranger.get("/operator")
    assert response["Location"] == "/sign-in?next=/operator"
    response = stranger.post(
        "/sign-in", page=response["Location"], username="olga", password=PASSWORD, next="/operator"
    )
    assert response["Location"] == "/operator"


@pytest.mark.parametrize("where", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "http:evil"])
def test_signing_in_never_leads_away_from_here(town: Town, where: str) -> None:
    response = Visitor(town, None).post("/sign-in", username="alice", password=PASSWORD, next=where)
    assert response["Location"] == "/home"


def test_signing_out_needs_a_form_of_ours(town: Town) -> None:
    visitor = town.person("oskar")
    assert visitor.get("/sign-out").status_code == 405
    assert visitor.client.post("/sign-out").status_code == 403
    assert visitor.get("/account").status_code == 200
    assert visitor.post("/sign-out", page="/account").status_code == 302
    assert visitor.get("/account").status_code == 302


def test_a_household_that_signs_up_waits_for_the_market_operator(town: Town) -> None:
    visitor = Visitor(town, None)
    response = visitor.post("/sign-up", **NEW_HOME)
    assert response["Location"] == "/account"
    html = visitor.html("/account")
    assert "waiting" in html
    assert "1 Sun Street" in html
    request = queries.request_of(User.objects.get(username="nora"))
    assert request is not None
    assert (request.area, request.meter_number, request.decided_at) == ("LV1.2", "DE 0001", None)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("username", "alice", "This name is taken."),
        ("username", "two words", "Enter a valid username"),
        ("username", "", "This field is required."),
        ("email", "nowhere", "Enter a valid email address."),
        ("password", "short", "This password is too short."),
        ("password", "1234567890123", "This password is entirely numeric."),
        ("password", "norbert-sun1", "The password is too similar to the username."),
        ("area", "LV9.9", "is not one of the available choices"),
        ("area", "MV1", "is not one of the available choices"),
        ("meter_number", "  ", "This field is required."),
    ],
)
def test_a_sign_up_with_a_bad_field_says_which(town: Town, field: str, value: str, sentence: str) -> None:
    before = User.objects.count()
    fields = {**NEW_HOME, "username": "norbert-sun", field: value}
    html = Visitor(town, None).post("/sign-up", **fields).content.decode()
    assert re.search(rf'id="id_{field}_error".*{re.escape(sentence)}', html), html
    assert User.objects.count() == before


def test_one_click_sign_in_does_not_exist_outside_the_demo(town: Town) -> None:
    ensure_demo_people()
    assert settings.DEMO is False
    stranger = Visitor(town, None)
    for role in (*PEOPLE, "nobody"):
        assert stranger.post("/demo/sign-in", page="/sign-in", role=role).status_code == 404
    assert stranger.get("/account").status_code == 302
    assert "demo/sign-in" not in stranger.html("/sign-in")


@pytest.mark.parametrize("role", list(PEOPLE))
def test_in_the_demo_one_click_signs_in_as_anybody(town: Town, settings: object, role: str) -> None:
    settings.DEMO = True  # type: ignore[attr-defined]
    stranger = Visitor(town, None)
    assert stranger.html("/").count('action="/demo/sign-in"') == len(PEOPLE)
    response = stranger.post("/demo/sign-in", page="/sign-in", role=role)
    assert response.status_code == 302
    assert stranger.get(response["Location"]).status_code == 200
    assert stranger.get("/demo/sign-in").status_code == 405
    assert stranger.client.post("/demo/sign-in", {"role": role}).status_code == 403
    assert Visitor(town, None).post("/demo/sign-in", page="/sign-in", role="admin").status_code == 404


def test_the_demos_people_have_no_password_and_mia_keeps_her_home(town: Town) -> None:
    homes = households.create_homes([households.Home(code="H1", area="LV1.1", pv_w=5_000, battery_wh=8_000)])
    [account] = households.open_accounts(town.exchange, homes=homes, now=NOW)
    mia = ensure_demo_people()["household"]
    found = queries.account_of(mia)
    assert found is not None
    assert found.index == account.index
    assert not mia.has_usable_password()
    ensure_demo_people(account.index + 1)
    assert queries.account_of(mia) == found


def test_changing_the_password_needs_the_old_one(town: Town) -> None:
    visitor = town.person("petra")
    fields = {"new_password1": "another long phrase", "new_password2": "another long phrase"}
    response = visitor.post("/account/password", old_password="wrong", **fields)
    assert "Your old password was entered incorrectly" in response.content.decode()
    assert visitor.post("/account/password", old_password=PASSWORD, **fields)["Location"] == "/account"
    assert visitor.get("/account").status_code == 200
    again = Visitor(town, None)
    assert again.post("/sign-in", username="petra", password=PASSWORD).status_code == 200
    assert again.post("/sign-in", username="petra", password="another long phrase").status_code == 302


ROLES = {
    "/account": {"alice", "olga", "rita", "sam"},
    "/staff": {"sam"},
    "/staff/money": {"sam"},
    "/staff/money/statements/1": {"sam"},
    "/money": {"alice"},
    "/disputes": {"alice"},
    "/operator/disputes": {"olga", "sam"},
    "/staff/halts": {"sam"},
    "/staff/rules": {"sam"},
    "/operator": {"olga", "sam"},
    "/operator/map": {"olga", "sam"},
    "/operator/ahead": {"olga", "sam"},
    "/operator/alerts": {"olga", "sam"},
    "/operator/health": {"olga", "sam"},
    "/operator/areas/LV1.1": {"olga", "sam"},
    "/regulator": {"olga", "rita", "sam"},
    "/regulator/entries/0": {"olga", "rita", "sam"},
    "/regulator/checking": {"olga", "rita", "sam"},
    "/regulator/refusals": {"olga", "rita", "sam"},
    "/regulator/search": {"olga", "rita", "sam"},
    "/regulator/accounts/0": {"olga", "rita", "sam"},
}


@pytest.mark.parametrize("path", ROLES)
def test_every_door_opens_for_its_roles_only(town: Town, path: str) -> None:
    for name in ("alice", "olga", "rita", "sam"):
        response = getattr(town, name).get(path)
        if name in ROLES[path]:
            assert response.status_code in (200, 302), name
        else:
            assert response.status_code == 403, name
            assert "This page is for somebody else." in response.content.decode()
    response = town.nobody.get(path)
    assert (response.status_code, response["Location"]) == (302, f"/sign-in?next={path}")


WRITES = [
    "/staff/requests/1", "/staff/money/payments/1", "/staff/money/statements", "/staff/money/statements/1/decide",
    "/staff/money/transfers/1", "/staff/money/payouts", "/operator/disputes/1",
    "/staff/halts", "/staff/halts/resume", "/staff/rules/params",
    "/staff/rules/tariff", "/staff/rules/rulebook", "/operator/areas/LV1.1/capacity", "/operator/areas/LV1.1/fee",
    "/operator/areas/LV1.1/halt", "/operator/alerts",
]  # fmt: skip


@pytest.mark.parametrize("path", WRITES)
def test_no_household_and_no_forged_form_changes_the_market(town: Town, path: str) -> None:
    before = (town.seq(), town.state())
    assert town.alice.post(path, page="/account").status_code == 403
    assert town.rita.post(path, page="/account").status_code == 403
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(town.sam.user)
    response = forged.post(path, {"decision": "accept", "scope": "market", "reason": "fault", "once": "x"})
    assert response.status_code == 403
    assert "Nothing was sent." in response.content.decode()
    assert (town.seq(), town.state()) == before


def test_an_address_that_leads_nowhere_says_so(town: Town) -> None:
    response = town.nobody.get("/nowhere")
    assert response.status_code == 404
    assert "There is nothing at this address." in response.content.decode()


@pytest.mark.parametrize("path", ["/", "/sign-in", "/sign-up", *ROLES])
def test_pages_need_nothing_inline(town: Town, path: str) -> None:
    visitor = town.nobody if path in ("/", "/sign-in", "/sign-up") else town.sam
    response = visitor.client.get(path, follow=True)
    policy = response["Content-Security-Policy"]
    assert "unsafe-inline" not in policy
    assert "default-src 'self'" in policy
    html = response.content.decode()
    assert not re.search(r"\sstyle=", html)
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)
