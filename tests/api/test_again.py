"""A session that showed long ago whose it is does over REST no more than on the pages: no keys, no consents, no money out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.conf import settings

from market.api import shapes
from market.households.models import ApiKey, Consent
from market.payments.models import Payment
from tests.api.conftest import CSRF, HOST, City, Person, refused, shaped
from tests.api.test_consents import PATH as CONSENTS
from tests.api.test_consents import given, until
from tests.api.test_devices import METER

LATE_S = settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 5
OUT = {"amount": "1.00", "iban": "DE02120300000000202051", "holder": "Bob"}


def late(person: Person, method: str, path: str, shown_s_ago: float = LATE_S, **kwargs: Any) -> httpx.Response:
    """Call with a session in which nobody was asked who they are for a while."""
    headers = {"X-CSRFToken": CSRF, "Origin": f"http://{HOST}"}
    return person.city.request(method, path, headers=headers, cookies=person.session(shown_s_ago=shown_s_ago), **kwargs)


def counts(person: Person) -> tuple[int, int, int]:
    return (
        ApiKey.objects.filter(user=person.user).count(),
        Consent.objects.filter(user=person.user).count(),
        Payment.objects.filter(account__index=person.account).count(),
    )


def test_an_old_session_makes_no_keys_and_takes_no_money_out(city: City) -> None:
    bob = city.bob
    made = given(bob)
    device = bob.by_hand("POST", "/api/v1/me/devices", json=METER).json()["device"]["device"]
    before = counts(bob)
    consent = {"party": "Sun", "scopes": ["read"], "expires_at": until(days=3)}
    for method, path, body in (
        ("POST", CONSENTS, consent),
        ("PATCH", f"{CONSENTS}/{made.consent.id}", {"expires_at": until(days=300)}),
        ("POST", "/api/v1/me/withdrawals", OUT),
        ("POST", "/api/v1/me/devices", METER),
        ("POST", f"/api/v1/me/devices/{device}/key", {}),
        ("DELETE", "/api/v1/me/signing?reset=lost_device", None),
    ):
        answer = late(bob, method, path, json=body)
        refused(answer, 403, "reauthentication_required")
        assert "/account/security/again" in answer.json()["detail"], (method, path)
    olga = late(city.olga, "POST", "/api/v1/operator/substations", json={"area": "LV1.1", "name": "x", "rating_w": 9})
    refused(olga, 403, "reauthentication_required")
    assert counts(bob) == before
    assert late(bob, "POST", CONSENTS, shown_s_ago=LATE_S - 15, json=consent).status_code == 201


def test_what_only_takes_back_and_what_only_reads_waits_for_nothing(city: City) -> None:
    made = given(city.alice)
    for path in (CONSENTS, "/api/v1/me/withdrawals", "/api/v1/me/devices", "/api/v1/me/signing"):
        assert late(city.alice, "GET", path).status_code == 200, path
    assert late(city.alice, "POST", "/api/v1/me/deposits", json={"amount": "5.00"}).status_code == 201
    ended = shaped(late(city.alice, "DELETE", f"{CONSENTS}/{made.consent.id}"), shapes.Consent)
    assert ended.state == "withdrawn"


@pytest.mark.parametrize("scopes", [("read",), ("trade",), ("readings:write",), ("read", "trade", "readings:write")])
def test_no_key_makes_another_key(city: City, scopes: tuple[str, ...]) -> None:
    """Not even one with less than its own: whoever has it would keep it when it is revoked."""
    key = city.alice.key_for(*scopes)
    before = ApiKey.objects.count()
    body = {"party": "Sun", "scopes": ["read"], "expires_at": until(days=3)}
    refused(city.alice.request("POST", CONSENTS, key=key, json=body), 403, "forbidden")
    refused(city.alice.request("POST", "/api/v1/me/devices", key=key, json=METER), 403, "forbidden")
    pages = {"name": "more", "scopes": "trade", "once": "x"}
    answer = city.alice.request("POST", "/account/keys", key=key, data=pages)
    assert answer.status_code in (302, 403) and ApiKey.objects.count() == before, "a key opens no page"
