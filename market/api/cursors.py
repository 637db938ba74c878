"""Lists come in pages: ``limit`` and an opaque ``cursor`` in, ``{"results", "next"}`` out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from market.api.problems import Problem

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
MAX_INTEGER = 2**53 - 1
MAX_CURSOR_CHARS = 200


def integer(query: Mapping[str, str], name: str, *, low: int = 0, high: int = MAX_INTEGER) -> int | None:
    """Return a query parameter as an integer within bounds, None when it is absent; raise ``Problem``."""
    text = query.get(name)
    if text is None:
        return None
    if not (0 < len(text) <= 17 and text.lstrip("-").isdigit() and text.isascii() and text.rfind("-") <= 0):
        raise Problem(400, "out_of_range", name, params={"low": low, "high": high})
    value = int(text)
    if not low <= value <= high:
        raise Problem(400, "out_of_range", name, params={"low": low, "high": high})
    return value


def limit_of(query: Mapping[str, str]) -> int:
    """Return how many results are wanted; raise ``Problem``."""
    limit = integer(query, "limit", low=1, high=MAX_LIMIT)
    return DEFAULT_LIMIT if limit is None else limit


def encode(position: int | str) -> str:
    """Return the opaque form of a position in a list."""
    kind = "i" if isinstance(position, int) else "s"
    return base64.urlsafe_b64encode(f"{kind}{position}".encode()).decode().rstrip("=")


def _decode(text: str) -> str:
    if not 0 < len(text) <= MAX_CURSOR_CHARS or not text.isascii():
        raise Problem(400, "invalid_cursor", "cursor")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Problem(400, "invalid_cursor", "cursor") from None


def number_cursor(query: Mapping[str, str]) -> int | None:
    """Return the position of a list that is ordered by number; raise ``Problem``."""
    text = query.get("cursor")
    if text is None:
        return None
    plain = _decode(text)
    if plain[:1] != "i" or not plain[1:].isdigit() or len(plain) > 17:
        raise Problem(400, "invalid_cursor", "cursor")
    return int(plain[1:])


def name_cursor(query: Mapping[str, str]) -> str:
    """Return the position of a list that is ordered by name, "" for its beginning; raise ``Problem``."""
    text = query.get("cursor")
    if text is None:
        return ""
    plain = _decode(text)
    if plain[:1] != "s" or not plain.isprintable():
        raise Problem(400, "invalid_cursor", "cursor")
    return plain[1:]


def page(rows: Sequence[T], limit: int, position: Callable[[T], int | str], out: Callable[[T], Any]) -> dict[str, Any]:
    """Return a page of ``rows``, which the caller fetched with ``limit + 1`` to see whether more follow."""
    shown = rows[:limit]
    more = len(rows) > limit
    return {"results": [out(row) for row in shown], "next": encode(position(shown[-1])) if more else None}
