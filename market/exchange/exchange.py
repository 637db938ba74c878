"""The exchange: many submit, one writes. Nobody is told anything that is not durable (DESIGN section 5)."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings

from market.engine.commands import Command
from market.engine.engine import Engine
from market.exchange import checks
from market.exchange.inbox import Inbox, Item
from market.exchange.outcomes import Committed, NotRunning, Outcome
from market.exchange.recovery import recover
from market.exchange.writer import MAX_BATCH, Writer

T = TypeVar("T")

MAX_QUEUE = 20_000  # commands that wait; at 10,000/s the last one is answered within 2 s
CALL_TIMEOUT_S = 30.0
# A thread that comes back from the database waits this long at most for the interpreter; the default, 5 ms, is longer
# than a commit and would be paid several times in each.
SWITCH_INTERVAL_S = 0.001


# A batch makes some ten thousand objects that live on (orders, answers to keys). At Python's default of 700 the
# collector walks over all of them again and again and finds nothing: a quarter of the time an order takes.
COLLECT_AFTER = (50_000, 20, 50)


def wall_clock_ms() -> int:
    """Return the time of the machine, ms since epoch UTC."""
    return time.time_ns() // 1_000_000


class Exchange:
    """The single writer around the engine.

    ``clock`` is market time (ms since epoch UTC). ``published_file`` keeps the newest published checkpoint (setting
    ``PUBLISHED_CHECKPOINT_FILE`` by default); ``seal_every_s`` and ``snapshot_every`` (entries) are there for tests.
    """

    def __init__(
        self,
        clock: Callable[[], int] = wall_clock_ms,
        *,
        published_file: Path | None = None,
        seal_every_s: float = 1.0,
        snapshot_every: int = 1_000_000,
        max_queue: int = MAX_QUEUE,
    ):
        self._clock = clock
        self._published_file = published_file or settings.PUBLISHED_CHECKPOINT_FILE
        self._seal_every_s = seal_every_s
        self._snapshot_every = snapshot_every
        self._inbox = Inbox(max_queue)
        self._listeners: list[Callable[[Committed], None]] = []
        self._writer: Writer | None = None
        self._state = "new"  # new, recovering, running, stopped, failed
        self._lifecycle = threading.Lock()

    # --- life -------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Recover and open. Raise ``AlreadyRunning`` or ``RecoveryFailed``; then nothing was opened."""
        with self._lifecycle:
            if self._state != "new":
                raise RuntimeError(f"an exchange is started once, this one is {self._state}")
            self._state = "recovering"
            try:
                recovered = recover(self._published_file)
            except BaseException:
                self._state = "failed"
                raise
            _tune_interpreter()
            self._writer = Writer(
                recovered,
                clock=self._clock,
                inbox=self._inbox,
                listeners=self._listeners,
                seal_every_s=self._seal_every_s,
                snapshot_every=self._snapshot_every,
            )
            self._state = "running"
            self._writer.start()

    def stop(self, timeout_s: float = 60.0) -> None:
        """Answer what waits, snapshot, seal and close. Does nothing when it is not running."""
        with self._lifecycle:
            if self._writer is None:
                return
            self._inbox.close("the exchange has stopped")
            self._writer.stop(timeout_s)
            self._state = "stopped"

    def status(self) -> dict[str, Any]:
        """Return the state for ``/healthz``: state, seq and sealed (entries), height, queue, error ("" = none)."""
        writer = self._writer
        if writer is None:
            return {"state": self._state, "seq": 0, "sealed": 0, "height": 0, "queue": 0, "error": ""}
        state = "failed" if writer.failure is not None else self._state
        return {
            "state": state,
            "seq": writer.durable_seq,
            "sealed": writer.sealed_size,
            "height": writer.sealed_height,
            "queue": len(self._inbox),
            "error": "" if writer.failure is None else str(writer.failure),
        }

    def commit_times(self) -> list[float]:
        """Return how long the database took for each of the newest batches, s, oldest first."""
        return [] if self._writer is None else list(self._writer.commits_s)

    def now_ms(self) -> int:
        """Return market time, ms since epoch UTC; never before the last entry's."""
        writer = self._writer
        now = self._clock()
        return now if writer is None else max(now, writer.engine.at_ms)

    @property
    def speed(self) -> float:
        """Return market seconds a real second: what the clock says of itself, 1 for one that says nothing."""
        return float(getattr(getattr(self._clock, "__self__", self._clock), "speed", 1.0))

    # --- commands ---------------------------------------------------------------------------------------------------
    def submit(
        self, command: Command, *, key: str | None = None, scope: int | None = None, rows: Sequence[bytes] = ()
    ) -> Future[Outcome]:
        """Queue one command; the future has its outcome once it is durable.

        ``key`` is the client's idempotency key within ``scope`` (default: the command's account, else -1). ``rows`` are
        the salted rows behind the root of ``CommitReadings`` or ``Settle``. Raises ``Overloaded``, ``NotRunning``, and
        ``TypeError``/``ValueError`` for what no caller may send (wrong Python types, a malformed key, rows of another
        root).
        """
        checks.check_command(command, rows)
        checks.check_key(key)
        future: Future[Outcome] = Future()
        self._put(Item(((command, key),), future, rows=rows, scope=scope))
        return future

    def submit_many(
        self, commands: Sequence[tuple[Command, str | None]], *, scope: int | None = None
    ) -> Future[list[Outcome]]:
        """Queue up to 1,000 commands that are applied in order and become durable together; errors as ``submit``."""
        self._check_many(commands)
        future: Future[list[Outcome]] = Future()
        if not commands:
            future.set_result([])
        else:
            self._put(Item(commands, future, many=True, scope=scope))
        return future

    async def aexecute(
        self, command: Command, *, key: str | None = None, scope: int | None = None, rows: Sequence[bytes] = ()
    ) -> Outcome:
        """Do one command and return its durable outcome, on an event loop; arguments and errors as ``submit``."""
        checks.check_command(command, rows)
        checks.check_key(key)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._put(Item(((command, key),), future, loop=loop, rows=rows, scope=scope))
        return await future

    async def aexecute_many(
        self, commands: Sequence[tuple[Command, str | None]], *, scope: int | None = None
    ) -> list[Outcome]:
        """Do up to 1,000 commands and return their durable outcomes, on an event loop; as ``submit_many``."""
        self._check_many(commands)
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        self._put(Item(commands, future, loop=loop, many=True, scope=scope))
        return await future

    def call(
        self,
        command: Command,
        *,
        key: str | None = None,
        scope: int | None = None,
        rows: Sequence[bytes] = (),
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Outcome:
        """Do one command and wait for its durable outcome; ``TimeoutError`` leaves it undecided for the caller."""
        return self.submit(command, key=key, scope=scope, rows=rows).result(timeout_s)

    # --- reading ----------------------------------------------------------------------------------------------------
    def read(self, fn: Callable[[Engine], T]) -> T:
        """Return ``fn(engine)``. The writer stands still meanwhile and all the engine shows is durable: keep it short.

        Not from a listener (``RuntimeError``): the writer waits for those. Raises ``NotRunning`` when the state is
        unknown.
        """
        if self._writer is None:
            raise NotRunning("the exchange has not started")
        return self._writer.read(fn)

    def listen(self, fn: Callable[[Committed], None]) -> None:
        """Call ``fn`` after each commit, in the order of commits, in a thread of the exchange; it must not block."""
        self._listeners.append(fn)

    def unlisten(self, fn: Callable[[Committed], None]) -> None:
        """Take a listener back."""
        self._listeners.remove(fn)

    # --- inside -----------------------------------------------------------------------------------------------------
    def _check_many(self, commands: Sequence[tuple[Command, str | None]]) -> None:
        if len(commands) > MAX_BATCH:
            raise ValueError(f"expected at most {MAX_BATCH} commands, was {len(commands)}")
        for command, key in commands:
            checks.check_command(command)
            checks.check_key(key)

    def _put(self, item: Item) -> None:
        if self._state != "running":
            raise NotRunning(f"the exchange is {self._state}")
        self._inbox.put(item)


def _tune_interpreter() -> None:
    """Settings of the whole process that the writer's speed depends on; see the constants."""
    if sys.getswitchinterval() > SWITCH_INTERVAL_S:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # what was loaded until now (modules, the recovered state) stays
    gc.set_threshold(*COLLECT_AFTER)


def batch_keys(commands: Sequence[Command], key: str | None) -> list[tuple[Command, str | None]]:
    """Pair the commands of a batch with their keys: item i has ``KEY#i`` (DESIGN section 5)."""
    return [(command, None if key is None else f"{key}#{i}") for i, command in enumerate(commands)]
