"""Where a log can be read from without a database: a web address or a folder. Both give the same paths."""

from __future__ import annotations

import http.client
import io
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ledger.core.note import MAX_NOTE_BYTES
from ledger.core.policy import Policy, PolicyError, parse_policy
from ledger.core.source import Missing, Source
from ledger.core.tiles import HASH_TILE_BYTES, MAX_BUNDLE_BYTES

TIMEOUT_S = 30.0  # of one step on the socket
DEADLINE_S = 60.0  # of a file with all attempts, however slowly it drips; and a second more for each
MIN_BYTES_S = 16_384  # bytes that have come
ATTEMPTS = 3  # of one request: a kept connection may have been closed by the server in between
MAX_FILE_BYTES = 512 * 1024 * 1024  # the rows of one entry and the market's state are the largest files
MOUNT = "/ledger"  # where a market serves its log, when only its address is given


class SourceFailed(Exception):
    """The log cannot be read at all: no connection, no permission, no such folder."""


def limit_of(path: str) -> int:
    """Return how many bytes the file at a path may have."""
    if path.startswith("tile/") and not path.startswith("tile/entries/"):
        return HASH_TILE_BYTES
    if path.startswith("tile/entries/"):
        return MAX_BUNDLE_BYTES
    return MAX_FILE_BYTES if path.startswith(("rows/", "snapshot/")) else MAX_NOTE_BYTES


class _Timely(io.RawIOBase):
    """What comes from a socket until a deadline, which what has come puts off: every wait ends with it, in the headers, too."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, until_s: float):
        self._raw, self._sock, self._until_s = raw, sock, until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it drips")
        self._sock.settimeout(min(TIMEOUT_S, left_s))
        got: int | None = self._raw.readinto(buffer)
        self._until_s += (got or 0) / MIN_BYTES_S
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, until_s: float, sock: socket.socket, *arguments: Any, **options: Any):
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Timely(self.fp.detach(), sock, until_s))


class HttpSource:
    """Reads from a server, over one connection that is kept. ``key`` is an API key with the scope ``ledger:read``."""

    def __init__(self, url: str, key: str = ""):
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SourceFailed(f"expected a web address, was {url}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SourceFailed(f"expected a web address, was {url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=TIMEOUT_S)
        self._prefix = parts.path.rstrip("/") or MOUNT
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url

    def __call__(self, path: str) -> bytes:
        """Return the file at a path; raise ``Missing`` or ``SourceFailed``."""
        until_s = time.monotonic() + DEADLINE_S
        limit = limit_of(path)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, data = self._get(path, limit, until_s)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if time.monotonic() > until_s:
                    what = f"expected it within {DEADLINE_S:g} s and a second for each {MIN_BYTES_S} bytes"
                    raise SourceFailed(f"{self._url}: {path}: {what}: {type(error).__name__}: {error}") from error
                if attempt == ATTEMPTS:
                    raise SourceFailed(f"{self._url}: {type(error).__name__}: {error}") from error
            else:
                break
        if status == 200:
            if len(data) > limit:
                self._connection.close()
                raise SourceFailed(f"{path}: expected at most {limit} bytes")
            return data
        if status in (401, 403):
            raise SourceFailed(
                f"{path}: {status}: entries need an API key with the scope ledger:read (--key or LEDGER_KEY)"
            )
        if status == 404:
            raise Missing(path, "404")
        raise SourceFailed(f"{self._url}: {path}: expected an answer of status 200, was {status}")

    def _get(self, path: str, limit: int, until_s: float) -> tuple[int, bytes]:
        self._connection.response_class = partial(_Answer, until_s)  # type: ignore[assignment]
        if self._connection.sock is not None:
            self._connection.sock.settimeout(TIMEOUT_S)  # the answer before may have left less
        self._connection.request("GET", f"{self._prefix}/{path}", headers=self._headers)
        response = self._connection.getresponse()
        return response.status, response.read(limit + 1)


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


def open_files(where: str, key: str = "") -> Source:
    """Return the source for a web address or a folder; raise ``SourceFailed``."""
    return HttpSource(where, key) if "://" in where else FolderSource(where)


def read_policy(where: str | Path) -> Policy:
    """Return the policy a file holds; raise ``PolicyError`` naming the file."""
    try:
        return parse_policy(Path(where).read_bytes())
    except (OSError, PolicyError) as error:
        raise PolicyError(f"{where}: {error}") from error


def put_file(folder: Path, path: str, data: bytes, draft: str = "new") -> None:
    """Put a file in its place below a folder, whole or not at all, and durable before it is seen there.

    ``draft`` names the file it is written to first, so that several writers don't share one.
    """
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = target.with_name(f".{target.name}.{draft}")
    with begun.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(target)
