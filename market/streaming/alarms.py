"""Alarms about the ledger itself on their way into the channel ``alerts``: they come from no ledger entry.

A message of a log channel leads from one ledger sequence to a later one, so an alarm takes the place of the newest entry
that the hub has heard of; if something already stands there, it waits for the next entry: a second, or in a market in which
nothing happens a minute.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from market.exchange.views import AlertView
from market.streaming.channels import LogChannel

MAX_WAITING: Final = 64  # what is dropped stands in REST's list


class Alarms:
    """Those that have not been sent yet."""

    def __init__(self) -> None:
        self._waiting: deque[AlertView] = deque(maxlen=MAX_WAITING)

    def take(self, alarm: AlertView) -> None:
        """Take an alarm, from any thread."""
        self._waiting.append(alarm)

    def place(self, channel: LogChannel, seq: int) -> None:
        """Put what waits into the channel, at ``seq``, the newest entry heard of; once, in the event loop."""
        while self._waiting:
            alarm = self._waiting[0]
            if not channel.has(alarm) and not channel.add(seq, alarm):
                return
            self._waiting.popleft()
