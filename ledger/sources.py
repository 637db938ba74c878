"""Where a log can be read from: a web address, a folder, this installation's database. All give the same paths."""

from __future__ import annotations

from collections.abc import Iterator

from ledger import queries
from ledger.core.quorum import WITNESSED
from ledger.core.source import Missing, Source
from ledger.core.tiles import parse_path
from ledger.core.verify import Head
from ledger.files import FolderSource, HttpSource, SourceFailed, open_files

__all__ = ("DatabaseSource", "FolderSource", "HttpSource", "SourceFailed", "open_source")


class DatabaseSource:
    """Reads this installation's database as it is at the newest checkpoint, whatever is appended meanwhile."""

    def __init__(self) -> None:
        newest = queries.newest()
        self._size, self._note = (0, "") if newest is None else (newest.size, queries.cosigned(newest))

    def heads(self, size: int | None = None) -> Iterator[Head]:
        """Return the checkpoints that are stored beside the log, up to a size (the newest one's)."""
        return stored_heads(self._size if size is None else size)

    def __call__(self, path: str) -> bytes:
        """Return the file at a path; raise ``Missing``."""
        what, _, name = path.partition("/")
        try:
            if what == "tile":
                return queries.tile(parse_path(path), self._size)
            if what == "rows":
                return queries.rows_file(int(name), self._size)
            if what == "snapshot":
                return queries.snapshot(name)
            if what == "rulebook":
                return queries.rulebook(name).encode()
            if path == WITNESSED:
                return queries.witnessed_checkpoint().encode()
        except (queries.NotThere, queries.LogDamaged, ValueError) as error:
            raise Missing(path, str(error)) from error
        if path != "checkpoint" or not self._note:
            raise Missing(path)
        return self._note.encode()


def stored_heads(size: int) -> Iterator[Head]:
    """Yield the database's checkpoints up to a size, by size, a page at a time."""
    last = -1
    while page := queries.heads(last, size):
        yield from page
        last = page[-1].size


def open_source(where: str, key: str = "") -> Source:
    """Return the source for a web address, a folder, or ("") the database; raise ``SourceFailed``."""
    return open_files(where, key) if where else DatabaseSource()
