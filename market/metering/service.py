"""Beside the server: puts on the ledger what devices have said, again and again."""

from __future__ import annotations

import logging
import threading

from django.db import close_old_connections, connection

from market.exchange import gateway
from market.exchange.outcomes import ExchangeError, NotRunning
from market.metering.committing import commit_due
from market.metering.recovery import catch_up

log = logging.getLogger(__name__)

EVERY_S = 1.0  # real time
STOP_TIMEOUT_S = 20.0


class MeteringService:
    """A service of the runtime: turns waiting batches into readings on the ledger."""

    def __init__(self, every_s: float = EVERY_S):
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="metering", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the running look end, then no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._every_s):
                try:
                    exchange = gateway.current()
                    catch_up(exchange=exchange)
                    while commit_due(exchange=exchange, now_ms=exchange.now_ms()).batches:
                        if self._stopping.is_set():
                            return
                except NotRunning:
                    return
                except ExchangeError as error:
                    log.warning("readings wait: %s", error)
                except Exception:
                    log.exception("committing readings failed; it is tried again")
                    close_old_connections()
        finally:
            connection.close()
