"""The market the API tests call: the whole ASGI application, and the cast with accounts, keys and sessions.

Alice sells, Bob buys, both in LV1.1; Charlie is a stranger in LV2.1; Nora has no account yet; Olga operates the grid, Rita
regulates, Sam is staff. One market serves all tests of a file; tests that need an empty book take a contract of their own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY, record_authentication
from django.core.management import call_command
from django.http import HttpRequest
from django.test import Client as DjangoClient

from market.config import asgi
from market.engine.engine import Engine
from market.exchange import operations as exchange_operations
from market.households import operations as households
from market.households.identities import CACHE
from market.households.models import Role, User
from tests.factories import DEPOSIT_E7, Market, running_market

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
CSRF = "a" * 32
HOST = "localhost"


class Person:
    """One of the cast. ``key`` has all scopes the role allows."""

    def __init__(self, city: City, user: User, account: int | None):
        self.city = city
        self.user = user
        self.account = account
        scopes = households.keys.allowed_scopes(user.role)
        self.key = households.issue_key(user=user, name="everything", scopes=scopes, now=NOW).token

    def key_for(self, *scopes: str) -> str:
        """Issue a key with these scopes only."""
        return households.issue_key(user=self.user, name="some", scopes=scopes, now=NOW).token

    def request(self, method: str, path: str, *, key: str | None = None, **kwargs: Any) -> httpx.Response:
        """Call the API with the person's key."""
        headers = {"Authorization": f"Bearer {key or self.key}", **kwargs.pop("headers", {})}
        return self.city.request(method, path, headers=headers, **kwargs)

    def by_hand(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Call the API as the person's browser does: with a session, no key."""
        headers = {"X-CSRFToken": CSRF, "Origin": f"http://{HOST}", **kwargs.pop("headers", {})}
        return self.city.request(method, path, headers=headers, cookies=self.session(), **kwargs)

    def get(self, path: str, **params: Any) -> httpx.Response:
        """GET with query parameters."""
        return self.request("GET", path, params=params)

    def order(self, side: str, price: str = "0.2000", energy_wh: int = 1_000, **fields: Any) -> dict[str, Any]:
        """Place an order that must be accepted, and return the answer."""
        contract = fields.pop("contract", None) or self.city.market.contract()
        body = {"contract": contract, "side": side, "price": price, "energy_wh": energy_wh, **fields}
        response = self.request("POST", "/api/v1/orders", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    def session(self, *, shown_s_ago: float = 0) -> dict[str, str]:
        """Sign in and return the cookies of the browser. ``shown_s_ago``: since when nobody was asked who they are."""
        browser = DjangoClient()
        browser.force_login(self.user)
        request = HttpRequest()
        request.session = browser.session
        record_authentication(request, self.user, "password", reauthenticated=True)
        request.session[AUTHENTICATION_METHODS_SESSION_KEY][0]["at"] -= shown_s_ago
        request.session.save()
        return {"sessionid": browser.cookies["sessionid"].value, "csrftoken": CSRF}


class City:
    """The running market and the application in front of it."""

    def __init__(self, market: Market, loop: asyncio.AbstractEventLoop):
        self.market = market
        self.exchange = market.exchange
        self._loop = loop
        self.alice = self.person("alice", area="LV1.1")
        self.bob = self.person("bob", area="LV1.1")
        self.charlie = self.person("charlie", area="LV2.1")
        self.nora = self.person("nora")
        self.olga = self.person("olga", role=Role.OPERATOR)
        self.rita = self.person("rita", role=Role.REGULATOR)
        self.sam = self.person("sam", role=Role.STAFF)

    def person(self, name: str, *, area: str = "", role: Role = Role.HOUSEHOLD) -> Person:
        """Add a person, with an account and money where an area is given."""
        user = households.create_person(username=name, password=None, role=role)
        user.password = "one that nobody knows"  # to be asked for; real hashes are slow on purpose
        user.save(update_fields=["password"])
        account = None
        if area:
            account = households.open_account(self.exchange, now=NOW, user=user, area=area).index
            exchange_operations.fund(self.exchange, account=account, amount_e7=DEPOSIT_E7)
        return Person(self, user, account)

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Call the application as the web server does."""
        return asyncio.run_coroutine_threadsafe(self._request(method, path, kwargs), self._loop).result(60)

    async def _request(self, method: str, path: str, kwargs: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(app=asgi.application)
        cookies = kwargs.pop("cookies", None)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", cookies=cookies) as client:
            return await client.request(method, path, **kwargs)

    def seq(self) -> int:
        """Return the number of ledger entries."""
        return self.exchange.read(lambda engine: engine.seq)

    def state(self) -> Any:
        """Return everything a request could have changed: wallets, resting orders, contracts, halts, capacities, fees."""
        return self.exchange.read(_state)


def _state(engine: Engine) -> Any:
    return (
        [(a.cash_e7, a.held_e7, a.closed, a.halted) for a in engine.accounts],
        {order.id: (order.price_e4, order.remaining_wh) for order in engine.orders.values()},
        {name: (contract.state, contract.halted) for name, contract in engine.contracts.items()},
        [(area.import_w, area.export_w, area.fee_e4, area.halted) for area in engine.areas.areas],
        (engine.halted, engine.topup_e4, engine.spill_e4, engine.params._asdict()),
    )


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread, as the server's."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, daemon=True)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join(10)
    running.close()


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database for a whole file, in the place of pytest-django's for one test; emptied in the end."""
    with django_db_blocker.unblock():
        CACHE.clear()
        yield
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(scope="module")
def city(db: None, loop: asyncio.AbstractEventLoop) -> Iterator[City]:
    """A market for one test file."""
    # Sealed often: tests wait for proofs.
    with running_market(cast=False, seal_every_s=0.05) as market:
        yield City(market, loop)
    asgi.close_threads()


@pytest.fixture
def alice(city: City) -> Person:
    return city.alice


@pytest.fixture
def bob(city: City) -> Person:
    return city.bob


@pytest.fixture
def charlie(city: City) -> Person:
    return city.charlie


@pytest.fixture
def olga(city: City) -> Person:
    return city.olga


@pytest.fixture
def rita(city: City) -> Person:
    return city.rita


def shaped(response: httpx.Response, shape: type, status: int = 200) -> Any:
    """Return the answer as ``shape``: exactly its fields and types, and this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return msgspec.json.decode(response.content, type=shape, strict=True)


def refused(response: httpx.Response, status: int, code: str, field: str = "") -> dict[str, Any]:
    """Check that the answer is this problem, complete and with a sentence, and return it."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert (response.status_code, body["code"], body["field"]) == (status, code, field), response.text
    assert set(body) == {"type", "title", "status", "code", "field", "detail"}
    assert body["status"] == status
    assert body["detail"]
    assert "%(" not in body["detail"]
    return body
