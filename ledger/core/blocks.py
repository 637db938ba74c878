"""Blocks: a block is the run of entries that ends with a ``seal``, and each seal chains to the checkpoint before it.

Nothing of the chain needs storing: the checkpoint before a block is ``origin``, the size at the previous seal and the
root at that size, and every reader of the log can compute it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ledger.core.merkle import EMPTY_ROOT
from ledger.core.note import body_hash

FIRST_HEIGHT = 1
MAX_ASSETS = 64
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TOTAL = re.compile(r"([A-Za-z][A-Za-z0-9]{0,31}):(0|-?[1-9][0-9]*)", re.ASCII)


class SealError(ValueError):
    """A seal does not close its block as it must. ``field`` names the field at fault."""

    def __init__(self, field: str, expected: object, was: object):
        super().__init__(f"{field}: expected {expected}, was {was}")
        self.field = field


def first_prev(origin: str) -> str:
    """Return what the first seal names as ``prev``: the SHA-256 of the empty log's checkpoint body, hex."""
    return body_hash(origin, 0, EMPTY_ROOT).hex()


def totals_text(totals: Mapping[str, int]) -> str:
    """Return the sums of all balances by asset as a seal carries them: ``EUR:0,Wh:0``."""
    text = ",".join(f"{asset}:{total}" for asset, total in sorted(totals.items()))
    parse_totals(text)
    return text


def parse_totals(text: str) -> dict[str, int]:
    """Return the sums by asset; raise ``ValueError`` unless they are sorted, unique and well-formed."""
    parts = text.split(",")
    matches = [_TOTAL.fullmatch(part) for part in parts]
    if len(parts) > MAX_ASSETS or not all(matches):
        raise ValueError(f"expected totals like EUR:0,Wh:0, was {text!r:.80}")
    totals = {match[1]: int(match[2]) for match in matches if match}
    if list(totals) != sorted(totals) or len(totals) != len(parts):
        raise ValueError(f"expected each asset once and sorted, was {text!r:.80}")
    return totals


def seal_fields(
    *, prev: str, root_before: bytes, state: bytes, totals: Mapping[str, int], rules: str
) -> dict[str, str]:
    """Return the fields of a seal that need hashing, for the journal to add to the engine's event."""
    return {
        "prev": prev,
        "root_before": root_before.hex(),
        "state": state.hex(),
        "totals": totals_text(totals),
        "rules": rules,
    }


class Chain:
    """Checks one seal after the other."""

    def __init__(self, origin: str, currency: str = ""):
        self.origin = origin
        self.currency = currency  # its total must be stated
        self.height = FIRST_HEIGHT - 1
        self.next = 0  # seq of the running block's first entry
        self.prev = first_prev(origin)

    def check(self, seal: Mapping[str, int | str], *, seq: int, root_before: bytes, rules: str) -> None:
        """Raise ``SealError`` unless the seal at ``seq`` closes the running block.

        ``root_before`` is the root over all entries before it, ``rules`` the SHA-256 of the rulebook in force, hex.
        """
        expected: dict[str, int | str] = {
            "height": self.height + 1,
            "first": self.next,
            "count": seq - self.next + 1,
            "prev": self.prev,
            "root_before": root_before.hex(),
            "rules": rules,
        }
        for field, value in expected.items():
            was = seal.get(field)
            if was != value:
                raise SealError(field, value, was)
        state = seal.get("state")
        if type(state) is not str or _HASH.fullmatch(state) is None:
            raise SealError("state", "a SHA-256 in hex", state)
        text = seal.get("totals")
        try:
            totals = parse_totals(text if type(text) is str else "")
        except ValueError as error:
            raise SealError("totals", "sums by asset", f"{text!r:.80}") from error
        for asset, total in totals.items():
            if total:
                raise SealError("totals", f"{asset}:0", f"{asset}:{total}")
        if self.currency and self.currency not in totals:
            raise SealError("totals", f"a sum of {self.currency}", text)

    def advance(self, *, size: int, root: bytes) -> None:
        """Go on behind a checked seal: the log had ``size`` entries and this root with it."""
        self.height += 1
        self.next = size
        self.prev = body_hash(self.origin, size, root).hex()
