"""A person is erased: nothing readable is left in any table, file, export or log line, and every check passes as before."""

from __future__ import annotations

import base64
import contextlib
import gzip
import logging
import re
import sqlite3
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from allauth.mfa.webauthn.internal.auth import WebAuthn
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import mail, signing
from django.core.cache import cache
from django.core.exceptions import FieldError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, override_settings

from ledger import queries as ledger
from market.audit.__main__ import main as audit
from market.engine.commands import BUY, SELL, PlaceOrder
from market.exchange.models import IdempotencyKey, SettlementLine
from market.exchange.units import parse_price
from market.households import accesslog, devices, erasure, keystore, operations, queries
from market.households.models import (
    Access,
    Account,
    AccountRequest,
    ApiKey,
    Connection,
    Consent,
    Home,
    Renewal,
    Role,
    SignIn,
    User,
)
from market.households.operations import HouseholdError
from market.metering.operations import ReadingIn, record_batches
from market.notices import operations as notices
from market.pages.authforms import PasskeyForm
from market.pages.outbox import OUTBOX
from market.payments import operations as payments
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due
from tests.bank import pay_out
from tests.factories import DEPOSIT_E7, PARAMS, Market, running_market
from tests.integration.coats import let_readers_end, traces, unpacked
from tests.integration.witness_http import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "Zacharias.Quittenbaum"
TEXTS = {
    "username": NAME,
    "email": "zq@quittenbaum-post.example",
    "address": "Holunderstiege 4711b, Zwetschgau",
    "meter_number": "1ESY9988776655",
}
CALLED = "Zachi-Quittenb"
KEY_NAME = "Quittenbaums Heizung"
CLIENT_KEY = "quittenbaum-order-1"
PASSWORD = "rain on a tin roof"
DEVICE_NAME = "Quittenbaums Zaehler"
PARTY = "Quittenbaums Energieberater"
PASSKEY_NAME = "Quittenbaums Schluessel"
PHONE_NAME = "Quittenbaums Telefon"
PHONE_ADDRESS = "https://fcm.googleapis.com/fcm/send/quittenbaum-phone-7f3a"
PHONE_POINT = (
    "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"  # a point of P-256
)
SECRETS = [*TEXTS.values(), CALLED, KEY_NAME, DEVICE_NAME, CLIENT_KEY, PARTY, PASSKEY_NAME, PHONE_NAME, PHONE_ADDRESS]


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path) -> Any:
    """Give the test a folder of its own for keys, as an installation has."""
    files = {
        "LEDGER_KEY_FILE": tmp_path / "data" / "ledger_key",
        "LEDGER_SALT_FILE": tmp_path / "data" / "ledger_salt",
        "PERSON_KEYS_FILE": tmp_path / "data" / "person_keys",
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    }
    accesslog.forget_remembered()
    with override_settings(**files):
        yield


TRACES = {text: traces(text) for text in SECRETS}


def test_traces_are_found_in_every_coat() -> None:
    session = signing.dumps({"who": NAME, "more": "x" * 200}, compress=True).encode()
    assert session.startswith(b".") and leaks(session) == []
    for packed in (session, zlib.compress(NAME.encode()), gzip.compress(NAME.encode())):
        assert leaks(unpacked(packed)) == [NAME]
    assert leaks(b"GET /?q=" + quote_plus(TEXTS["address"]).encode()) == [TEXTS["address"]]
    for wrapped in (NAME.encode(), NAME.encode().hex().encode(), base64.b64encode(b"ab" + NAME.encode() + b"c")):
        assert any(trace in b"x" + wrapped for trace in traces(NAME))


def leaks(data: bytes) -> list[str]:
    """Return which of the person's texts are in some bytes."""
    return [text for text in SECRETS if any(trace in data for trace in TRACES[text])]


def database_leaks() -> dict[str, list[str]]:
    """Return which tables hold a text, looking at every column of every row."""
    found = {}
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        known = {model._meta.db_table for model in apps.get_models(include_auto_created=True) if model._meta.managed}
        assert known < set(tables), "a table that is not looked at"
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            values = [_bytes(value) for row in cursor.fetchall() for value in row]
            data = b"\n".join([*values, *map(unpacked, values)])
            if there := leaks(data):
                found[table] = there
    return found


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def file_leaks(*folders: Path) -> dict[str, list[str]]:
    """Return which files below some folders hold a text."""
    found = {}
    for path in [path for folder in folders for path in folder.rglob("*") if path.is_file()]:
        with contextlib.suppress(FileNotFoundError):  # SQLite removes its log when the last connection closes
            data = path.read_bytes()
            if there := leaks(data + unpacked(data)):
                found[str(path)] = there
    return found


def joins(market: Market) -> tuple[User, int, Client]:
    """Let the person sign up, be accepted, pay in, make a key and stay signed in; return user, account and browser."""
    operations.sign_up(password=PASSWORD, area="LV1.1", **TEXTS)
    user = User.objects.get(username=NAME)
    operations.set_profile(user=user, first_name=CALLED, email=TEXTS["email"])
    now = datetime(2026, 6, 6, 10, tzinfo=UTC)
    account = operations.accept_request(market.exchange, request_id=AccountRequest.objects.get(user=user).pk, now=now)
    deposit = payments.request_deposit(account_index=account.index, amount_e7=DEPOSIT_E7, now=now)
    staff = operations.create_person(username="sam", password=PASSWORD, role=Role.STAFF)
    payments.confirm(market.exchange, payment_id=deposit.pk, by=staff, now=now)
    operations.issue_key(user=user, name=KEY_NAME, scopes={"trade", "read"}, now=now)
    devices.register(user=user, kind="meter", name=DEVICE_NAME, rating_w=30_000, now=now, now_ms=0)
    phone = {"endpoint": PHONE_ADDRESS, "p256dh": PHONE_POINT, "auth": "MDEyMzQ1Njc4OWFiY2RlZg", "name": PHONE_NAME}
    notices.add_device(user=user, now=now, **phone)
    browser = Client()
    assert browser.post("/sign-in", {"username": NAME, "password": PASSWORD}).status_code == 302
    assert NAME in browser.get("/account").content.decode()
    secures(user, browser)
    sam = Client()
    sam.force_login(staff)
    sam.get("/staff")
    sam.get(f"/regulator/accounts/{account.index}")
    return user, account.index, browser


def secures(user: User, browser: Client) -> None:
    """Confirm the address, set up an app and a passkey, let somebody else act for the person, and open the pages of it all."""
    OUTBOX.settle(20)
    mail.outbox.clear()
    cache.clear()  # links and copies are counted there
    assert browser.post("/account/security/email", {"email": TEXTS["email"]}).status_code == 302
    assert OUTBOX.settle(20)
    (message,) = mail.outbox
    link = re.search(r"/confirm-email/\S+", str(message.body))
    assert link and browser.post(link[0]).status_code == 302
    secret = re.search(r'<code class="token">([A-Z2-7]+)</code>', browser.get("/account/security/app").content.decode())
    assert secret
    code = format_hotp_value(hotp_value(secret[1], int(time.time()) // 30))
    assert browser.post("/account/security/app", {"code": code}).status_code == 302
    form = PasskeyForm(user=user, data={"name": PASSKEY_NAME})
    form.is_valid()  # it has no credential; the name is what this is about
    WebAuthn.add(user, form.cleaned_data["name"], {})
    asked = {
        "once": "c",
        "party": PARTY,
        "scopes": ["read"],
        "until": f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}",
    }
    token = re.search(r"sl_[\w-]{40,}", browser.post("/consent", asked).content.decode())
    assert token and queries.identify_key(token[0]) is not None
    used = browser.get("/api/v1/me", headers={"Authorization": f"Bearer {token[0]}"})
    assert used.json()["user"] == NAME
    assert PASSKEY_NAME in browser.get("/account/security").content.decode()
    assert PARTY in browser.get("/account/consents").content.decode()
    assert PARTY in browser.get("/account").content.decode(), "noted in the access log"
    assert b"".join(browser.post("/account/export").streaming_content)  # type: ignore[attr-defined]


def trades(market: Market, account: int) -> str:
    """Let the person buy from Alice; return the contract."""
    name = market.contract()
    market.place(market.alice, SELL, "0.2000", 1_000, contract=name)
    command = PlaceOrder(account, name, BUY, parse_price("0.3000"), 1_000, "gtg", 0)
    assert len(market.exchange.call(command, key=CLIENT_KEY).events) == 2
    market.place(account, BUY, "0.0100", 500, contract=market.contract(3))  # stays open
    return name


def settles(market: Market, account: int, contract: str) -> None:
    """Let the interval pass with readings of both sides."""
    market.clock.advance(minutes=30)
    market.member("LV1.2", deposit_e7=0)  # the market's timetable follows
    readings = [ReadingIn(market.alice, 0, 1_000), ReadingIn(market.bob, 0, 0), ReadingIn(account, 900, 0)]
    record_batches(exchange=market.exchange, contract=contract, batches={"LV1.1": readings}, now_ms=market.clock.at_ms)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)


def now(market: Market) -> datetime:
    return datetime.fromtimestamp(market.clock.at_ms / 1_000, UTC)


def verify(folder: Path) -> None:
    call_command("verify_ledger", verbosity=0)
    call_command("export_ledger", folder, verbosity=0)
    call_command("verify_ledger", str(folder), verbosity=0)


def test_nothing_readable_is_left_and_every_check_passes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA secure_delete=OFF")  # as SQLite is built elsewhere than in Debian
    with running_market(folder=tmp_path / "data", seal_every_s=0.05) as market:
        user, account, browser = joins(market)
        assert queries.commitment_holds(
            account, str(ledger.entry(Account.objects.get(index=account).opened_seq)["commitment"])
        )
        contract = trades(market, account)
        key_id = user.person_key
        backup = _backup(tmp_path)

        with pytest.raises(HouseholdError, match="account_open"):
            erasure.erase(user=user)
        assert pay_out(market.exchange, user=user, now=now(market)) == []
        with pytest.raises(HouseholdError, match="unsettled"):
            erasure.erase(user=user)
        settles(market, account, contract)
        with pytest.raises(HouseholdError, match="money_left") as left:
            erasure.erase(user=user)
        assert "still holds" in str(left.value.sentence)
        assert User.objects.filter(pk=user.pk).exists(), "nothing was erased by what was refused"

        (paid,) = pay_out(market.exchange, user=user, now=now(market))
        assert ledger.entry(paid.seq)["reason"] == "withdrawal"
        with pytest.raises(HouseholdError, match="provisional"):
            erasure.erase(user=user)
        market.clock.advance(ms=PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS)
        settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
        adjust_due(exchange=market.exchange)
        finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms)
        done = erasure.erase(user=User.objects.get(pk=user.pk))
        assert (done.accounts, done.sessions) == ([account], 1)
        entry = ledger.entry(Account.objects.get(index=account).opened_seq)
        assert queries.commitment_holds(account, str(entry["commitment"])) is None

    assert browser.get("/account").status_code == 302, "signed out"
    assert not User.objects.filter(pk=user.pk).exists() and not Connection.objects.exists()
    assert not ApiKey.objects.exists() and not IdempotencyKey.objects.filter(key=CLIENT_KEY).exists()
    assert not Access.objects.filter(person=user.pk).exists()
    for model in (Authenticator, Consent):
        assert not model.objects.exists(), model
    assert not SignIn.objects.filter(user_id=user.pk).exists() and not EmailAddress.objects.exists()
    assert keystore.store().destroyed(key_id)

    verify(tmp_path / "export")
    call_command("check_books", verbosity=0)
    assert (
        audit([str(tmp_path / "export"), "--json", str(tmp_path / "audit.json"), "--resume", str(tmp_path / "at")]) == 0
    )
    call_command("follow", str(tmp_path / "export"), folder=tmp_path / "mirror", once=True)
    assert database_leaks() == {}
    let_readers_end()
    pages = _backup(tmp_path, "after.sqlite3")  # page by page, those that were given back included
    # The text that a program chose for a repeated order is the one thing an old backup shows, for the 48 hours it lives.
    kept = {} if backup is None else {str(backup): [CLIENT_KEY]}
    assert file_leaks(tmp_path, Path(settings.DATA_DIR)) == kept
    assert (pages is None) == (backup is None)
    said = capfd.readouterr()
    assert leaks(caplog.text.encode() + said.out.encode() + said.err.encode()) == []
    _check_backup(backup)
    # What happened stays: the account is a number that traded.
    with running_market(folder=tmp_path / "data") as market:
        assert market.exchange.read(lambda engine: engine.accounts[account].closed)


def _backup(tmp_path: Path, name: str = "backup.sqlite3") -> Path | None:
    """Copy the database as an administrator would."""
    if connection.vendor != "sqlite":
        return None
    copy = tmp_path / name
    connection.ensure_connection()
    with sqlite3.connect(copy) as to:
        connection.connection.backup(to)
    return copy


def _check_backup(copy: Path | None) -> None:
    """A backup from before has the person's row, and nobody can read it."""
    if copy is None:
        return
    with sqlite3.connect(copy) as db:
        rows = db.execute("SELECT username, email FROM households_user WHERE role = 'household'").fetchall()
    assert len(rows) == 1 and all(value.startswith(keystore.PREFIX) for value in rows[0])
    assert keystore.unseal(rows[0][0], "households.user.username") == ""


def test_before_the_erasure_the_texts_are_sealed_in_the_database_too() -> None:
    with running_market() as market:
        user, account, _browser = joins(market)
        trades(market, account)
        assert database_leaks() == {"exchange_idempotencykey": [CLIENT_KEY]}
        user.refresh_from_db()
        assert (user.username, user.first_name, user.email) == (NAME, CALLED, TEXTS["email"])
        assert AccountRequest.objects.get(user=user).meter_number == TEXTS["meter_number"]
        assert ApiKey.objects.get(user=user, device=None, consent=None).name == KEY_NAME


def test_a_restored_backup_brings_nobody_back() -> None:
    user = operations.create_person(username=NAME, password=None)
    stranger = operations.create_person(username="bob", password=None)
    keystore.store().destroy(user.person_key)  # what the erasure after the backup did
    assert User.objects.get(pk=user.pk).username == ""
    with pytest.raises(keystore.KeyDestroyed):
        operations.set_profile(user=user, first_name="again", email="")
    call_command("erase_person", restored=True, verbosity=0)
    assert list(User.objects.values_list("pk", flat=True)) == [stranger.pk]


def test_the_command_closes_pays_out_and_erases(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="nobody who signs in"):
        call_command("erase_person", "nobody", yes=True)
    with running_market() as market:
        user = operations.create_person(username=NAME, password=None)
        account = operations.open_account(market.exchange, now=now(market), user=user, area="LV1.1")
        with pytest.raises(CommandError, match="still open"):
            call_command("erase_person", NAME.lower(), yes=True)
        pay_out(market.exchange, user=user, now=now(market))
        call_command("erase_person", NAME, yes=True)
    assert str(account.index) in capsys.readouterr().out
    assert not User.objects.exists()


def test_who_decides_in_office_is_not_erased() -> None:
    olga = operations.create_person(username="olga", password=None, role=Role.OPERATOR)
    with pytest.raises(HouseholdError, match="not_a_household"):
        erasure.erase(user=olga)


def test_a_connection_that_somebody_else_uses_is_kept() -> None:
    with running_market() as market:
        for name in ("one", "two"):
            user = operations.create_person(username=name, password=None)
            operations.open_account(
                market.exchange, now=now(market), user=user, area="LV1.1", meter_number="M-1", address="x"
            )
        names = market.exchange.read(lambda engine: {a.connection for a in engine.accounts if a.connection})
        assert len(names) == 1 == Connection.objects.count()
        assert Session.objects.count() == 0
        for name, left in (("one", 1), ("two", 0)):
            user = User.objects.get(username=name)
            pay_out(market.exchange, user=user, now=now(market))
            erasure.erase(user=user)
            assert Connection.objects.count() == left


def test_a_sealed_value_is_bound_to_its_column_and_cannot_be_searched() -> None:
    id = keystore.new_id()
    keystore.store().make(id)
    sealed = keystore.seal(id, "text", "a.b")
    assert keystore.unseal(sealed, "a.b") == "text"
    with pytest.raises(ValueError, match="not what was sealed"):
        keystore.unseal(sealed, "a.c")
    with pytest.raises(ValueError, match="expected a sealed value"):
        keystore.unseal("text", "a.b")
    with pytest.raises(FieldError):
        User.objects.filter(email="a@b.example")
    with pytest.raises(TypeError):
        User.objects.update(email="a@b.example")
    assert settings.PERSON_KEYS_FILE.stat().st_mode & 0o077 == 0


def test_a_meter_number_that_the_network_knows_goes_too() -> None:
    """The network may call a home's connection by the number on its meter."""
    with running_market(seal_every_s=0.05) as market:
        home = Home.objects.create(code=TEXTS["meter_number"], area="LV1.1")
        other = Home.objects.create(code="H8", area="LV1.1")
        agent = operations.open_account(market.exchange, now=now(market), home=home)
        user, account, _browser = joins(market)
        named = ledger.entry(Account.objects.get(index=account).opened_seq)["connection"]
        assert named == agent.connection, "one connection, whoever trades over it"
        operations.close_account(market.exchange, account_index=agent.index, now=now(market))
        pay_out(market.exchange, user=user, now=now(market))
        erasure.erase(user=User.objects.get(pk=user.pk))
        assert database_leaks() == {}
        home.refresh_from_db()
        other.refresh_from_db()
        assert home.code.startswith("renamed-") and other.code == "H8"


def test_a_restored_backup_shows_no_way_from_a_meter_to_the_ledger() -> None:
    with running_market(seal_every_s=0.05) as market:
        user, _account, _browser = joins(market)
        pay_out(market.exchange, user=user, now=now(market))
        keystore.store().destroy(user.person_key)  # what the erasure after the backup did
        assert erasure.erase_again() == 1
        assert not Connection.objects.exists()


def test_without_the_file_of_keys_nothing_is_sealed_anew(tmp_path: Path) -> None:
    user = operations.create_person(username=NAME, password=None, email=TEXTS["email"])
    path, aside = Path(settings.PERSON_KEYS_FILE), tmp_path / "aside"

    def reopened() -> None:
        keystore._stores.clear()
        keystore._lookup_secrets.clear()

    reopened()
    path.rename(aside)
    for attempt in (lambda: operations.set_profile(user=user, first_name="x", email=""), user.save, User.objects.first):
        with pytest.raises(keystore.KeyMissing, match="restore it"):
            attempt()
    assert not path.exists()
    # Nor with one that belongs to another market.
    sqlite3.connect(path).executescript(keystore.SCHEMA)
    reopened()
    with pytest.raises(keystore.KeyMissing, match="belongs to this database"):
        operations.set_profile(user=user, first_name="x", email="")
    aside.replace(path)
    reopened()
    found = User.objects.get(pk=user.pk)
    assert (found.username, found.first_name, found.email) == (NAME, "", TEXTS["email"])


def test_nobody_is_erased_while_money_is_between_two_accounts() -> None:
    with running_market() as market:
        user = operations.create_person(username=NAME, password=None)
        account = operations.open_account(market.exchange, now=now(market), user=user, area="LV1.1")
        pay_out(market.exchange, user=user, now=now(market))
        Renewal.objects.create(old=account, new=account, amount_e7=5, at=now(market), out_seq=1)
        with pytest.raises(HouseholdError, match="money_moving"):
            erasure.erase(user=user)


def test_an_official_who_reads_a_settlement_is_noted() -> None:
    with running_market(seal_every_s=0.05) as market:
        user, account, _browser = joins(market)
        contract = trades(market, account)
        pay_out(market.exchange, user=user, now=now(market))
        settles(market, account, contract)
        seq = SettlementLine.objects.get(account=account).seq
        wait_for(lambda: ledger.sealed_size() > seq)
        rita = operations.create_person(username="rita", password=PASSWORD, role=Role.REGULATOR)
        made = operations.issue_key(user=rita, name="desk", scopes={"read", "ledger:read"}, now=datetime.now(UTC))
        browser = Client()
        browser.force_login(rita)
        looks = (
            lambda: browser.get(
                f"/api/v1/ledger/entries/{seq}/receipt?account={account}",
                headers={"Authorization": f"Bearer {made.token}"},
            ),
            lambda: browser.get(f"/regulator/entries/{seq}"),
        )
        for look in looks:
            Access.objects.all().delete()
            accesslog.forget_remembered()
            assert look().status_code == 200
            assert Access.objects.filter(reader=rita.pk, account=account, kind=accesslog.ENTRIES).exists()
            assert [seen.reader for seen in accesslog.about(user)] == ["rita"]
