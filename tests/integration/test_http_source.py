"""Reading a log from a server that is slow, endless, or gone: an end in time, and a word about it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ledger import files
from ledger.core.source import Missing
from ledger.core.tiles import HASH_TILE_BYTES, MAX_BUNDLE_BYTES
from ledger.files import HttpSource, SourceFailed, limit_of

pytestmark = pytest.mark.once

OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[HttpSource]:
    """Serve each connection with ``answer``, after its request was read."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65_536):
                answer(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}")


def drip(data: bytes, every_s: float = 0.02) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(every_s)

    return answer


@pytest.mark.parametrize(
    "data", [OK + b"X-Long: " + b"x" * 500, OK + b"Content-Length: 9000\r\n\r\n" + b"x" * 500, b"H" * 500],
    ids=["header", "body", "status"],
)  # fmt: skip
def test_a_server_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(files, "DEADLINE_S", 0.5)
    with server(drip(data)) as source:
        started_s = time.monotonic()
        with pytest.raises(SourceFailed, match=r"tile/0/000.*expected it within "):
            source("tile/0/000")
        assert time.monotonic() - started_s < 2  # and is not asked three times for it


def test_a_large_file_may_take_longer_as_long_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "DEADLINE_S", 0.3)
    monkeypatch.setattr(files, "MIN_BYTES_S", 1_000)
    body = b"r" * 2_000

    def answer(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: 2000\r\n\r\n")
        for at in range(0, 2_000, 200):
            time.sleep(0.1)
            connection.sendall(body[at : at + 200])

    with server(answer) as source:
        assert source("rows/1") == body
        assert source("rows/2") == body  # over the same connection, with a deadline of its own


@pytest.mark.parametrize("path", ["checkpoint", "witnessed", "tile/0/000", "tile/0/x001/067.p/3"])
def test_a_small_file_is_not_read_without_end(path: str) -> None:
    sent = 0

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(OK + b"Content-Length: 100000000\r\n\r\n")
        while True:
            sent += connection.send(b"x" * 65_536)

    with server(answer) as source:
        with pytest.raises(SourceFailed, match=f"{path}: expected at most {limit_of(path)} bytes"):
            source(path)
        time.sleep(0.1)
        assert sent < 20_000_000  # what the sockets hold, no more


def test_how_large_a_file_may_be() -> None:
    assert limit_of("tile/0/000") == limit_of("tile/3/x001/067.p/255") == HASH_TILE_BYTES == 8_192
    assert limit_of("tile/entries/000") == MAX_BUNDLE_BYTES == 256 * 65_537
    assert limit_of("rows/17") == limit_of("snapshot/ab") == files.MAX_FILE_BYTES
    assert limit_of("checkpoint") == limit_of("keys") == limit_of("anything") == 1 << 20


def test_what_a_server_answers_is_told_apart() -> None:
    answers = {
        b"checkpoint": OK + b"Content-Length: 2\r\n\r\nok",
        b"tile": b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    }
    seen: list[bytes] = []

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection:  # one request a connection, without a word that it ends
                        seen.append(connection.recv(65_536))
                        connection.sendall(
                            next(value for key, value in answers.items() if b"/ledger/" + key in seen[-1])
                        )

        threading.Thread(target=serve, daemon=True).start()
        source = HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}", "secret")
        assert source("checkpoint") == b"ok"
        with pytest.raises(Missing):
            source("tile/0/000")
        assert source("checkpoint") == b"ok"
    assert all(b"Authorization: Bearer secret\r\n" in request for request in seen)
