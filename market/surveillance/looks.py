"""The log of what those who watch the market looked at themselves: when, what, with which filter."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from market.households.accesslog import KINDS, ORDERS
from market.households.models import Role
from market.surveillance.models import QUERY_LENGTH, Look

SEARCH, BOOK, CHARTS, EXPORT, DOWNLOAD = "search", "book", "charts", "export", "download"
WHAT = {
    **KINDS,
    SEARCH: _("A search"),
    BOOK: _("A book as it stood"),
    CHARTS: _("Prices and concentration"),
    EXPORT: _("An export made"),
    DOWNLOAD: _("An export fetched"),
}
KIND_OF_BOOK = ORDERS  # of the accounts that a book of the past shows
WATCHERS = frozenset((Role.REGULATOR.value, Role.STAFF.value))
PATH_LENGTH = 200
MAX_LIMIT = 500
PRUNE_ROWS = 5_000  # at most so many old rows are dropped at once

_pruned: list[datetime] = []  # the hour in which this process last dropped old rows
_lock = threading.Lock()


class Seen(NamedTuple):
    """One look. ``what`` is a code of ``WHAT``."""

    id: int
    at: datetime
    what: str
    path: str
    query: str
    sha256: str


def note(*, reader: int, role: str, what: str, path: str, query: str = "", now: datetime, sha256: str = "") -> None:
    """Note a look of somebody who watches the market; nothing for anybody else. ``now`` is the time of day."""
    if role not in WATCHERS:
        return
    assert what in WHAT, what
    minute = now.replace(second=0, microsecond=0)
    row = Look(
        reader=reader, minute=minute, at=now, what=what, path=path[:PATH_LENGTH], query=query[:QUERY_LENGTH], sha256=sha256
    )  # fmt: skip
    Look.objects.bulk_create([row], ignore_conflicts=True)
    hour = now.replace(minute=0, second=0, microsecond=0)
    with _lock:
        due = _pruned != [hour]
        _pruned[:] = [hour]
    if due:
        prune(now=now)


def prune(*, now: datetime) -> int:
    """Drop what is older than ``settings.ACCESS_LOG_DAYS``, a bounded part of it; return how many rows."""
    oldest = now - timedelta(days=settings.ACCESS_LOG_DAYS)
    ids = list(Look.objects.filter(at__lt=oldest).order_by("at").values_list("id", flat=True)[:PRUNE_ROWS])
    return Look.objects.filter(id__in=ids).delete()[0] if ids else 0


def by(reader: int, *, before: int | None = None, limit: int = 100) -> list[Seen]:
    """Return what somebody looked at, newest first; ``before`` is the id of the last row of the page before."""
    rows = Look.objects.filter(reader=reader)
    if before is not None:
        rows = rows.filter(id__lt=before)
    found = rows.order_by("-id").values_list(*Seen._fields)[: max(1, min(limit, MAX_LIMIT))]
    return [Seen(*row) for row in found]
