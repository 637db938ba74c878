"""E-mails go out in a thread of their own: a slow mail server holds no request up, and how long an answer takes tells nothing.

What waits is bounded and lies in memory: after a crash it is gone, and whoever waits for a link asks for another one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from django.db import close_old_connections, connection

MAX_WAITING = 500  # a server that takes one in a second is ten minutes behind then
TRIES_AFTER_S = (0.0, 5.0, 30.0)  # a mail server that is being restarted is back by then
DRAIN_S = 10.0  # how long what waits may still take when the market closes

log = logging.getLogger(__name__)


class Outbox:
    """Does things one after the other, each tried a few times. Thread-safe; its thread starts with the first thing to do."""

    def __init__(self, *, tries_after_s: tuple[float, ...] = TRIES_AFTER_S, max_waiting: int = MAX_WAITING):
        self._tries_after_s = tries_after_s
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[str, Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closing = threading.Event()  # no waiting between tries any more
        self._thread: threading.Thread | None = None

    def put(self, what: str, send: Callable[[], None]) -> bool:
        """Have ``send`` done soon; return whether there was room. ``what`` names it in the log, where no address belongs.

        ``send`` raises ``OSError`` when it may be tried again (smtplib's errors are among them).
        """
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                log.error("%s is not sent: %s e-mails wait for the mail server", what, len(self._waiting))
                return False
            self._waiting.append((what, send))
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
        self._closing.clear()

    def stop(self) -> None:
        """Send what waits, each tried once more, for at most ``DRAIN_S``."""
        self._closing.set()
        if not self.settle(DRAIN_S):
            log.error("%s e-mails are not sent: the market closes", len(self._waiting) + self._busy)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                what, send = self._waiting.popleft()
                self._busy = True
            try:
                self._try(what, send)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _try(self, what: str, send: Callable[[], None]) -> None:
        began_s = time.monotonic()
        close_old_connections()  # what a request's end does for views; this thread sees no requests
        try:
            for count, after_s in enumerate(self._tries_after_s, start=1):
                self._closing.wait(after_s)
                try:
                    send()
                    return
                except OSError as error:
                    log.warning("%s could not be sent (try %s): %s", what, count, type(error).__name__)
                    if self._closing.is_set():
                        break
            log.error("%s is given up after %.0f s: the mail server does not take it", what, time.monotonic() - began_s)
        except Exception:
            log.exception("%s could not be sent", what)
        finally:
            connection.close()


OUTBOX = Outbox()
