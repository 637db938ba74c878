"""The log as plain files that outlive this software: the paths of the web, below one folder."""

from __future__ import annotations

import secrets
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ledger import queries
from ledger.core.note import parse_checkpoint, parse_note
from ledger.core.rows import join_rows
from ledger.core.tiles import TILE_WIDTH, Place, entries_path, levels, tile_path, widths
from ledger.files import put_file
from ledger.models import Evidence, Row, Rulebook

VKEY_FILE = "log.vkey"
READ_ROWS = 5_000  # rows of one read
READ_EVIDENCE = 20  # signed batches of one read; one has up to 2 MB


class Export(NamedTuple):
    """What was written: entries covered, files."""

    size: int
    files: int


class _Folder:
    def __init__(self, folder: Path):
        self.folder = folder
        self.files = 0

    def write(self, path: str, data: bytes) -> None:
        """Put a file in its place, whole or not at all."""
        put_file(self.folder, path, data, secrets.token_hex(4))
        self.files += 1


def export(folder: Path, *, witnessed: bool = False) -> Export:
    """Write what the newest checkpoint covers into the folder; raise ``queries.NotThere`` before the first seal.

    ``witnessed``: what the newest one with a quorum of witnesses covers; ``queries.NotThere`` before the first such. Files that
    are there already are written anew. The checkpoint comes last, so that it never promises what is missing.
    """
    note = queries.witnessed_checkpoint() if witnessed else queries.checkpoint()
    size = parse_checkpoint(parse_note(note.encode()).text).size
    out = _Folder(folder)
    for level in range(levels(size)):
        full, partial = widths(size, level)
        for number in range(full + (partial > 0)):
            width = TILE_WIDTH if number < full else partial
            out.write(tile_path(level, number, width), queries.tile(Place(level, number, width), size))
            if level == 0:
                out.write(entries_path(number, width), queries.tile(Place(-1, number, width), size))
    stored = Row.objects.filter(seq__lt=size).order_by("seq", "number").values_list("seq", "data")
    for seq, group in groupby(stored.iterator(chunk_size=READ_ROWS), key=lambda row: row[0]):
        out.write(f"rows/{seq}", join_rows([bytes(data) for _, data in group]))
    for sha256, data in Evidence.objects.values_list("sha256", "data").iterator(chunk_size=READ_EVIDENCE):
        out.write(f"evidence/{sha256}", bytes(data))
    for sha256, text in Rulebook.objects.values_list("sha256", "text"):
        out.write(f"rulebook/{sha256}", text.encode())
    for sha256 in queries.snapshots():
        out.write(f"snapshot/{sha256}", queries.snapshot(sha256))
    key = queries.key_of(note)
    if key:
        out.write(VKEY_FILE, f"{key}\n".encode())
    out.write("checkpoint", note.encode())
    return Export(size, out.files)
