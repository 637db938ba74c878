"""What homes measure, on its way into ``flow:me``, the state channel that each account has for itself.

The numbers come from the meters, not from the engine, so nothing is computed under the writer's lock: what is told is
remembered, by account, and a flush brings it to those accounts that somebody looks at. A message of a channel leads from
one ledger sequence to a later one; what changes twice at one sequence waits for the next entry, a second or, in a market in
which nothing happens, a minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from market.engine.events import HaltSet
from market.exchange.outcomes import Committed
from market.metering.news import News
from market.streaming.channels import StateChannel, StateKind

MAX_WAITING: Final = 1_024  # news that may wait for the loop; what is dropped is told by the next measurement
HALTS: Final = "halts"

Changed = tuple[StateChannel, int, dict[Any, Any]]  # a channel, its seq before, what changed


class Gauges:
    """The channels of accounts that somebody looks at, and the latest numbers of all that were told since the start."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake  # ask for a flush, from any thread
        self._channels: dict[int, StateChannel] = {}
        self._known: dict[int, dict[str, Any]] = {}  # by account: as many as the market has homes
        self._halts: int | None = None  # the newest ledger entry that set or lifted a halt
        self._changed: dict[int, None] = {}
        self._incoming: deque[News] = deque(maxlen=MAX_WAITING)

    def take(self, news: News) -> None:
        """Take news of the meters, from any thread."""
        self._incoming.append(news)
        self._wake()

    def hear(self, committed: Committed) -> None:
        """Note a halt, which may stop any home."""
        for event in committed.events:
            if type(event) is HaltSet:
                self._halts = event.seq
                self._changed |= dict.fromkeys(self._channels)

    def open(self, kind: StateKind, name: str, account: int, seq: int) -> StateChannel:
        """Return the account's channel, with what is known of it as of ``seq``."""
        channel = self._channels.get(account)
        if channel is None:
            self._absorb()
            channel = self._channels[account] = StateChannel(kind, name, (str(account),))
            channel.update((self._state(account), None), seq)
            channel.floor = seq + 1  # who was here before the channel was may have known another state of this seq
            channel.ready = True
        return channel

    def retire(self, channel: StateChannel) -> str:
        """Nobody looks at the channel any more; return the key the hub knows it by."""
        account = channel.args[0]
        del self._channels[int(account)]
        return f"{channel.name}#{account}"

    def flush(self, seq: int) -> Iterator[Changed]:
        """Yield what changed, at ``seq``, the newest entry heard of."""
        self._absorb()
        for account in tuple(self._changed):
            channel = self._channels.get(account)
            if channel is not None and seq <= channel.seq:
                continue  # the next entry will carry it
            del self._changed[account]
            if channel is not None:
                prev = channel.seq
                yield channel, prev, channel.update((self._state(account), None), seq)

    def _state(self, account: int) -> dict[str, Any]:
        halts = {} if self._halts is None else {HALTS: self._halts}
        return self._known.get(account, {}) | halts

    def _absorb(self) -> None:
        while self._incoming:
            news = self._incoming.popleft()
            for account, power in news.powers.items():
                said = {"produced_w": power.produced_w, "used_w": power.used_w, "battery_w": power.battery_w}
                self._note(account, "power", said)
            for account, seq in news.readings.items():
                self._note(account, "readings", seq)

    def _note(self, account: int, key: str, value: Any) -> None:
        self._known.setdefault(account, {})[key] = value
        if account in self._channels:
            self._changed[account] = None
