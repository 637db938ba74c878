"""All readings of an account, page by page: for who takes a copy of their data along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from market.metering.models import DeviceValue, Reading

PAGE = 1_000
READING_COLUMNS = (
    "start_ms", "version", "import_wh", "export_wh", "produced_wh", "used_wh", "quality", "reason", "received_ms", "seq",
    "n",
)  # fmt: skip
VALUE_COLUMNS = (
    "batch", "n", "device", "start_ms", "duration_ms", "import_wh", "export_wh", "register", "quality", "revision",
    "received_ms",
)  # fmt: skip


def readings(account: int) -> Iterator[tuple[Any, ...]]:
    """Return every version of an account's readings, oldest interval first, as ``READING_COLUMNS``."""
    last_ms = -1
    while rows := list(
        Reading.objects.filter(account=account, start_ms__gt=last_ms)
        .order_by("start_ms", "version")
        .values_list(*READING_COLUMNS)[:PAGE]
    ):
        if len(rows) == PAGE:  # the last interval may have more versions than were read
            whole = [row for row in rows if row[0] != rows[-1][0]]
            rows = whole or rows
        last_ms = rows[-1][0]
        yield from rows


def sent(account: int) -> Iterator[tuple[Any, ...]]:
    """Return what the devices of an account sent, as they sent it, as ``VALUE_COLUMNS``."""
    last = (-1, -1)
    while rows := list(
        (
            DeviceValue.objects.filter(account=account, batch__gt=last[0])
            | DeviceValue.objects.filter(account=account, batch=last[0], n__gt=last[1])
        )
        .order_by("batch", "n")
        .values_list(*VALUE_COLUMNS)[:PAGE]
    ):
        last = (rows[-1][0], rows[-1][1])
        yield from rows
