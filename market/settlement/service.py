"""Settlement beside the server: looks at what has been delivered, again and again."""

from __future__ import annotations

import logging
import threading

from django.db import close_old_connections, connection

from market.exchange import gateway
from market.exchange.outcomes import ExchangeError, NotRunning
from market.settlement.estimates import estimator
from market.settlement.operations import run_due

log = logging.getLogger(__name__)

EVERY_S = 5.0  # real time; readings of an interval arrive over minutes
STOP_TIMEOUT_S = 20.0


class SettlementService:
    """A service of the runtime: settles every area as soon as its meters have answered or its deadline has passed."""

    def __init__(self, every_s: float = EVERY_S):
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="settlement", daemon=True)
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
                    run_due(exchange=exchange, now_ms=exchange.now_ms(), estimate=estimator(exchange))
                except NotRunning:
                    return
                except ExchangeError as error:
                    log.warning("settlement waits: %s", error)
                except Exception:
                    log.exception("settlement failed; it is tried again")
                    close_old_connections()
        finally:
            connection.close()
