"""What the exchange answers and announces, and the errors it raises."""

from __future__ import annotations

from typing import NamedTuple

from market.engine.events import Event, Refused
from market.exchange.views import AlertView


class Outcome(NamedTuple):
    """The durable answer to one command.

    ``events`` is empty when it was refused. ``repeated``: the key was seen before with the same content, this is the
    first answer again. ``conflict``: the key was seen before with other content; the name of the field that differs.
    """

    events: tuple[Event, ...]
    refused: Refused | None = None
    repeated: bool = False
    conflict: str | None = None


class SealInfo(NamedTuple):
    """A block that became durable with the batch that carries it."""

    height: int
    first: int  # seq of its first entry
    count: int  # entries, the seal included
    size: int  # of the log with it
    root: str  # hex, of the log at that size
    at_ms: int
    note: str  # the signed checkpoint


class Committed(NamedTuple):
    """What a listener gets after each commit: events ``first_seq <= seq < next_seq``, complete and in order."""

    first_seq: int
    next_seq: int
    at_ms: int
    events: list[Event]
    sealed: SealInfo | None
    alerts: tuple[AlertView, ...] = ()  # for the grid operator


class ExchangeError(Exception):
    """Base of what the exchange raises."""


class NotRunning(ExchangeError):
    """No exchange is open in this process, or it has stopped; nothing was done."""


class Overloaded(ExchangeError):
    """More commands wait than can be committed in time; this one was not taken."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"the exchange is overloaded, retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class CommitFailed(ExchangeError):
    """The database did not take a batch. What was pending is undecided until the exchange has recovered."""


class RecoveryFailed(ExchangeError):
    """What is stored does not give the state it should; the exchange does not open. The message says what and where."""


class AlreadyRunning(ExchangeError):
    """Another process writes to this database."""
