"""Rows: mass data that an entry commits to by count and Merkle root, kept beside the log.

A row is the canonical bytes (``encoding``) of a flat object with a ``salt``, so that its hash tells nothing. A receipt
for one row is its path to the root in the entry, and the entry's own receipt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ledger.core.encoding import decode_many
from ledger.core.merkle import inclusion_path, leaf_hash, leaf_hashes, nodes_of, root_of, verify_inclusion

SALT = re.compile(r"[0-9a-f]{32}", re.ASCII)
MAX_ROWS = 1_000_000  # of one entry; an area has far fewer homes


def rows_root(rows: Sequence[bytes]) -> bytes:
    """Return the Merkle root over the rows, in their order."""
    return root_of(leaf_hashes(rows))


def row_path(rows: Sequence[bytes], index: int) -> list[bytes]:
    """Return the proof that row ``index`` is under the root of these rows."""
    return inclusion_path(index, len(rows), nodes_of(leaf_hashes(rows)))


def verify_row(row: bytes, index: int, count: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise ``ProofError`` unless the path shows that the row is number ``index`` of ``count`` under the root."""
    verify_inclusion(index, count, leaf_hash(row), path, root)


def join_rows(rows: Sequence[bytes]) -> bytes:
    """Return the rows as they are served and exported: one a line. Canonical JSON holds no newline of its own."""
    return b"".join([row + b"\n" for row in rows])


def split_rows(data: bytes) -> list[bytes]:
    """Return the rows of such a file; raise ``ValueError`` when its last line has no end or there are too many."""
    if data and not data.endswith(b"\n"):
        raise ValueError("expected rows that end in a newline")
    rows = data[:-1].split(b"\n") if data else []
    if len(rows) > MAX_ROWS:
        raise ValueError(f"expected at most {MAX_ROWS} rows, was {len(rows)}")
    return rows


def check_rows(rows: list[bytes], *, count: int, root: str) -> None:
    """Raise ``ValueError`` unless these are the salted, canonical rows an entry commits to."""
    if len(rows) != count:
        raise ValueError(f"expected {count} rows, was {len(rows)}")
    for number, fields in enumerate(decode_many(rows)):
        salt = fields.get("salt")
        if type(salt) is not str or SALT.fullmatch(salt) is None:
            raise ValueError(f"row {number}: expected a salt of 32 hex digits, was {salt!r:.60}")
    was = rows_root(rows).hex()
    if was != root:
        raise ValueError(f"expected rows with the root {root}, was {was}")
