"""The commitment to a record on the ledger, and what is kept so that it can be opened."""

from __future__ import annotations

import hashlib

import orjson


def commitment_of(salt: bytes, record: dict[str, str]) -> str:
    """Return what the entry of an account or of a decision carries: hex SHA-256(salt || JCS(record))."""
    # Only texts in it, and ASCII keys: here orjson with sorted keys writes JCS.
    return hashlib.sha256(salt + orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest()


def identity_text(record: dict[str, str], salt: bytes) -> str:
    """Return what is kept, sealed, so that the commitment on the ledger can be opened to whom it concerns."""
    return orjson.dumps({"record": record, "salt": salt.hex()}, option=orjson.OPT_SORT_KEYS).decode()


def opens(kept: str, commitment: str) -> bool:
    """Return whether what was kept (``identity_text``) gives the commitment on the ledger."""
    parts = orjson.loads(kept)
    return commitment_of(bytes.fromhex(parts["salt"]), parts["record"]) == commitment
