"""What the database refuses by itself: changes of what is append-only, and money that nothing moved."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from ledger import models as ledger
from ledger import operations as ledger_operations
from market.config import database
from market.engine.commands import SELL, Agree, Fund, Propose
from market.exchange import guards, models, stores
from market.exchange.guards import APPEND_ONLY, PRUNED, UPDATED, table_of
from market.settlement.operations import adjust_due, finalise_due, share_due
from tests.factories import running_exchange, running_market
from tests.integration.test_exchange_complex import lived
from tests.integration.test_settlement_run import deliver, meter, settle, trade_across_the_city

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "only-for-tests"
UNUSED = (models.Alert, ledger.KeyEntry, ledger.Cosignature, ledger.Quorum, ledger.Alarm)  # by this short life


def live(folder: Path) -> None:
    """Let a market do everything there is, stop it, and go on from what it left."""
    with running_market(folder=folder, snapshot_every=10) as market:
        contract = trade_across_the_city(market)
        lived(market)
        assert market.buys(market.bob, "0.2000", 0).refused
        proposed = market.exchange.call(Propose(market.bob, market.bob, market.charlie, 0, contract))
        assert market.exchange.call(Agree(market.charlie, proposed.events[0].seq)).refused is None
        deliver(market)
        meter(market, contract, alice=(0, 900), charlie=(1_000, 0))
        settle(market)
        meter(market, contract, charlie=(900, 0))
        assert adjust_due(exchange=market.exchange).areas == 1
        market.clock.advance(minutes=15 * 24 * 60)  # keys are forgotten after 48 hours, settlements final after 14 days
        settle(market)
        assert share_due(exchange=market.exchange) >= 1
        assert finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms) == 1
        for number in range(3):
            market.exchange.call(_funding(market.alice), key=f"late {number}")
    with running_exchange(market.clock, folder=folder) as (exchange, _):
        assert exchange.status()["seq"] > 0
    ledger_operations.keep_evidence(b"a signed batch")
    call_command("verify_ledger")
    call_command("check_books")
    for model in APPEND_ONLY + UPDATED + PRUNED:
        if model not in UNUSED and table_of(model) != "ledger_hashtile":
            assert model.objects.exists(), model


def _funding(account: int) -> object:
    return Fund(account, 1, "deposit", "")


@pytest.fixture
def guarded() -> Iterator[None]:
    guards.install(connection)
    guards.install(connection)  # as at every start
    yield
    guards.remove(connection)


def column_of(model: type) -> str:
    return model._meta.concrete_fields[-1].column


def refused(sql: str) -> str:
    """Run a statement that must fail and return what the database says."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
    return str(caught.value)


def test_every_table_of_the_ledger_and_the_exchange_has_its_place() -> None:
    tables = {model for name in ("ledger", "exchange") for model in apps.get_app_config(name).get_models()}
    classified = APPEND_ONLY + UPDATED + PRUNED
    assert tables == set(classified) and len(classified) == len(tables)


def test_append_only_is_kept_by_the_database_while_the_market_lives(guarded: None, tmp_path: Path) -> None:
    live(tmp_path)
    for model in APPEND_ONLY:
        table, column = table_of(model), column_of(model)
        if model.objects.exists() or connection.vendor == "postgresql":
            assert f"{table} is append-only" in refused(f'UPDATE "{table}" SET "{column}" = "{column}"')
            assert f"{table} is append-only" in refused(f'DELETE FROM "{table}"')
        if connection.vendor == "postgresql":
            assert f"{table} is append-only" in refused(f'TRUNCATE "{table}"')


def test_what_is_append_only_is_not_replaced_either(guarded: None, tmp_path: Path) -> None:
    """To SQLite a replacement is an insert: it fires the triggers of the delete within only when it is told to."""
    if connection.vendor == "postgresql":
        return  # it has no such statement
    live(tmp_path)
    connection.close()  # what is asked from here on is a new connection
    with contextlib.closing(stores.SqliteStore(str(connection.settings_dict["NAME"]))) as writer:
        for model in APPEND_ONLY:
            table = table_of(model)
            if model.objects.exists():
                statement = f'INSERT OR REPLACE INTO "{table}" SELECT * FROM "{table}"'
                assert f"{table} is append-only: DELETE refused" in refused(statement)
                with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only: DELETE refused"):
                    writer._connection.execute(statement)
        # What replaces nothing is an insert as any other, and what may be changed still may.
        writer._connection.execute("INSERT OR REPLACE INTO ledger_rulebook (sha256, text) VALUES ('0', '')")
        balances = table_of(models.Balance)
        writer._connection.execute(f'INSERT OR REPLACE INTO "{balances}" SELECT * FROM "{balances}"')
        pruned = table_of(models.Refusal)
        writer._connection.execute(f'DELETE FROM "{pruned}"')


def test_serving_on_sqlite_brings_the_guards(tmp_path: Path) -> None:
    areas = tmp_path / "areas.csv"
    areas.write_text("area_id,parent_id,level,capacity_kw\nCITY,,HV,0\nLV1,CITY,LV,100\n")
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["SUNLEDGER_DATA"] = str(tmp_path)
    command = [sys.executable, "manage.py", "found", str(areas), "--topup", "0.3000", "--spill", "0.0800"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    with sqlite3.connect(tmp_path / "sunledger.sqlite3") as file:
        with pytest.raises(sqlite3.IntegrityError, match="ledger_entry is append-only: DELETE refused"):
            file.execute("DELETE FROM ledger_entry")
        with pytest.raises(sqlite3.IntegrityError, match="ledger_rulebook is append-only: UPDATE refused"):
            file.execute("UPDATE ledger_rulebook SET text = ''")


# --- the application's role ---------------------------------------------------------------------------------------------


def tables() -> list[str]:
    return connection.introspection.table_names()


@pytest.fixture
def role() -> Iterator[str]:
    """A role that has what the application needs; the guards are off, so that its rights alone refuse."""
    name = f"app_{os.getpid()}"
    with transaction.atomic():
        guards.secure(connection, name, PASSWORD, tables())
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_role(name: str, sql: str) -> None:
    params = {**connection.get_connection_params(), "user": name, "password": PASSWORD}
    for extra in ("cursor_factory", "context"):
        params.pop(extra, None)
    session = psycopg2.connect(**params)
    try:
        with session, session.cursor() as cursor:
            cursor.execute(sql)
    finally:
        session.close()


@pytest.mark.postgres  # roles and statement triggers
def test_the_role_can_add_and_read_and_nothing_else(role: str) -> None:
    denied = {APPEND_ONLY: ("update", "delete"), UPDATED: ("delete",), PRUNED: ("update",)}
    for found, actions in denied.items():
        for model in found:
            table, column = table_of(model), column_of(model)
            sql = {"update": f'UPDATE "{table}" SET "{column}" = "{column}"', "delete": f'DELETE FROM "{table}"'}
            as_role(role, f'SELECT count(*) FROM "{table}"')
            for statement in (
                *(sql[action] for action in actions), f'TRUNCATE "{table}"', f'DROP TABLE "{table}"',
                f'ALTER TABLE "{table}" DISABLE TRIGGER USER', f'CREATE INDEX ON "{table}" ("{column}")',
            ):  # fmt: skip
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    as_role(role, statement)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        owner = cursor.fetchone()[0]
    for statement in (
        "CREATE TABLE mine (a int)", f"SET ROLE {owner}", "DELETE FROM django_migrations",
        "CREATE OR REPLACE FUNCTION sunledger_moved(change numeric) RETURNS void LANGUAGE sql AS $$ SELECT NULL $$",
    ):  # fmt: skip
        with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ObjectNotInPrerequisiteState)):
            as_role(role, statement)


@pytest.mark.postgres  # roles and statement triggers
def test_the_market_lives_as_this_role(role: str, tmp_path: Path) -> None:
    settings = connection.settings_dict
    owner = settings["USER"], settings["PASSWORD"]
    connection.close()
    settings["USER"], settings["PASSWORD"] = role, PASSWORD
    try:
        live(tmp_path)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchone()[0] == role
    finally:
        connection.close()
        settings["USER"], settings["PASSWORD"] = owner


@pytest.mark.postgres  # roles and statement triggers
def test_a_role_that_may_do_everything_is_refused(role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        owner = cursor.fetchone()[0]
        with pytest.raises(guards.Unfit, match="owns the tables"):
            guards.secure(connection, owner, PASSWORD, tables())
        cursor.execute(f"GRANT {owner} TO {role}")
        with pytest.raises(guards.Unfit, match=f"{role} is a member of {owner}"):
            guards.secure(connection, role, PASSWORD, tables())
        cursor.execute(f"REVOKE {owner} FROM {role}; ALTER ROLE {role} SUPERUSER")
        with pytest.raises(guards.Unfit, match="may do everything"):
            guards.secure(connection, role, PASSWORD, tables())
        cursor.execute(f"ALTER ROLE {role} NOSUPERUSER")


@pytest.mark.postgres  # roles and statement triggers
def test_the_command_prepares_a_database_that_a_market_can_be_founded_in(tmp_path: Path) -> None:
    settings, name = connection.settings_dict, f"secured_{os.getpid()}"
    host = f"{settings['HOST']}:{settings['PORT']}"
    owner_url = f"postgresql://{settings['USER']}:{settings['PASSWORD']}@{host}/{name}"
    app_url = urlunsplit(urlsplit(owner_url)._replace(netloc=f"{name}:{PASSWORD}@{host}"))
    environment = {**os.environ, "DATABASE_URL": app_url, "SUNLEDGER_DATA": str(tmp_path)}
    environment["MIGRATION_DATABASE_URL"] = owner_url
    areas = tmp_path / "areas.csv"
    areas.write_text("area_id,parent_id,level,capacity_kw\nCITY,,HV,0\nLV1,CITY,LV,100\n")

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    admin = psycopg2.connect(host=settings["HOST"], port=settings["PORT"], user=settings["USER"],
                             password=settings["PASSWORD"], dbname="postgres")  # fmt: skip
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            found = ("found", str(areas), "--topup", "0.3000", "--spill", "0.0800")
            secured = manage("secure_database")
            assert (secured.returncode, secured.stderr) == (0, "")
            newest = [name for app, name in MigrationLoader(None).graph.leaf_nodes("exchange")]
            with psycopg2.connect(owner_url) as session, session.cursor() as owner:
                owner.execute("DELETE FROM django_migrations WHERE app = 'exchange' AND name = %s", newest)
            early = manage(*found)
            assert early.returncode == 1 and "run manage.py secure_database first" in early.stderr
            with psycopg2.connect(owner_url) as session, session.cursor() as owner:
                owner.execute(
                    "INSERT INTO django_migrations (app, name, applied) VALUES ('exchange', %s, now())", newest
                )
            assert manage("secure_database").returncode == 0
            founded = manage(*found)
            assert founded.returncode == 0, founded.stderr
            assert manage("check_books").returncode == 0
            with (
                pytest.raises(psycopg2.errors.InsufficientPrivilege),
                psycopg2.connect(app_url) as session,
                session.cursor() as app,
            ):
                app.execute("TRUNCATE ledger_entry")
            with (
                pytest.raises(psycopg2.errors.InsufficientPrivilege, match="append-only"),
                psycopg2.connect(owner_url) as session,
                session.cursor() as owner,
            ):
                owner.execute("TRUNCATE ledger_entry")
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            cursor.execute(f'DROP ROLE IF EXISTS "{name}"')
            admin.close()


# --- money ---------------------------------------------------------------------------------------------------------------

MOVE = "INSERT INTO exchange_transfer VALUES ({id}, 0, 'fund', {debit}, {credit}, {amount})"
SET = "UPDATE exchange_balance SET cash_e7 = cash_e7 + ({amount}) WHERE account = {account}"
SET_BOTH = (
    "UPDATE exchange_balance SET cash_e7 = cash_e7 + CASE account WHEN {credit} THEN {amount} ELSE -{amount} END"
    " WHERE account IN ({debit}, {credit})"
)


@pytest.mark.postgres  # roles and statement triggers
def test_money_moves_by_transfers_and_no_other_way(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        market.place(market.alice, SELL, "0.1500", 100)
        alice, bob = market.alice, market.bob
    free = 2**62
    for statement, said in (
        (MOVE.format(id=free, debit=alice, credit=bob, amount=0), "expected a positive amount"),
        (MOVE.format(id=free, debit=alice, credit=alice, amount=5), "expected a positive amount"),
        (SET.format(amount=1, account=alice), "expected balances that change by what was moved"),
        (SET_BOTH.format(debit=alice, credit=bob, amount=5), "expected balances that change by what was moved"),
        ("INSERT INTO exchange_balance VALUES (999, 'x', 'member', '', 1, 0, 0)", "begin with nothing"),
        (f"UPDATE exchange_balance SET held_e7 = cash_e7 + 1 WHERE account = {alice}", "a wallet of at least"),
        (
            MOVE.format(id=free, debit=alice, credit=bob, amount=5)
            + ";"
            + SET_BOTH.format(debit=bob, credit=alice, amount=5),
            "expected balances that change by what was moved",
        ),
        (
            MOVE.format(id=free, debit=alice, credit=bob, amount=5)
            + ";"
            + SET_BOTH.format(debit=alice, credit=market.charlie, amount=5),
            "expected balances that change by what was moved",
        ),
        (
            "INSERT INTO exchange_trade VALUES (999999, 0, 'c', 1, 2, 5, 5, 5, 'buy', 7, 7, 1, 2, '', '', 25, 0, 9)",
            "expected energy and money that move",
        ),
    ):
        assert said in refused(statement), statement
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(MOVE.format(id=free, debit=alice, credit=bob, amount=5))
        cursor.execute(SET_BOTH.format(debit=alice, credit=bob, amount=5))


def test_a_database_without_roles_cannot_be_secured(settings: object) -> None:
    settings.MIGRATION_DATABASE_URL = ""  # type: ignore[attr-defined]
    with pytest.raises(database.CommandError, match="expected PostgreSQL URLs"):
        database.secure()
