"""An event's ledger leaf: its entry fields and a salt, in canonical bytes.

The three types that make up nearly all of a ledger are formatted by hand; ``tests/unit/test_exchange_leaves.py`` holds
them against ``ledger.core.encoding.encode``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ledger.core.encoding import encode
from ledger.keys import SALT_BYTES
from market.engine.entries import to_leaf
from market.engine.events import Event

_BLOCK = 64  # bytes of a SHA-256 block


class Salts:
    """``ledger.keys.salt`` for one secret, in half its time: both keyed halves of the HMAC are prepared."""

    def __init__(self, secret: bytes):
        if len(secret) < SALT_BYTES:
            raise ValueError(f"expected a salt secret of at least {SALT_BYTES} bytes, was {len(secret)}")
        key = secret.ljust(_BLOCK, b"\0") if len(secret) <= _BLOCK else sha256(secret).digest().ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in key))

    def salt(self, seq: int) -> str:
        """Return the entry's salt, 32 hex digits."""
        inner = self._inner.copy()
        inner.update(seq.to_bytes(8))
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:SALT_BYTES].hex()


class Leaves:
    """Makes leaves."""

    def __init__(self, secret: bytes):
        self._salt = Salts(secret).salt

    def leaf(self, event: Event, extra: dict[str, Any] | None = None) -> bytes:
        """Return the event's canonical leaf; ``extra`` holds fields the journal adds (a seal's)."""
        fields = to_leaf(event)
        fields["salt"] = self._salt(fields["seq"])  # type: ignore[arg-type]
        if extra:
            fields.update(extra)
        return encode(fields)
