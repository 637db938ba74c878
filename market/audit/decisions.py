"""Decisions of people in office: whether each entry says why, in a code of the list (docs/ledger.md).

Nothing here is a fault: entries of older logs have other codes or none, and the engine plays them. Whoever reads the verdict
should know of them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from market.engine.reasons import CODES, decision_of

MAX_NAMED = 20  # entries without a reason that are named; the others are counted
DECIDED = (CODES.keys() - {"connection"}) | {"account"}  # types of entries among which there are decisions


class Decided(NamedTuple):
    """How many decisions there are, how many commit to words beside the code, and how many give no code of the list."""

    entries: int = 0
    worded: int = 0
    unreasoned: int = 0
    first: tuple[int, ...] = ()  # the first of those without a reason


class Decisions:
    """Counts the decisions among a log's entries."""

    def __init__(self, found: Decided | None = None):
        self.found = Decided() if found is None else found

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Decisions:
        """Return what ``found``, written as a list, stood for."""
        entries, worded, unreasoned, first = values
        return cls(Decided(entries, worded, unreasoned, tuple(first)))

    def take(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Look at the next entries."""
        count, worded, unreasoned, first = self.found
        for entry in entries:
            kind = decision_of(entry) if entry["type"] in DECIDED else ""
            if not kind:
                continue
            count += 1
            worded += "commitment" in entry
            if entry.get("reason") not in CODES[kind]:
                unreasoned += 1
                first = (*first, int(entry["seq"]))[:MAX_NAMED]
        self.found = Decided(count, worded, unreasoned, first)


def told(found: Decided) -> list[str]:
    """Return what an audit says about decisions."""
    if not found.entries:
        return []
    lines = [f"decisions {found.entries}, of them {found.worded} commit to words beside the code"]
    if found.unreasoned:
        named = ", ".join(map(str, found.first)) + (", …" if found.unreasoned > len(found.first) else "")
        lines.append(f"unreasoned {found.unreasoned} decisions give no reason of the list: entries {named}")
    return lines
