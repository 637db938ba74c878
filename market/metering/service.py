"""Beside the server: puts on the ledger what devices have said, again and again."""

from __future__ import annotations

import logging

from market.exchange.beside import Beside
from market.exchange.exchange import Exchange
from market.metering.committing import commit_due
from market.metering.recovery import catch_up

EVERY_S = 1.0  # real time


class MeteringService(Beside):
    """A service of the runtime: turns waiting batches into readings on the ledger."""

    name = "metering"
    log = logging.getLogger(__name__)

    def __init__(self, every_s: float = EVERY_S):
        super().__init__(every_s)

    def look(self, exchange: Exchange) -> None:
        """Commit what waits."""
        catch_up(exchange=exchange)
        while not self.stopping and commit_due(exchange=exchange, now_ms=exchange.now_ms()).batches:
            pass
