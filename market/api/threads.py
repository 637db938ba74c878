"""Threads for what has to ask the database, beside an event loop that must not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import close_old_connections

T = TypeVar("T")

THREADS = 4  # each keeps a database connection; look-ups take about a millisecond
MAX_WAITING = 400  # look-ups that wait: at 4 a millisecond the last one starts within 0.1 s


class Busy(Exception):
    """More look-ups wait than can be answered in time."""


class LookupThreads:
    """A small pool of threads with connections of their own."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        """Return ``fn(*args)``, run in a thread. Raise ``Busy`` when too many wait already."""
        if self._waiting >= MAX_WAITING:
            raise Busy
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _with_connection, fn, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads, and with them their connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)


def _with_connection(fn: Callable[..., T], *args: object) -> T:
    close_old_connections()  # what a request's end does for views: drop connections that broke or grew old
    try:
        return fn(*args)
    finally:
        close_old_connections()


LOOKUPS = LookupThreads()
