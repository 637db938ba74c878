"""A batch of values as JSON: what devices, gateways and the REST call send. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from market.metering.formats.values import MAX_REVISION, MAX_VALUES, MAX_WH, FormatError, Value, instant_ms

WH = Annotated[int, Meta(ge=0, le=MAX_WH)]


class DeviceValueIn(msgspec.Struct, forbid_unknown_fields=True):
    """A value of a device: energy from ``start`` for ``duration_s``, or (``register``) what its counters showed at ``start``.

    ``device`` may be left out where a device sends. ``revision`` counts corrections of the same value.
    """

    start: Annotated[str, Meta(description="RFC 3339, with offset", examples=["2026-06-06T12:15:00Z"])]
    import_wh: WH
    export_wh: WH = 0
    duration_s: Annotated[int, Meta(ge=1, le=86_400)] = 900
    register: bool = False
    quality: Literal["measured", "estimated"] = "measured"
    revision: Annotated[int, Meta(ge=0, le=MAX_REVISION)] = 0
    device: Annotated[str, Meta(max_length=32)] = ""


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """What a device sends by itself."""

    values: Annotated[list[DeviceValueIn], Meta(min_length=1)]


def parse(data: bytes, *, received_ms: int, limit: int = MAX_VALUES) -> list[Value]:
    """Return the values of a batch. Raise ``FormatError`` (malformed, too_many, invalid_value naming the field)."""
    try:
        batch = msgspec.json.decode(data, type=Batch, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        raise FormatError(
            "malformed", text[text.rfind("$") :].rstrip("`").lstrip("$.") if "$" in text else ""
        ) from None
    return values_of(batch.values, received_ms=received_ms, limit=limit)


def values_of(values: Sequence[DeviceValueIn], *, received_ms: int, limit: int = MAX_VALUES) -> list[Value]:
    """Return decoded values in the one form; errors as ``parse``."""
    if len(values) > limit:
        raise FormatError("too_many", "values")
    known: dict[str, int] = {}  # devices of one home measure at the same times
    found = []
    for place, value in enumerate(values):
        text = value.start
        start_ms = known.get(text)
        if start_ms is None:
            try:
                start_ms = known[text] = instant_ms(text)
            except (ValueError, OverflowError):
                raise FormatError("invalid_value", f"values[{place}].start") from None
        found.append(
            Value(
                value.device, start_ms, 0 if value.register else value.duration_s * 1_000, value.import_wh,
                value.export_wh, value.register, value.quality, value.revision, received_ms,
            )
        )  # fmt: skip
    return found
