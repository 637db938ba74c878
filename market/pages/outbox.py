"""E-mails go out in a thread of their own: a slow mail server holds no request up, and how long an answer takes tells nothing.

What waits is bounded and lies in memory: after a crash it is gone, and whoever waits for a link asks for another one.
"""

from __future__ import annotations

import logging
import smtplib
import threading
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from django.db import close_old_connections, connection

MAX_WAITING = 500  # a server that takes one in a second is ten minutes behind then
TRIES_AFTER_S = (0.0, 5.0, 30.0)  # a mail server that is being restarted is back by then
PERMANENT = 500  # codes of SMTP from here on mean that another try ends the same way
DRAIN_S = 10.0  # how long what waits may still take when the market closes

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """Something to be done; in a heap, what is due first comes first."""

    due_s: float  # of the monotonic clock
    number: int
    tries: int  # that have failed
    what: str
    send: Callable[[], None]


class Outbox:
    """Does one thing after the other, each tried a few times; what is to be tried again holds nothing else up.

    Thread-safe; its thread starts with the first thing to do.
    """

    def __init__(self, *, tries_after_s: tuple[float, ...] = TRIES_AFTER_S, max_waiting: int = MAX_WAITING):
        self._tries_after_s = tries_after_s
        self._max_waiting = max_waiting
        self._waiting: list[Job] = []
        self._numbers = count()
        self._changed = threading.Condition()
        self._busy = False
        self._closing = False  # nothing is put off any more
        self._thread: threading.Thread | None = None

    def put(self, what: str, send: Callable[[], None]) -> bool:
        """Have ``send`` done soon; return whether there was room. ``what`` names it in the log, where no address belongs.

        ``send`` raises ``OSError`` when it may be tried again (smtplib's errors are among them).
        """
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                log.error("%s is not sent: %s e-mails wait for the mail server", what, len(self._waiting))
                return False
            heappush(self._waiting, Job(time.monotonic() + self._tries_after_s[0], next(self._numbers), 0, what, send))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing waits; return whether that was so in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def start(self) -> None:
        """Begin, as a service of the runtime; the thread comes with the first e-mail."""
        self._closing = False

    def stop(self) -> None:
        """Send what waits, each tried once more, for at most ``DRAIN_S``."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if not self.settle(DRAIN_S):
            log.error("%s e-mails are not sent: the market closes", len(self._waiting) + self._busy)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or (left_s := self._waiting[0].due_s - time.monotonic()) > 0:
                    if self._waiting and self._closing:
                        break
                    self._changed.wait(left_s if self._waiting else None)
                job = heappop(self._waiting)
                self._busy = True
            again: Job | None = None
            try:
                again = self._fails(job)
            finally:
                with self._changed:
                    self._busy = False
                    if again is not None:
                        heappush(self._waiting, again)
                    self._changed.notify_all()

    def _fails(self, job: Job) -> Job | None:
        """Do something; return it, with one more try that failed, where it is to be tried again."""
        close_old_connections()  # what a request's end does for views; this thread sees no requests
        try:
            job.send()
        except OSError as error:
            tries = job.tries + 1
            log.warning("%s could not be sent (try %s): %s", job.what, tries, type(error).__name__)
            if tries < len(self._tries_after_s) and not self._closing and not refused(error):
                return job._replace(due_s=time.monotonic() + self._tries_after_s[tries], tries=tries)
            log.error("%s is given up: the mail server does not take it", job.what)
        except Exception:
            log.exception("%s could not be sent", job.what)
        finally:
            connection.close()
        return None


def refused(error: OSError) -> bool:
    """Return whether a mail server said no for good (5xx): asking again would only hold others up."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= PERMANENT for code, _said in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= PERMANENT


OUTBOX = Outbox()
