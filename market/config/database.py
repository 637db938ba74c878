"""Bring the database up to date before a process works on it."""

from __future__ import annotations

import os
from pathlib import Path

import dj_database_url
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor

from market.exchange import guards

PRIVATE = 0o600
OWNER = "owner"  # alias of the connection that migrates


def prepare() -> None:
    """Apply the migrations. A SQLite file is for its owner alone: it holds everybody's orders and money.

    Its companions (``-wal``, ``-shm``) get the file's mode from SQLite, those of an earlier run are changed here.
    """
    if connection.vendor == "sqlite" and not connection.is_in_memory_db():
        make_private(Path(connection.settings_dict["NAME"]))
    if settings.MIGRATION_DATABASE_URL:
        check_migrated()
        return
    call_command("migrate", interactive=False, verbosity=0)
    if connection.vendor == "sqlite":
        guards.install(connection)


def check_migrated() -> None:
    """Raise ``CommandError`` unless the owner has applied all migrations: the application's role cannot."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in missing[:3])
        raise CommandError(f"{len(missing)} migrations are missing ({names}, ...): run manage.py secure_database first")


def secure() -> str:
    """Migrate as the tables' owner, then give the application's role its rights and no others; return the role's name.

    The owner is the user of ``MIGRATION_DATABASE_URL``, the role that of ``DATABASE_URL``. Raises ``CommandError``.
    """
    if not settings.MIGRATION_DATABASE_URL or connection.vendor != "postgresql":
        raise CommandError("expected PostgreSQL URLs in DATABASE_URL and MIGRATION_DATABASE_URL")
    role, password = connection.settings_dict["USER"], connection.settings_dict["PASSWORD"]
    owner = dj_database_url.parse(settings.MIGRATION_DATABASE_URL)
    if owner["NAME"] != connection.settings_dict["NAME"]:
        raise CommandError("expected the same database in DATABASE_URL and MIGRATION_DATABASE_URL")
    connections.databases[OWNER] = {**connection.settings_dict, **owner}
    try:
        call_command("migrate", interactive=False, verbosity=0, database=OWNER)
        guards.install(connections[OWNER])
        with transaction.atomic(using=OWNER):
            tables = connections[OWNER].introspection.table_names()
            guards.secure(connections[OWNER], role, password, tables)
    except guards.Unfit as error:
        raise CommandError(str(error)) from error
    finally:
        connections[OWNER].close()
        del connections[OWNER]
        del connections.databases[OWNER]
    return str(role)


def make_private(path: Path) -> None:
    """Create the file if there is none, and take it and its companions from everybody but the owner."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
    for one in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        if one.exists():
            one.chmod(PRIVATE)
