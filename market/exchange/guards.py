"""What the database itself refuses: changes of rows that are only ever added, and balances that no movement explains.

Three layers. On PostgreSQL the application's role has no right to change what is append-only (``secure``); triggers refuse
it to the tables' owner as well, and on SQLite, which knows no roles, they are all there is (``install``). The migration
``0004_guards`` has PostgreSQL compare money: its triggers are ``MONEY``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import models as django_models
from psycopg2 import sql

from ledger import models as ledger
from market.exchange import models

# Rows are added and never touched again.
APPEND_ONLY: tuple[type[django_models.Model], ...] = (
    ledger.Entry, ledger.HashTile, ledger.Checkpoint, ledger.Row, ledger.Evidence, ledger.Rulebook, ledger.KeyEntry,
    ledger.Cosignature, ledger.Quorum, ledger.Alarm, models.Order, models.OrderDetail, models.Trade, models.OrderChange,
    models.Recall, models.Alert, models.Transfer, models.SettlementLine,
    models.Adjustment, models.Final, models.AgreementChange, models.SharedLine,
)  # fmt: skip


def append_only() -> tuple[type[django_models.Model], ...]:
    """Return all tables whose rows are only ever added; packages above say so by ``APPEND_ONLY = True`` in a model."""
    return (*APPEND_ONLY, *(model for model in apps.get_models() if getattr(model, "APPEND_ONLY", False)))


# The state readers see now; a row is never dropped.
UPDATED: tuple[type[django_models.Model], ...] = (models.Balance, models.Contract)
# Kept for a while; a row is never changed.
PRUNED: tuple[type[django_models.Model], ...] = (models.Snapshot, models.Refusal, models.IdempotencyKey)

RIGHTS = {"SELECT, INSERT": APPEND_ONLY, "SELECT, INSERT, UPDATE": UPDATED, "SELECT, INSERT, DELETE": PRUNED}
ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
MIGRATIONS = "django_migrations"  # the application looks at it and leaves it alone

REFUSE = """
CREATE OR REPLACE FUNCTION sunledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$
"""


def table_of(model: type[django_models.Model]) -> str:
    """Return a model's table."""
    return model._meta.db_table


def install(connection: Any) -> None:
    """Make the tables refuse changes of append-only rows, whoever asks; ``connection`` is Django's. Can be repeated."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(REFUSE)
        for table in map(table_of, append_only()):
            if connection.vendor == "postgresql":
                cursor.execute(
                    f'CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "{table}" '
                    "FOR EACH STATEMENT EXECUTE FUNCTION sunledger_append_only()"
                )
                continue
            for action in ("UPDATE", "DELETE"):
                name = f"{table}_no_{action.lower()}"
                cursor.execute(
                    f'CREATE TRIGGER IF NOT EXISTS "{name}" BEFORE {action} ON "{table}" '
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: {action} refused'); END"
                )


def remove(connection: Any) -> None:
    """Take away what ``install`` made, for tests and for an owner who knows what he does."""
    with connection.cursor() as cursor:
        for table in map(table_of, append_only()):
            if connection.vendor == "postgresql":
                cursor.execute(f'DROP TRIGGER IF EXISTS append_only ON "{table}"')
                continue
            for action in ("update", "delete"):
                cursor.execute(f'DROP TRIGGER IF EXISTS "{table}_no_{action}"')


class Unfit(Exception):
    """This role cannot be the application's."""


def secure(connection: Any, role: str, password: str, tables: Iterable[str]) -> None:
    """Give the application's role what it needs of a PostgreSQL database and take everything else from it.

    ``connection`` is the owner's, of Django; ``tables`` are all the product has. The role is made when there is none.
    Raises ``Unfit``. Can be repeated, and must be after each migration that adds a table.
    """
    name = sql.Identifier(role)
    with connection.cursor() as wrapped:
        cursor = wrapped.cursor
        cursor.execute("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")
        owner = cursor.fetchone()[0]
        if role == owner:
            raise Unfit(f"{role} owns the tables: DATABASE_URL needs a user of its own")
        cursor.execute("SELECT rolsuper OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = %s", [role])
        found = cursor.fetchone()
        if found is None:
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(name), [password])
        elif found[0]:
            raise Unfit(f"{role} may do everything: the application needs a plain role")
        else:
            cursor.execute("SELECT pg_has_role(%s, %s, 'MEMBER')", [role, owner])
            if cursor.fetchone()[0]:
                raise Unfit(f"{role} is a member of {owner}, which owns the tables")
        cursor.execute("SELECT current_database()")
        database = sql.Identifier(cursor.fetchone()[0])
        for statement in (
            "GRANT CONNECT ON DATABASE {database} TO {role}",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC, {role}",
            "GRANT USAGE ON SCHEMA public TO {role}",
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {role}",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
            "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ):
            cursor.execute(sql.SQL(statement).format(database=database, role=name))
        rights = {table_of(model): given for given, found in RIGHTS.items() for model in found}
        rights |= {table_of(model): "SELECT, INSERT" for model in append_only()}
        for table in sorted({*tables} - {MIGRATIONS}):
            given = sql.SQL(rights.get(table, ALL_RIGHTS))
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(given, sql.Identifier(table), name))
