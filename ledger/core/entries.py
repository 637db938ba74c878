"""What every entry must have, whatever its type: version, index, known type, time, salt.

And what ``reason`` and ``commitment`` must be where there are any: a code, a hash. No words of anybody enter the ledger."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

VERSION = 1
TYPES = frozenset(
    (
        "genesis", "rulebook", "params", "key", "area", "capacity", "fee", "tariff", "account", "fund", "contract",
        "halt", "order", "amend", "cancel", "trade", "agreement", "readings", "settle", "final", "adjust", "recall",
        "snapshot", "seal",
    )
)  # fmt: skip
SALT_DIGITS = 32
COMMITMENT_DIGITS = 64

_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII)
_HEX = re.compile(r"[0-9a-f]*", re.ASCII)
_CODE = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)

Fields = dict[str, int | str]


class EntryError(ValueError):
    """An entry is not what it must be. ``seq`` is its index; ``first`` is smaller when an earlier one may be at fault."""

    def __init__(self, seq: int, message: str, first: int | None = None):
        super().__init__(message)
        self.seq = seq
        self.first = seq if first is None else first


def is_time(text: object) -> bool:
    """Return whether this is a moment as entries write it: ``2026-06-06T12:15:00.000Z``."""
    if type(text) is not str or _AT.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:-1] + "+00:00")
    except ValueError:
        return False
    return True


def check_entries(entries: Sequence[Fields], first: int, last_at: str) -> str:
    """Check a run of entries of which the first has index ``first``; return the last one's time.

    ``last_at`` is the time of the entry before ("" = none). Raises ``EntryError`` for the first one that is wrong.
    The checks look at all entries at once, which is several times as fast as one after the other; only when one of
    them fails the slow way says which entry it was.
    """
    try:
        times = [entry["at"] for entry in entries]
        salts = [entry["salt"] for entry in entries]
        commitments = [entry["commitment"] for entry in entries if "commitment" in entry]
        reasons = {entry["reason"] for entry in entries if "reason" in entry}
        if (
            [entry["seq"] for entry in entries] == list(range(first, first + len(entries)))
            and {entry["v"] for entry in entries} == {VERSION}
            and TYPES.issuperset([entry["type"] for entry in entries])
            and set(map(len, salts)) == {SALT_DIGITS}  # type: ignore[arg-type]
            and _HEX.fullmatch("".join(salts)) is not None  # type: ignore[arg-type]
            and {COMMITMENT_DIGITS}.issuperset(map(len, commitments))  # type: ignore[arg-type]
            and _HEX.fullmatch("".join(commitments)) is not None  # type: ignore[arg-type]
            and all(map(_CODE.fullmatch, reasons))  # type: ignore[arg-type]
            and times == sorted(times)
            and times[0] >= last_at  # type: ignore[operator]
            and all(map(is_time, set(times)))
        ):
            return str(times[-1])
    except (KeyError, TypeError, IndexError):
        pass  # a field is missing or an integer where a text should be: the slow way says which
    for seq, entry in enumerate(entries, first):
        last_at = _check_entry(entry, seq, last_at)
    return last_at


def _check_entry(entry: Fields, seq: int, last_at: str) -> str:
    for key, expected in (("v", VERSION), ("seq", seq)):
        if entry.get(key) != expected:
            raise EntryError(seq, f"{key}: expected {expected}, was {entry.get(key)!r:.60}")
    if entry.get("type") not in TYPES:
        raise EntryError(seq, f"type: expected a known type, was {entry.get('type')!r:.60}")
    at, salt = entry.get("at"), entry.get("salt")
    if type(at) is not str or not is_time(at):
        raise EntryError(seq, f"at: expected a time like 2026-06-06T12:15:00.000Z, was {at!r:.60}")
    if at < last_at:
        raise EntryError(seq, f"at: expected {last_at} (of entry {seq - 1}) or later, was {at}", seq - 1)
    if type(salt) is not str or len(salt) != SALT_DIGITS or _HEX.fullmatch(salt) is None:
        raise EntryError(seq, f"salt: expected {SALT_DIGITS} hex digits, was {salt!r:.60}")
    words = entry.get("commitment", "0" * COMMITMENT_DIGITS)
    if type(words) is not str or len(words) != COMMITMENT_DIGITS or _HEX.fullmatch(words) is None:
        raise EntryError(seq, f"commitment: expected {COMMITMENT_DIGITS} hex digits, was {words!r:.60}")
    reason = entry.get("reason", "none")
    if type(reason) is not str or _CODE.fullmatch(reason) is None:
        raise EntryError(seq, f"reason: expected a code, was {reason!r:.60}")
    return at
