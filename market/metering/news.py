"""Telling what listens in this process that homes have new numbers: a push for screens, not a record.

Listeners are called in the thread that has them, after they are in the database, and must neither block nor raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from market.metering.queries import Power


class News(NamedTuple):
    """By account: what homes make and use at this moment, and the ledger entries that brought new readings of them."""

    powers: Mapping[int, Power]
    readings: Mapping[int, int]


Listener = Callable[[News], None]
_listeners: list[Listener] = []


def listen(fn: Listener) -> None:
    """Call ``fn`` with all news from now on."""
    _listeners.append(fn)


def unlisten(fn: Listener) -> None:
    """Call ``fn`` no more."""
    _listeners.remove(fn)


def tell(*, powers: Mapping[int, Power] | None = None, readings: Mapping[int, int] | None = None) -> None:
    """Pass news on; without any, and without a listener, it does nothing."""
    if powers or readings:
        for fn in tuple(_listeners):
            fn(News(powers or {}, readings or {}))
