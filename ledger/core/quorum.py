"""For a reader who believes only what a quorum of witnesses has cosigned: which head of a log that is.

The newest checkpoint of a log that runs has its cosignatures a moment later, so a log also offers the newest one that has a
quorum by its own policy.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.core.cosign import Cosignature
from ledger.core.note import NoteError, parse_checkpoint, parse_note
from ledger.core.policy import Policy
from ledger.core.source import Missing, Source

CHECKPOINT = "checkpoint"
WITNESSED = "witnessed"  # the newest checkpoint with a quorum of the policy that its operator follows


class NoQuorum(Exception):
    """No head that is offered has the quorum that the reader's policy asks for."""


class Cosigned(NamedTuple):
    """A head with a quorum: the note as it was offered, how many entries it covers, the policy's witnesses that signed it."""

    note: bytes
    size: int
    cosignatures: tuple[Cosignature, ...]


def demand(data: bytes, policy: Policy) -> Cosigned:
    """Return a note whose cosignatures are a quorum of the policy; raise ``NoQuorum``.

    Nothing is said of the log's own signature. A line that names one of the witnesses and does not fit counts against it all.
    """
    try:
        note = parse_note(data)
        found = policy.cosignatures(note)
        size = parse_checkpoint(note.text, extensions=True).size
    except NoteError as error:
        raise NoQuorum(str(error)) from None
    if not policy.satisfied(set(found)):
        names = ", ".join(found) or "no witness of the policy"
        raise NoQuorum(
            f"expected the checkpoint at {size} entries to be cosigned by a quorum ({policy.quorum}), was by {names}"
        )
    return Cosigned(data, size, tuple(found.values()))


def find(read: Source, policy: Policy) -> Cosigned:
    """Return the newest head with a quorum that a log offers; raise ``NoQuorum``, ``Missing`` when it offers no head at all."""
    try:
        return demand(read(CHECKPOINT), policy)
    except NoQuorum as error:
        newest = error
    try:
        return demand(read(WITNESSED), policy)
    except Missing:
        raise newest from None
    except NoQuorum as error:
        raise NoQuorum(f"{newest}; {WITNESSED}: {error}") from None


def under(note: bytes, read: Source) -> Source:
    """Return the source of the log as this head has it."""
    return lambda path: note if path == CHECKPOINT else read(path)
