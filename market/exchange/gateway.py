"""How every other package reaches the exchange that runs in this process."""

from __future__ import annotations

from market.exchange.exchange import Exchange
from market.exchange.outcomes import NotRunning

_current: Exchange | None = None


def connect(exchange: Exchange) -> None:
    """Make a started exchange the one this process uses."""
    global _current
    _current = exchange


def disconnect() -> None:
    """Forget the exchange; from here on ``current`` raises ``NotRunning``."""
    global _current
    _current = None


def current() -> Exchange:
    """Return the running exchange; raise ``NotRunning`` when there is none."""
    if _current is None:
        raise NotRunning("no exchange runs in this process")
    return _current
