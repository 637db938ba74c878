"""Searches that somebody gave a name: theirs alone, a bounded number."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError, transaction

from market.surveillance.models import NAME_LENGTH, QUERY_LENGTH, SavedView

MAX_VIEWS = 50  # of one person


class ViewError(Exception):
    """A view that cannot be kept: ``field`` is name or query, ``code`` invalid_value, view_exists or too_many_views."""

    def __init__(self, field: str, code: str):
        super().__init__(f"{field}: {code}")
        self.field = field
        self.code = code


class View(NamedTuple):
    """A search with a name."""

    id: int
    name: str
    query: str
    made_at: datetime


def views(user_id: int) -> list[View]:
    """Return somebody's views by name."""
    rows = SavedView.objects.filter(user=user_id).order_by("name").values_list(*View._fields)
    return [View(*row) for row in rows[:MAX_VIEWS]]


def save(*, user_id: int, name: str, query: str, now: datetime) -> View:
    """Keep a search under a name; raise ``ViewError``."""
    name = _name(name)
    if len(query) > QUERY_LENGTH:
        raise ViewError("query", "invalid_value")
    with transaction.atomic():
        if SavedView.objects.filter(user=user_id).count() >= MAX_VIEWS:
            raise ViewError("name", "too_many_views")
        row = SavedView(user_id=user_id, name=name, query=query, made_at=now)
        _store(row)
    return View(row.pk, name, query, now)


def rename(*, user_id: int, view_id: int, name: str) -> View | None:
    """Give a view another name; ``None`` when somebody has no such view. Raise ``ViewError``."""
    name = _name(name)
    row = SavedView.objects.filter(pk=view_id, user=user_id).first()
    if row is None:
        return None
    row.name = name
    _store(row)
    return View(row.pk, row.name, row.query, row.made_at)


def delete(*, user_id: int, view_id: int) -> bool:
    """Forget a view; return whether there was one."""
    return SavedView.objects.filter(pk=view_id, user=user_id).delete()[0] > 0


def _name(text: str) -> str:
    name = text.strip()
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
        raise ViewError("name", "invalid_value")
    return name


def _store(row: SavedView) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise ViewError("name", "view_exists") from None
