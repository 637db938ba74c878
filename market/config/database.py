"""Bring the database up to date before a process works on it."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.management import call_command
from django.db import connection

PRIVATE = 0o600


def prepare() -> None:
    """Apply the migrations. A SQLite file is for its owner alone: it holds everybody's orders and money.

    Its companions (``-wal``, ``-shm``) get the file's mode from SQLite, those of an earlier run are changed here.
    """
    if connection.vendor == "sqlite" and not connection.is_in_memory_db():
        make_private(Path(connection.settings_dict["NAME"]))
    call_command("migrate", interactive=False, verbosity=0)


def make_private(path: Path) -> None:
    """Create the file if there is none, and take it and its companions from everybody but the owner."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
    for one in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        if one.exists():
            one.chmod(PRIVATE)
