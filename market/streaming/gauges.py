"""What homes measure, on its way into ``flow:me``, the state channel that each account has for itself.

The numbers come from the meters, not from the engine, so nothing is computed under the writer's lock, and nothing is kept
of homes that nobody looks at. A message of a channel leads from one ledger sequence to a later one; what changes twice at one
sequence waits for the next entry, a second or, in a market in which nothing happens, a minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from market.engine.events import HaltSet
from market.exchange.outcomes import Committed
from market.metering.news import News
from market.metering.queries import Power, power_now
from market.streaming.channels import StateChannel, StateKind

MAX_WAITING: Final = 1_024  # news that may wait for the loop
POWER: Final = "power"
READINGS: Final = "readings"
HALTS: Final = "halts"
LOST: Final = object()  # in place of an entry: something may have happened up to the one that is told next

Changed = tuple[StateChannel, int, dict[Any, Any]]  # a channel, its seq before, what changed


class Gauges:
    """The channels of accounts that somebody looks at, and what is new in them."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake  # ask for a flush, from any thread
        self._channels: dict[int, StateChannel] = {}
        self._fresh: dict[int, dict[str, Any]] = {}  # by account, not sent yet
        self._incoming: deque[News] = deque()
        self._dropped = False  # news was forgotten since the last flush

    def take(self, news: News) -> None:
        """Take news of the meters, from any thread."""
        if len(self._incoming) >= MAX_WAITING:  # the loop hangs: forget, and tell the readers so when it comes back
            self._incoming.clear()
            self._dropped = True  # after forgetting: a flush meanwhile must not take it for said
        self._incoming.append(news)
        self._wake()

    def lost(self) -> None:
        """Entries were not heard: any home may have new readings, or have been halted."""
        self._note_all(READINGS, HALTS)

    def hear(self, committed: Committed) -> None:
        """Note a halt, which may stop any home."""
        for event in committed.events:
            if type(event) is HaltSet:
                for account in self._channels:
                    self._note(account, HALTS, event.seq)

    def open(self, kind: StateKind, name: str, account: int, seq: int) -> StateChannel:
        """Return a channel for the account, with what is known of it now, as of ``seq``."""
        channel = self._channels[account] = StateChannel(kind, name, (str(account),))
        power = power_now(account)
        channel.update(({} if power is None else {POWER: _watts(power)}, None), seq)
        channel.floor = seq + 1  # who was here before the channel was may have known another state of this seq
        channel.ready = True
        return channel

    def retire(self, channel: StateChannel) -> str:
        """Nobody looks at the channel any more; return the key the hub knows it by."""
        account = int(channel.args[0])
        del self._channels[account]
        self._fresh.pop(account, None)
        return f"{channel.name}#{account}"

    def flush(self, seq: int) -> Iterator[Changed]:
        """Yield what changed, at ``seq``, the newest entry heard of."""
        if self._dropped:
            self._dropped = False
            self._note_all(READINGS)  # what a home makes and uses is told by its next measurement
        while self._incoming:
            news = self._incoming.popleft()
            for account in self._channels.keys() & news.powers.keys():
                self._note(account, POWER, _watts(news.powers[account]))
            for account in self._channels.keys() & news.readings.keys():
                self._note(account, READINGS, news.readings[account])
        for account in tuple(self._fresh):
            channel = self._channels[account]
            if seq > channel.seq:  # else the next entry will carry it
                found, prev = self._fresh.pop(account), channel.seq
                fresh = {key: seq if value is LOST else value for key, value in found.items()}
                yield channel, prev, channel.update((fresh, fresh.keys()), seq)

    def _note_all(self, *keys: str) -> None:
        for account in self._channels:
            for key in keys:
                self._note(account, key, LOST)

    def _note(self, account: int, key: str, value: Any) -> None:
        self._fresh.setdefault(account, {})[key] = value


def _watts(power: Power) -> dict[str, int]:
    return {"produced_w": power.produced_w, "used_w": power.used_w, "battery_w": power.battery_w}
