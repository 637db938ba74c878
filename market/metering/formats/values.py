"""The one form that every format of readings is turned into, and what is wrong where that fails. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

MAX_VALUES = 10_000  # of a batch
MAX_FILE_VALUES = 40_000  # of an uploaded file: a year of quarter hours
MAX_FILE_BYTES = 12 * 1024 * 1024  # a year of quarter hours in XML has about 8 MB
MAX_WH = 2**53 - 1
MAX_DURATION_MS = 86_400_000
MAX_REVISION = 32_767
MEASURED = "measured"
ESTIMATED = "estimated"
QUALITIES = (MEASURED, ESTIMATED)
HEADS_OF_16 = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")  # how texts in UTF-16 begin


class Value(NamedTuple):
    """One value of one device.

    Of an interval: the energies (Wh) that went through from ``start_ms`` for ``duration_ms``. Of a ``register``: what the
    device's counters (Wh) showed at ``start_ms``, ``duration_ms`` 0. ``device`` is an id, "" for the one that sends.
    ``revision`` counts corrections of the same value by its sender, 0 where it does not say.
    """

    device: str
    start_ms: int
    duration_ms: int
    import_wh: int
    export_wh: int
    register: bool
    quality: str
    revision: int
    received_ms: int


class FormatError(Exception):
    """A batch or file cannot be read. ``code`` is stable; ``field`` names the input; ``line`` counts from 1, 0 = unknown."""

    def __init__(self, code: str, field: str = "", line: int = 0):
        super().__init__(f"line {line}: {code} ({field})" if line else f"{code} ({field})")
        self.code = code
        self.field = field
        self.line = line


def instant_ms(text: str) -> int:
    """Return the time of an RFC 3339 text with its offset, in ms since epoch. Raise ``ValueError``."""
    if not text.isascii() or len(text) > 40:
        raise ValueError(text[:40])
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("expected a time with its offset from UTC")
    seconds = at.timestamp()
    return int(seconds) * 1_000 + at.microsecond // 1_000


def text_of(data: bytes) -> str:
    """Return a file's text, which is UTF-8. Raise ``FormatError`` (encoding, too_large)."""
    if len(data) > MAX_FILE_BYTES:
        raise FormatError("too_large")
    if data.startswith(HEADS_OF_16) or b"\0" in data[:4_096]:
        raise FormatError("encoding")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError("encoding", line=data.count(b"\n", 0, error.start) + 1) from None
