"""Replay: the commands a ledger tells of, applied again, must give the entries it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from market.engine.commands import MAX_LEGS
from market.engine.engine import Engine
from market.engine.entries import SIGNED_FIELDS, legs_of, time_ms, to_command, to_leaf
from market.engine.events import Refused

# What the journal adds to a seal's fields beside the salt that every entry has; not the engine's to know.
SEAL_FIELDS = ("prev", "root_before", "state", "totals", "rules")


class Divergence(Exception):
    """An entry does not follow from the rules."""

    def __init__(self, seq: int, expected: object, was: object):
        super().__init__(f"entry {seq}: expected {expected}, was {was}")
        self.seq = seq
        self.expected = expected
        self.was = was


def _decoded(leaf: bytes | Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's part of an entry. Most entries have one field of the journal's, only a seal has all."""
    fields: dict[str, Any] = json.loads(leaf) if isinstance(leaf, bytes | bytearray | memoryview) else dict(leaf)
    fields.pop("salt", None)
    if fields.get("type") == "seal":
        for name in SEAL_FIELDS:
            fields.pop(name, None)
    return fields


def _no_rows(seq: int) -> Iterable[bytes]:
    return ()


def replay(
    engine: Engine,
    leaves: Iterable[bytes | Mapping[str, Any]],
    rows: Callable[[int], Iterable[bytes | Mapping[str, Any]]] = _no_rows,
    each: Callable[[Any], None] | None = None,
) -> None:
    """Bring an engine forward over the leaves from ``engine.seq`` on, and compare every event with its leaf.

    ``rows(seq)`` gives the committed rows of a ``settle`` entry; ``each`` sees every event. Raises ``Divergence`` at the
    first entry that does not follow; the engine is of no use then. A last command whose entries are cut off is a divergence
    too: batches are written whole.
    """
    expected: list[dict[str, Any]] = []
    position = 0
    coming = iter(leaves)
    for raw in coming:
        leaf = _decoded(raw)
        if position < len(expected):
            _compare(engine, expected[position], leaf)
            position += 1
            continue
        begun = [leaf]
        with suppress(KeyError, ValueError, TypeError):  # an entry of unknown form is told of below
            begun += [_decoded(more) for more in islice(coming, min(legs_of(leaf), MAX_LEGS) - 1)]
        expected = _events_of(engine, begun, rows, each)
        for position, leaf in enumerate(begun[: len(expected)]):
            _compare(engine, expected[position], leaf)
        position = len(begun)
        if position > len(expected):
            raise Divergence(int(leaf.get("seq", engine.seq)), "an entry that starts something", begun[len(expected)])
    if position < len(expected):
        raise Divergence(int(expected[position]["seq"]), expected[position], "the end of the log")


def _compare(engine: Engine, expected: dict[str, Any], was: dict[str, Any]) -> None:
    if "sig" in was and was["type"] == "order" and was.get("leg", 1) == 1:
        # The order was applied as a signed one (``to_command``); its event does not know by which signature.
        was = {name: value for name, value in was.items() if name not in SIGNED_FIELDS}
    if was != expected:
        raise Divergence(int(was.get("seq", engine.seq)), expected, was)


def _events_of(
    engine: Engine,
    begun: list[dict[str, Any]],
    rows: Callable[[int], Iterable[bytes | Mapping[str, Any]]],
    each: Callable[[Any], None] | None,
) -> list[dict[str, Any]]:
    seq, leaf = engine.seq, begun[0]
    try:
        command = to_command(leaf, rows(seq) if leaf["type"] == "settle" else (), begun)
        at_ms = time_ms(leaf["at"])
    except (KeyError, ValueError, TypeError) as error:
        raise Divergence(seq, "an entry of known form", f"{leaf} ({error})") from error
    if command is None:
        raise Divergence(seq, "an entry that starts something", leaf)
    events = engine.apply(command, at_ms)
    if not events or isinstance(events[0], Refused):
        raise Divergence(seq, events[0] if events else "nothing to happen", leaf)
    if each is not None:
        for event in events:
            each(event)
    return [to_leaf(event) for event in events if not isinstance(event, Refused)]
