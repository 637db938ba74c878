"""Where a log can be read from: a web address, a folder, this installation's database. All give the same paths."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ledger import queries
from ledger.core.source import Missing, Source
from ledger.core.tiles import parse_path
from ledger.core.verify import Head

TIMEOUT_S = 30
ATTEMPTS = 3  # of one request: a kept connection may have been closed by the server in between
MAX_FILE_BYTES = 512 * 1024 * 1024  # the rows of one entry are the largest files; a bundle has at most 16 MiB
MOUNT = "/ledger"  # where a market serves its log, when only its address is given


class SourceFailed(Exception):
    """The log cannot be read at all: no connection, no permission, no such folder."""


class HttpSource:
    """Reads from a server, over one connection that is kept. ``key`` is an API key with the scope ``ledger:read``."""

    def __init__(self, url: str, key: str = ""):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SourceFailed(f"expected a web address, was {url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._prefix = parts.path.rstrip("/") or MOUNT
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url

    def __call__(self, path: str) -> bytes:
        """Return the file at a path; raise ``Missing`` or ``SourceFailed``."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, data = self._get(path)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if attempt == ATTEMPTS:
                    raise SourceFailed(f"{self._url}: {type(error).__name__}: {error}") from error
            else:
                break
        if status == 200:
            if len(data) > MAX_FILE_BYTES:
                raise SourceFailed(f"{path}: expected at most {MAX_FILE_BYTES} bytes")
            return data
        if status in (401, 403):
            raise SourceFailed(
                f"{path}: {status}: entries need an API key with the scope ledger:read (--key or LEDGER_KEY)"
            )
        if status == 404:
            raise Missing(path, "404")
        raise SourceFailed(f"{self._url}: {path}: expected an answer of status 200, was {status}")

    def _get(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", f"{self._prefix}/{path}", headers=self._headers)
        response = self._connection.getresponse()
        return response.status, response.read(MAX_FILE_BYTES + 1)


class FolderSource:
    """Reads the files that ``export_ledger`` wrote, or a mirror of another log."""

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise SourceFailed(f"{folder}: expected a folder")

    def __call__(self, path: str) -> bytes:
        """Return the file at a path; raise ``Missing`` or ``SourceFailed``."""
        if ".." in path.split("/"):
            raise Missing(path)
        try:
            return (self._folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Missing(path) from None
        except OSError as error:
            raise SourceFailed(f"{path}: {error}") from error


class DatabaseSource:
    """Reads this installation's database as it is at the newest checkpoint, whatever is appended meanwhile."""

    def __init__(self) -> None:
        newest = queries.newest()
        self._size, self._note = (0, "") if newest is None else (newest.size, queries.cosigned(newest))

    def heads(self) -> Iterator[Head]:
        """Return the checkpoints that are stored beside the log."""
        return stored_heads(self._size)

    def __call__(self, path: str) -> bytes:
        """Return the file at a path; raise ``Missing``."""
        what, _, name = path.partition("/")
        try:
            if what == "tile":
                return queries.tile(parse_path(path), self._size)
            if what == "rows":
                return queries.rows_file(int(name))
            if what == "rulebook":
                return queries.rulebook(name).encode()
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
    if not where:
        return DatabaseSource()
    if "://" in where:
        return HttpSource(where, key)
    return FolderSource(where)
