"""The book as it stood after any entry: the nearest known state, and the entries after it replayed by the one replay.

A command may make several entries (an order and its trades), and between them there is no state that anybody saw. So the
view at an entry is that after its whole command, and what the command changed is marked against the view before it.

States that are known: the stored snapshots, checkpoints kept here (dumps, a bounded number and size), and the engine of the
last answer, which one step forward needs. What lies more than ``AT_ONCE`` entries beyond them is replayed by a thread that
leaves checkpoints behind; whoever asks meanwhile is told how far it is.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator

import orjson
from django.db import connections

from ledger import queries as ledger
from market.engine.engine import Engine
from market.engine.replay import Divergence, Replayer
from market.exchange import models
from market.surveillance.pastbook import View, marked, view_of
from market.surveillance.pastviews import Busy, Contradicted, Moment, NoSuchEntry, Rebuilding

logger = logging.getLogger(__name__)

AT_ONCE = 20_000  # entries replayed while somebody waits: about a second
STEP = 5_000  # entries between two checkpoints, at least
NEAR = 250  # entries before the one asked for at which a checkpoint is left, for steps back
SPREAD = 16  # checkpoints that a long replay leaves on its way
KEPT = 48  # checkpoints
KEPT_BYTES = 128 * 2**20  # of all of them, compressed
KEPT_ANSWERS = 200
FETCHED = 1_000  # entries of one query
SHORT = 8  # entries of a command whose view before it is taken in passing; longer ones are replayed twice
WAITING = 1  # that may wait while somebody else's book is rebuilt: their threads answer pages, too
WAIT_S = 20.0
BREATHE_S = 0.001  # given away after ``FETCHED`` entries of a long replay: the market's own threads come first
MAX_ENTRIES = 50  # of one command that are told


class Past:
    """Rebuilds books. One at a time: a replay is all work of the processor. For any thread but an event loop's."""

    def __init__(self, *, at_once: int = AT_ONCE, step: int = STEP):
        self._at_once = at_once
        self._step = step
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(WAITING + 1)
        self._kept_lock = threading.Lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()  # by entries replayed; least recently used first
        self._kept_bytes = 0
        self._answers: OrderedDict[tuple[str, str, int], Moment] = OrderedDict()
        self._unfit: set[int] = set()  # stored snapshots that cannot be believed or read
        self._cursor: Engine | None = None
        self._head: tuple[int, str] | None = None  # size and root of the log that all this is about
        self._job: _Job | None = None

    def book(self, *, contract: str, area: str, seq: int) -> Moment:
        """Return the book of a contract as an area saw it after entry ``seq``, which the log must have.

        Raises ``NoSuchEntry``, ``Busy``, ``Rebuilding`` (come again) and ``Contradicted``.
        """
        if not self._room.acquire(blocking=False):
            raise Busy
        try:
            if not self._turn.acquire(timeout=WAIT_S):
                raise Busy
            try:
                return self._book(contract, area, seq)
            finally:
                self._turn.release()
        finally:
            self._room.release()

    def _book(self, contract: str, area: str, seq: int) -> Moment:
        if not 0 <= seq < ledger.size():
            raise NoSuchEntry
        self._know_log()
        key = (contract, area, seq)
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key]
        if seq - self._nearest(seq) > self._at_once:
            raise self._rebuild(seq)
        engine = self._known(seq)
        if seq - engine.seq > self._at_once:  # the snapshot was of no use
            raise self._rebuild(seq)
        try:
            moment = self._run(engine, contract, area, seq)
        except Divergence as error:
            self._cursor = None
            raise Contradicted(error.seq) from error
        self._answers[key] = moment
        while len(self._answers) > KEPT_ANSWERS:
            self._answers.popitem(last=False)
        return moment

    def _know_log(self) -> None:
        """Forget everything unless the log still has the head it had: the database may be a restored one, or a test's."""
        known, newest = self._head, ledger.newest()
        first = hashlib.sha256(ledger.leaf(0)).hexdigest()  # what there is to know before the first seal
        if known is None or known[0] == 0:
            same = known == (0, first)
        else:
            same = [(one.size, one.root) for one in ledger.heads(known[0] - 1, known[0])] == [known]
        self._head = (0, first) if newest is None else (newest.size, newest.root)
        if not same:
            self._cursor = self._job = None
            self._answers.clear()
            self._unfit.clear()
            with self._kept_lock:
                self._kept.clear()
                self._kept_bytes = 0

    # --- states --------------------------------------------------------------------------------------------------------

    def _nearest(self, seq: int) -> int:
        """Return how many entries the nearest known state before an entry has seen."""
        rows = models.Snapshot.objects.filter(seq__lte=seq).exclude(seq__in=self._unfit)
        stored = rows.order_by("-seq").values_list("seq", flat=True).first()
        with self._kept_lock:
            known = [kept for kept in self._kept if kept <= seq]
        if self._cursor is not None and self._cursor.seq <= seq:
            known.append(self._cursor.seq)
        return max([*known, stored or 0])

    def _known(self, seq: int) -> Engine:
        """Return an engine in the nearest known state before an entry, past snapshots that turn out to be unfit."""
        while (engine := self._engine_at(self._nearest(seq))) is None:
            pass
        return engine

    def _engine_at(self, start: int) -> Engine | None:
        """Return an engine that has seen the first ``start`` entries; the last answer's is handed out once.

        None: a stored snapshot is of no use, which is remembered.
        """
        if self._cursor is not None and self._cursor.seq == start:
            engine, self._cursor = self._cursor, None
            return engine
        with self._kept_lock:
            data = self._kept.get(start)
            if data is not None:
                self._kept.move_to_end(start)
        if data is not None:
            return Engine.load(zlib.decompress(data))
        if not start:
            return Engine()
        engine = _from_snapshot(start)
        if engine is None:
            self._unfit.add(start)
        return engine

    def _keep(self, engine: Engine) -> None:
        if engine.seq in self._kept:
            return
        data = zlib.compress(engine.dump(), 1)
        with self._kept_lock:
            self._kept[engine.seq] = data
            self._kept_bytes += len(data)
            while self._kept and (len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES):
                _seq, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped)

    # --- replay --------------------------------------------------------------------------------------------------------

    def _run(self, engine: Engine, contract: str, area: str, seq: int) -> Moment:
        """Replay up to and including the command that entry ``seq`` belongs to; see what it changed."""
        first = kept = engine.seq
        replayer = Replayer(engine, ledger.rows)
        before, near = View(), seq - NEAR
        for leaf in _leaves(first):
            if replayer.idle:
                if engine.seq > seq:
                    break
                first = engine.seq
                if first - kept >= self._step or kept < near <= first:
                    self._keep(engine)
                    kept = first
                if seq - first < SHORT:
                    before = view_of(engine, contract, area)
            replayer.take((orjson.loads(leaf),))
        replayer.end()
        after = view_of(engine, contract, area)
        if seq - first >= SHORT:
            before = self._before(first, contract, area)
        self._cursor = engine
        last = engine.seq - 1
        entries = tuple(ledger.entries(first, min(last - first + 1, MAX_ENTRIES)))
        return marked(before, after, contract=contract, area=area, seq=seq, first=first, last=last, entries=entries)

    def _before(self, first: int, contract: str, area: str) -> View:
        """Return the view before a long command: replayed up to it once more."""
        engine = self._known(first)
        replayer = Replayer(engine, ledger.rows)
        for leaf in _leaves(engine.seq, first):
            replayer.take((orjson.loads(leaf),))
        return view_of(engine, contract, area)

    # --- long replays --------------------------------------------------------------------------------------------------

    def _rebuild(self, seq: int) -> Exception:
        """See that somebody replays up to near an entry, and return what to tell who asked for it."""
        job = self._job
        if job is not None and job.failed:
            self._job = None
            return Contradicted(job.failed)
        if job is None or not job.alive():
            job = self._job = _Job(self._known(seq), seq - NEAR, self._keep)
            job.start()
        return Rebuilding(done=max(0, job.done - job.began), of=job.goal - job.began)

    def wait(self, timeout_s: float) -> None:
        """Wait for a long replay to end, for tests and programs that have nothing else to do."""
        if self._job is not None:
            self._job.join(timeout_s)


class _Job:
    """A long replay: it leaves checkpoints on its way and one at its end."""

    def __init__(self, engine: Engine, goal: int, keep: Callable[[Engine], None]):
        self.began = self.done = engine.seq
        self.goal = goal
        self.failed = 0  # the entry at which it found that the log contradicts itself
        self._engine = engine
        self._keep = keep
        self._thread = threading.Thread(target=self._work, name="replay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            self._replay()
        except Divergence as error:
            self.failed = error.seq
        except Exception:  # the database went away: who asks again begins again
            logger.exception("a replay for the regulator ended at entry %d", self.done)
        finally:
            connections.close_all()

    def _replay(self) -> None:
        engine = self._engine
        replayer = Replayer(engine, ledger.rows)
        each = max(STEP, (self.goal - self.began) // SPREAD)
        kept = engine.seq
        for leaf in _leaves(engine.seq):
            if replayer.idle:
                self.done = engine.seq
                if engine.seq >= self.goal:
                    break
                if engine.seq - kept >= each:
                    self._keep(engine)
                    kept = engine.seq
            replayer.take((orjson.loads(leaf),))
        self._keep(engine)


def _leaves(first: int, end: int | None = None) -> Iterator[bytes]:
    """Yield the stored entries from ``first`` on, up to ``end``; every page of them lets other threads work."""
    while page := ledger.leaves(first, FETCHED if end is None else min(FETCHED, end - first)):
        yield from page
        first += len(page)
        if end is not None and first >= end:
            return
        time.sleep(BREATHE_S)


def _from_snapshot(seq: int) -> Engine | None:
    """Return the engine of a stored snapshot; None when the ledger does not confirm it, or it cannot be read."""
    data = models.Snapshot.objects.filter(seq=seq).values_list("data", flat=True).first()
    if data is not None and hashlib.sha256(bytes(data)).hexdigest() == ledger.snapshot_sha256(seq):
        try:
            return Engine.load(bytes(data))
        except ValueError:  # of another version of this program
            logger.warning("the snapshot after %d entries is of another format", seq)
    return None


PAST = Past()


def book(*, contract: str, area: str, seq: int) -> Moment:
    """Return a book as it stood, by the one ``Past`` of this process; see there."""
    return PAST.book(contract=contract, area=area, seq=seq)
