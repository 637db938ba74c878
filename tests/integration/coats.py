"""The coats in which a text may lie about: encoded, packed, or in pages that a database has given back."""

from __future__ import annotations

import base64
import time
import zlib
from urllib.parse import quote, quote_plus

from django.db import connection

MAX_UNPACKED = 1 << 24


def traces(text: str) -> list[bytes]:
    """Return what a text looks like in plain, in hex and in base64, wherever in a stream it begins."""
    raw = text.encode()
    found = [raw, raw.lower(), raw.hex().encode(), raw.hex().upper().encode(), text.encode("utf-16-le")]
    found += [quote(text).encode(), quote_plus(text).encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        start, end = (4 if shift else 0), len(encoded) - 4
        found += [encoded[start:end], encoded[start:end].replace(b"+", b"-").replace(b"/", b"_")]
    return found


def unpacked(data: bytes) -> bytes:
    """Return what is packed in some bytes, as a signed session or a file may be; b"" where nothing is."""
    payload = data.strip(b'"').lstrip(b".").split(b":")[0]
    for packed in (lambda: data, lambda: base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))):
        try:
            return zlib.decompressobj(wbits=47).decompress(packed(), MAX_UNPACKED)
        except (zlib.error, ValueError):
            continue
    return b""


def let_readers_end() -> None:
    """Empty SQLite's log; while a thread still reads, the log waits, as it does in the product, for the next commit."""
    if connection.vendor == "sqlite":
        for _attempt in range(100):
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if cursor.fetchone()[0] == 0:
                    return
            time.sleep(0.1)
