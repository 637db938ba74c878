"""The JSON of consents to third parties; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from market.api.shaping import Instant, Next, Shape

Scopes = Annotated[
    list[str], Meta(description="read, trade, readings:write", examples=[["read"]], min_length=1, max_length=8)
]
Party = Annotated[str, Meta(description="who may act for me", max_length=80)]
Until = Annotated[Instant, Meta(description="when it ends by itself; at most 366 days from now")]


class ConsentIn(Shape):
    """Whom I let act for me, what they may do, until when."""

    party: Party
    scopes: Scopes
    expires_at: Until


class ConsentChangeIn(Shape):
    """Another end of a consent."""

    expires_at: Until


class Consent(Shape):
    """That a third party may act for me. ``key`` is how its key begins; ``used_at`` is to the hour."""

    id: int
    party: Party
    scopes: Scopes
    state: Literal["holds", "expired", "withdrawn"]
    key: str
    granted_at: Instant
    expires_at: Instant
    withdrawn_at: Instant | None
    used_at: Instant | None


class ConsentGranted(Shape):
    """A consent just given; ``token`` is the party's key, shown this once."""

    consent: Consent
    token: str


class ConsentPage(Shape):
    """My consents: those that hold, then those that ended, the newest first."""

    results: list[Consent]
    next: Next
