"""What is told when something ends by which somebody acts for a person: a session, a key, a consent, the person's account here.

Whoever holds something open for that person looks again at once: those in this process are called, and a row tells other
processes, whose ``Watch`` sees it within a second. The database is the one thing that all processes share, and its clock the
only one that counts here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.db import close_old_connections, connection, transaction
from django.db.models.functions import Now

from market.households.identities import CACHE
from market.households.models import Ending

LOOK_EVERY_S = 1.0
LOOKED_BACK = timedelta(seconds=60)  # a row may be seen later than others made after it: who made it had not committed
KEPT = timedelta(hours=1)  # of a row; a process that was away longer begins anew and has nothing open
MAX_ROWS = 10_000  # of one look
LOOKS_A_CLEARING = 600
STOP_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)
_listeners: list[Callable[[int], None]] = []
_told: set[int] = set()  # rows of this process


def listen(fn: Callable[[int], None]) -> None:
    """Call ``fn`` with a person's number, in any thread, when something of theirs has ended."""
    if fn not in _listeners:
        _listeners.append(fn)


def unlisten(fn: Callable[[int], None]) -> None:
    """Call ``fn`` no more."""
    if fn in _listeners:
        _listeners.remove(fn)


def ended(user_id: int) -> None:
    """Say that something of a person has ended; who listens hears of it when the transaction under way has committed."""
    with transaction.atomic():
        _told.add(Ending.objects.create(user=user_id, at=Now()).pk)
        transaction.on_commit(partial(_tell, user_id))


def _tell(user_id: int) -> None:
    CACHE.forget_user(user_id)
    for fn in tuple(_listeners):
        fn(user_id)


class Watch:
    """A service of the runtime: tells what other processes noted, and removes what is old."""

    def __init__(self) -> None:
        self._looks = 0
        self._stopping = threading.Event()
        self._seen: set[int] = set()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, in a thread of its own; what was noted before is over."""
        self._stopping.clear()
        self._seen = set(self._rows())
        self._thread = threading.Thread(target=self._run, name="endings", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    def look(self) -> None:
        """Tell of what is new and was not noted here."""
        rows = self._rows()
        for number, user_id in rows.items():
            if number not in self._seen and number not in _told:
                _tell(user_id)
        self._seen = set(rows)
        _told.intersection_update(self._seen)  # one that is not committed yet is told twice, which does no harm
        if self._looks % LOOKS_A_CLEARING == 0:
            Ending.objects.filter(at__lt=Now() - KEPT).delete()
        self._looks += 1

    @staticmethod
    def _rows() -> dict[int, int]:
        newest = Ending.objects.filter(at__gte=Now() - LOOKED_BACK).order_by("-pk")
        return dict(newest.values_list("pk", "user")[:MAX_ROWS])

    def _run(self) -> None:
        try:
            while not self._stopping.wait(LOOK_EVERY_S):
                try:
                    self.look()
                except Exception:
                    log.exception("what other processes ended could not be read; the next look follows")
                    close_old_connections()
        finally:
            connection.close()
