"""Work that goes on beside the server, in a thread of its own, as long as there is an exchange."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from django.db import close_old_connections, connection

from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import ExchangeError, NotRunning

STOP_TIMEOUT_S = 20.0


class Beside(ABC):
    """A service of the runtime that looks again and again what there is to do (``look``). What fails is tried again."""

    name: str
    log: logging.Logger

    def __init__(self, every_s: float):
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def look(self, exchange: Exchange) -> None:
        """Do what is due; long work looks at ``stopping``."""

    @property
    def stopping(self) -> bool:
        """Whether the service is to end."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
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
                    self.look(gateway.current())
                except NotRunning:
                    return
                except ExchangeError as error:
                    self.log.warning("%s waits: %s", self.name, error)
                except Exception:
                    self.log.exception("%s failed; it is tried again", self.name)
                    close_old_connections()
        finally:
            connection.close()
