"""Who may call: keys, scopes, revocation, sessions with CSRF and Origin; the same on the lean and the other endpoints."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from market.api import access
from market.households import operations as households
from market.households.models import ApiKey, User
from tests.api.conftest import CSRF, HOST, NOW, City, Person, refused

LEAN = "/api/v1/orders"
OTHER = "/api/v1/me/balance"
ORIGIN = f"http://{HOST}"


def order(city: City) -> dict[str, Any]:
    return {"contract": city.market.contract(2), "side": "buy", "price": "0.0100", "energy_wh": 100}


@pytest.mark.parametrize("path", [LEAN, OTHER])
def test_nobody(city: City, path: str) -> None:
    response = city.request("GET", path)
    refused(response, 401, "not_authenticated")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", [LEAN, OTHER, "/api/v1/trades", "/api/v1/contracts"])
@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer sl_unknown", "Basic YTpi", "sl_x", "Bearer " + "x" * 5_000, "Bearer sl_" + "ü" * 20],
    ids=lambda value: value[:12],
)
def test_a_key_that_is_none(city: City, path: str, value: str) -> None:
    response = city.request("GET", path, headers={"Authorization": value.encode("latin-1")})
    refused(response, 401, "invalid_key")


def test_scopes(city: City, alice: Person) -> None:
    reader, trader = alice.key_for("read"), alice.key_for("trade")
    assert alice.request("GET", LEAN, key=reader).status_code == 200
    assert alice.request("GET", OTHER, key=reader).status_code == 200
    assert alice.request("POST", LEAN, key=trader, json=order(city)).status_code == 201
    before = city.state()
    for method, path in (("POST", LEAN), ("POST", LEAN + "/batch"), ("DELETE", LEAN), ("PATCH", LEAN + "/1")):
        problem = refused(alice.request(method, path, key=reader, json=order(city)), 403, "missing_scope")
        assert "trade" in problem["detail"]
    refused(alice.request("GET", LEAN, key=trader), 403, "missing_scope")
    refused(alice.request("GET", OTHER, key=trader), 403, "missing_scope")
    refused(alice.request("POST", "/api/v1/readings", key=trader, json={"readings": []}), 403, "missing_scope")
    assert city.state() == before


@pytest.mark.parametrize("path", [LEAN, OTHER])
def test_a_revoked_key_is_refused_at_once(city: City, alice: Person, path: str) -> None:
    made = households.issue_key(user=alice.user, name="lost", scopes=["read"], now=NOW)
    assert alice.request("GET", path, key=made.token).status_code == 200
    assert households.revoke_key(user=alice.user, key_id=made.key.pk, now=NOW)
    refused(alice.request("GET", path, key=made.token), 401, "invalid_key")


def test_a_key_cannot_be_revoked_by_a_stranger(city: City, alice: Person, charlie: Person) -> None:
    made = households.issue_key(user=alice.user, name="mine", scopes=["read"], now=NOW)
    assert not households.revoke_key(user=charlie.user, key_id=made.key.pk, now=NOW)
    assert alice.request("GET", LEAN, key=made.token).status_code == 200


@pytest.mark.parametrize("path", [LEAN, OTHER])
def test_an_expired_key(city: City, alice: Person, path: str) -> None:
    made = households.issue_key(
        user=alice.user, name="old", scopes=["read"], now=NOW, expires_at=NOW + timedelta(days=3650)
    )
    ApiKey.objects.filter(pk=made.key.pk).update(expires_at=NOW - timedelta(days=300))
    refused(alice.request("GET", path, key=made.token), 401, "invalid_key")


@pytest.mark.parametrize("path", [LEAN, OTHER])
def test_a_person_who_was_shut_out(city: City, path: str) -> None:
    mallory = city.person("mallory" + path[-6:].strip("/"), area="LV1.2")
    cookies = mallory.session()
    assert mallory.get(path).status_code == 200
    assert city.request("GET", path, cookies=cookies).status_code == 200
    households.deactivate(user=mallory.user, now=NOW)
    refused(mallory.get(path), 401, "invalid_key")
    refused(city.request("GET", path, cookies=cookies), 401, "not_authenticated")


@pytest.mark.parametrize("path", [LEAN, OTHER])
def test_an_inactive_person(city: City, path: str) -> None:
    oscar = city.person("oscar" + path[-6:].strip("/"), area="LV1.2")
    User.objects.filter(pk=oscar.user.pk).update(is_active=False)
    refused(oscar.get(path), 401, "invalid_key")


@pytest.mark.parametrize("path", [LEAN, OTHER])
def test_a_session_reads(city: City, alice: Person, path: str) -> None:
    assert city.request("GET", path, cookies=alice.session()).status_code == 200
    refused(city.request("GET", path, cookies={"sessionid": "a" * 32}), 401, "not_authenticated")
    refused(city.request("GET", path, headers={"Cookie": 'sessionid="\x01;;='}), 401, "not_authenticated")


def test_a_page_of_ours_may_trade(city: City, alice: Person) -> None:
    cookies = alice.session()
    headers = {"X-CSRFToken": CSRF, "Origin": ORIGIN}
    assert city.request("POST", LEAN, json=order(city), cookies=cookies, headers=headers).status_code == 201
    # Programs without a browser send no Origin; the token alone is enough then, as with Django.
    headers = {"X-CSRFToken": CSRF}
    assert city.request("POST", LEAN, json=order(city), cookies=cookies, headers=headers).status_code == 201


FORGED = [
    {},
    {"Origin": ORIGIN},
    {"X-CSRFToken": "b" * 32, "Origin": ORIGIN},
    {"X-CSRFToken": "", "Origin": ORIGIN},
    {"X-CSRFToken": CSRF, "Origin": "https://evil.example"},
    {"X-CSRFToken": CSRF, "Origin": "null"},
    {"X-CSRFToken": CSRF, "Origin": f"http://{HOST}.evil.example"},
    {"X-CSRFToken": CSRF, "Origin": f"http://{HOST}:8080"},
]


@pytest.mark.parametrize("headers", FORGED, ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", LEAN), ("POST", LEAN + "/batch"), ("DELETE", LEAN), ("DELETE", LEAN + "/1"), ("PATCH", LEAN + "/1"),
     ("POST", "/api/v1/readings")],
)  # fmt: skip
def test_another_site_may_not(city: City, alice: Person, method: str, path: str, headers: dict[str, str]) -> None:
    before = city.state()
    response = city.request(method, path, json=order(city), cookies=alice.session(), headers=headers)
    refused(response, 403, "csrf_failed")
    assert city.state() == before


def test_a_trusted_origin(city: City, alice: Person, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://app.example"]
    monkeypatch.setattr(access, "_CSRF", access._CsrfCheck(access._no_view))  # it reads the setting once
    headers = {"X-CSRFToken": CSRF, "Origin": "https://app.example"}
    assert city.request("POST", LEAN, json=order(city), cookies=alice.session(), headers=headers).status_code == 201


def test_an_operators_session_cannot_trade(city: City, olga: Person) -> None:
    headers = {"X-CSRFToken": CSRF, "Origin": ORIGIN}
    response = city.request("POST", LEAN, json=order(city), cookies=olga.session(), headers=headers)
    refused(response, 403, "missing_scope")


def test_a_name_that_is_not_ours(city: City, alice: Person) -> None:
    refused(alice.request("GET", LEAN, headers={"Host": "evil.example"}), 400, "bad_request", "Host")
    assert alice.request("GET", OTHER, headers={"Host": "evil.example"}).status_code == 400


def test_the_use_of_a_key_is_noted(city: City, alice: Person) -> None:
    made = households.issue_key(user=alice.user, name="used", scopes=["read"], now=NOW)
    assert ApiKey.objects.get(pk=made.key.pk).last_used_at is None
    alice.request("GET", LEAN, key=made.token)
    assert ApiKey.objects.get(pk=made.key.pk).last_used_at is not None


def test_only_the_digest_of_a_key_is_stored(city: City, alice: Person) -> None:
    made = households.issue_key(user=alice.user, name="secret", scopes=["read"], now=NOW)
    row = ApiKey.objects.filter(pk=made.key.pk).values().get()
    assert made.token not in str(row)
    assert made.token.startswith("sl_")
    assert len(made.token) > 40
