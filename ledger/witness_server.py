"""A witness of logs (https://c2sp.org/tlog-witness): keeps one head a log and cosigns what goes on from it.

What was seen is in a SQLite file of its own. Looking at the last head, deciding, and keeping the new one are one
transaction that locks the file before it reads, and it is on the disk before the answer leaves: two requests, or two
processes on one folder, never cosign two heads that are not one history.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ledger.core.cosign import Cosigner
from ledger.core.note import VerifierKey, signature_line
from ledger.core.witness import (
    MAX_REQUEST_BYTES,
    NOTHING,
    SIZE_TYPE,
    AddRequest,
    Refused,
    Seen,
    check_growth,
    check_signature,
    parse_request,
)
from ledger.secretfiles import load_or_make

log = logging.getLogger(__name__)

KEY_FILE = "witness_key"
STATE_FILE = "witness.sqlite3"
BODY_S = 10.0  # within which a request's body must be here: places are few
BUSY_MS = 20_000  # to wait for another process that keeps a head
PLAIN = "text/plain; charset=utf-8"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    origin TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, root BLOB NOT NULL, at_s INTEGER NOT NULL,
    note TEXT NOT NULL
) WITHOUT ROWID
"""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def origin_hash(origin: str) -> str:
    """Return the name under which a log's newest head is served: hex of the SHA-256 of its origin."""
    return hashlib.sha256(origin.encode()).hexdigest()


class StateLost(Exception):
    """The witness has a key and no record of what it has cosigned with it: any head would be the first it sees."""


class Witness:
    """The witness of one folder: its key and the newest head of each log it knows.

    Raises ``StateLost`` when there is a key without a state; ``begin`` starts a new state for it, knowing nothing.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        logs: Sequence[VerifierKey],
        clock: Callable[[], float] = time.time,
        *,
        begin: bool = False,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / STATE_FILE
        self._clock = clock
        self._logs: dict[str, list[VerifierKey]] = {}
        for key in logs:
            self._logs.setdefault(key.name, []).append(key)
        # The key comes after the state, so a key without a state has lost one, also if the first start was cut short.
        if (folder / KEY_FILE).exists() and not begin and not self._has_state():
            raise StateLost(f"{self._state}: there is a key, and no record of what it has cosigned")
        with self._open() as connection:
            connection.execute(_SCHEMA)
        connection.close()
        self._cosigner = Cosigner(name, load_or_make(folder / KEY_FILE))

    def _has_state(self) -> bool:
        if not self._state.exists():
            return False
        connection = self._open()
        try:
            return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'head'").fetchone() is not None
        finally:
            connection.close()

    @property
    def vkey(self) -> str:
        """The witness' verifier key, for policies."""
        return str(self._cosigner.key)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._state, timeout=BUSY_MS / 1000, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def add(self, body: bytes) -> str:
        """Cosign a head: return the signature line, after the head is kept for good. Raise ``Refused``."""
        request = parse_request(body)
        check_signature(request, self._logs)
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            line = self._decide(connection, request)
            connection.execute("COMMIT")
        finally:
            connection.close()  # what was not committed is gone
        return line

    def _decide(self, connection: sqlite3.Connection, request: AddRequest) -> str:
        head = request.head
        row = connection.execute("SELECT size, root, at_s FROM head WHERE origin = ?", [head.origin]).fetchone()
        try:
            check_growth(request, NOTHING if row is None else Seen(row[0], row[1]))
        except Refused as refused:
            if refused.fork:
                log.critical(
                    "THE LOG %s DOES NOT GO ON FROM WHAT THIS WITNESS HAS COSIGNED: %s; it was not cosigned:\n%s",
                    head.origin, refused, request.note.text,
                )  # fmt: skip
            raise
        at_s = max(int(self._clock()), 0 if row is None else row[2])  # a clock that was set back dates nothing back
        line = self._cosigner.cosign(request.note.text, at_s)
        signatures = "".join(self._own_lines(request))
        connection.execute(
            "REPLACE INTO head (origin, hash, size, root, at_s, note) VALUES (?, ?, ?, ?, ?, ?)",
            [head.origin, origin_hash(head.origin), head.size, head.root, at_s,
             f"{request.note.text}\n{signatures}{line}"],
        )  # fmt: skip
        return line

    def _own_lines(self, request: AddRequest) -> list[str]:
        """Return the lines by keys of the log: those were checked, what else came along was not."""
        known = {(key.name, key.key_id) for key in self._logs[request.head.origin]}
        return [signature_line(*line) for line in request.note.signatures if (line.name, line.key_id) in known]

    def newest(self, hash_: str) -> str | None:
        """Return the newest cosigned checkpoint of the log whose origin has this hash, None when there is none."""
        connection = self._open()
        try:
            row = connection.execute("SELECT note FROM head WHERE hash = ?", [hash_]).fetchone()
        finally:
            connection.close()
        return None if row is None else str(row[0])


class WitnessApp:
    """The witness over HTTP, as an ASGI application."""

    def __init__(self, witness: Witness):
        self._witness = witness

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"expected an HTTP request, was {scope['type']}")
        try:
            status, kind, body = await self._answer(scope, receive)
        except Refused as refused:
            status, kind, body = refused.status, PLAIN, f"{refused}\n"
            if refused.size is not None:
                kind, body = SIZE_TYPE, f"{refused.size}\n"
        except sqlite3.Error:
            log.exception("the witness cannot keep what it sees; nothing was cosigned")
            status, kind, body = 503, PLAIN, "the witness cannot keep what it sees\n"
        data = body.encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(data))]
        if status == 408:
            headers.append((b"connection", b"close"))
        if status == 405:
            headers.append((b"allow", b"POST" if scope["path"].endswith("/add-checkpoint") else b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, str, str]:
        path, method = scope["path"], scope["method"]
        if path == "/add-checkpoint":
            if method != "POST":
                raise Refused(405, "expected POST")
            try:
                async with asyncio.timeout(BODY_S):
                    body = await _body(receive)
            except TimeoutError:
                raise Refused(408, f"expected the whole request within {BODY_S:g} s") from None
            return 200, PLAIN, await asyncio.to_thread(self._witness.add, body)
        hash_, slash, rest = path.removeprefix("/").partition("/")
        if slash and rest == "checkpoint":
            if method not in ("GET", "HEAD"):
                raise Refused(405, "expected GET")
            note = await asyncio.to_thread(self._witness.newest, hash_)
            if note is not None:
                return 200, PLAIN, note
        raise Refused(404, "there is nothing at this address")


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request broke off")
        body += message.get("body", b"")
        if len(body) > MAX_REQUEST_BYTES:
            raise Refused(413, f"expected at most {MAX_REQUEST_BYTES} bytes")
        if not message.get("more_body", False):
            return body
