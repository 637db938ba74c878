"""The JSON of disputes; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from market.api.shaping import Contract, Instant, Next, Seq, Shape

Wh = Annotated[int | None, Meta(description="Wh over the interval; null: not said")]
Text = Annotated[
    str, Meta(max_length=1_000, description="for the other side to read; kept sealed, never on the ledger")
]


class DisputeIn(Shape):
    """What I contest: my reading in a contract, or the line of my statement that settles it."""

    kind: Literal["reading", "line"]
    contract: Contract
    code: Annotated[str, Meta(description="meter_shows_other, estimated_wrong, meter_broken, not_mine or other")]
    text: Text = ""
    import_wh: Wh = None
    export_wh: Wh = None


class ReopenIn(Shape):
    """What is still wrong with an answer."""

    text: Text


class DisputeStep(Shape):
    """One step; ``by`` says who took it. ``commitment``: SHA-256 of salt and text."""

    state: Literal["open", "accepted", "declined", "closed"]
    at: Instant
    by: Literal["household", "operator"]
    code: str
    text: str
    commitment: str
    import_wh: Wh
    export_wh: Wh


class Dispute(Shape):
    """A reading or line that is contested, with all that was said."""

    id: int
    kind: Literal["reading", "line"]
    contract: Contract
    seq: Annotated[Seq, Meta(description="the ledger's entry that is contested")]
    state: Literal["open", "accepted", "declined", "closed"]
    reopened: bool
    opened_at: Instant
    corrected_seq: Annotated[Seq | None, Meta(description="the readings entry with the corrected value")]
    steps: list[DisputeStep]


class DisputePage(Shape):
    """Disputes, newest first."""

    results: list[Dispute]
    next: Next
