"""A lean HTTP client for load: keep-alive connections on raw transports, requests made beforehand, latencies kept."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator

END = b"\r\n\r\n"
LENGTH = b"content-length: "


def request(key: str, path: str, body: bytes, *, host: str) -> bytes:
    """Return the bytes of a POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, load: Load):
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.started = 0.0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.load.idle.append(self)

    def send(self, data: bytes, due: float) -> None:
        """Send a request that was due at ``due`` (seconds of ``perf_counter``)."""
        assert self.transport is not None
        self.started = due
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        end = data.find(END)
        if end >= 0:
            place = data.find(LENGTH, 0, end)
            size = int(data[place + len(LENGTH) : data.find(b"\r", place)])
            if len(data) >= end + 4 + size:
                self.buffer = b""
                self.load.answered(self, data, end + 4)
                return
        self.buffer = data

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost(error)


class Load:
    """Requests over some connections: as fast as they are answered, or at a fixed rate."""

    def __init__(self, requests: Iterable[bytes], good: bytes):
        self.requests: Iterator[bytes] = itertools.cycle(requests)
        self.good = good  # what an answer must begin with
        self.idle: deque[Connection] = deque()
        self.latencies: list[float] = []
        self.wrong: list[bytes] = []
        self.ended: Exception | None = None
        self.closed_loop = False
        self.waiting: deque[float] = deque()
        self.bodies: list[bytes] | None = None

    def answered(self, connection: Connection, data: bytes, body: int) -> None:
        """Take an answer and send what comes next."""
        now = time.perf_counter()
        self.latencies.append(now - connection.started)
        if not data.startswith(self.good):
            self.wrong.append(data[:400])
        if self.bodies is not None:
            self.bodies.append(data[body:])
        if self.closed_loop:
            connection.send(next(self.requests), now)
        elif self.waiting:
            connection.send(next(self.requests), self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, error: Exception | None) -> None:
        """Note a lost connection."""
        self.ended = self.ended or error or ConnectionError("the server closed a connection")

    async def connect(self, port: int, connections: int) -> None:
        """Open the connections."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)

    async def flood(self, seconds: float, warm_up_s: float) -> float:
        """Keep every connection busy; return answers a second after the warm-up."""
        self.closed_loop = True
        now = time.perf_counter()
        if not self.idle:
            raise RuntimeError("no connection was made")
        while self.idle:
            self.idle.popleft().send(next(self.requests), now)
        await asyncio.sleep(warm_up_s)
        self.latencies.clear()
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        count, took = len(self.latencies), time.perf_counter() - begun
        self.closed_loop = False
        await asyncio.sleep(0.5)
        self.check()
        return count / took

    async def drip(self, rate: float, seconds: float, warm_up_s: float) -> None:
        """Send at a fixed rate, whatever the answers do: a latency counts from when its request was due."""
        loop_begun = time.perf_counter()
        total = int(rate * (seconds + warm_up_s))
        for number in range(total):
            due = loop_begun + number / rate
            pause = due - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            if number == int(rate * warm_up_s):
                self.latencies.clear()
            if self.idle:
                self.idle.popleft().send(next(self.requests), due)
            else:
                self.waiting.append(due)
        await asyncio.sleep(1.0)
        self.check()

    def check(self) -> None:
        """Raise unless every request got the answer it should."""
        if self.ended is not None:
            raise RuntimeError(f"a connection was lost: {self.ended}")
        if self.wrong:
            raise RuntimeError(f"{len(self.wrong)} unexpected answers, the first: {self.wrong[0]!r}")
