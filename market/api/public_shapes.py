"""The JSON of the public market board and of notifications; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from market.api.shaping import Contract, Instant, Next, Price, Seq, Shape

Kind = Literal["sold", "bought", "money", "order", "correction", "objection", "connection"]
Permille = Annotated[int | None, Meta(description="per thousand, rounded down; null: nothing to divide")]
Hour = Annotated[int, Meta(ge=0, le=23, description="hour of the day in the market's time zone")]


class BoardAhead(Shape):
    """An interval that is open; all-in prices seen from the top of the grid."""

    contract: Contract
    bid: Price | None
    ask: Price | None
    last: Price | None
    volume_wh: int
    halted: bool


class BoardBehind(Shape):
    """An interval that is over; ``price`` is what sellers got on average, ``near_wh`` was traded within one street."""

    contract: Contract
    price: Price | None
    volume_wh: int
    near_wh: int


class BoardSun(Shape):
    """What roofs gave to the wires, and what their own street used of it in the same interval (docs/public.md)."""

    given_wh: int
    used_near_wh: int
    permille: Permille
    intervals: Annotated[int, Meta(description="settled intervals of the last 24 hours that it is about")]


class BoardLedger(Shape):
    """How the ledger does. ``age_ms``: market time since the last seal."""

    height: int
    entries: int
    age_ms: int | None
    keys: list[str]
    witnesses: str
    witnessed: Annotated[int | None, Meta(description="entries under a quorum; null: no witness is asked")]


class MarketBoard(Shape):
    """The market in public. ``sun`` is null while fewer than ten homes take part."""

    at: Instant
    area: str
    topup_price: Price
    spill_price: Price
    ahead: list[BoardAhead]
    behind: list[BoardBehind]
    sun: BoardSun | None
    ledger: BoardLedger


# --- notifications -----------------------------------------------------------------------------------------------------
class Notification(Shape):
    """Something that happened to me. ``mark`` names the place in the list, for ``read``."""

    id: str
    kind: Kind
    at: Instant
    seq: Annotated[Seq | None, Meta(description="the ledger's entry, where there is one")]
    title: str
    text: str
    link: Annotated[str, Meta(description="the page that shows more")]
    read: bool
    mark: str


class NotificationPage(Shape):
    """The newest notifications, newest first; older ones are in the statement and in ``events``."""

    results: list[Notification]
    unread: Annotated[int, Meta(description="how many of them are new")]
    next: Next


class ReadIn(Shape):
    """I have seen everything up to this notification."""

    mark: str


class Unread(Shape):
    """What is left."""

    unread: int


class NotificationSettings(Shape):
    """What my devices are told. Between ``quiet_from`` and ``quiet_until`` they are not; null: at any time."""

    kinds: list[Kind]
    amounts: Annotated[bool, Meta(description="whether a message on a locked screen says how much")]
    quiet_from: Hour | None
    quiet_until: Hour | None
    public_key: Annotated[str, Meta(description="the market's key for Web Push (VAPID), base64url")]


class NotificationSettingsIn(Shape):
    """New settings, all of them."""

    kinds: list[Kind]
    amounts: bool = False
    quiet_from: Hour | None = None
    quiet_until: Hour | None = None


class PushDeviceIn(Shape):
    """A browser's push subscription, as ``PushSubscription.toJSON()`` has it, with a name to know it by."""

    endpoint: Annotated[str, Meta(max_length=1_024)]
    p256dh: Annotated[str, Meta(max_length=128)]
    auth: Annotated[str, Meta(max_length=64)]
    name: Annotated[str, Meta(max_length=80)] = ""


class PushDevice(Shape):
    """A device that is told."""

    id: int
    name: str
    since: Instant


class PushDevicePage(Shape):
    """My devices."""

    results: list[PushDevice]
    next: Next
