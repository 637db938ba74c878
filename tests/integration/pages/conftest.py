"""The town that the tests of pages visit: a running market and its people, each with a browser of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client, override_settings

from ledger import queries as ledger
from market.engine.engine import Engine
from market.exchange import operations as exchange_operations
from market.exchange.figures import figures
from market.households import operations as households
from market.households.identities import CACHE
from market.households.models import Role, User
from market.pages import auth
from market.pages.outbox import OUTBOX
from tests.factories import DEPOSIT_E7, Market, running_market

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
PASSWORD = "sunny roofs at noon"


def sent_mails() -> list[EmailMessage]:
    """Return what was sent, once nothing waits any more: e-mails go out beside the requests."""
    assert OUTBOX.settle(20)
    return list(mail.outbox)


def forget_mails() -> None:
    """Begin to collect anew."""
    sent_mails()
    mail.outbox.clear()


class Visitor:
    """A person with a browser that holds a session and sends CSRF tokens as forms do."""

    def __init__(self, town: Town, user: User | None, account: int | None = None):
        self.town = town
        self.user = user
        self.account = account
        self.client = Client(enforce_csrf_checks=True)
        if user is not None:
            self.client.force_login(user)

    def get(self, path: str, **params: str) -> HttpResponse:
        """Open a page."""
        return self.client.get(path, params)

    def html(self, path: str, **params: str) -> str:
        """Return a page that must be there."""
        response = self.get(path, **params)
        assert response.status_code == 200, (path, response.status_code)
        return response.content.decode()

    def prove(self) -> Visitor:
        """Show who they are once more, as before what a borrowed session must not do."""
        answer = self.post("/account/security/again", password=PASSWORD)
        assert answer.status_code == 302, answer.content.decode()
        return self

    def post(self, path: str, page: str = "", **fields: Any) -> HttpResponse:
        """Send a form from the page it stands on (by default its own address)."""
        html = self.client.get(page or path).content.decode()
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html)
        assert found, f"no form on {page or path}"
        return self.client.post(path, {"csrfmiddlewaretoken": found[1], **fields})


class Town:
    """The market, and who lives and works there. Alice sells, Bob buys; Charlie is a stranger."""

    def __init__(self, market: Market):
        self.market = market
        self.exchange = market.exchange
        self.alice = self.person("alice", area="LV1.1")
        self.bob = self.person("bob", area="LV1.1")
        self.charlie = self.person("charlie", area="LV2.1")
        self.olga = self.person("olga", role=Role.OPERATOR)
        self.rita = self.person("rita", role=Role.REGULATOR)
        self.sam = self.person("sam", role=Role.STAFF)
        self.nobody = Visitor(self, None)

    def person(self, name: str, *, area: str = "", role: Role = Role.HOUSEHOLD) -> Visitor:
        """Add a person who can sign in, with an account and money where an area is given."""
        user = households.create_person(username=name, password=PASSWORD, role=role, email=f"{name}@sunledger.example")
        account = None
        if area:
            account = households.open_account(self.exchange, now=NOW, user=user, area=area).index
            exchange_operations.fund(self.exchange, account=account, amount_e7=DEPOSIT_E7)
        return Visitor(self, user, account)

    def seq(self) -> int:
        """Return the number of ledger entries but for seals: those come by themselves."""
        return self.exchange.read(lambda engine: engine.seq - engine.height)

    def state(self) -> Any:
        """Return what officials can change."""
        return self.exchange.read(_state)

    def sealed(self, seq: int) -> None:
        """Wait until an entry is under a signed checkpoint."""
        deadline = time.monotonic() + 10
        while ledger.sealed_size() <= seq:
            assert time.monotonic() < deadline, f"entry {seq} was not sealed"
            time.sleep(0.02)


def _state(engine: Engine) -> Any:
    return (
        len(engine.accounts),
        [account.cash_e7 for account in engine.accounts if account.kind == "member"],
        [(area.import_w, area.export_w, area.fee_e4, area.halted) for area in engine.areas.areas],
        [(contract.name, contract.halted) for contract in engine.contracts.values()],
        (engine.halted, engine.topup_e4, engine.spill_e4, engine.params._asdict()),
    )


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database for a whole file, in the place of pytest-django's for one test; emptied in the end."""
    with django_db_blocker.unblock():
        CACHE.clear()
        cache.clear()
        figures.clear()
        auth.totals = auth.Totals()
        yield
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(scope="module")
def town(db: None) -> Iterator[Town]:
    """A town for one test file."""
    # Real hashes are slow on purpose; what is tested here is the door, not the lock.
    quick = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    with override_settings(PASSWORD_HASHERS=quick), running_market(cast=False, seal_every_s=0.05) as market:
        yield Town(market)


@pytest.fixture
def closed(town: Town, monkeypatch: pytest.MonkeyPatch) -> Town:
    """The town while no exchange runs in the process."""
    monkeypatch.setattr("market.exchange.gateway._current", None)
    return town
