"""Getting the log's heads cosigned: a thread for each witness, and one that sets the pace and watches the quorum.

Witnesses must sign the same head to make a quorum, so they are given targets: the newest head becomes the target when the
one before has its quorum, or after ``ROUND_S``. A round is longer than two requests may take, so every witness that
answers at all signs every target. Nothing waits for any of this; when a head is passed over, the next one covers it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from django.db import close_old_connections, connection

from ledger import cosigning, queries
from ledger.core.policy import PolicyError, Witness
from ledger.witness_client import DEADLINE_S, WitnessAhead, WitnessClient, WitnessFailed, WitnessRefuses

log = logging.getLogger(__name__)

ROUND_S = 2 * DEADLINE_S + 1.0
LAG_S = 60.0  # a head that waits longer for its quorum raises an alarm
LOOK_S = 1.0  # between two looks of the thread that watches
FIRST_PAUSE_S = 0.5  # after a failure; twice as long after each further one, up to
MAX_PAUSE_S = 30.0
REFUSED_PAUSE_S = 30.0  # a fork does not heal by asking often
MAX_WAITING = 1_024  # heads whose age is remembered; when full, the newest are not, so that the oldest stays
STOP_S = 2.0

NONE = "none"  # no witnesses
OK = "ok"
BEHIND = "behind"  # the quorum is more than LAG_S behind
REFUSED = "refused"  # a witness says the log has forked


class WitnessState(NamedTuple):
    """How one witness does. ``size``: the newest head it has cosigned; ``trouble`` "" = none."""

    name: str
    size: int
    refused: bool
    trouble: str


class Status(NamedTuple):
    """How the witnesses do. ``witnessed``: entries under a quorum, None without witnesses; ``lag_s``: of the oldest head."""

    state: str
    witnessed: int | None
    lag_s: float
    witnesses: tuple[WitnessState, ...]


class _Target(NamedTuple):
    size: int
    note: str
    set_s: float


class Witnessing:
    """Runs in the market's process; ``notify`` from anywhere says that there is a new head."""

    def __init__(
        self,
        loaded: cosigning.LoadedPolicy,
        now_ms: Callable[[], int],
        raised: Callable[[int], None] | None = None,
        *,
        lag_s: float = LAG_S,
        round_s: float = ROUND_S,
        look_s: float = LOOK_S,
    ):
        self._loaded = loaded
        self._now_ms = now_ms
        self._raised = raised  # gets the number of each alarm
        self._lag_s, self._round_s, self._look_s = lag_s, round_s, look_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._target: _Target | None = None
        self._target_set = threading.Condition(self._lock)
        self._waiting: deque[tuple[int, float]] = deque()  # heads without quorum: size, since when
        self._witnessed = 0
        self._lag_alarm = False
        self._asked = [_Asker(self, witness) for witness in loaded.policy.witnesses if witness.url]
        self._silent = [witness.name for witness in loaded.policy.witnesses if not witness.url]
        self._thread = threading.Thread(target=self._run, name="witnesses", daemon=True)

    def start(self) -> None:
        """Begin: the newest stored head is the first target."""
        for name in self._silent:
            log.warning("witness %s has no address in the policy: it is not asked", name)
        self._witnessed = cosigning.witnessed_size() or 0
        self.notify()
        self._thread.start()
        for asker in self._asked:
            asker.thread.start()

    def stop(self) -> None:
        """End; requests under way are broken off."""
        self._stopping.set()
        self._woken.set()
        with self._lock:
            self._target_set.notify_all()
        for asker in self._asked:
            asker.client.close()
        until_s = time.monotonic() + STOP_S
        for thread in [self._thread, *(asker.thread for asker in self._asked)]:
            if thread.is_alive():
                thread.join(max(0.0, until_s - time.monotonic()))

    def notify(self) -> None:
        """A new head is stored. Never blocks."""
        self._woken.set()

    def status(self) -> Status:
        """Return how the witnesses do now."""
        with self._lock:
            lag_s = time.monotonic() - self._waiting[0][1] if self._waiting else 0.0
            states = tuple(asker.state() for asker in self._asked)
            witnessed = self._witnessed
        state = BEHIND if lag_s > self._lag_s else OK
        if any(one.refused for one in states):
            state = REFUSED
        return Status(state, witnessed, lag_s, states)

    # --- the thread that sets the pace ------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._woken.wait(self._look_s)
                self._woken.clear()
                try:
                    self._look()
                except Exception:
                    log.exception("the witnesses' heads cannot be read; it is tried again")
                    close_old_connections()
                    self._stopping.wait(self._look_s)
        finally:
            connection.close()

    def _look(self) -> None:
        head = queries.newest()
        now_s = time.monotonic()
        for asker in self._asked:
            asker.client.abort()
        with self._lock:
            target = self._target
            seen = max(self._witnessed, self._waiting[-1][0] if self._waiting else 0)
            if head is not None and head.size > seen and len(self._waiting) < MAX_WAITING:
                self._waiting.append((head.size, now_s))
            # The first target is the newest head even if it has its quorum: a log that was set back shows at the start.
            due = target is None or (
                head is not None
                and head.size > max(self._witnessed, target.size)
                and (target.size <= self._witnessed or now_s - target.set_s > self._round_s)
            )
            if head is not None and due:
                self._target = _Target(head.size, head.note, now_s)
                self._target_set.notify_all()
            late = self._waiting[0] if self._waiting and now_s - self._waiting[0][1] > self._lag_s else None
            if late is None:
                self._lag_alarm = False
        if late is not None and not self._lag_alarm:
            self._raise_lag(late[0], now_s - late[1])
            self._lag_alarm = True  # only now that it is kept: what fails before is tried again

    def _raise_lag(self, size: int, lag_s: float) -> None:
        status = self.status()
        troubles = {one.name: one.trouble for one in status.witnesses if one.trouble}
        log.error(
            "THE WITNESSES' QUORUM IS BEHIND: the checkpoint at %d entries has waited %.0f s, the newest with a quorum is at "
            "%d entries; %s", size, lag_s, status.witnessed, troubles or "no witness reports trouble",
        )  # fmt: skip
        detail = {"reason": "lag", "witnessed": status.witnessed, "size": size, "witnesses": troubles}
        self._raise("quorum", size, detail)

    def _raise(self, kind: str, size: int, detail: dict[str, object]) -> None:
        seq = cosigning.raise_alarm(kind, size, self._now_ms(), detail)
        if seq is not None and self._raised is not None:
            try:
                self._raised(seq)
            except Exception:  # it is stored: whoever asks will see it
                log.exception("the alarm %d could not be passed on", seq)

    # --- what the witnesses' threads need ---------------------------------------------------------------------------
    def await_target(self, beyond: int) -> _Target | None:
        """Return the target once it is larger than ``beyond``; None when it is time to end."""
        with self._lock:
            while not self._stopping.is_set():
                if self._target is not None and self._target.size > beyond:
                    return self._target
                self._target_set.wait(self._look_s)
        return None

    def pause(self, seconds: float) -> None:
        """Wait, unless it is time to end."""
        self._stopping.wait(seconds)

    @property
    def stopping(self) -> bool:
        """Whether it is time to end."""
        return self._stopping.is_set()

    def keep(self, size: int, cosignature: cosigning.Checked) -> None:
        """Store what a witness has signed, and go on to the next head when that makes a quorum."""
        if not cosigning.keep(size, cosignature, self._loaded, self._now_ms()):
            return
        with self._lock:
            self._witnessed = max(self._witnessed, size)
            while self._waiting and self._waiting[0][0] <= size:
                self._waiting.popleft()
        self._woken.set()

    def raise_fork(self, witness: Witness, size: int, why: str) -> None:
        """A witness refuses a head as no continuation of what it has cosigned."""
        log.critical(
            "WITNESS %s (%s) REFUSES OUR CHECKPOINT AT %d ENTRIES: %s. Either this database is not the log that was published, "
            "or the witness is wrong: stop the market and compare (manage.py prove_fork).",
            witness.name, witness.url, size, why,
        )  # fmt: skip
        detail = {"reason": "refused", "size": size, "witnesses": {witness.name: why}}
        self._raise("fork", size, detail)


class _Asker:
    """Asks one witness, at its own pace."""

    def __init__(self, owner: Witnessing, witness: Witness):
        self.client = WitnessClient(witness)
        self.thread = threading.Thread(target=self._run, name=f"witness-{witness.name}"[:60], daemon=True)
        self._owner = owner
        self._witness = witness
        self._size = 0
        self._done = 0  # the last target that was tried to its end
        self._refused = False
        self._alarmed = False  # the alarm about its refusal is kept
        self._trouble = ""

    def state(self) -> WitnessState:
        """Return how the witness does."""
        return WitnessState(self._witness.name, self._size, self._refused, self._trouble)

    def _run(self) -> None:
        try:
            self._size = self._stored_size()
            failures = 0
            while (target := self._owner.await_target(self._done)) is not None:
                pause_s = self._ask(target, failures)
                failures = failures + 1 if pause_s else 0
                if pause_s:
                    self._owner.pause(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (nobody guesses a pause)
        finally:
            self.client.close()
            connection.close()

    def _stored_size(self) -> int:
        try:
            return cosigning.newest_of(str(self._witness.key))
        except Exception:
            log.exception("witness %s: what it has cosigned cannot be read", self._witness.name)
            close_old_connections()
            return 0

    def _ask(self, target: _Target, failures: int) -> float:
        """Ask for one cosignature; return how long to wait before asking again, 0 after a success."""
        try:
            return self._ask_once(target)
        except WitnessFailed as error:
            if self._owner.stopping:
                return 0.0
            if str(error) != self._trouble:
                log.warning("witness %s: %s", self._witness.name, error)
            self._trouble = str(error)
        except Exception:  # the database, most likely, wherever it was asked
            log.exception("witness %s: its answer could not be dealt with", self._witness.name)
            self._trouble = "internal error"
            close_old_connections()
        return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, 10))

    def _ask_once(self, target: _Target) -> float:
        try:
            cosignature = self.client.cosign(target.note, target.size, self._size, queries.consistency)
        except WitnessAhead as ahead:
            return self._is_ahead(target, ahead.size)
        except WitnessRefuses as refusal:
            return self._refuse(target, str(refusal))
        self._owner.keep(target.size, cosignature)
        if self._trouble or self._refused:
            log.warning("witness %s cosigns again, at %d entries", self._witness.name, target.size)
        self._size = self._done = target.size
        self._trouble, self._refused, self._alarmed = "", False, False
        return 0.0

    def _is_ahead(self, target: _Target, size: int) -> float:
        """The witness has cosigned more than the target: an earlier answer got lost, or the log was set back."""
        newest = queries.newest()
        if newest is None or size > newest.size:
            known = 0 if newest is None else newest.size
            return self._refuse(target, f"it has cosigned a head of {size} entries, and this log has {known}")
        self._size, self._done = size, target.size  # the next target will do
        return 0.0

    def _refuse(self, target: _Target, why: str) -> float:
        self._trouble, self._refused = why, True
        if not self._alarmed:
            self._owner.raise_fork(self._witness, target.size, why)
            self._alarmed = True  # only now that it is kept: what fails before is tried again
        return REFUSED_PAUSE_S


# --- one in the process ----------------------------------------------------------------------------------------------
_current: Witnessing | None = None


def begin(now_ms: Callable[[], int], raised: Callable[[int], None] | None = None) -> Witnessing | None:
    """Start asking the witnesses of the settings' policy; None without any. Raise ``PolicyError``.

    ``raised`` is called with the number of each alarm, in a thread of the witnesses.
    """
    global _current
    loaded = cosigning.load_policy()
    if loaded is None:
        return None
    keys = [str(key) for key in loaded.policy.logs]
    own = queries.valid_keys()
    if keys and own and not set(keys) & set(own):
        raise PolicyError(f"the policy names other logs than this one, whose keys are {', '.join(own)}")
    if not loaded.policy.witnesses:
        return None
    _current = Witnessing(loaded, now_ms, raised)
    cosigning.ask_by(loaded)
    _current.start()
    return _current


def end() -> None:
    """Stop asking."""
    global _current
    if _current is not None:
        _current.stop()
        cosigning.ask_by(None)
        _current = None


def status() -> Status:
    """Return how the witnesses do; state ``none`` where none are asked."""
    current = _current
    return Status(NONE, None, 0.0, ()) if current is None else current.status()
