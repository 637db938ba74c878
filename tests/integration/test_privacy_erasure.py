"""A person is erased: nothing readable is left in any table, file, export or log line, and every check passes as before."""

from __future__ import annotations

import base64
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.exceptions import FieldError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, override_settings

from ledger import queries as ledger
from market.engine.commands import BUY, SELL, PlaceOrder
from market.exchange.models import IdempotencyKey
from market.exchange.units import parse_price
from market.households import accesslog, devices, erasure, keystore, operations, queries
from market.households.models import Access, Account, AccountRequest, ApiKey, Connection, Role, User
from market.households.operations import HouseholdError
from market.metering.operations import ReadingIn, record_batches
from market.settlement.operations import settle_due
from tests.factories import DEPOSIT_E7, Market, running_market

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
SECRETS = [*TEXTS.values(), CALLED, KEY_NAME, DEVICE_NAME, CLIENT_KEY]


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


def traces(text: str) -> list[bytes]:
    """Return what a text looks like in plain, in hex and in base64, wherever in a stream it begins."""
    raw = text.encode()
    found = [raw, raw.lower(), raw.hex().encode(), raw.hex().upper().encode(), text.encode("utf-16-le")]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        start, end = (4 if shift else 0), len(encoded) - 4
        found += [encoded[start:end], encoded[start:end].replace(b"+", b"-").replace(b"/", b"_")]
    return found


def test_traces_are_found_in_every_coat() -> None:
    for wrapped in (NAME.encode(), NAME.encode().hex().encode(), base64.b64encode(b"ab" + NAME.encode() + b"c")):
        assert any(trace in b"x" + wrapped for trace in traces(NAME))


def leaks(data: bytes) -> list[str]:
    """Return which of the person's texts are in some bytes."""
    return [text for text in SECRETS if any(trace in data for trace in traces(text))]


def database_leaks() -> dict[str, list[str]]:
    """Return which tables hold a text, looking at every column of every row."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            data = b"\n".join(_bytes(value) for row in cursor.fetchall() for value in row)
            if there := leaks(data):
                found[table] = there
    return found


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def file_leaks(*folders: Path) -> dict[str, list[str]]:
    """Return which files below some folders hold a text."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): there for path in files if (there := leaks(path.read_bytes()))}


def joins(market: Market) -> tuple[User, int, Client]:
    """Let the person sign up, be accepted, pay in, make a key and stay signed in; return user, account and browser."""
    operations.sign_up(password=PASSWORD, area="LV1.1", **TEXTS)
    user = User.objects.get(username=NAME)
    operations.set_profile(user=user, first_name=CALLED, email=TEXTS["email"])
    now = datetime(2026, 6, 6, 10, tzinfo=UTC)
    account = operations.accept_request(market.exchange, request_id=AccountRequest.objects.get(user=user).pk, now=now)
    deposit = operations.request_deposit(account_index=account.index, amount_e7=DEPOSIT_E7)
    staff = operations.create_person(username="sam", password=PASSWORD, role=Role.STAFF)
    operations.confirm_deposit(market.exchange, deposit_id=deposit.pk, by=staff, now=now)
    operations.issue_key(user=user, name=KEY_NAME, scopes={"trade", "read"}, now=now)
    devices.register(user=user, kind="meter", name=DEVICE_NAME, rating_w=30_000, now=now, now_ms=0)
    browser = Client()
    assert browser.post("/sign-in", {"username": NAME, "password": PASSWORD}).status_code == 302
    assert NAME in browser.get("/account").content.decode()
    sam = Client()
    sam.force_login(staff)
    sam.get("/staff")
    sam.get(f"/regulator/accounts/{account.index}")
    return user, account.index, browser


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
    readings = [ReadingIn(market.alice, 0, 1_000), ReadingIn(account, 900, 0)]
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
        assert erasure.close_and_pay_out(market.exchange, user=user, now=now(market)) == []
        with pytest.raises(HouseholdError, match="unsettled"):
            erasure.erase(user=user)
        settles(market, account, contract)
        with pytest.raises(HouseholdError, match="money_left") as left:
            erasure.erase(user=user)
        assert "still holds" in str(left.value.sentence)
        assert User.objects.filter(pk=user.pk).exists(), "nothing was erased by what was refused"

        (paid,) = erasure.close_and_pay_out(market.exchange, user=user, now=now(market))
        assert ledger.entry(paid.seq)["reason"] == "withdrawal"
        done = erasure.erase(user=User.objects.get(pk=user.pk))
        assert (done.accounts, done.sessions) == ([account], 1)
        entry = ledger.entry(Account.objects.get(index=account).opened_seq)
        assert queries.commitment_holds(account, str(entry["commitment"])) is None

    assert browser.get("/account").status_code == 302, "signed out"
    assert not User.objects.filter(pk=user.pk).exists() and not Connection.objects.exists()
    assert not ApiKey.objects.exists() and not IdempotencyKey.objects.filter(key=CLIENT_KEY).exists()
    assert not Access.objects.filter(person=user.pk).exists()
    assert keystore.store().destroyed(key_id)

    verify(tmp_path / "export")
    assert database_leaks() == {}
    # The text that a program chose for a repeated order is the one thing an old backup shows, for the 48 hours it lives.
    kept = {} if backup is None else {str(backup): [CLIENT_KEY]}
    assert file_leaks(tmp_path, Path(settings.DATA_DIR)) == kept
    said = capfd.readouterr()
    assert leaks(caplog.text.encode() + said.out.encode() + said.err.encode()) == []
    _check_backup(backup)
    # What happened stays: the account is a number that traded.
    with running_market(folder=tmp_path / "data") as market:
        assert market.exchange.read(lambda engine: engine.accounts[account].closed)


def _backup(tmp_path: Path) -> Path | None:
    """Copy the database as an administrator would, while the person is a member."""
    if connection.vendor != "sqlite":
        return None
    copy = tmp_path / "backup.sqlite3"
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
        assert ApiKey.objects.get(user=user, device=None).name == KEY_NAME


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
        erasure.close_and_pay_out(market.exchange, user=user, now=now(market))
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
            erasure.close_and_pay_out(market.exchange, user=user, now=now(market))
            erasure.erase(user=user)
            assert Connection.objects.count() == left


def test_a_sealed_value_is_bound_to_its_column_and_cannot_be_searched() -> None:
    sealed = keystore.seal(keystore.new_id(), "text", "a.b")
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
