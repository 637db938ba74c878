"""The witnesses beside the exchange: each sealed block sends the newest head on its way to them."""

from __future__ import annotations

from ledger import witnessing
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Committed


class WitnessService:
    """A service of the runtime: has the log's heads cosigned by the witnesses of the policy, if the settings name one."""

    def __init__(self) -> None:
        self._witnessing: witnessing.Witnessing | None = None
        self._exchange: Exchange | None = None

    def start(self) -> None:
        """Begin, in threads of its own; raise ``PolicyError`` when the policy cannot be followed."""
        exchange = gateway.current()
        self._witnessing = witnessing.begin(exchange.now_ms)
        if self._witnessing is not None:
            exchange.listen(self._heard)
            self._exchange = exchange

    def stop(self) -> None:
        """Ask no more."""
        if self._exchange is not None:
            self._exchange.unlisten(self._heard)
            self._exchange = None
        witnessing.end()
        self._witnessing = None

    def _heard(self, committed: Committed) -> None:
        if committed.sealed is not None and self._witnessing is not None:
            self._witnessing.notify()
