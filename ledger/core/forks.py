"""Evidence that a log has two histories: two signed heads that cannot both be true, checkable by anybody with the keys.

Two heads of one size with different roots need nothing more. Of two sizes, the larger one's own tree says what its root
was at the smaller size: a consistency proof leads from that root to the larger head, and the smaller head says another.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

from ledger.core.merkle import EMPTY_ROOT, HASH_BYTES, ProofError, consistency_path, range_root, verify_consistency
from ledger.core.note import Checkpoint, NoteError, VerifierKey, decode64, open_checkpoint, parse_vkey
from ledger.core.source import Missing, Source
from ledger.core.tiles import node_reader, tile_path

FORMAT = "sunledger-fork/v1"
MAX_EVIDENCE_BYTES = 1 << 22
MAX_KEYS = 64


class Unusable(ValueError):
    """The two heads prove nothing; the message says why."""


class Evidence(NamedTuple):
    """Two notes, the smaller first, the keys that signed them, and what the larger one's tree says at the smaller size.

    ``root`` (b"" for heads of one size) and ``proof`` come from the larger one's tiles.
    """

    keys: tuple[str, ...]
    smaller: str
    larger: str
    root: bytes
    proof: tuple[bytes, ...]


class Verdict(NamedTuple):
    """``forked``: the heads contradict each other; else they are one history."""

    forked: bool
    smaller: Checkpoint
    larger: Checkpoint
    why: str


def compare(
    a: bytes, b: bytes, keys: Sequence[VerifierKey], tiles_a: Source | None = None, tiles_b: Source | None = None
) -> tuple[Verdict, Evidence]:
    """Return whether two signed heads are one history, with what shows it.

    ``tiles_a`` and ``tiles_b`` read the tiles of each head's log, where there are such; the larger head's are needed
    when the sizes differ. Raises ``Unusable``.
    """
    heads = [(_open(note, keys, name), note, tiles) for note, tiles, name in ((a, tiles_a, "A"), (b, tiles_b, "B"))]
    (smaller, first, _), (larger, second, tiles) = sorted(heads, key=lambda head: head[0].size)
    root: bytes = b""
    proof: list[bytes] = []
    if 0 < smaller.size < larger.size:
        if tiles is None:
            raise Unusable(
                f"the heads have {smaller.size} and {larger.size} entries, and there are no tiles of the larger one to compare"
            )
        root, proof = _growth(smaller.size, larger, tiles)
    evidence = Evidence(tuple(map(str, keys)), first.decode(), second.decode(), root, tuple(proof))
    return judge(evidence, keys), evidence


def _growth(old_size: int, head: Checkpoint, tiles: Source) -> tuple[bytes, list[bytes]]:
    node = node_reader(head.size, lambda level, number, width: tiles(tile_path(level, number, width)))
    try:
        if range_root(0, head.size, node) != head.root:
            raise Unusable(f"the tiles do not have the root that was signed at {head.size} entries")
        return range_root(0, old_size, node), consistency_path(old_size, head.size, node)
    except Missing as error:
        raise Unusable(f"the tiles of the head with {head.size} entries are not all there: {error}") from None
    except Unusable:
        raise
    except ValueError as error:
        raise Unusable(f"a tile is not what it must be: {error}") from None


def judge(evidence: Evidence, trusted: Sequence[VerifierKey] = ()) -> Verdict:
    """Return what the evidence shows, believing only signatures by ``trusted`` keys (none: those it names itself).

    Raises ``Unusable`` when it shows neither that the heads contradict each other nor that they do not.
    """
    keys = trusted or _keys(evidence.keys)
    smaller, larger = (_open(note.encode(), keys, "a head") for note in (evidence.smaller, evidence.larger))
    if smaller.origin != larger.origin:
        raise Unusable(f"expected two heads of one log, was {smaller.origin} and {larger.origin}")
    if smaller.size > larger.size:
        raise Unusable("expected the smaller head first")
    if smaller.size == larger.size:
        forked = smaller.root != larger.root
        return Verdict(forked, smaller, larger, _why(smaller.size, smaller.root, larger.root))
    if smaller.size == 0:
        return Verdict(smaller.root != EMPTY_ROOT, smaller, larger, _why(0, smaller.root, EMPTY_ROOT))
    if len(evidence.root) != HASH_BYTES:
        raise Unusable("expected the larger tree's root at the smaller size")
    try:
        verify_consistency(smaller.size, larger.size, evidence.root, larger.root, evidence.proof)
    except ProofError as error:
        raise Unusable(f"the proof does not belong to the larger head: {error}") from None
    forked = evidence.root != smaller.root
    return Verdict(forked, smaller, larger, _why(smaller.size, smaller.root, evidence.root))


def _why(size: int, one: bytes, other: bytes) -> str:
    if one == other:
        return f"one root at {size} entries: {one.hex()}"
    return f"two roots at {size} entries: {one.hex()} and {other.hex()}"


def _open(note: bytes, keys: Sequence[VerifierKey], name: str) -> Checkpoint:
    try:
        return open_checkpoint(note, keys, extensions=True)
    except NoteError as error:
        raise Unusable(f"{name}: {error}") from None


def _keys(texts: Sequence[str]) -> list[VerifierKey]:
    try:
        return [parse_vkey(text) for text in texts]
    except NoteError as error:
        raise Unusable(f"keys: {error}") from None


def format_evidence(evidence: Evidence) -> bytes:
    """Return the evidence as a file of its own."""
    shown = {
        "format": FORMAT,
        "keys": list(evidence.keys),
        "smaller": evidence.smaller,
        "larger": evidence.larger,
        "root": base64.b64encode(evidence.root).decode(),
        "proof": [base64.b64encode(hash_).decode() for hash_ in evidence.proof],
    }
    return json.dumps(shown, indent=1, ensure_ascii=False).encode() + b"\n"


def parse_evidence(data: bytes) -> Evidence:
    """Return the evidence a file holds; raise ``Unusable`` unless it has the right shape."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise Unusable(f"expected at most {MAX_EVIDENCE_BYTES} bytes, was {len(data)}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Unusable("expected JSON") from None
    if type(found) is not dict or found.get("format") != FORMAT:
        raise Unusable(f"expected evidence of the format {FORMAT}")
    keys, proof = _texts(found, "keys"), _texts(found, "proof")
    if len(keys) > MAX_KEYS:
        raise Unusable(f"keys: expected at most {MAX_KEYS}")
    smaller, larger, root = (_texts({name: [found.get(name)]}, name)[0] for name in ("smaller", "larger", "root"))
    try:
        hashes = tuple(decode64(hash_, "proof") for hash_ in proof)
        return Evidence(keys, smaller, larger, decode64(root, "root"), hashes)
    except NoteError as error:
        raise Unusable(str(error)) from None


def _texts(found: dict[str, object], name: str) -> tuple[str, ...]:
    value = found.get(name)
    if type(value) is not list or any(type(text) is not str for text in value):
        raise Unusable(f"{name}: expected texts")
    return tuple(value)
