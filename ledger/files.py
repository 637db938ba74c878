"""Where a log can be read from without a database: a web address or a folder. Both give the same paths."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from urllib.parse import urlsplit

from ledger.core.policy import Policy, PolicyError, parse_policy
from ledger.core.source import Missing, Source

TIMEOUT_S = 30
ATTEMPTS = 3  # of one request: a kept connection may have been closed by the server in between
MAX_FILE_BYTES = 512 * 1024 * 1024  # the rows of one entry are the largest files; a bundle has at most 16 MiB
MOUNT = "/ledger"  # where a market serves its log, when only its address is given


class SourceFailed(Exception):
    """The log cannot be read at all: no connection, no permission, no such folder."""


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
