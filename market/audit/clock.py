"""The clock: what a market owes to time alone, and how late it was. Pure.

The market does what is due before anything else, at one instant with the seal that ends the block. So nothing is due at a
seal, however long the market was down before; what it missed in between shows as lateness, which is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from market.engine import contracts as states
from market.engine.commands import Command, OpenContract
from market.engine.engine import Engine

# A command can make the opening of contracts due that was not before (a longer horizon, the first tariff): for so many
# blocks they may be missing.
OPENING_BLOCKS = 10
# After delivery. A silent meter is estimated after an hour at the latest (rulebook, 8.4); as long again is left for the work.
SETTLED_WITHIN_MS = 2 * 3_600_000


class Lateness(NamedTuple):
    """How the market kept its times. In ms of market time."""

    gate_late_ms: int  # the gate that was closed latest after its time
    delivery_late_ms: int  # the delivery that was written down latest after its interval
    longest_gap_ms: int  # between two blocks
    settled_late: int  # areas settled after the deadline
    unsettled: list[str]  # contracts that are not settled in full though the deadline has passed


class Clock:
    """Looks at each block's end whether something is due."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sealed_ms = -1
        self._gap_ms = self._gate_ms = self._delivery_ms = self._late = 0
        self._opening = ("", 0)  # the contract that is due to be opened, and the height at which it was first missing

    def seal(self) -> str:
        """A block has ended: return what was due and is not done, "" if nothing."""
        engine = self._engine
        if self._sealed_ms >= 0:
            self._gap_ms = max(self._gap_ms, engine.at_ms - self._sealed_ms)
        self._sealed_ms = engine.at_ms
        due = engine.schedule(engine.at_ms)
        if not due:
            return ""
        late: Command | None = next((one for one in due if type(one) is not OpenContract), None)
        if late is None:
            assert isinstance(due[0], OpenContract)
            name, since = due[0].contract, engine.height
            if self._opening[0] != name:
                self._opening = (name, since)
            late = due[0] if since - self._opening[1] >= OPENING_BLOCKS else None
        return "" if late is None else told(late)

    def contract(self, name: str, action: object, at_ms: int) -> None:
        """The clock is about to close a gate or to end an interval: note how late."""
        found = self._engine.contracts.get(name)
        if found is not None and action == states.CLOSED:
            self._gate_ms = max(self._gate_ms, at_ms - found.gate_ms)
        elif found is not None and action == states.DELIVERED:
            self._delivery_ms = max(self._delivery_ms, at_ms - found.end_ms)

    def settle(self, name: str, at_ms: int) -> None:
        """An area of a contract is about to be settled."""
        found = self._engine.contracts.get(name)
        if found is not None and at_ms - found.end_ms > SETTLED_WITHIN_MS:
            self._late += 1

    def lateness(self) -> Lateness:
        """Return how times were kept up to here."""
        limit_ms = self._engine.at_ms - SETTLED_WITHIN_MS
        unsettled = [
            found.name
            for found in self._engine.contracts.values()
            if found.state == states.DELIVERED and found.end_ms < limit_ms
        ]
        return Lateness(self._gate_ms, self._delivery_ms, self._gap_ms, self._late, sorted(unsettled))

    def values(self) -> dict[str, Any]:
        """Return all of this as JSON can hold it."""
        noted = [self._sealed_ms, self._gap_ms, self._gate_ms, self._delivery_ms, self._late]
        return {"noted": noted, "opening": list(self._opening)}

    @classmethod
    def restore(cls, engine: Engine, values: Mapping[str, Any]) -> Clock:
        """Return what ``values`` stood for."""
        clock = cls(engine)
        clock._sealed_ms, clock._gap_ms, clock._gate_ms, clock._delivery_ms, clock._late = values["noted"]
        name, height = values["opening"]
        clock._opening = (name, height)
        return clock


def told(command: Command) -> str:
    """Return a command of the clock in words: its name and what it is about."""
    about = [str(value) for value in command if value not in ("", 0)]
    return " ".join([type(command).__name__, *about])
