"""How often somebody may try: counted for each client, whoever is behind which proxy, and for all processes together."""

from __future__ import annotations

import runpy
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from allauth.account import app_settings as account_settings
from allauth.core.internal import ratelimit
from allauth.mfa import app_settings as mfa_settings
from django.conf import settings
from django.core.cache import cache, caches
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import RequestFactory, override_settings

from market.households.models import Counted, User
from market.pages import auth
from market.pages.signingin import client_address
from tests.integration.pages.conftest import PASSWORD, Town, Visitor
from tests.integration.pages.test_pages_auth import NEW_HOME
from tests.integration.pages.test_pages_security import code_of, signed_in, with_app

SETTINGS = Path(auth.__file__).parents[1] / "config" / "settings.py"
PROXY = "10.0.0.1"
NOT_USED = {"verify_phone"}  # no page of ours asks for a telephone


@pytest.fixture(autouse=True)
def no_limits(db: None) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def stranger(town: Town, address: str = "198.51.100.1") -> Visitor:
    visitor = Visitor(town, None)
    visitor.client.defaults["REMOTE_ADDR"] = address
    return visitor


def guess(town: Town, name: str, address: str = "198.51.100.1", password: str = "guess") -> int:
    return stranger(town, address).post("/sign-in", username=name, password=password).status_code


def test_signing_up_is_limited_for_each_client(town: Town) -> None:
    def sign_up(n: int, address: str) -> Any:
        return stranger(town, address).post(
            "/sign-up", **NEW_HOME | {"username": f"flood-{n}", "email": f"{n}@x.example"}
        )

    statuses = [sign_up(n, "198.51.100.1").status_code for n in range(20)]
    assert statuses == [302] * 20, "a hall full of neighbours may"
    refused = sign_up(20, "198.51.100.1")
    page = refused.content.decode()
    assert refused.status_code == 429 and "Too many tries to sign up from where you are." in page
    assert 'value="1 Sun Street"' in page and NEW_HOME["password"] not in page, "what was typed stays, the password not"
    assert not User.objects.filter(username="flood-20").exists()
    assert sign_up(21, "198.51.100.2").status_code == 302, "somebody else is not held up"


def test_many_names_from_one_client_are_stopped_too(town: Town) -> None:
    assert {guess(town, f"name-{n}") for n in range(50)} == {200}
    assert guess(town, "alice", password=PASSWORD) == 429
    assert guess(town, "alice", "198.51.100.9", PASSWORD) == 302


def test_names_that_one_client_invents_fill_no_places(town: Town) -> None:
    def rows() -> int:
        return (
            Counted.objects.count()
            if settings.CACHES["default"]["BACKEND"].endswith("DatabaseCache")
            else len(caches["default"]._cache)
        )

    assert [guess(town, f"name-{n}") for n in range(50)][-1] == 200
    before = rows()
    assert {guess(town, f"more-{n}") for n in range(20)} == {429}
    assert rows() <= before + 1, "who is refused leaves none for each name"


def test_what_is_counted_for_an_address_is_counted_first() -> None:
    for config in (account_settings.RATE_LIMITS, mfa_settings.RATE_LIMITS):
        for action in config.keys() - NOT_USED:
            kinds = [rate.per for rate in ratelimit.parse_rates(config[action])]
            assert "ip" not in kinds[1:], f"{action}: {config[action]}"


def test_right_passwords_are_not_counted(town: Town) -> None:
    assert {guess(town, "alice", password=PASSWORD) for _ in range(12)} == {302}


def test_guesses_sent_at_once_are_counted_before_they_are_tried(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    all_in = threading.Event()

    def slow(form: Any) -> bool:
        tried.append(time.monotonic())
        all_in.wait(1.5)
        return False

    monkeypatch.setattr(auth.SignInForm, "is_valid", slow)
    clients = [stranger(town) for _ in range(16)]
    tokens = [visitor.html("/sign-in").partition('csrfmiddlewaretoken" value="')[2][:64] for visitor in clients]

    def send(n: int) -> int:
        try:
            form = {"csrfmiddlewaretoken": tokens[n], "username": "bob", "password": f"guess {n}"}
            return clients[n].client.post("/sign-in", form).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(send, range(16)))
    assert len(tried) == statuses.count(200) == 10 and statuses.count(429) == 6


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("198.51.100.1", "192.0.2.1", "198.51.100.1"),  # comes past the proxy, and claims to come from one
        (PROXY, "192.0.2.1", "192.0.2.1"),
        (PROXY, "203.0.113.9, 192.0.2.1", "192.0.2.1"),
        (PROXY, "203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),  # two proxies in a row
        (PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # from within
        (PROXY, "", PROXY),
        (PROXY, "192.0.2.1, nonsense", PROXY),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        (PROXY, ", ".join(["192.0.2.7"] + ["10.0.0.2"] * 50), "10.0.0.2"),
        ("", "192.0.2.1", "0.0.0.0"),
    ],
)
def test_a_clients_address_is_believed_from_our_proxies_alone(peer: str, said: str, client: str) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=said)
    with override_settings(TRUSTED_PROXIES=[ip_network("10.0.0.0/30")]):
        assert client_address(request) == client


def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> dict[str, Any]:
    """Return the settings as an environment makes them."""
    monkeypatch.setenv("SUNLEDGER_DATA", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(SETTINGS))


def test_proxies_are_configured_by_name_and_the_older_setting_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = configured(monkeypatch, tmp_path, SUNLEDGER_PROXIES="127.0.0.1, 10.1.0.0/16")
    assert found["TRUSTED_PROXIES"] == [ip_network("127.0.0.1"), ip_network("10.1.0.0/16")]
    with pytest.raises(ImproperlyConfigured, match="SUNLEDGER_PROXIES: expected addresses or networks"):
        configured(monkeypatch, tmp_path, SUNLEDGER_PROXIES="proxy.example")
    with pytest.raises(ImproperlyConfigured, match="SUNLEDGER_FORWARDED_FOR: set SUNLEDGER_PROXIES"):
        configured(monkeypatch, tmp_path, SUNLEDGER_PROXIES="", SUNLEDGER_FORWARDED_FOR="1")


def test_one_process_counts_in_memory_and_several_in_their_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = configured(monkeypatch, tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/x")["CACHES"]
    assert alone["default"]["BACKEND"].endswith("LocMemCache")
    many = configured(monkeypatch, tmp_path, DATABASE_URL="postgresql://a:b@localhost/c")["CACHES"]
    assert many["default"]["BACKEND"].endswith("DatabaseCache") and many["figures"]["BACKEND"].endswith("LocMemCache")
    assert many["default"]["LOCATION"] == Counted._meta.db_table


@pytest.mark.parametrize(("https", "secure"), [("1", True), ("0", False)])
def test_with_https_every_cookie_is_for_https(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, https: str, secure: bool
) -> None:
    found = configured(monkeypatch, tmp_path, SUNLEDGER_HTTPS=https)
    flags = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "LANGUAGE_COOKIE_SECURE", "SECURE_SSL_REDIRECT")
    assert {name: found[name] for name in flags} == dict.fromkeys(flags, secure)
    assert bool(found["SECURE_HSTS_SECONDS"]) is secure
    assert found["SESSION_COOKIE_SAMESITE"] == found["LANGUAGE_COOKIE_SAMESITE"] == "Lax"


@pytest.fixture
def shared() -> Iterator[None]:
    """Count in the database, as several processes do."""
    table = {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "households_counted",
        "KEY_FUNCTION": "market.households.keystore.cache_key",
    }
    with override_settings(CACHES={**settings.CACHES, "default": table}):
        yield
        cache.clear()


def test_attempts_are_counted_for_all_processes_and_say_nothing_about_anybody(town: Town, shared: None) -> None:
    assert [guess(town, "bob") for _ in range(11)] == [200] * 10 + [429]
    rows = list(Counted.objects.values_list("cache_key", flat=True))
    assert rows and all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in rows)
    with ThreadPoolExecutor(1) as pool:

        def elsewhere() -> int:
            try:
                return guess(town, "bob", password=PASSWORD)
            finally:
                connection.close()

        assert pool.submit(elsewhere).result() == 429
    Counted.objects.all().delete()
    assert guess(town, "bob", password=PASSWORD) == 302


@pytest.mark.parametrize("where", ["memory", "shared"])
def test_a_code_of_an_app_opens_once(town: Town, where: str, request: pytest.FixtureRequest) -> None:
    if where == "shared":
        request.getfixturevalue("shared")
    name = f"coded-{where}"
    town.person(name)
    owner = signed_in(town, name)
    secret, _codes = with_app(owner)

    def opens(code: str) -> bool:
        device = stranger(town)
        device.post("/sign-in", username=name, password=PASSWORD)
        device.post("/sign-in/code", code=code)
        return device.get("/account").status_code == 200

    assert not opens(code_of(secret)), "the one it was set up with is used"
    assert opens(code_of(secret, 1)) and not opens(code_of(secret, 1))
    answer = owner.post("/account/security/again/code", code=code_of(secret, 1))
    assert "This code is not right, or it has been used." in answer.content.decode()
