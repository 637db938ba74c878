"""What a book was, as it is told, and why it may not be told now. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

NEW, MORE, LESS, GONE = "new", "more", "less", "gone"


class PastLevel(NamedTuple):
    """Energy to be had at an all-in price; ``was_wh`` before the command, ``mark`` what that changed ("" = nothing)."""

    price_e4: int
    energy_wh: int
    fee_e4: int  # grid fee a kWh inside of the price
    was_wh: int
    mark: str


class PastOrder(NamedTuple):
    """An order that rested in the book; ``left_wh`` with what an iceberg hides, ``shown_wh`` without."""

    id: int
    account: int
    area: str
    side: str
    price_e4: int
    shown_wh: int
    left_wh: int
    was_wh: int  # ``left_wh`` before
    mark: str


class Moment(NamedTuple):
    """A book as it stood after the command that made the entries ``first`` to ``last``, of which ``seq`` is one.

    ``state`` is the contract's, "" when the engine did not hold it: not opened yet, or settled. ``more_orders`` counts the
    resting orders that are not listed.
    """

    contract: str
    area: str
    seq: int
    first: int
    last: int
    at_ms: int
    state: str
    halted: bool
    bids: tuple[PastLevel, ...]
    asks: tuple[PastLevel, ...]
    orders: tuple[PastOrder, ...]
    more_orders: int
    entries: tuple[dict[str, Any], ...]


class PastError(Exception):
    """Base of why there is no book to show."""


class NoSuchEntry(PastError):
    """The log has no entry of this number."""


class UnknownArea(PastError):
    """There was no such area at that time."""


class Busy(PastError):
    """More people wait for books of the past than can be served."""


class Rebuilding(PastError):
    """The entries up to this one are being replayed: ``done`` of ``of``. Come again."""

    def __init__(self, done: int, of: int):
        super().__init__(f"{done} of {of} entries")
        self.done = done
        self.of = of


class Contradicted(PastError):
    """The replay gives something else than the ledger has at entry ``seq``."""

    def __init__(self, seq: int):
        super().__init__(f"entry {seq}")
        self.seq = seq
