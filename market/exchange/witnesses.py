"""The witnesses beside the exchange: each sealed block sends the newest head on its way to them."""

from __future__ import annotations

from collections.abc import Callable

from ledger import witnessing
from market.exchange import gateway, queries
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Committed
from market.exchange.views import AlertView


class WitnessService:
    """A service of the runtime: has the log's heads cosigned by the witnesses of the policy, if the settings name one.

    ``announce`` gets each alarm that is raised, in a thread of the witnesses.
    """

    def __init__(self, announce: Callable[[AlertView], None] | None = None) -> None:
        self._announce = announce
        self._witnessing: witnessing.Witnessing | None = None
        self._exchange: Exchange | None = None

    def start(self) -> None:
        """Begin, in threads of its own; raise ``PolicyError`` when the policy cannot be followed."""
        exchange = gateway.current()
        self._witnessing = witnessing.begin(exchange.now_ms, self._alarm)
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

    def _alarm(self, seq: int) -> None:
        alarm = queries.alert(seq)
        if alarm is not None and self._announce is not None:
            self._announce(alarm)

    def _heard(self, committed: Committed) -> None:
        if committed.sealed is not None and self._witnessing is not None:
            self._witnessing.notify()
