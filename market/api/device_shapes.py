"""Shapes of devices and of what they send; part of ``shapes``, where callers find them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from market.api.shaping import Contract, Instant, Seq, Shape
from market.metering.formats.jsonbatch import DeviceValueIn

Kind = Literal["meter", "inverter", "battery", "charger", "substation"]
WH = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class DeviceIn(Shape):
    """A device to register. With ``public_key`` and ``proof`` (Ed25519, hex) it signs its batches, else it gets a key.

    ``proof`` is its signature of "sunledger/device-key/v1", the account's id and the key, each with a newline.
    """

    kind: Literal["meter", "inverter", "battery", "charger"]
    name: str
    rating_w: Annotated[
        int, Meta(description="the most it takes or gives; of an inverter what it may give, once confirmed")
    ]
    register_digits: Annotated[int, Meta(description="digits of its counter in Wh, 0: it never rolls over")] = 0
    public_key: str = ""
    proof: str = ""


class DeviceKeyIn(Shape):
    """Nothing for a new API key, or another Ed25519 key as when registering."""

    public_key: str = ""
    proof: str = ""


class Device(Shape):
    """A device. ``confirmed``: what an inverter may give; null waits for the grid operator."""

    device: str
    kind: Kind
    name: str
    rating_w: int
    register_digits: int
    public_key: str
    confirmed: bool | None
    revoked: bool
    registered_at: Instant
    last_seen_at: Instant | None


class DeviceAnswer(Shape):
    """A device with its API key; ``token`` null: it signs, or the same request came before. It is shown this once."""

    device: Device
    token: str | None


class DevicePage(Shape):
    """My devices, newest first."""

    results: list[Device]
    next: str | None


class SubstationIn(Shape):
    """The meter of an area's edge: what it imports is what flows into the area from its parent."""

    area: str
    name: str
    rating_w: int
    register_digits: int = 0
    public_key: str = ""
    proof: str = ""


class WaitingDevice(Shape):
    """An inverter that waits for the grid operator."""

    device: str
    account: int
    area: str
    kind: Kind
    rating_w: int
    registered_at: Instant


class WaitingDevicePage(Shape):
    """Inverters that wait, the oldest first."""

    results: list[WaitingDevice]
    next: str | None


class DeviceDecisionIn(Shape):
    """Whether an inverter may give its rating."""

    confirmed: bool


class DeviceDecision(Shape):
    """``seq``: the ledger entry of the connection's new limit; null where nothing changed on the ledger."""

    seq: Seq | None


class ReadingIn(Shape):
    """Energy through my connection in one delivery interval, import and export apart."""

    contract: str
    import_wh: WH
    export_wh: WH
    produced_wh: WH | None = None
    used_wh: WH | None = None


class ReadingsIn(Shape):
    """A batch: ``readings`` of my connection, at most one for each contract and all or none of them taken; or ``values`` of
    my devices, up to 10,000, each taken or refused by itself."""

    readings: Annotated[list[ReadingIn], Meta(min_length=1)] | None = None
    values: Annotated[list[DeviceValueIn], Meta(min_length=1)] | None = None


class Verdicts(Shape):
    """What became of ``count`` values of a batch in a row, the first of which stands at place ``first``, counted from 0."""

    code: Annotated[str, Meta(description="accepted, corrected, duplicate, superseded, or why it is refused")]
    first: int
    count: int


class ReadingsAnswer(Shape):
    """What became of a batch; duplicates are harmless. ``verdicts`` (of ``values``) says it in runs."""

    accepted: int
    corrected: int
    duplicates: int
    seq: Annotated[
        int | None, Meta(description="ledger entry of the last reading; null: nothing new, or within seconds")
    ]
    refused: int = 0
    verdicts: list[Verdicts] = []


class MyReading(Shape):
    """The newest version of a reading of mine. ``reason`` says why a value is not simply measured."""

    contract: Contract
    import_wh: int
    export_wh: int
    produced_wh: int | None
    used_wh: int | None
    quality: Literal["measured", "estimated", "corrected"]
    reason: str
    version: int
    seq: Seq
    n: int


class MyReadingPage(Shape):
    """My readings of a day, oldest first."""

    results: list[MyReading]
    next: str | None


class BalanceRow(Shape):
    """An interval of an area. ``residual_wh`` null: an edge is not measured; ``allowed_wh``: what losses explain."""

    contract: Contract
    residual_wh: int | None
    allowed_wh: int
    missing: int
    cause: str


class AreaBalance(Shape):
    """What flowed into an area and is in no reading, over a window, and the likely cause (docs/metering.md has the rules)."""

    area: str
    parent: str | None
    homes: int
    metered: bool
    cause: Literal["unknown", "missing_meter", "loss", "clock", "theft", "meter_error", "unclear"]
    residual_wh: int
    allowed_wh: int
    intervals: int
    beyond: int
    rows: list[BalanceRow]


class BalancePage(Shape):
    """The balances of all areas, those with most left unexplained first."""

    results: list[AreaBalance]
    next: str | None
