"""Receipts that carry what they prove: the entry's bytes, and a row's, in the ``extra`` line of a tlog-proof file.

Nobody vouches for that line; what is in it counts only because its hashes lead to the signed root. Other people's
verifiers skip it and check the entry as in any other receipt.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from ledger.core.encoding import decode
from ledger.core.merkle import HASH_BYTES, ProofError
from ledger.core.note import Checkpoint, VerifierKey
from ledger.core.receipt import Receipt, verify_receipt
from ledger.core.rows import verify_row

_ROW = re.compile(rb"row (0|[1-9][0-9]{0,6})")


class RowProof(NamedTuple):
    """A row's bytes, its number among the rows of its entry, and the hashes from it to the root in the entry."""

    row: bytes
    number: int
    path: tuple[bytes, ...]


class Bundled(NamedTuple):
    """What the ``extra`` line holds. ``proof`` is None in the receipt of an entry alone."""

    leaf: bytes
    proof: RowProof | None


def bundle(leaf: bytes, row: bytes = b"", number: int = 0, path: Sequence[bytes] = ()) -> bytes:
    """Return the ``extra`` of a receipt: the entry's bytes, and with ``row`` that row, its number and its path."""
    if not row:
        return leaf
    lines = [leaf, row, b"row %d" % number, *(base64.b64encode(hash_) for hash_ in path)]
    return b"\n".join(lines)


def parse_bundle(extra: bytes) -> Bundled:
    """Return what an ``extra`` line holds; raise ``ProofError`` unless it is written in the one right way."""
    leaf, *rest = extra.split(b"\n")
    if not leaf:
        raise ProofError("expected the entry's bytes in the line 'extra'")
    if not rest:
        return Bundled(leaf, None)
    match = _ROW.fullmatch(rest[1]) if len(rest) > 1 else None
    if match is None:
        raise ProofError("expected a row and the line 'row N' after the entry")
    path = []
    for line in rest[2:]:
        hash_ = base64.b64decode(line) if len(line) == 44 and line.isascii() else b""
        if len(hash_) != HASH_BYTES or base64.b64encode(hash_) != line:
            raise ProofError(f"expected hashes of {HASH_BYTES} bytes in base64, was {line!r:.80}")
        path.append(hash_)
    return Bundled(leaf, RowProof(rest[0], int(match[1]), tuple(path)))


def verify_bundle(receipt: Receipt, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Return the checkpoint under which a receipt proves the entry it carries, and its row if it carries one.

    Raises ``ProofError``, ``NoteError``, or ``ValueError`` for bytes that are not canonical.
    """
    leaf, proof = parse_bundle(receipt.extra)
    checkpoint = verify_receipt(receipt, leaf, keys)
    entry = decode(leaf)
    if entry.get("seq") != receipt.seq:
        raise ProofError(f"expected entry {receipt.seq}, the bytes name {entry.get('seq')!r:.40}")
    if proof is not None:
        count, root = entry.get("count"), entry.get("root")
        if type(count) is not int or type(root) is not str or not re.fullmatch(r"[0-9a-f]{64}", root):
            raise ProofError("expected an entry with count and root: this one has no rows")
        decode(proof.row)
        verify_row(proof.row, proof.number, count, proof.path, bytes.fromhex(root))
    return checkpoint
