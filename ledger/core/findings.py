"""What a verification finds, hands on and leaves behind: the words between the verifier and those who use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ledger.core.entries import Fields


class Bad(Exception):
    """The log is not as it must be. ``place`` is the first place found, ``what`` says what is wrong there."""

    def __init__(self, place: str, what: str):
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


@dataclass(frozen=True)
class Report:
    """What a verified log holds. ``trusted`` is "given", or "genesis" when its own first entry named the key."""

    origin: str
    size: int
    root: str
    blocks: int
    vkey: str
    trusted: str
    rows: int  # salted rows that were there and match their entries
    rows_missing: int  # entries whose rows are not in this source
    rulebooks: int  # texts that were there and match
    rulebooks_missing: int
    keys: tuple[str, ...]  # verifier keys the log's entries name, revoked ones included


@dataclass(frozen=True)
class Head:
    """A checkpoint as a database keeps it beside the log: a row for every seal. ``first`` begins its block."""

    size: int
    height: int
    first: int
    root: str  # hex
    note: str


@dataclass(frozen=True)
class Doubt:
    """The first hash of a served tile that differs from what the entries give; who is wrong turns out at the end."""

    level: int
    number: int
    width: int
    at: int
    expected: bytes
    was: bytes


class Position(NamedTuple):
    """Where a verification stood behind a seal: all it needs to go on from there. Texts and numbers only."""

    size: int
    root: str  # hex
    state: str  # of that seal: the root over all accounts, hex
    edges: tuple[tuple[str, ...], ...]  # by level: the hashes of the partial tile, hex
    origin: str
    currency: str
    height: int
    prev: str
    keys: tuple[str, ...]  # valid then
    named: tuple[str, ...]  # every one the log had named
    approved: tuple[str, ...]  # by which key each of these was approved, "" for the founder's
    rules: str
    last_at: str
    counts: tuple[int, int, int, int]  # as in ``Report``: rows, missing ones, rulebooks, missing ones


class Bundle(NamedTuple):
    """Entries that have passed as far as can be told before the end of the log, with the rows they commit to."""

    first: int
    leaves: list[bytes]
    entries: list[Fields]
    rows: dict[int, list[bytes]]  # by entry; those whose rows the source lacks are left out
    size: int  # of the whole log
    position: Position | None  # behind a seal among these entries, when one was due


def span(first: int, last: int) -> str:
    """Return what a run of entries is called."""
    return f"entry {first}" if first == last else f"entries {first} to {last}"
