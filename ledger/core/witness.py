"""What passes between a log and a witness (https://c2sp.org/tlog-witness), and the witness' decision. No I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.core.merkle import EMPTY_ROOT, HASH_BYTES, ProofError, verify_growth
from ledger.core.note import (
    MAX_SIZE,
    Checkpoint,
    Note,
    NoteError,
    VerifierKey,
    decode64,
    parse_checkpoint,
    parse_note,
    verify_note,
)

MAX_PROOF_LINES = 63
MAX_REQUEST_BYTES = 1 << 16
SIZE_TYPE = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)
_SIZE_BODY = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class AddRequest(NamedTuple):
    """A head that a log wants cosigned, and the proof that it goes on from ``old`` entries."""

    old: int
    proof: tuple[bytes, ...]
    note: Note
    head: Checkpoint


class Seen(NamedTuple):
    """The newest head of a log that a witness has cosigned."""

    size: int
    root: bytes


NOTHING = Seen(0, EMPTY_ROOT)


class Refused(Exception):
    """A witness does not cosign. ``status`` is the answer's, ``size`` its body in a 409; ``fork``: two heads contradict."""

    def __init__(self, status: int, why: str, size: int | None = None, *, fork: bool = False):
        super().__init__(why)
        self.status = status
        self.size = size
        self.fork = fork


def format_request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """Return the body of ``POST add-checkpoint``."""
    if len(proof) > MAX_PROOF_LINES:
        raise ValueError(f"expected at most {MAX_PROOF_LINES} hashes, was {len(proof)}")
    lines = "".join(f"{base64.b64encode(hash_).decode()}\n" for hash_ in proof)
    return f"old {old}\n{lines}\n{note}".encode()


def parse_request(body: bytes) -> AddRequest:
    """Return what ``POST add-checkpoint`` asks for; raise ``Refused`` (400) unless it is well-formed."""
    try:
        head, gap, rest = body.partition(b"\n\n")
        lines = head.decode("ascii").split("\n")
        old = _OLD.fullmatch(lines[0])
        if not gap or old is None or int(old[1]) > MAX_SIZE:
            raise NoteError("expected 'old SIZE', hashes, an empty line and a checkpoint")
        if len(lines) - 1 > MAX_PROOF_LINES:
            raise NoteError(f"expected at most {MAX_PROOF_LINES} hashes, was {len(lines) - 1}")
        proof = tuple(decode64(line, "a hash") for line in lines[1:])
        if any(len(hash_) != HASH_BYTES for hash_ in proof):
            raise NoteError(f"expected hashes of {HASH_BYTES} bytes")
        note = parse_note(rest)
        return AddRequest(int(old[1]), proof, note, parse_checkpoint(note.text, extensions=True))
    except (NoteError, UnicodeDecodeError) as error:
        raise Refused(400, str(error)) from None


def check_signature(request: AddRequest, logs: Mapping[str, Sequence[VerifierKey]]) -> None:
    """Raise ``Refused``: 404 for a log the witness does not know, 403 without a valid signature by one of its keys."""
    keys = logs.get(request.head.origin)
    if not keys:
        raise Refused(404, f"unknown log {request.head.origin!r:.80}")
    try:
        verify_note(request.note, keys)
    except NoteError as error:
        raise Refused(403, str(error)) from None


def check_growth(request: AddRequest, seen: Seen) -> None:
    """Raise ``Refused`` unless the head goes on from what was seen last; to be done in one step with keeping it."""
    head = request.head
    if request.old > head.size:
        raise Refused(400, f"expected an old size up to {head.size}, was {request.old}")
    if request.old != seen.size:
        raise Refused(409, f"expected the old size {seen.size}, was {request.old}", seen.size)
    if head.size == seen.size and head.root != seen.root:
        raise Refused(409, f"another root at {head.size} entries: the log has forked", seen.size, fork=True)
    try:
        verify_growth(seen.size, head.size, seen.root, head.root, request.proof)
    except ProofError as error:
        raise Refused(422, str(error), fork=True) from None


def parse_size(body: bytes) -> int:
    """Return the size in the body of a 409; raise ``NoteError``."""
    match = _SIZE_BODY.fullmatch(body)
    if match is None or int(match[1]) > MAX_SIZE:
        raise NoteError("expected a size and a newline in the answer of status 409")
    return int(match[1])
