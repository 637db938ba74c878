"""One connection as the hub sees it: its subscriptions, what waits for it, and the wire its frames go out on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from market.streaming import protocol

if TYPE_CHECKING:
    from market.streaming.access import Credentials, Viewer
    from market.streaming.channels import Channel

SOFT_BACKLOG_BYTES: Final = 64 * 1024  # above this nothing more is written: states merge, logs queue
MAX_BACKLOG_BYTES: Final = 256 * 1024  # written and queued together
MAX_QUEUE: Final = 256  # messages of log channels that wait for a slow reader
MAX_SUBSCRIPTIONS: Final = 64
WRITE_DEADLINE_S: Final = 5.0
MAX_ERRORS: Final = 32  # a client that says so much nonsense is broken: close it before it fills the log
MESSAGES_A_SECOND: Final = 20.0
MESSAGE_BURST: Final = 160.0  # all subscriptions at once after a reconnect, twice

NEW: Final = -2  # has not had its first message
GONE: Final = -3  # unsubscribed or closed


class Close(NamedTuple):
    """A numbered reason to end a connection (``docs/protocol.md``)."""

    code: int
    reason: str


BAD_MESSAGES: Final = Close(4400, "bad_messages")
SIGNED_OUT: Final = Close(4401, "signed_out")
SILENT: Final = Close(4408, "silent")
TOO_SLOW: Final = Close(4409, "too_slow")
TOO_MANY_MESSAGES: Final = Close(4429, "too_many_messages")
RESTART: Final = Close(1012, "restart")


class Wire(Protocol):
    """Where frames go. ``write`` never blocks; ``backlog`` is what it has taken and not sent yet, in bytes."""

    write: Callable[[bytes], None]
    backlog: Callable[[], int]

    def listen(self, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Call ``drained`` when a full backlog has gone out, ``lost`` when the connection has ended."""

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; a peer that does not answer is cut off soon after."""


def room_for(frames: bytes) -> int:
    """Return the largest backlog a socket may have to be written these frames; below 0 they are too long for any."""
    return min(SOFT_BACKLOG_BYTES, MAX_BACKLOG_BYTES - len(frames))


class Sub:
    """One socket's subscription to one channel."""

    __slots__ = ("channel", "lost", "resume", "same_epoch", "seq", "socket")

    def __init__(self, socket: Socket, channel: Channel, resume: int | None, same_epoch: bool):
        self.socket = socket
        self.channel = channel
        self.resume = resume
        self.same_epoch = same_epoch
        self.seq = NEW  # of the newest message written or queued
        self.lost = False  # the queue overflowed: it needs a resync


class Socket:
    """One connection."""

    __slots__ = (
        "answered", "backlog", "credentials", "errors", "open", "pings", "queue", "queued_bytes", "stalled_at",
        "subs", "tokens", "tokens_at", "viewer", "wire", "write",
    )  # fmt: skip

    def __init__(self, wire: Wire, viewer: Viewer, credentials: Credentials | None, now: float):
        self.wire = wire
        self.write = wire.write  # straight to the transport: the hot path has no layer of its own
        self.backlog = wire.backlog
        self.viewer = viewer
        self.credentials = credentials
        self.subs: dict[str, Sub] = {}
        self.queue: deque[tuple[Sub | None, bytes]] = deque()
        self.queued_bytes = 0
        self.stalled_at: float | None = None
        self.pings = 0
        self.answered = 0
        self.errors = 0
        self.tokens = MESSAGE_BURST
        self.tokens_at = now
        self.open = True

    def may_speak(self, now: float) -> bool:
        """Take one message off the client's allowance; False when there is none left."""
        self.tokens = min(MESSAGE_BURST, self.tokens + (now - self.tokens_at) * MESSAGES_A_SECOND)
        self.tokens_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def enqueue(self, sub: Sub | None, frames: bytes) -> bool:
        """Keep frames for later; False when the queue is full."""
        held = self.backlog() + self.queued_bytes
        if len(self.queue) >= MAX_QUEUE or held + len(frames) > MAX_BACKLOG_BYTES:
            return False
        self.queue.append((sub, frames))
        self.queued_bytes += len(frames)
        return True

    def drop_queued(self, sub: Sub) -> None:
        """Forget what is queued of one subscription."""
        self.queue = deque(entry for entry in self.queue if entry[0] is not sub)
        self.queued_bytes = sum(len(frames) for _, frames in self.queue)

    def dequeue(self) -> tuple[Sub | None, bytes]:
        """Take the oldest frames out of the queue, which is not empty."""
        sub, frames = self.queue.popleft()
        self.queued_bytes -= len(frames)
        return sub, frames

    def heads(self) -> dict[str, int]:
        """Return the seq of the newest message of every subscription that has had one."""
        return {name: sub.seq for name, sub in self.subs.items() if sub.seq > NEW}


class AsgiWire:
    """A wire over plain ASGI ``send``, for servers without the frames extension: one writer task."""

    def __init__(self, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]):
        self._send = send
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._closing: Close | None = None
        self._wake = asyncio.Event()
        self._full = False
        self._drained: Callable[[], None] | None = None
        self._lost: Callable[[], None] | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        self.write: Callable[[bytes], None] = self._write
        self.backlog: Callable[[], int] = self._backlog

    def listen(self, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        self._drained, self._lost = drained, lost

    def close(self, code: int, reason: str) -> None:
        self._closing = Close(code, reason)
        self._wake.set()
        # The writer may hang in a send that a dead peer never lets return.
        asyncio.get_running_loop().call_later(WRITE_DEADLINE_S, self._task.cancel)

    def stop(self) -> None:
        """End the writer; the connection is gone."""
        self._task.cancel()

    def _write(self, frames: bytes) -> None:
        self._waiting.append(frames)
        self._bytes += len(frames)
        self._full = self._full or self._bytes > SOFT_BACKLOG_BYTES
        self._wake.set()

    def _backlog(self) -> int:
        return self._bytes

    async def _run(self) -> None:
        try:
            while True:
                while self._waiting and self._closing is None:
                    frames = self._waiting.popleft()
                    for payload in protocol.payloads(frames):
                        await self._send({"type": "websocket.send", "text": payload.decode()})
                    self._bytes -= len(frames)
                    if self._full and self._bytes <= SOFT_BACKLOG_BYTES // 4:
                        self._full = False
                        if self._drained is not None:
                            self._drained()
                if self._closing is not None:
                    await self._send({"type": "websocket.close", **self._closing._asdict()})
                    return
                self._wake.clear()
                await self._wake.wait()
        except OSError:
            pass  # the peer has gone; ``receive`` says so too
        finally:
            if self._lost is not None:
                self._lost()
