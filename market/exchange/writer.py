"""The one thread that writes: collect, apply, journal, commit, and only then answer.

On PostgreSQL a second thread commits batch N while this one applies batch N+1 (one batch ahead, never more). Answers,
listeners and readers still see committed batches only: a reader first lets the commit under way end.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import connections

from market.engine.commands import (
    Command,
    CommitSnapshot,
    Found,
    PlaceOrder,
    PublishRulebook,
    RegisterKey,
    Seal,
    SignedOrder,
)
from market.engine.engine import Engine
from market.engine.events import Refused
from market.exchange.inbox import Inbox, Item, answer
from market.exchange.journal import Batch
from market.exchange.outcomes import CommitFailed, Committed, NotRunning, Outcome
from market.exchange.recovery import Recovered

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH = 1_000  # commands of one transaction
SPACING_S = 0.005  # between the starts of two batches, unless a full one waits
IDLE_S = 0.05  # between two looks at what is due, when no command comes
MAX_SCHEDULE_ROUNDS = 64  # the engine's lists of due commands are bounded; so many of them are worked off in one batch
COMMITS_TIMED = 1_000  # the newest batches whose commit times are remembered
SEAL_ENTRIES = 65_536  # a block has about as many entries at most
SEAL_IDLE_S = 60.0  # an idle market seals this often, so that its checkpoint stays fresh
_NAMES_KEY = frozenset((Found, RegisterKey))
READ_GRACE_S = 0.02  # the writer lets waiting readers pass this long at most; a read takes far less


def seal_time(last_s: float, now_s: float, every_s: float) -> float:
    """Return the time that a seal made at ``now_s`` counts as, s of one clock; the next is due ``every_s`` after it.

    One that had to wait for a batch to begin counts as made when it was due, or the waits would add up, and under load
    there would be fewer blocks than one every ``every_s``. Early ones, and ones that are late by a whole turn, do not.
    """
    late_s = now_s - (last_s + every_s)
    return now_s - late_s if 0 < late_s < every_s else now_s


class Writer:
    """Runs the engine. Made from a recovered state; ``start`` begins, ``stop`` ends after answering what waits."""

    def __init__(
        self,
        recovered: Recovered,
        *,
        clock: Callable[[], int],
        inbox: Inbox,
        listeners: list[Callable[[Committed], None]],
        seal_every_s: float,
        snapshot_every: int,
    ):
        self.engine = recovered.engine
        self.failure: BaseException | None = None
        self._store = recovered.store
        self._journal = recovered.journal
        self._keys = recovered.keys
        self._sealer = recovered.sealer
        self._clock = clock
        self._inbox = inbox
        self._listeners = listeners
        self._seal_every_s = seal_every_s
        self._snapshot_every = snapshot_every
        self._snapshot_seq = recovered.snapshot_seq
        self._sealed_size = recovered.sealer.size
        self._last_seal_s = time.monotonic()
        self._stopping = threading.Event()
        self._refused_schedule: set[str] = set()
        # what others may see
        self.durable_seq = self.engine.seq
        self.sealed_size = recovered.sealer.size
        self.sealed_height = recovered.sealer.height
        self.commits_s: deque[float] = deque(maxlen=COMMITS_TIMED)
        # readers
        self._state_lock = threading.Lock()
        self._readers = 0
        self._readers_lock = threading.Lock()
        self._readers_gone = threading.Event()
        # the commit under way
        self._committing: Batch | None = None
        self._handed = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._commit_error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="exchange-writer", daemon=True)
        self._committer: threading.Thread | None = None
        if self._store.pipelined:
            self._committer = threading.Thread(target=self._commit_all, name="exchange-committer", daemon=True)

    def start(self) -> None:
        """Begin to take commands."""
        if self._committer is not None:
            self._committer.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Work off the (closed) inbox, snapshot, seal and end; raise ``TimeoutError`` when that takes too long."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the exchange did not stop within {timeout_s} s")

    # --- readers ----------------------------------------------------------------------------------------------------
    def read(self, fn: Callable[[Engine], T]) -> T:
        """See ``Exchange.read``."""
        if threading.current_thread() in (self._thread, self._committer):
            raise RuntimeError("a listener must not read the engine: the writer is waiting for it")
        with self._readers_lock:
            self._readers += 1
            self._readers_gone.clear()
        try:
            with self._state_lock:
                if self.failure is not None:
                    raise NotRunning(f"the exchange has failed: {self.failure}")
                return fn(self.engine)
        finally:
            with self._readers_lock:
                self._readers -= 1
                if not self._readers:
                    self._readers_gone.set()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the engine until the block and its commits are done; before, let waiting readers pass."""
        if self._readers:
            self._readers_gone.wait(READ_GRACE_S)
        with self._state_lock:
            yield

    # --- the loop ---------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while not self._stopping.is_set() or len(self._inbox):
                self._inbox.wait(IDLE_S)
                with self._writing():
                    self._burst()
            with self._writing():
                self._close_books()
        except BaseException as error:
            self._fail(error)
        finally:
            if self._committer is not None and self._committer.is_alive():
                self._committing = None
                self._handed.release()
                self._committer.join()
            self._store.close()
            connections.close_all()  # this thread's: events of long ago are read through Django

    def _burst(self) -> None:
        """Apply and commit batch after batch as long as commands wait and no reader does."""
        while True:
            started_s = time.monotonic()
            items = self._inbox.take(MAX_BATCH)
            try:
                batch = self._apply(items)
                if not batch.empty:
                    self._commit(batch)
                elif items:  # answers of earlier batches, given again
                    self._await_commit()
                    answer(items)
            except BaseException as error:
                # While the engine is still held: no reader may see a state that is ahead of the database.
                self.failure = error
                answer(items, CommitFailed(f"the exchange has failed: {error}"))
                raise
            if not items or self._readers or not len(self._inbox):
                break
            wait_s = SPACING_S - (time.monotonic() - started_s)
            if wait_s > 0:
                self._inbox.wait_for(MAX_BATCH, wait_s)
        self._await_commit()

    def _apply(self, items: list[Item], closing: bool = False) -> Batch:
        """Apply what is due and what was submitted, all at one instant; return what it writes."""
        engine = self.engine
        now = max(self._clock(), engine.at_ms)
        batch = Batch(engine.seq, now)
        if engine.seq:
            self._apply_due(batch, now)
        batch.items = items
        keyed = [
            (self._scope(item, command), key) for item in items for command, key in item.commands if key is not None
        ]
        if keyed:
            self._keys.prefetch(keyed)
        for item in items:
            self._apply_item(item, batch, now)
        self._journal.record(batch.events)
        if engine.seq and (closing or self._snapshot_is_due(batch)):
            self._take_snapshot(batch, now)
        if engine.seq and (closing or self._seal_is_due(engine.seq)):
            self._seal(batch, now)
        self._journal.finish(batch)
        return batch

    def _apply_due(self, batch: Batch, now: int) -> None:
        for _ in range(MAX_SCHEDULE_ROUNDS):
            due = self.engine.schedule(now)
            if not due:
                return
            for command in due:
                events = self.engine.apply(command, now)
                if events and type(events[0]) is Refused:
                    self._report_refused(command, events[0])
                    return
                batch.events += events

    def _report_refused(self, command: Command, refused: Refused) -> None:
        text = f"{command}: {refused}"
        if text not in self._refused_schedule:  # it will come back at every tick; once is enough to be seen
            self._refused_schedule.add(text)
            logger.error("the engine refuses a command of its own schedule: %s", text)

    def _scope(self, item: Item, command: Command) -> int:
        return item.scope if item.scope is not None else getattr(command, "account", -1)

    def _apply_item(self, item: Item, batch: Batch, now: int) -> None:
        apply, outcomes, recorded = self.engine.apply, item.outcomes, batch.events
        for command, key in item.commands:
            if key is not None:
                scope = self._scope(item, command)
                known = self._keys.find(scope, key, command, now)
                if known is not None:
                    outcomes.append(known)
                    continue
            kind = type(command)
            events = apply(command, now) if kind not in _NAMES_KEY else self._apply_key(command, now)
            if events and type(events[0]) is Refused:
                outcome = Outcome((), events[0])
                self._journal.refuse(command, events[0], now)
            else:
                recorded += events
                if kind is not PlaceOrder:
                    self._note(command, events, item.rows)
                outcome = Outcome(tuple(events))
            if key is not None:
                self._keys.remember(scope, key, command, outcome, now)
            outcomes.append(outcome)

    def _apply_key(self, command: Any, now: int) -> list[Any]:
        """Apply a command that names a key of the log, unless the log could not be signed under it."""
        field = "" if type(command) is Found and self.engine.seq else self._sealer.key_problem(command)
        return [Refused("invalid_value", field)] if field else self.engine.apply(command, now)

    def _note(self, command: Command, events: list[Any], rows: Sequence[bytes]) -> None:
        """Keep what a rare command means beyond its events."""
        kind = type(command)
        if kind is PublishRulebook or kind in _NAMES_KEY:
            self._sealer.note(events[0])
        elif kind is SignedOrder:
            self._journal.keep_signature(events[0].seq, command)  # type: ignore[arg-type]
        elif rows and events:
            self._journal.keep_rows(events[0].seq, rows)

    # --- seals and snapshots ----------------------------------------------------------------------------------------
    def _seal_is_due(self, seq: int) -> bool:
        waiting = seq - self._sealed_size
        if waiting >= SEAL_ENTRIES:
            return True
        since_s = time.monotonic() - self._last_seal_s
        return since_s >= (self._seal_every_s if waiting else SEAL_IDLE_S)

    def _seal(self, batch: Batch, now: int) -> None:
        (event,) = self.engine.apply(Seal(), now)
        batch.sealed = self._sealer.seal(event)
        batch.events.append(event)
        self._last_seal_s = seal_time(self._last_seal_s, time.monotonic(), self._seal_every_s)
        self._sealed_size = batch.sealed.size

    def _snapshot_is_due(self, batch: Batch) -> bool:
        """In the first batch of a block: the next seal then has its whole second beside what the snapshot takes."""
        return self.engine.seq - self._snapshot_seq >= self._snapshot_every and batch.first_seq == self._sealed_size

    def _take_snapshot(self, batch: Batch, now: int) -> None:
        """Keep the state as it is before the entry that says so; recovery applies that entry first."""
        self._await_commit()  # the block before is told of now, not when the interpreter is free again
        data = self.engine.dump()
        sha256 = hashlib.sha256(data).hexdigest()
        self._journal.snapshot(self.engine.seq, now, sha256, data)
        self._snapshot_seq = self.engine.seq
        events = self.engine.apply(CommitSnapshot(sha256), now)
        self._journal.record(events)
        batch.events += events

    def _close_books(self) -> None:
        """Leave a snapshot and a seal behind, so that the next start has nothing to replay."""
        untouched = self.engine.seq - self._snapshot_seq <= 2 and self._sealed_size == self.engine.seq
        if self.engine.seq and not untouched:
            self._commit(self._apply([], closing=True))
            self._await_commit()

    # --- committing -------------------------------------------------------------------------------------------------
    def _commit(self, batch: Batch) -> None:
        """Make a batch durable: in the committer thread while more commands wait for the engine, else here and now."""
        batch.prepared = self._store.prepare(batch.tables)  # before waiting: it is the other thread's turn to wait
        self._await_commit()
        if self._committer is None or not len(self._inbox):
            self._write(batch)
        else:
            self._committing = batch
            self._handed.release()

    def _await_commit(self) -> None:
        if self._committing is not None:
            self._done.acquire()
            self._committing = None
            if self._commit_error is not None:
                raise self._commit_error

    def _commit_all(self) -> None:
        while True:
            self._handed.acquire()
            batch = self._committing
            if batch is None:
                return
            try:
                self._write(batch)
            except BaseException as error:
                self._commit_error = error
            self._done.release()

    def _write(self, batch: Batch) -> None:
        """Commit, answer, publish, tell. From the first error on nothing is answered any more."""
        started_s = time.monotonic()
        try:
            self._store.write(batch.prepared, batch.statements)
        except BaseException as error:
            # First, so that no answer and no reader can see a state that is ahead of the database.
            self.failure = error
            answer(batch.items, CommitFailed(f"the database did not take the batch: {error}"))
            raise
        self.commits_s.append(time.monotonic() - started_s)
        self.durable_seq = batch.next_seq
        answer(batch.items)
        if batch.sealed is not None:
            self._sealer.publish(batch.sealed)
            self.sealed_size, self.sealed_height = batch.sealed.size, batch.sealed.height
        if batch.events:
            committed = Committed(
                batch.first_seq, batch.next_seq, batch.at_ms, batch.events, batch.sealed, batch.alerts
            )
            for listener in list(self._listeners):
                try:
                    listener(committed)
                except Exception:  # a listener's mistake is not the market's
                    logger.exception("a listener failed at entries %d-%d", batch.first_seq, batch.next_seq - 1)

    def _fail(self, error: BaseException) -> None:
        """Stop for good: the engine may be ahead of the database, and only a recovery brings them together again."""
        if self.failure is None:
            self.failure = error
        logger.critical("THE EXCHANGE HAS STOPPED, restart it to recover: %s", error, exc_info=error)
        self._inbox.close(f"the exchange has failed: {error}")
        while items := self._inbox.take(MAX_BATCH):
            answer(items, NotRunning(f"the exchange has failed: {error}"))
