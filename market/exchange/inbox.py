"""The bounded queue in front of the writer, and the answers on their way back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from market.engine.commands import Command
from market.exchange.outcomes import NotRunning, Outcome, Overloaded

RETRY_AFTER_S = 1  # a full queue is worked off in about a second at the rates the exchange is built for


class Item:
    """One submission: some commands, and the future that waits for their outcomes (of a thread, or of ``loop``)."""

    __slots__ = ("commands", "future", "loop", "many", "outcomes", "rows", "scope")

    def __init__(
        self,
        commands: Sequence[tuple[Command, str | None]],
        future: Any,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        many: bool = False,
        rows: Sequence[bytes] = (),
        scope: int | None = None,
    ):
        self.commands = commands
        self.future = future
        self.loop = loop
        self.many = many
        self.rows = rows
        self.scope = scope
        self.outcomes: list[Outcome] = []

    def result(self) -> Outcome | list[Outcome]:
        """Return what the future is to be given."""
        return self.outcomes if self.many else self.outcomes[0]


class Inbox:
    """What waits for the writer: at most ``bound`` commands."""

    def __init__(self, bound: int):
        self.bound = bound
        self._items: deque[Item] = deque()
        self._count = 0
        self._changed = threading.Condition(threading.Lock())
        self._asleep = False
        self._closed: Exception | None = None

    def __len__(self) -> int:
        return self._count

    def put(self, item: Item) -> None:
        """Add a submission. Raise ``Overloaded`` when it does not fit, or what the inbox was closed with."""
        with self._changed:
            if self._closed is not None:
                raise self._closed
            if self._count + len(item.commands) > self.bound:
                raise Overloaded(RETRY_AFTER_S)
            self._items.append(item)
            self._count += len(item.commands)
            if self._asleep:
                self._changed.notify()

    def wait(self, timeout_s: float) -> None:
        """Return when something waits, when the inbox is closed, or after ``timeout_s``."""
        with self._changed:
            if not self._items and self._closed is None:
                self._asleep = True
                self._changed.wait(timeout_s)
                self._asleep = False

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Let more arrive: return at once when ``count`` commands wait, else after ``timeout_s``."""
        # A plain pause: being woken by each command that arrives would cost more than the few milliseconds it could
        # save.
        if self._count < count and self._closed is None:
            time.sleep(timeout_s)

    def take(self, limit: int) -> list[Item]:
        """Remove and return the oldest submissions, together at most ``limit`` commands."""
        items: list[Item] = []
        with self._changed:
            taken = 0
            while self._items and taken + len(self._items[0].commands) <= limit:
                item = self._items.popleft()
                taken += len(item.commands)
                items.append(item)
            self._count -= taken
        return items

    def close(self, reason: str) -> None:
        """Take nothing more: ``put`` raises ``NotRunning(reason)`` from here on. What waits may still be taken."""
        with self._changed:
            self._closed = NotRunning(reason)
            self._changed.notify_all()


def _resolve(items: list[Item]) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_result(item.result())


def _reject(items: list[Item], error: Exception) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_exception(error)


def answer(items: list[Item], error: Exception | None = None) -> None:
    """Hand out the outcomes (or one error for all): one wake-up for each event loop, not one for each future."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Item]] = {}
    direct: list[Item] = []
    for item in items:
        if item.loop is None:
            direct.append(item)
        else:
            by_loop.setdefault(item.loop, []).append(item)
    for loop, waiting in by_loop.items():
        try:
            if error is None:
                loop.call_soon_threadsafe(_resolve, waiting)
            else:
                loop.call_soon_threadsafe(_reject, waiting, error)
        except RuntimeError:  # the loop was closed while its request waited: nobody is left to tell
            continue
    for item in direct:
        # A caller that gave up cancelled its future; set_running_or_notify_cancel tells the two cases apart without a
        # race.
        future: Future[Any] = item.future
        if not future.done() and future.set_running_or_notify_cancel():
            if error is None:
                future.set_result(item.result())
            else:
                future.set_exception(error)
