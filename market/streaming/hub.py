"""The hub: one a process. It follows the exchange and tells every socket what its channels became.

The exchange's writer thread hands over each committed batch (``publish``); everything else happens in the event loop. A
flush, at most ten a second, moves the log channels' news into their rings, computes the views of the state channels
that are dirty and have readers (in a worker thread, in one ``Exchange.read``), encodes each change once and writes the
same bytes to every socket. A subscription is registered first and served afterwards, so nothing falls between.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from market.exchange.outcomes import Committed
from market.exchange.units import at_text
from market.exchange.views import AlertView
from market.metering import news
from market.streaming import access, channels, history, protocol
from market.streaming.alarms import Alarms
from market.streaming.channels import Channel, LogChannel, LogKind, StateChannel, StateKind
from market.streaming.delivery import Delivery
from market.streaming.gauges import Gauges
from market.streaming.reading import reading
from market.streaming.sockets import (
    BAD_MESSAGES,
    GONE,
    MAX_ERRORS,
    MAX_SUBSCRIPTIONS,
    NEW,
    RESTART,
    TOO_MANY_MESSAGES,
    Socket,
    Sub,
    Wire,
)

if TYPE_CHECKING:
    from market.exchange.exchange import Exchange

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S: Final = 0.1
MAX_VIEWS_A_FLUSH: Final = 64
MAX_BATCHES: Final = 4_096  # committed batches that may wait for the loop
MAX_SOCKETS: Final = 20_000  # a process; 5,000 are what one core serves at ten messages a second
MAX_CHANNELS: Final = 4_096  # with readers
MAX_IDLE: Final = 1_024  # channels without readers, kept to resume from
RETRY_S: Final = 5


class Hub:
    """See the module's docstring. All methods but ``publish`` belong to the event loop."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop):
        self.exchange = exchange
        self.loop = loop
        self.epoch = secrets.token_hex(4)
        self.seq = channels.NEVER  # of the newest entry the hub has heard of
        self.flushes = 0
        self.ready = self._listening = False  # it follows the exchange; it has begun to
        self.delivery = Delivery(loop)
        self._channels: dict[str, Channel] = {}  # those with readers, and the public logs
        self._idle: OrderedDict[str, Channel] = OrderedDict()
        self._owners: dict[LogKind, dict[int | None, LogChannel]] = {}
        self._by_contract: dict[str | None, dict[StateChannel, None]] = {}
        self._dirty: dict[StateChannel, set[str] | None] = {}  # first come, first served; None: all of it
        self._incoming: deque[Committed] = deque()
        self._alarms = Alarms()
        self._gauges = Gauges(self._signal)
        self._signalled = False
        self._overflowed = False
        self._closed = False
        self._wanted = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="hub-reader")
        self._flusher: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, newest: history.Newest | None = None) -> None:
        """Begin to follow the exchange: listen first, then read where it stands, and what happened last."""
        self.exchange.listen(self.publish)
        news.listen(self._gauges.take)
        self._listening = True
        self.seq = await self.loop.run_in_executor(self._reader, self.exchange.read, lambda engine: engine.seq - 1)
        before = await self.loop.run_in_executor(self._reader, history.read, newest)
        for name, kind in channels.KINDS.items():
            if isinstance(kind, LogKind):
                self._owners[kind] = {}
                if not kind.own:
                    channel = LogChannel(kind, name, None, self.seq)
                    channel.begin_with(before.get(name, []))
                    self._owners[kind][None] = self._channels[name] = channel
        self._flusher = self.loop.create_task(self._run())
        self.ready = True
        self.delivery.start(lambda socket, close: self.close(socket, *close))

    async def stop(self) -> None:
        """Say goodbye to every socket and end the tasks."""
        self._closed = True
        if self._listening:  # also when it never became ready
            self.exchange.unlisten(self.publish)
            news.unlisten(self._gauges.take)
        self._listening = self.ready = False
        for socket in tuple(self.delivery.sockets):
            self.close(socket, *RESTART)
        self.delivery.stop()
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        self._reader.shutdown(wait=False)

    def publish(self, committed: Committed) -> None:
        """Take a committed batch, in the writer's thread; never blocks it."""
        if self._closed:
            return
        if len(self._incoming) >= MAX_BATCHES:  # the loop hangs: forget, and tell the readers so when it comes back
            self._overflowed = True
            self._incoming.clear()
        self._incoming.append(committed)
        self._signal()

    def alarm(self, alarm: AlertView) -> None:
        """Take an alarm about the ledger itself, in any thread."""
        self._alarms.take(alarm)
        self._signal()

    def _signal(self) -> None:
        if not self._signalled:
            self._signalled = True
            try:
                self.loop.call_soon_threadsafe(self._arrived)
            except RuntimeError:  # the loop has ended
                self._closed = True

    def _arrived(self) -> None:
        self._signalled = False
        self._wanted.set()

    def status(self) -> dict[str, int]:
        """Return what an operator wants to know about the streams of this process."""
        return {
            "sockets": len(self.delivery.sockets),
            "channels": len(self._channels),
            "stalled": len(self.delivery.stalled),
            **self.delivery.counters(),
            "flushes": self.flushes,
            "seq": self.seq,
        }

    # --- connections -------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether no further socket is taken."""
        return self._closed or len(self.delivery.sockets) >= MAX_SOCKETS

    def open(self, wire: Wire, viewer: access.Viewer, credentials: access.Credentials | None = None) -> Socket:
        """Take an accepted connection and greet it."""
        socket = Socket(wire, viewer, credentials, self.loop.time())
        wire.listen(lambda: self.delivery.drained(socket), lambda: self.lost(socket))
        self.delivery.add(socket)
        socket.write(protocol.welcome(server_time=at_text(self.exchange.now_ms()), epoch=self.epoch))
        return socket

    def close(self, socket: Socket, code: int, reason: str) -> None:
        """End a connection with a numbered reason."""
        if socket.open:
            self.lost(socket)
            socket.wire.close(code, reason)

    def lost(self, socket: Socket) -> None:
        """Forget a connection that has ended."""
        if socket.open:
            socket.open = False
            self.delivery.remove(socket)
            for name in tuple(socket.subs):
                self._unsubscribe(socket, name)

    def receive(self, socket: Socket, text: str | bytes | None) -> None:
        """Act on a client's message (``None``: a binary one); what is wrong with it is said, never raised."""
        if not socket.open:
            return
        if not socket.may_speak(self.loop.time()):
            self.close(socket, *TOO_MANY_MESSAGES)
            return
        try:
            if text is None:
                raise protocol.BadMessage("bad_message")
            message = protocol.parse(text)
            if isinstance(message, protocol.Subscribe):
                self._subscribe(socket, message)
            elif isinstance(message, protocol.Unsubscribe):
                if not self._unsubscribe(socket, message.channel):
                    raise protocol.BadMessage("not_subscribed", message.channel)
            else:
                socket.answered = max(socket.answered, min(message.n, socket.pings))
        except protocol.BadMessage as error:
            self._refuse(socket, error.code, error.channel)

    def _refuse(self, socket: Socket, code: str, channel: str | None) -> None:
        socket.errors += 1
        if socket.errors > MAX_ERRORS:
            self.close(socket, *BAD_MESSAGES)
            return
        retry = RETRY_S if code in {"unavailable", "too_many_channels"} else None
        self.delivery.tell(socket, protocol.error(code, channel=channel, retry=retry))

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def _subscribe(self, socket: Socket, message: protocol.Subscribe) -> None:
        kind, args = channels.find(message.channel)
        owner = None
        if isinstance(kind, LogKind) and kind.roles is not None:
            access.need_role(socket.viewer, kind.roles, message.channel)
        if kind.own:
            owner = access.own_account(socket.viewer, message.channel)
        if message.channel in socket.subs:
            self._unsubscribe(socket, message.channel)
        if len(socket.subs) >= MAX_SUBSCRIPTIONS:
            raise protocol.BadMessage("too_many_subscriptions", message.channel)
        channel = self._channel(kind, message.channel, args, owner)
        sub = Sub(socket, channel, message.seq, message.epoch == self.epoch)
        if isinstance(channel, StateChannel) and not channel.ready:
            self._register(sub)
            channel.awaiting.append(sub)
            self._mark(channel, None)
            self._wanted.set()
            return
        if isinstance(channel, StateChannel) and not access.in_audience(socket.viewer, channel.audience):
            raise protocol.BadMessage("forbidden", message.channel)
        self._register(sub)
        self.delivery.first(sub)

    def _register(self, sub: Sub) -> None:
        sub.channel.subs[sub] = None
        sub.socket.subs[sub.channel.name] = sub

    def _channel(self, kind: StateKind | LogKind, name: str, args: channels.Args, owner: int | None) -> Channel:
        """Return the channel, from those in use, those kept, or new."""
        key = name if owner is None else f"{name}#{owner}"
        channel = self._channels.get(key)
        if channel is not None:
            return channel
        if len(self._channels) >= MAX_CHANNELS:
            raise protocol.BadMessage("too_many_channels", name)
        channel = self._idle.pop(key, None)
        if channel is None:
            if isinstance(kind, LogKind):
                channel = self._owners[kind][owner] = LogChannel(kind, name, owner, self.seq)
            elif owner is not None:
                channel = self._gauges.open(kind, name, owner, self.seq)
            else:
                channel = StateChannel(kind, name, args)
        if isinstance(channel, StateChannel) and owner is None:
            self._by_contract.setdefault(channel.kind.contract(args), {})[channel] = None
        self._channels[key] = channel
        return channel

    def _unsubscribe(self, socket: Socket, name: str) -> bool:
        sub = socket.subs.pop(name, None)
        if sub is None:
            return False
        channel = sub.channel
        sub.seq = GONE
        del channel.subs[sub]
        if isinstance(channel, StateChannel):
            if sub in channel.awaiting:
                channel.awaiting.remove(sub)
            if not channel.subs:
                self._retire(channel)
        elif not channel.subs and channel.owner is not None:
            self._keep(f"{name}#{channel.owner}", channel)
        return True

    def _retire(self, channel: StateChannel) -> None:
        """Follow the channel no longer; the market's state stays for a while for readers who come back."""
        if channel.kind.own:
            del self._channels[self._gauges.retire(channel)]
            return
        self._dirty.pop(channel, None)
        contract = channel.kind.contract(channel.args)
        followers = self._by_contract[contract]
        del followers[channel]
        if not followers:
            del self._by_contract[contract]
        channel.ready = False
        if channel.seq == channels.NEVER:
            self._channels.pop(channel.name, None)
        else:
            self._keep(channel.name, channel)

    def _keep(self, key: str, channel: Channel) -> None:
        self._channels.pop(key, None)
        self._idle[key] = channel
        if len(self._idle) > MAX_IDLE:
            _, oldest = self._idle.popitem(last=False)
            if isinstance(oldest, LogChannel):
                del self._owners[oldest.kind][oldest.owner]

    # --- following the exchange --------------------------------------------------------------------------------------

    def _mark(self, channel: StateChannel, contract: str | None) -> None:
        touched = self._dirty.setdefault(channel, set())
        if touched is None:
            return
        if contract is None or channel.kind.contract(channel.args) is not None:
            self._dirty[channel] = None
        else:
            touched.add(contract)

    def _mark_all(self) -> None:
        for followers in self._by_contract.values():
            for channel in followers:
                self._mark(channel, None)

    def _absorb(self) -> None:
        """Note what the batches that arrived change."""
        if self._overflowed:
            log.warning("the event loop did not keep up with the exchange, streams resynchronise")
            self._overflowed = False
            self._lose()
        for _ in range(MAX_BATCHES):
            try:
                committed = self._incoming.popleft()
            except IndexError:
                return
            self.seq = max(self.seq, committed.next_seq - 1)
            self._gauges.hear(committed)
            for kind, owners in self._owners.items():
                for owner, seq, raw in kind.collect(committed, owners):
                    owners[owner].add(seq, raw)
            touched = channels.touched(committed)
            if touched is None:
                self._mark_all()
                continue
            for contract in touched:
                for key in (contract, None):
                    for channel in self._by_contract.get(key, ()):
                        self._mark(channel, contract)

    def _unheard(self) -> set[str] | None:
        """Return the contracts that batches which are published but not absorbed have touched; ``None``: any may be.

        For the reader's thread, inside ``Exchange.read``: the writer stands still and has published all that the engine
        shows, and only the flush that waits for this read would absorb.
        """
        unheard: set[str] = set()
        for committed in tuple(self._incoming):
            touched = channels.touched(committed)
            if touched is None:
                return None
            unheard |= touched
        return None if self._overflowed else unheard

    def _lose(self) -> None:
        """News was dropped: views are computed anew, logs ask their readers to catch up from REST, homes look again."""
        if self._incoming:
            self.seq = max(self.seq, self._incoming[0].first_seq - 1)
        for owners in self._owners.values():
            for channel in owners.values():
                channel.lose(self.seq)
                self.delivery.lose(channel)
        self._gauges.lost()
        self._mark_all()

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            started = self.loop.time()
            try:
                await self._flush()
            except Exception:  # one bad flush must not silence a stream, nor leave it behind unnoticed
                log.exception("a flush of the streams failed, streams resynchronise")
                self._lose()
                self.delivery.level_all()
                self._wanted.set()
            self.flushes += 1
            await asyncio.sleep(max(0.0, started + FLUSH_INTERVAL_S - self.loop.time()))

    async def _flush(self) -> None:
        self._absorb()
        alerts = self._channels["alerts"]
        assert isinstance(alerts, LogChannel)
        self._alarms.place(alerts, self.seq)
        news: list[tuple[Channel, int, bytes]] = []
        for owners in self._owners.values():
            for log_channel in owners.values():
                if log_channel.pending:
                    prev = log_channel.seq
                    frames = log_channel.flush()
                    if frames:
                        news.append((log_channel, prev, frames))
        for channel, prev, changes in (*self._gauges.flush(self.seq), *await self._refresh()):
            if changes:
                news.append((channel, prev, channel.delta(prev, changes)))
        await self.delivery.send(news)
        if self._dirty:
            self._wanted.set()

    async def _refresh(self) -> list[tuple[StateChannel, int, dict[Any, Any]]]:
        """Compute some dirty channels, serve those who wait for them; return (channel, seq before, changes)."""
        if not self._dirty:
            return []
        picked: list[tuple[StateChannel, set[str] | None]] = []
        for channel in tuple(self._dirty)[:MAX_VIEWS_A_FLUSH]:
            picked.append((channel, self._dirty.pop(channel)))
        try:
            seq, computed = await self.loop.run_in_executor(
                self._reader, self.exchange.read, reading(picked, self._unheard)
            )
        except Exception:
            log.exception("the streams could not read the market")
            for channel, _ in picked:
                self._fail(channel, "unavailable")
            return []
        self._put_back(picked[len(computed) :])
        changed = []
        for channel, view, audience in computed:
            if not channel.subs:
                continue
            if isinstance(view, str):
                self._fail(channel, view)
                continue
            if view[1] is not None and not channel.ready:
                continue  # left and taken up again meanwhile: a part of a view is not enough, all of it is on the list
            prev = channel.seq
            changed.append((channel, prev, channel.update(view, seq)))
            channel.audience = audience
            channel.ready = True
            self._serve(channel)
        return changed

    def _put_back(self, picked: list[tuple[StateChannel, set[str] | None]]) -> None:
        """Return what the time did not suffice for to the front of the line."""
        front: dict[StateChannel, set[str] | None] = {}
        for channel, touched in picked:
            if channel.subs:
                later = self._dirty.pop(channel, set())
                front[channel] = None if touched is None or later is None else touched | later
        self._dirty = front | self._dirty

    def _serve(self, channel: StateChannel) -> None:
        """Give those who wait for the channel their first message; it is the state that the next delta starts from."""
        waiting, channel.awaiting = channel.awaiting, []
        for sub in waiting:
            if sub.seq == NEW and access.in_audience(sub.socket.viewer, channel.audience):
                self.delivery.first(sub)
            elif sub.seq == NEW:
                self._unsubscribe(sub.socket, channel.name)
                self._refuse(sub.socket, "forbidden", channel.name)

    def _fail(self, channel: StateChannel, code: str) -> None:
        """Tell every reader of the channel why there is none, and end their subscriptions."""
        for sub in tuple(channel.subs):
            self._unsubscribe(sub.socket, channel.name)
            self._refuse(sub.socket, code, channel.name)


_current: Hub | None = None


async def attach(
    exchange: Exchange, loop: asyncio.AbstractEventLoop | None = None, newest: history.Newest | None = history.newest
) -> Hub:
    """Start this process's hub on an exchange, in the running loop (or return the one that follows it already)."""
    global _current
    loop = loop or asyncio.get_running_loop()
    if _current is not None and _current.exchange is exchange and _current.loop is loop and _current.ready:
        return _current
    if _current is not None and _current.loop is loop:
        await _current.stop()  # of an exchange that has ended
    _current = hub = Hub(exchange, loop)
    await hub.start(newest)
    return hub


async def detach() -> None:
    """Stop this process's hub."""
    global _current
    hub, _current = _current, None
    if hub is not None:
        await hub.stop()
        access.close_threads()


def announce(alarm: AlertView) -> None:
    """Tell the readers of ``alerts`` of an alarm about the ledger itself, from any thread; without a hub nobody reads."""
    running = _current
    if running is not None:
        running.alarm(alarm)


def current() -> Hub | None:
    """Return this process's hub, if it runs."""
    return _current
