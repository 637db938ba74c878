"""Getting frames to sockets: the same bytes to all who are level, merged or queued for those who are slow.

A socket whose backlog is above ``SOFT_BACKLOG_BYTES`` is stalled: nothing more is written to it. Its state channels
just fall behind and are merged later, its log channels queue and, beyond their bound, lose their place and say so. When
the backlog has drained it is brought level; when it has not within ``WRITE_DEADLINE_S`` the socket is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from market.streaming import access, protocol
from market.streaming.channels import Channel, LogChannel, StateChannel
from market.streaming.sockets import (
    GONE,
    NEW,
    RESTART,
    SIGNED_OUT,
    SILENT,
    SOFT_BACKLOG_BYTES,
    TOO_SLOW,
    WRITE_DEADLINE_S,
    Close,
    Socket,
    Sub,
    room_for,
)

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = protocol.HEARTBEAT_MS / 1000
SILENT_HEARTBEATS: Final = 2
TICK_S: Final = 0.25  # of the timer for heartbeats and deadlines
WRITES_A_SLICE: Final = 256  # about 2 ms: then the loop serves others, an order must not wait for 5,000 sockets
RECHECK_HEARTBEATS: Final = 4  # a minute: so long a revoked key or an ended session may still listen
MAX_RECHECKS: Final = 64  # at once
AFTER_END_S: Final = 0.05  # clocks are read in another order than timers fire

News = tuple[Channel, int, bytes]  # what is said to those who are at the seq before


class Delivery:
    """All sockets of a process, and the writing to them. Lives in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self.loop = loop
        self.sockets: dict[Socket, None] = {}
        self.stalled: dict[Socket, None] = {}
        self.written = 0  # messages on the fan-out path
        self.resyncs = 0  # times a log channel told a reader to catch up from elsewhere
        self.dropped = 0  # sockets closed because they read too slowly
        self.close: Callable[[Socket, Close], None] = lambda socket, close: None
        self.identify: Callable[[access.Credentials], Awaitable[access.Viewer | None]] = access.viewer_of
        self._beats: deque[tuple[float, Socket]] = deque()  # in the order they are due: all intervals are equal
        self._timer: asyncio.Task[None] | None = None
        self._rechecks: deque[Socket] = deque()
        self._rechecking: asyncio.Task[None] | None = None

    def start(self, close: Callable[[Socket, Close], None]) -> None:
        """Begin heartbeats and deadlines; ``close`` ends a socket for a reason."""
        self.close = close
        self._timer = self.loop.create_task(self._tick())

    def stop(self) -> None:
        """End the timer."""
        for task in (self._timer, self._rechecking):
            if task is not None:
                task.cancel()

    def counters(self) -> dict[str, int]:
        """Return what has been done since the start."""
        return {"written": self.written, "resyncs": self.resyncs, "dropped": self.dropped}

    def add(self, socket: Socket) -> None:
        """Take a new socket."""
        self.sockets[socket] = None
        self._beats.append((self.loop.time() + HEARTBEAT_S, socket))
        self._mind_end(socket)

    def remove(self, socket: Socket) -> None:
        """Forget a socket."""
        self.sockets.pop(socket, None)
        self.stalled.pop(socket, None)

    # --- to one socket -----------------------------------------------------------------------------------------------

    def tell(self, socket: Socket, frames: bytes) -> None:
        """Say something to one socket, after what waits for it."""
        if not self._ready(socket):
            if not socket.enqueue(None, frames):
                self.dropped += 1
                self.close(socket, TOO_SLOW)
            return
        socket.write(frames)

    def first(self, sub: Sub) -> None:
        """Send a subscription its first message, or let it wait until its socket has drained."""
        if not self._ready(sub.socket):
            return  # still NEW: ``_level`` serves it
        sub.socket.write(sub.channel.first_message(sub.resume, sub.same_epoch))
        sub.seq = sub.channel.seq

    def _ready(self, socket: Socket) -> bool:
        if socket.stalled_at is None and socket.backlog() > SOFT_BACKLOG_BYTES:
            self._stall(socket)
        return socket.stalled_at is None

    def _stall(self, socket: Socket) -> None:
        socket.stalled_at = self.loop.time()
        self.stalled[socket] = None

    def drained(self, socket: Socket) -> None:
        """A full backlog has gone out: bring the socket level, as far as it takes it."""
        if socket.stalled_at is None or not socket.open:
            return
        socket.stalled_at = None
        self.stalled.pop(socket, None)
        while socket.queue:
            if not self._ready(socket):
                return
            sub, frames = socket.dequeue()
            if sub is None or sub.seq != GONE:
                socket.write(frames)
        for sub in tuple(socket.subs.values()):
            if not self._ready(socket):
                return
            self._level(sub)

    def _level(self, sub: Sub) -> None:
        channel = sub.channel
        if isinstance(channel, StateChannel):
            if not channel.ready:
                return  # served when its view has been computed
            if sub.seq == NEW:
                self.first(sub)
            elif sub.seq < channel.seq:
                sub.socket.write(channel.catch_up(sub.seq))
                sub.seq = channel.seq
        elif sub.seq == NEW:
            self.first(sub)
        elif sub.lost:
            sub.lost = False
            self.resyncs += 1
            sub.socket.write(protocol.resync(channel.name, channel.seq, "slow"))
            sub.seq = channel.seq

    def lose(self, channel: LogChannel) -> None:
        """Items of the channel are missing: every reader must catch up from elsewhere."""
        for sub in tuple(channel.subs):
            if sub.seq == NEW:
                continue
            if self._ready(sub.socket):
                self.resyncs += 1
                sub.socket.write(protocol.resync(channel.name, channel.seq, "lost"))
                sub.seq = channel.seq
            else:
                sub.lost = True

    def level_all(self) -> None:
        """Bring every reader level that can take it now; the stalled ones are when they have drained."""
        for socket in tuple(self.sockets):
            for sub in tuple(socket.subs.values()):
                if not self._ready(socket):
                    break
                self._level(sub)

    # --- to all ------------------------------------------------------------------------------------------------------

    async def send(self, news: list[News]) -> None:
        """Write each channel's news to its readers; a socket that reads several gets them in one write."""
        if len(news) == 1:
            await self._send_one(*news[0])
        elif news:
            await self._send_joined(news)

    async def _send_one(self, channel: Channel, prev: int, frames: bytes) -> None:
        seq = channel.seq
        room = room_for(frames)
        count = 0
        for sub in tuple(channel.subs):
            if sub.seq != prev:
                continue  # new, behind or gone
            socket = sub.socket
            if socket.stalled_at is not None or socket.backlog() > room:
                self._hold(sub, frames, seq)
                continue
            socket.write(frames)
            sub.seq = seq
            count += 1
            if count % WRITES_A_SLICE == 0:
                await asyncio.sleep(0)
        self.written += count

    async def _send_joined(self, news: list[News]) -> None:
        plan: dict[Socket, list[tuple[int, Sub]]] = {}
        for index, (channel, _, _) in enumerate(news):
            for sub in channel.subs:
                plan.setdefault(sub.socket, []).append((index, sub))
        seqs = [channel.seq for channel, _, _ in news]
        joined: dict[tuple[int, ...], bytes] = {}
        count = 0
        for socket, wanted in plan.items():
            level = [(index, sub) for index, sub in wanted if sub.seq == news[index][1]]
            if not level:
                continue
            key = tuple(index for index, _ in level)
            frames = joined.get(key)
            if frames is None:
                frames = joined[key] = b"".join(news[index][2] for index in key)
            if socket.stalled_at is not None or socket.backlog() > room_for(frames):
                for index, sub in level:
                    self._hold(sub, news[index][2], seqs[index])
                continue
            socket.write(frames)
            for index, sub in level:
                sub.seq = seqs[index]
            count += 1
            self.written += len(level)
            if count % WRITES_A_SLICE == 0:
                await asyncio.sleep(0)

    def _hold(self, sub: Sub, frames: bytes, seq: int) -> None:
        """The socket does not take it now. States are merged when it does, logs queue or lose their place."""
        socket = sub.socket
        if socket.stalled_at is None:
            self._stall(socket)
        if isinstance(sub.channel, StateChannel) or sub.lost:
            return
        if socket.enqueue(sub, frames):
            sub.seq = seq
        else:
            socket.drop_queued(sub)
            sub.lost = True

    # --- time --------------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._beat()
                self._enforce()
            except Exception:
                log.exception("the heartbeat of the streams failed")

    async def _beat(self) -> None:
        now = self.loop.time()
        count = 0
        while self._beats and self._beats[0][0] <= now:
            _, socket = self._beats.popleft()
            if not socket.open:
                continue
            if socket.pings - socket.answered >= SILENT_HEARTBEATS:
                self.close(socket, SILENT)
                continue
            self._beats.append((now + HEARTBEAT_S, socket))
            if socket.stalled_at is None:  # a stalled one has its deadline
                socket.pings += 1
                self.tell(socket, protocol.ping(socket.pings, socket.heads()))
            if socket.credentials is not None and socket.pings % RECHECK_HEARTBEATS == 0:
                self._rechecks.append(socket)
            self._mind_end(socket)
            count += 1
            if count % WRITES_A_SLICE == 0:
                await asyncio.sleep(0)
        self._start_rechecks()

    def recheck(self, user_id: int) -> None:
        """Look now at what the sockets of a person were opened with: a key was revoked or a session has ended."""
        self._recheck_now([socket for socket in self.sockets if socket.viewer.user_id == user_id])

    def _recheck_now(self, sockets: list[Socket]) -> None:
        self._rechecks.extendleft(sockets)  # before those that are only due again
        self._start_rechecks()

    def _mind_end(self, socket: Socket) -> None:
        """Look again when a socket's key ends by itself, if that is before the next heartbeat."""
        until_s = socket.viewer.until_s
        if until_s is not None and (left_s := until_s - time.time()) <= HEARTBEAT_S:
            self.loop.call_later(max(0.0, left_s) + AFTER_END_S, self._recheck_now, [socket])

    def _start_rechecks(self) -> None:
        if self._rechecks and (self._rechecking is None or self._rechecking.done()):
            self._rechecking = self.loop.create_task(self._recheck())

    def _enforce(self) -> None:
        now = self.loop.time()
        for socket in tuple(self.stalled):
            if socket.stalled_at is None:
                continue
            if socket.backlog() <= SOFT_BACKLOG_BYTES // 4:
                self.drained(socket)  # in case its transport never said so
            elif now - socket.stalled_at > WRITE_DEADLINE_S:
                self.dropped += 1
                self.close(socket, TOO_SLOW)

    async def _recheck(self) -> None:
        """Close the sockets whose key was revoked, whose session has ended, or whose person has another account now."""
        while self._rechecks:
            sockets = [self._rechecks.popleft() for _ in range(min(MAX_RECHECKS, len(self._rechecks)))]
            for socket in sockets:
                if not socket.open or socket.credentials is None:
                    continue
                try:
                    viewer = await self.identify(socket.credentials)
                except Exception:  # the database is away: the next look follows within a minute
                    log.exception("what a socket was opened with could not be looked at")
                    continue
                if viewer is None or viewer.user_id != socket.viewer.user_id:
                    self.close(socket, SIGNED_OUT)
                elif viewer.account != socket.viewer.account:
                    self.close(socket, RESTART)  # what it subscribed to is another account's: it comes back for its own
                else:
                    socket.viewer = viewer
                    self._mind_end(socket)
