"""What the shapes of all resources are made of; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Price = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{4}$", description="currency per kWh", examples=["0.2850"])]
Money = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{7}$", description="currency", examples=["0.4275000"])]
Contract = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}Z$",
        description="start of the delivery interval",
        examples=["2026-06-06T12:15Z"],
    ),
]
Instant = Annotated[str, Meta(description="RFC 3339, UTC", examples=["2026-06-06T12:15:00.000Z"])]
Seq = Annotated[int, Meta(ge=0, description="sequence in the ledger")]
Next = str | None
Side = Literal["buy", "sell"]


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """Base of all shapes: what is not named here is in no answer."""
