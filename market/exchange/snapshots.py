"""The stored snapshots as the ledger offers them to followers (setting ``LEDGER_SNAPSHOTS``)."""

from __future__ import annotations

from market.exchange.models import Snapshot


def names(size: int) -> list[str]:
    """Return the SHA-256 of each snapshot whose entry is among the first ``size``, newest first."""
    return list(Snapshot.objects.filter(seq__lt=size).order_by("-seq").values_list("sha256", flat=True))


def content(sha256: str, size: int) -> bytes | None:
    """Return the snapshot with this SHA-256, None unless there is one whose entry is among the first ``size``."""
    found = Snapshot.objects.filter(sha256=sha256, seq__lt=size).values_list("data", flat=True).first()
    return None if found is None else bytes(found)
