"""An event's ledger leaf: its entry fields and a salt, in canonical bytes.

The three types that make up nearly all of a ledger are formatted by hand; ``tests/unit/test_exchange_leaves.py`` holds
them against ``ledger.core.encoding.encode``.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from ledger.core.encoding import encode
from ledger.keys import SALT_BYTES
from market.engine.entries import time_text, to_leaf
from market.engine.events import Event, OrderCancelled, OrderPlaced, Traded

PLAIN = re.compile(r"[A-Za-z0-9._:/ -]+", re.ASCII)
MAX_PLAIN = 10_000  # texts remembered
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
        inner.update(b"%d" % seq)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:SALT_BYTES].hex()


class Leaves:
    """Makes leaves."""

    def __init__(self, secret: bytes):
        self._salt = Salts(secret).salt
        self._plain: set[str] = set()  # texts that stand in JSON as they are
        self._at_ms = -1
        self._at = ""

    def leaf(self, event: Event, extra: dict[str, Any] | None = None) -> bytes:
        """Return the event's canonical leaf; ``extra`` holds fields the journal adds (a seal's)."""
        fields = to_leaf(event)
        fields["salt"] = self._salt(event.seq)
        if extra:
            fields.update(extra)
        return encode(fields)

    def _time(self, at_ms: int) -> str:
        if at_ms != self._at_ms:  # a batch has one instant
            self._at_ms, self._at = at_ms, time_text(at_ms)
        return self._at

    def _is_plain(self, text: str) -> bool:
        """Return whether a text needs no escape; the few there are (areas, reasons) are remembered."""
        if text in self._plain:
            return True
        plain = PLAIN.fullmatch(text) is not None
        if plain and len(self._plain) < MAX_PLAIN:
            self._plain.add(text)
        return plain

    def order(self, event: OrderPlaced) -> bytes:
        """Return ``leaf(event)``."""
        seq, at_ms, account, area, contract, side, price_e4, energy_wh, time_in_force, expires_at_ms = event
        if expires_at_ms or not self._is_plain(area):
            return self.leaf(event)
        at = self._at if at_ms == self._at_ms else self._time(at_ms)
        return (
            f'{{"account":{account},"area":"{area}","at":"{at}","contract":"{contract}","energy_wh":{energy_wh},'
            f'"price_e4":{price_e4},"salt":"{self._salt(seq)}","seq":{seq},"side":"{side}",'
            f'"time_in_force":"{time_in_force}","type":"order","v":1}}'
        ).encode()

    def trade(self, event: Traded) -> bytes:
        """Return ``leaf(event)``."""
        seq, at_ms, contract, maker, taker, energy_wh, buy_e4, sell_e4 = event[:8]
        at = self._at if at_ms == self._at_ms else self._time(at_ms)
        return (
            f'{{"at":"{at}","buy_e4":{buy_e4},"contract":"{contract}","energy_wh":{energy_wh},"maker":{maker},'
            f'"salt":"{self._salt(seq)}","sell_e4":{sell_e4},"seq":{seq},"taker":{taker},"type":"trade","v":1}}'
        ).encode()

    def cancel(self, event: OrderCancelled) -> bytes:
        """Return ``leaf(event)``."""
        seq, at_ms, order, _, _, remaining_wh, reason = event
        if not self._is_plain(reason):
            return self.leaf(event)
        at = self._at if at_ms == self._at_ms else self._time(at_ms)
        return (
            f'{{"at":"{at}","order":{order},"reason":"{reason}","remaining_wh":{remaining_wh},'
            f'"salt":"{self._salt(seq)}","seq":{seq},"type":"cancel","v":1}}'
        ).encode()
