"""What it costs to tell thousands of sockets the same thing, against the bare ``websockets`` broadcast in the same run.

The servers are processes of their own (``fanout_server``); this process is all the clients. They count: every socket
must get every message, in an unbroken chain, byte for byte what the others got. ``BENCH_SOCKETS`` and ``BENCH_SECONDS``
change the size.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Final

import orjson

from tests.load.bench import Figure
from tests.load.fanout_server import INTERVAL_S, raise_file_limit

SOCKETS: Final = int(os.environ.get("BENCH_SOCKETS", "5000"))
SECONDS: Final = int(os.environ.get("BENCH_SECONDS", "10"))
MAX_RATIO: Final = 1.4
RECONNECT_LIMIT_S: Final = 15.0
OPENING: Final = 200  # handshakes under way at once
PATIENCE_S: Final = 120.0
QUIET_S: Final = 20.0  # on a busy machine a round of messages may take seconds
ROOT: Final = Path(__file__).resolve().parents[2]
CHANNEL: Final = "book:LV1.101:2026-06-06T12:15Z"


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame; a mask of zeros is a mask."""
    assert len(payload) < 126
    return struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + bytes(4) + payload


SUBSCRIBE: Final = masked(1, orjson.dumps({"type": "subscribe", "channel": CHANNEL}))


class Client:
    """One socket that counts."""

    __slots__ = ("count", "digest", "handshaken", "last", "pings", "rest", "sock", "started", "wrong")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""
        self.handshaken = False
        self.started = False  # has had its snapshot
        self.count = 0
        self.digest = 0
        self.last = b""
        self.pings = 0
        self.wrong = ""

    def receive(self, data: bytes) -> None:
        """Take what came off the socket."""
        if self.rest:
            data = self.rest + data
        at = 0
        if not self.handshaken:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.rest = data
                return
            if not data.startswith(b"HTTP/1.1 101") or b"market.v1" not in data[:end]:
                raise RuntimeError(f"the handshake failed: {data[:200]!r}")
            self.handshaken = True
            self.sock.sendall(SUBSCRIBE)
            at = end + 4
        size = len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                if size - start < 2:
                    break
                length, start = data[start] << 8 | data[start + 1], start + 2
            end = start + length
            if end > size:
                break
            self._message(data[at] & 15, data[start:end])
            at = end
        self.rest = data[at:]

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self.sock.sendall(masked(10, payload))
        elif opcode == 8:
            self.wrong = f"closed: {payload!r}"
        elif payload.startswith(b'{"type":"delta"'):
            self.count += 1
            self.digest = zlib.crc32(payload, self.digest)
            self.last = payload
        elif payload.startswith(b'{"type":"ping"'):
            self.pings += 1
            self.sock.sendall(masked(1, b'{"type":"pong","n":%d}' % self.pings))
        elif payload.startswith(b'{"type":"snapshot"'):
            self.started = True
        elif not payload.startswith(b'{"type":"welcome"'):
            self.wrong = payload[:200].decode()


class Crowd:
    """All the sockets, and the one loop that reads them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: dict[int, Client] = {}
        self.poll = select.epoll()
        self.request = (
            f"GET /ws/v1/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: market.v1\r\n\r\n"
        ).encode()

    def connect(self, total: int) -> float:
        """Open sockets and subscribe until ``total`` have had their snapshot; return the seconds it took."""
        started = time.monotonic()
        waiting: set[Client] = set()
        opened = 0
        while opened < total or waiting:
            while opened < total and len(waiting) < OPENING:
                sock = socket.create_connection(("127.0.0.1", self.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(self.request)
                sock.setblocking(False)
                client = self.clients[sock.fileno()] = Client(sock)
                self.poll.register(sock.fileno(), select.EPOLLIN)
                waiting.add(client)
                opened += 1
            self._turn()
            waiting = {client for client in waiting if not client.started}
            if time.monotonic() - started > PATIENCE_S:
                raise RuntimeError(f"{len(waiting)} sockets got no snapshot within {PATIENCE_S:.0f} s")
        return time.monotonic() - started

    def read_until(self, count: int) -> None:
        """Read until every socket has had ``count`` messages, or nothing has come for ``QUIET_S``."""
        heard = time.monotonic()
        while time.monotonic() - heard < QUIET_S:
            if self._turn(0.5):
                heard = time.monotonic()
            elif min(client.count for client in self.clients.values()) >= count:
                return

    def close(self) -> None:
        """Close all sockets."""
        for fd, client in self.clients.items():
            self.poll.unregister(fd)
            client.sock.close()
        self.clients.clear()

    def _turn(self, timeout_s: float = 0.05) -> int:
        ready = self.poll.poll(timeout_s)
        for fd, _ in ready:
            client = self.clients[fd]
            try:
                data = client.sock.recv(65_536)
            except BlockingIOError:
                continue
            if not data:
                raise RuntimeError(f"a socket was closed: {client.wrong or 'without a word'}")
            client.receive(data)
        return len(ready)

    def check(self, count: int) -> None:
        """Raise unless every socket got every message and all got the same."""
        counts = {client.count for client in self.clients.values()}
        if counts != {count}:
            raise RuntimeError(f"messages were lost or doubled: expected {count} on every socket, was {sorted(counts)}")
        if len({client.digest for client in self.clients.values()}) != 1:
            raise RuntimeError("sockets got different messages")
        wrong = {client.wrong for client in self.clients.values()} - {""}
        if wrong:
            raise RuntimeError(f"unexpected messages: {wrong}")


class Server:
    """A server process, told what to do through its pipes."""

    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.fanout_server", kind],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.port = int(self.stdout.readline())

    def begin(self, messages: int) -> None:
        """Start a run."""
        self.stdin.write(f"{messages}\n")
        self.stdin.flush()

    def finish(self) -> float:
        """Wait for the run's end and return its CPU seconds."""
        return float(self.stdout.readline())

    def stop(self) -> None:
        """End the process."""
        self.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stdout.close()

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process so far."""
        fields = re.sub(r".*\) ", "", Path(f"/proc/{self.process.pid}/stat").read_text()).split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind: str, messages: int) -> dict[str, float]:
    """Run one server: connect, send, check, reconnect. Return microseconds a message and seconds of connecting."""
    server = Server(kind)
    crowd = Crowd(server.port)
    try:
        crowd.connect(SOCKETS)
        started = time.monotonic()
        server.begin(messages)
        crowd.read_until(messages)
        took = time.monotonic() - started
        spent = server.finish()
        crowd.check(messages)
        crowd.close()
        before = server.cpu_s()
        reconnect = crowd.connect(SOCKETS)
        connect_cpu = server.cpu_s() - before
    finally:
        crowd.close()
        server.stop()
    return {
        "us": spent / (messages * SOCKETS) * 1e6,
        "rate": messages / took,
        "reconnect_s": reconnect,
        "connect_ms": connect_cpu / SOCKETS * 1e3,
    }


def fanout() -> Figure:
    """CPU a message on one process, ours over the bare library's."""
    raise_file_limit()
    messages = int(SECONDS / INTERVAL_S)
    bare = measure("bare", messages)
    hub = measure("hub", messages)
    ratio = hub["us"] / bare["us"]
    note = (
        f"{SOCKETS:,} sockets x {hub['rate']:.1f} messages/s, none lost: {hub['us']:.1f} us against {bare['us']:.1f}; "
        f"reconnect {hub['reconnect_s']:.1f} s, {hub['connect_ms']:.2f} ms CPU each (bare {bare['connect_ms']:.2f})"
    )
    if ratio > MAX_RATIO or hub["reconnect_s"] > RECONNECT_LIMIT_S:
        note = "BELOW TARGET; " + note
    return Figure(value=ratio, unit="x bare websockets", reference=MAX_RATIO, ratio=ratio / MAX_RATIO, note=note)


BENCHES = {"fanout": fanout}
