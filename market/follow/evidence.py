"""What a follower keeps when a log is not what it must be: enough for a third party to see it, without the follower."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ledger.files import put_file

FOLDER = "evidence"
MAX_KEPT = 100  # cases; one that comes again is kept once
MAX_BYTES = 64 * 1024 * 1024  # of one file


class Mismatch(Exception):
    """The log is not what it must be. ``place`` names where; ``files`` are the bytes at fault, by name."""

    def __init__(self, place: str, what: str, files: Mapping[str, bytes] | None = None):
        super().__init__(f"{place}: {what}" if place and not what.startswith(f"{place}:") else what)
        self.place = place
        self.files = dict(files or {})


def keep(folder: Path, mismatch: Mismatch, kept: bytes, served: bytes) -> Path:
    """Write a case down below the mirror and return its folder.

    ``kept-checkpoint`` is the head accepted last, ``served-checkpoint`` the one that was offered now, ``what.txt`` says what
    is wrong; the bytes at fault lie beside them.
    """
    files = {"kept-checkpoint": kept, "served-checkpoint": served, "what.txt": f"{mismatch}\n".encode()}
    files |= {f"offending-{name.replace('/', '_')}": data[:MAX_BYTES] for name, data in mismatch.files.items()}
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    case = folder / FOLDER / digest.hexdigest()[:16]
    if case.exists() or sum(1 for _ in case.parent.glob("*")) < MAX_KEPT:
        for name, data in files.items():
            put_file(case, name, data)
    return case
