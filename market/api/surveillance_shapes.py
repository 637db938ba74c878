"""The shapes of searches, books of the past, saved views, exports and the log of own accesses; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from market.api.shaping import Contract, Instant, Money, Next, Price, Seq, Shape, Side

Mark = Annotated[
    Literal["", "new", "more", "less", "gone"], Meta(description="what the entry's command changed; empty: nothing")
]


class SearchTotals(Shape):
    """What everything that was found adds up to, from entry ``since`` on; ``complete``: that is all of it."""

    count: int
    energy_wh: int
    money: Annotated[Money, Meta(description="price times energy, of the side asked for (default: sellers')")]
    lowest_price: Price | None
    highest_price: Price | None
    since: Seq
    complete: bool


class SearchPage(Shape):
    """Trades, orders or entries, newest first. ``looked`` says how far a page with few results got."""

    kind: Literal["trades", "orders", "entries"]
    results: Annotated[
        list[dict[str, Any]], Meta(description="as in regulator/trades and regulator/orders; entries with their fields")
    ]
    next: Next
    looked: Seq
    totals: Annotated[SearchTotals | None, Meta(description="with the first page")]


class PastLevelOut(Shape):
    """Energy at an all-in price; ``was_wh`` before the command."""

    price: Price
    energy_wh: int
    fee: Price
    was_wh: int
    mark: Mark


class PastOrderOut(Shape):
    """An order that rested in the book."""

    id: Seq
    account: int
    area: str
    side: Side
    price: Price
    shown_wh: int
    left_wh: int
    was_wh: int
    mark: Mark


class PastBook(Shape):
    """A book as it stood after the command that made the entries ``first`` to ``last``, of which ``seq`` is one."""

    contract: Contract
    area: str
    seq: Seq
    first: Seq
    last: Seq
    at: Instant
    state: Annotated[str, Meta(description="the contract's; empty when it was not opened yet, or settled")]
    halted: bool
    bids: list[PastLevelOut]
    asks: list[PastLevelOut]
    orders: list[PastOrderOut]
    more_orders: Annotated[int, Meta(description="resting orders that are not listed")]
    entries: list[dict[str, Any]]


class BookRebuilding(Shape):
    """The entries up to this one are being replayed: ask again."""

    state: Literal["rebuilding"]
    done: int
    of: int


class SavedViewIn(msgspec.Struct, forbid_unknown_fields=True):
    """A search with a name; ``query`` is that of its URL."""

    name: str
    query: str


class SavedViewNameIn(msgspec.Struct, forbid_unknown_fields=True):
    """Another name for a view."""

    name: str


class SavedViewOut(Shape):
    """A search with a name."""

    id: int
    name: str
    query: str
    made_at: Instant


class SavedViewPage(Shape):
    """My views, by name."""

    results: list[SavedViewOut]
    next: Next


class ExportIn(msgspec.Struct, forbid_unknown_fields=True):
    """A search as the query of its URL, and what kind of file its results become."""

    query: str
    format: Literal["csv", "jsonl", "parquet"]


class ExportOut(Shape):
    """A file that was made; ``complete`` is false when there was more than an export may have."""

    id: int
    made_at: Instant
    kind: str
    format: str
    query: str
    upto_seq: Annotated[int, Meta(description="entries of the ledger when it was made")]
    rows: int
    complete: bool
    size: int
    sha256: Annotated[str, Meta(description="hex, of the file's bytes")]
    kept: Annotated[bool, Meta(description="whether the bytes are still here")]


class ExportPage(Shape):
    """My exports, newest first."""

    results: list[ExportOut]
    next: Next


class LookOut(Shape):
    """Something I looked at."""

    id: int
    at: Instant
    what: str
    path: str
    query: str
    sha256: str


class LookPage(Shape):
    """What I looked at, newest first; once a minute, however often."""

    results: list[LookOut]
    next: Next


class Concentration(Shape):
    """Who bought or sold how much of a day in an area ("" = everywhere): HHI is the sum of the squared shares, 0 to 10,000."""

    day: str
    area: str
    side: Side
    energy_wh: int
    accounts: int
    hhi: int
    largest: Annotated[list[dict[str, int]], Meta(description="account, energy_wh, share_bp (0.01 %)")]


class ConcentrationPage(Shape):
    """Concentration by day, area and side."""

    results: list[Concentration]
    next: Next
