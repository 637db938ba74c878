"""`/api/v1/me/consents`: a household lets others act for it; only a person gives, extends or withdraws a consent."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from market.api import shapes
from market.exchange.units import at_text
from market.households import consents, queries
from market.households.identities import CACHE
from market.households.models import Access, ApiKey, Consent
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/me/consents"
BALANCE = "/api/v1/me/balance"


@pytest.fixture
def bob(city: City) -> Person:
    return city.bob


def until(**distance: float) -> str:
    return at_text(round((timezone.now() + timedelta(**distance)).timestamp() * 1_000))


def given(person: Person, **changes: Any) -> shapes.ConsentGranted:
    body = {"party": "Solar Advice Ltd", "scopes": ["read"], "expires_at": until(days=30)} | changes
    return shaped(person.by_hand("POST", PATH, json=body), shapes.ConsentGranted, 201)


def test_a_party_may_do_what_was_allowed_until_it_is_withdrawn(city: City, bob: Person) -> None:
    made = given(bob)
    assert (made.consent.state, made.consent.party, made.consent.scopes) == ("holds", "Solar Advice Ltd", ["read"])
    assert made.token.startswith(made.consent.key) and made.consent.used_at is None
    assert bob.request("GET", BALANCE, key=made.token).status_code == 200
    order = {
        "contract": city.market.contract(2),
        "side": "buy",
        "price": "0.2",
        "energy_wh": 100,
        "time_in_force": "gtg",
    }
    refused(bob.request("POST", "/api/v1/orders", key=made.token, json=order), 403, "missing_scope")
    (seen,) = [row for row in shaped(bob.get(PATH), shapes.ConsentPage).results if row.id == made.consent.id]
    assert seen.used_at is not None
    assert Access.objects.filter(person=bob.user.pk, consent=made.consent.id).count() == 1, "in the access log"

    ended = shaped(bob.by_hand("DELETE", f"{PATH}/{made.consent.id}"), shapes.Consent)
    assert ended.state == "withdrawn" and ended.withdrawn_at is not None
    refused(bob.request("GET", BALANCE, key=made.token), 401, "invalid_key")
    refused(bob.by_hand("DELETE", f"{PATH}/{made.consent.id}"), 404, "unknown_consent", "consent")


@pytest.mark.parametrize("path", [PATH, "/api/v1/me/withdrawals"])
def test_a_party_reads_neither_who_else_acts_here_nor_bank_accounts(bob: Person, path: str) -> None:
    made = given(bob)
    refused(bob.request("GET", path, key=made.token), 403, "forbidden")
    assert bob.get(path).status_code == 200


def test_a_party_that_may_trade_trades_as_the_household(city: City, bob: Person) -> None:
    made = given(bob, scopes=["trade", "read"], party="Trader")
    order = {
        "contract": city.market.contract(2),
        "side": "buy",
        "price": "0.2",
        "energy_wh": 100,
        "time_in_force": "gtg",
    }
    assert bob.request("POST", "/api/v1/orders", key=made.token, json=order).status_code == 201
    assert made.consent.scopes == ["read", "trade"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/me/signing", {"public_key": "0" * 64, "proof": "0" * 128}),
        ("PATCH", "/api/v1/me/autopilot", {"on": True}),
        ("POST", "/api/v1/me/agreements", {"to": "0" * 32, "price": "0.1"}),
        ("POST", "/api/v1/me/deposits", {"amount": "5.00"}),
        ("POST", "/api/v1/me/withdrawals", {"amount": "5.00", "iban": "DE75512108001245126199", "holder": "P"}),
    ],
)
def test_a_party_places_orders_and_changes_nothing_that_outlives_its_consent(
    bob: Person, method: str, path: str, body: dict[str, Any]
) -> None:
    made = given(bob, scopes=["read", "trade"])
    refused(bob.request(method, path, key=made.token, json=body), 403, "forbidden")
    if not path.endswith("/withdrawals"):  # which it may not read either
        assert bob.request("GET", path, key=made.token).status_code == 200


def test_a_party_that_may_send_readings_gets_to_the_readings(bob: Person) -> None:
    made = given(bob, scopes=["readings:write"])
    refused(
        bob.request("POST", "/api/v1/readings", key=made.token, json={"values": []}), 422, "invalid_value", "values"
    )


def test_a_consent_ends_by_itself_and_can_be_moved(bob: Person) -> None:
    made = given(bob)
    later, sooner = until(days=300), until(days=1)
    for end in (later, sooner):
        moved = shaped(bob.by_hand("PATCH", f"{PATH}/{made.consent.id}", json={"expires_at": end}), shapes.Consent)
        assert moved.expires_at == end
    ApiKey.objects.filter(consent=made.consent.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    CACHE.clear()
    refused(bob.request("GET", BALANCE, key=made.token), 401, "invalid_key")
    states = {row.id: row.state for row in shaped(bob.get(PATH), shapes.ConsentPage).results}
    assert states[made.consent.id] == "expired"
    answer = bob.by_hand("PATCH", f"{PATH}/{made.consent.id}", json={"expires_at": later})
    refused(answer, 404, "unknown_consent", "consent")


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"party": "  "}, 422, "invalid_value", "party"),
        ({"party": "x" * 81}, 422, "invalid_value", "party"),
        ({"party": "a\nb"}, 422, "invalid_value", "party"),
        ({"scopes": []}, 422, "invalid_value", "scopes"),
        ({"scopes": ["ledger:read"]}, 422, "scope_not_allowed", "scopes"),
        ({"scopes": ["operate"]}, 422, "scope_not_allowed", "scopes"),
        ({"expires_at": "2020-01-01T00:00:00.000Z"}, 422, "invalid_value", "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00.000Z"}, 422, "invalid_value", "expires_at"),
        ({"expires_at": "tomorrow"}, 422, "invalid_value", "expires_at"),
    ],
)
def test_what_cannot_be_names_its_field(
    bob: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = Consent.objects.count()
    body = {"party": "P", "scopes": ["read"], "expires_at": until(days=1)} | changes
    refused(bob.by_hand("POST", PATH, json=body), status, code, field)
    assert Consent.objects.count() == before


def test_keys_make_no_keys_and_nobody_touches_anothers(city: City, bob: Person) -> None:
    made = given(bob)
    body = {"party": "P", "scopes": ["read"], "expires_at": until(days=1)}
    for key in (bob.key, made.token):
        refused(bob.request("POST", PATH, key=key, json=body), 403, "forbidden")
        for method in ("PATCH", "DELETE"):
            answer = bob.request(method, f"{PATH}/{made.consent.id}", key=key, json={"expires_at": until(days=2)})
            refused(answer, 403, "forbidden")
    refused(city.alice.by_hand("DELETE", f"{PATH}/{made.consent.id}"), 404, "unknown_consent", "consent")
    refused(city.olga.by_hand("POST", PATH, json=body), 403, "forbidden")
    assert made.consent.id not in [row.id for row in shaped(city.alice.get(PATH), shapes.ConsentPage).results]


def test_a_key_is_not_remembered_beyond_its_end(bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    made = given(bob, expires_at=until(seconds=2))
    assert queries.identify_key(made.token) is not None and queries.known_key(made.token)[0]
    monkeypatch.setattr(CACHE, "_now_s", lambda: time.monotonic() + 2)
    assert queries.known_key(made.token) == (False, None), "others are remembered for five seconds"


def test_consents_are_bounded(bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = [row for row in consents.consents_of(bob.user, now=timezone.now()) if row.state == consents.HOLDS]
    monkeypatch.setattr(consents, "MAX_CONSENTS", len(holding) + 1)
    made = given(bob)
    body = {"party": "P", "scopes": ["read"], "expires_at": until(days=1)}
    refused(bob.by_hand("POST", PATH, json=body), 429, "too_many_consents", "party")
    bob.by_hand("DELETE", f"{PATH}/{made.consent.id}")
    given(bob)
