"""Which areas have readings that settlement has not looked at: marks, written with the readings, taken away by settlement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connection, transaction

from market.metering.models import Mark

MAX_MARKS = 20_000  # of one look: the areas of a city in some 45 intervals
_AT_ONCE = 300  # marks of one statement: SQLite takes 999 values
_VALUES = "(%s, %s, 1)"
_NOTE = (
    "INSERT INTO metering_mark (start_ms, area, count) VALUES {} ON CONFLICT (start_ms, area) DO UPDATE SET count = "
)


class Marked(NamedTuple):
    """An area with readings in a contract that settlement has not looked at; ``count`` says up to which of them."""

    start_ms: int
    area: str
    count: int  # type: ignore[assignment]


def note(cursor: Any, places: Iterable[tuple[int, str]]) -> None:
    """Mark (start_ms, area) of readings that are being stored, in their transaction.

    In order, so that two of them that meet wait for each other and not in a circle.
    """
    ordered = sorted(set(places))
    for first in range(0, len(ordered), _AT_ONCE):
        part = ordered[first : first + _AT_ONCE]
        statement = _NOTE.format(", ".join([_VALUES] * len(part))) + "metering_mark.count + 1"
        cursor.execute(statement, [value for place in part for value in place])


def marked(*, start_ms: int | None = None, limit: int = MAX_MARKS) -> list[Marked]:
    """Return the oldest marks, of one contract or of all; at most ``MAX_MARKS``."""
    rows = Mark.objects.all() if start_ms is None else Mark.objects.filter(start_ms=start_ms)
    ordered = rows.order_by("start_ms", "area").values_list("start_ms", "area", "count")
    return [Marked(*row) for row in ordered[: min(limit, MAX_MARKS)]]


def looked_at(marks: Sequence[Marked]) -> None:
    """Take marks away, those not that readings were added to meanwhile."""
    if not marks:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            "DELETE FROM metering_mark WHERE start_ms = %s AND area = %s AND count = %s",
            [tuple(mark) for mark in marks],
        )
