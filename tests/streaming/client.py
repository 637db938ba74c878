"""A client as ``docs/protocol.md`` describes it, and a wire that holds back what the client has not read yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from market.streaming import delivery, protocol


class Gap(AssertionError):
    """A delta did not start where the client stood."""


class Client:
    """What a client knows: by channel its seq and its data; for logs the items and the gaps it was told of."""

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.seqs: dict[str, int] = {}
        self.data: dict[str, Any] = {}
        self.gaps: dict[str, list[tuple[int, int]]] = {}
        self.messages: list[dict[str, Any]] = []
        self.asked: set[str] = set()

    def reconnect(self) -> None:
        """A new connection: what was on the old one is lost."""
        self.asked.clear()

    def subscribe(self, channel: str, *, resume: bool = True) -> bytes:
        """Return the message that asks for a channel, from where the client stands if it does.

        Only the first time on a connection: later there may be deltas under way that move it on meanwhile.
        """
        message: dict[str, Any] = {"type": "subscribe", "channel": channel}
        if resume and channel in self.seqs and channel not in self.asked:
            message |= {"epoch": self.epoch, "seq": self.seqs[channel]}
        self.asked.add(channel)
        return orjson.dumps(message)

    def receive(self, payload: bytes) -> dict[str, Any]:
        """Apply a server message; raise ``Gap`` when a delta does not fit."""
        message = orjson.loads(payload)
        self.messages.append(message)
        channel = message.get("channel", "")
        match message["type"]:
            case "welcome":
                self.epoch = message["epoch"]
            case "snapshot":
                self.seqs[channel] = message["seq"]
                self.data[channel] = message["data"]
            case "resumed":
                if self.seqs.get(channel) != message["seq"]:
                    raise Gap(f"{channel}: resumed at {message['seq']}, was at {self.seqs.get(channel)}")
            case "delta":
                if self.seqs.get(channel) != message["prev"]:
                    raise Gap(f"{channel}: a delta from {message['prev']}, was at {self.seqs.get(channel)}")
                self.seqs[channel] = message["seq"]
                self.data[channel] = self._applied(channel, message["data"])
            case "resync":
                self.gaps.setdefault(channel, []).append((self.seqs.get(channel, -1), message["seq"]))
                self.seqs[channel] = message["seq"]
                self.data.setdefault(channel, {"items": []})
            case "ping":
                for name, seq in message["heads"].items():
                    if self.seqs.get(name) != seq:
                        raise Gap(f"{name}: the server said {seq} last, was at {self.seqs.get(name)}")
        return message

    def _applied(self, channel: str, data: Any) -> Any:
        if channel.startswith("book:"):
            return protocol.apply_book(self.data[channel], data)
        if channel.startswith("ticker:"):
            return protocol.apply_ticker(self.data[channel], data)
        if channel.startswith("flow:"):
            return {name: value for name, value in (self.data[channel] | data).items() if value is not None}
        return {"items": self.data[channel]["items"] + data["items"]}


class HeldWire:
    """A wire whose reader takes frames only when the test says so."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.writes = 0
        self.full = False
        self.closed: tuple[int, str] | None = None
        self.drained: Callable[[], None] = lambda: None
        self.lost: Callable[[], None] = lambda: None
        self.largest = 0

    def listen(self, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        self.drained, self.lost = drained, lost

    def write(self, frames: bytes) -> None:
        assert self.closed is None, "nothing is written after the goodbye"
        self.writes += 1
        self.frames.extend(protocol.payloads(frames))
        self.bytes += len(frames)
        self.largest = max(self.largest, self.bytes)
        self.full = self.full or self.bytes > delivery.SOFT_BACKLOG_BYTES

    def backlog(self) -> int:
        return self.bytes

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    def read(self, count: int = 1_000_000) -> list[bytes]:
        """Take up to ``count`` messages off the wire."""
        taken = []
        while self.frames and len(taken) < count:
            payload = self.frames.popleft()
            self.bytes -= len(protocol.frame(payload))
            taken.append(payload)
        if self.full and self.bytes <= delivery.SOFT_BACKLOG_BYTES // 4:
            self.full = False
            self.drained()
        return taken
