"""How readings reach their table: COPY on PostgreSQL, ``executemany`` on SQLite; the ORM is ten times slower."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

from django.db import connection, transaction

from market.metering import marks

COLUMNS = (
    "start_ms", "account", "version", "area", "import_wh", "export_wh", "produced_wh", "used_wh", "quality",
    "received_ms", "seq", "n", "reason", "source", "revision",
)  # fmt: skip
_COPY = f"COPY metering_reading ({', '.join(COLUMNS)}) FROM STDIN"
_INSERT = f"INSERT INTO metering_reading ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"  # noqa: S608
_LINE = "\t".join(["%s"] * len(COLUMNS)) + "\n"
VALUE_COLUMNS = (
    "batch", "n", "device", "account", "start_ms", "duration_ms", "import_wh", "export_wh", "register", "quality",
    "revision", "received_ms",
)  # fmt: skip
_VALUE_COPY = f"COPY metering_devicevalue ({', '.join(VALUE_COLUMNS)}) FROM STDIN"
_VALUE_INSERT = (
    f"INSERT INTO metering_devicevalue ({', '.join(VALUE_COLUMNS)}) VALUES ({', '.join(['%s'] * len(VALUE_COLUMNS))})"  # noqa: S608
)
_VALUE_LINE = "\t".join(["%s"] * len(VALUE_COLUMNS)) + "\n"


class ReadingRow(NamedTuple):
    """A row of the table; see ``models.Reading``."""

    start_ms: int
    account: int
    version: int
    area: str
    import_wh: int
    export_wh: int
    produced_wh: int | None
    used_wh: int | None
    quality: str
    received_ms: int
    seq: int
    n: int
    reason: str = ""
    source: str = ""
    revision: int = 0


class ValueRow(NamedTuple):
    """A row of the table; see ``models.DeviceValue``."""

    batch: int
    n: int
    device: int
    account: int
    start_ms: int
    duration_ms: int
    import_wh: int
    export_wh: int
    register: bool
    quality: str
    revision: int
    received_ms: int


def insert(rows: Sequence[ReadingRow]) -> None:
    """Append the rows in one transaction. Area ids and qualities have passed validation: no tab, no backslash."""
    if not rows:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            lines = [
                _LINE % (row if row.produced_wh is not None and row.used_wh is not None else _with_nulls(row))
                for row in rows
            ]
            cursor.copy_expert(_COPY, io.StringIO("".join(lines)))
        else:
            cursor.executemany(_INSERT, rows)
        marks.note(cursor, ((row.start_ms, row.area) for row in rows))


def _with_nulls(row: ReadingRow) -> tuple[object, ...]:
    return tuple("\\N" if value is None else value for value in row)


def insert_values(rows: Sequence[ValueRow]) -> None:
    """Append values within the caller's transaction. Everything in them is a number or one of our own words."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.copy_expert(_VALUE_COPY, io.StringIO("".join([_VALUE_LINE % row for row in rows])))
        else:
            cursor.executemany(_VALUE_INSERT, rows)
