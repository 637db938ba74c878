"""What runs in the server's process beside the requests: the exchange, the hub of the streams, and services.

A service is anything with ``start()`` and ``stop()``; both are called in a thread, after the exchange is open and
before it closes. ``manage.py demo`` adds the simulator this way.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from market.exchange import gateway
from market.exchange.exchange import Exchange, wall_clock_ms
from market.streaming import hub

# The engine keeps millions of small objects for hours. Python's collector would walk all of them every few seconds of
# load, for nothing: they hold no cycles.
GC_THRESHOLDS = (50_000, 50, 1_000)

log = logging.getLogger(__name__)


class Service(Protocol):
    """Something that lives as long as the market is open."""

    def start(self) -> None:
        """Begin; the exchange is open."""

    def stop(self) -> None:
        """End; the exchange is still open."""


class Runtime:
    """Opens and closes the market of this process."""

    def __init__(self, clock: Callable[[], int] = wall_clock_ms, services: Sequence[Service] = ()):
        self._clock = clock
        self._services = list(services)
        self._started: list[Service] = []
        self._exchange: Exchange | None = None

    async def start(self) -> None:
        """Recover, open, and start the services; raise what the exchange raises when it cannot open."""
        loop = asyncio.get_running_loop()
        exchange = Exchange(self._clock)
        await loop.run_in_executor(None, exchange.start)
        self._exchange = exchange
        gateway.connect(exchange)
        await hub.attach(exchange, loop)
        for service in self._services:
            await loop.run_in_executor(None, service.start)
            self._started.append(service)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    async def stop(self) -> None:
        """Stop the services, then answer what waits, seal and close. Does what is left to do when the start failed."""
        loop = asyncio.get_running_loop()
        while self._started:
            service = self._started.pop()
            try:
                await loop.run_in_executor(None, service.stop)
            except Exception:
                log.exception("%s did not stop cleanly", service)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await hub.detach()
            gateway.disconnect()
            await loop.run_in_executor(None, exchange.stop)


_runtime = Runtime()


def configure(clock: Callable[[], int] = wall_clock_ms, services: Sequence[Service] = ()) -> None:
    """Say, before the server starts, which clock the market has and what runs beside it."""
    global _runtime
    _runtime = Runtime(clock, services)


def current() -> Runtime:
    """Return the runtime of this process."""
    return _runtime
