"""In which time zone a page shows times: the market's, or the one its reader chose. Contracts are named in UTC everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings

_shown: ContextVar[ZoneInfo | None] = ContextVar("shown_zone", default=None)


def market_zone() -> ZoneInfo:
    """Return the time zone of the market: its clock, its days."""
    return ZoneInfo(settings.MARKET_TIME_ZONE)


def shown_zone() -> ZoneInfo:
    """Return the time zone that what is written now shows times in."""
    return _shown.get() or market_zone()


@contextmanager
def shown_in(name: str) -> Iterator[None]:
    """Show times in a zone for a while; "", or a name that is not known any more, is the market's."""
    try:
        zone = ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        zone = None
    token = _shown.set(zone)
    try:
        yield
    finally:
        _shown.reset(token)
