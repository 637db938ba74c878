"""Threads for what has to ask the database, beside an event loop that must not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import close_old_connections, connections

T = TypeVar("T")

LOOKUP_THREADS = 4  # each keeps a database connection; look-ups take about a millisecond
MAX_LOOKUPS = 400  # that wait or run: at 4 a millisecond the last one is answered within 0.1 s


class Busy(Exception):
    """More calls wait than can be answered in time."""


class DatabaseThreads:
    """A small pool of threads, each with database connections of its own that stay open between calls."""

    def __init__(self, name: str, threads: int, bound: int):
        self._name = name
        self._threads = threads
        self._bound = bound
        self._waiting = 0
        self._pool: ThreadPoolExecutor | None = None
        self._connections: list[Any] = []

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        """Return ``fn(*args)``, run in a thread. Raise ``Busy`` when too many wait already."""
        if self._waiting >= self._bound:
            raise Busy
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, self._name, self._begin)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)
        finally:
            self._waiting -= 1

    def _begin(self) -> None:
        for connection in connections.all():
            connection.inc_thread_sharing()  # ``close`` comes from another thread
            self._connections.append(connection)

    def close(self) -> None:
        """End the threads and close their connections. They begin anew when there is something to do again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
            while self._connections:
                self._connections.pop().close()


class Lookups(DatabaseThreads):
    """Threads for short questions outside of Django's requests."""

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        return await super().run(_fresh, fn, *args)


def _fresh(fn: Callable[..., T], *args: object) -> T:
    close_old_connections()  # what a request's end does for views: drop connections that broke or grew old
    try:
        return fn(*args)
    finally:
        close_old_connections()


LOOKUPS = Lookups("lookup", LOOKUP_THREADS, MAX_LOOKUPS)
