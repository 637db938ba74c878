"""Settlement beside the server: looks at what has been delivered, again and again."""

from __future__ import annotations

import logging

from market.exchange.beside import Beside
from market.exchange.exchange import Exchange
from market.settlement.estimates import estimator
from market.settlement.operations import run_due

EVERY_S = 5.0  # real time; readings of an interval arrive over minutes


class SettlementService(Beside):
    """A service of the runtime: settles every area as soon as its meters have answered or its deadline has passed."""

    name = "settlement"
    log = logging.getLogger(__name__)

    def __init__(self, every_s: float = EVERY_S):
        super().__init__(every_s)

    def look(self, exchange: Exchange) -> None:
        """Settle, correct, share out and end what is due."""
        run_due(exchange=exchange, now_ms=exchange.now_ms(), estimate=estimator(exchange))
