"""Receipts (https://c2sp.org/tlog-proof): a file that proves to any holder of the log's key that an entry is on it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from ledger.core.merkle import HASH_BYTES, ProofError, leaf_hash, verify_inclusion
from ledger.core.note import Checkpoint, VerifierKey, open_checkpoint

HEADER = "c2sp.org/tlog-proof@v1"
MAX_RECEIPT_BYTES = 1 << 20
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


class Receipt(NamedTuple):
    """An entry's index, the hashes from leaf to root, the signed checkpoint, and opaque data nobody vouches for."""

    seq: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes


def format_receipt(seq: int, path: Sequence[bytes], checkpoint: str, extra: bytes = b"") -> str:
    """Return the receipt as text. ``checkpoint`` is the signed note, taken as it is."""
    lines = [HEADER]
    if extra:
        lines.append(f"extra {base64.b64encode(extra).decode()}")
    lines.append(f"index {seq}")
    lines += [base64.b64encode(hash_).decode() for hash_ in path]
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_receipt(text: str) -> Receipt:
    """Return what a receipt says; raise ``ProofError`` unless it is written in the one right way."""
    head, gap, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not gap or len(text) > MAX_RECEIPT_BYTES or lines[0] != HEADER:
        raise ProofError(f"expected a receipt that begins with {HEADER}")
    extra = b""
    at = 1
    if len(lines) > at and lines[at].startswith("extra "):
        extra = _decode64(lines[at][6:])
        at += 1
    match = _INDEX.fullmatch(lines[at]) if len(lines) > at else None
    if match is None:
        raise ProofError("expected the line 'index N'")
    path = tuple(_decode64(line) for line in lines[at + 1 :])
    if any(len(hash_) != HASH_BYTES for hash_ in path):
        raise ProofError(f"expected hashes of {HASH_BYTES} bytes")
    return Receipt(int(match[1]), path, checkpoint, extra)


def verify_receipt(receipt: Receipt, leaf: bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Return the checkpoint under which the receipt proves these entry bytes; raise ``ProofError`` or ``NoteError``."""
    checkpoint = open_checkpoint(receipt.checkpoint.encode(), keys)
    verify_inclusion(receipt.seq, checkpoint.size, leaf_hash(leaf), receipt.path, checkpoint.root)
    return checkpoint


def _decode64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if base64.b64encode(data).decode() != text:
        raise ProofError(f"expected base64, was {text!r:.80}")
    return data
