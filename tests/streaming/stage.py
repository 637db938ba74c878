"""A hub on a market steered by hand, with sockets whose clients read when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from market.streaming import access
from market.streaming.access import Viewer
from market.streaming.hub import Hub
from market.streaming.sockets import Socket
from tests.streaming.client import Client, HeldWire
from tests.streaming.fake import CONTRACT, FakeExchange

BOOK = f"book:LV1.101:{CONTRACT}"
ALICE = Viewer(1, "household", 1, "LV1.101", True)
BOB = Viewer(2, "household", 2, "LV1.102", True)
OLGA = Viewer(3, "operator", None, "", True)


class Market:
    """A hub on a fake exchange, with sockets whose clients read when told to. Flushes happen when told to."""

    def __init__(self) -> None:
        self.exchange = FakeExchange()
        self.hub = Hub(self.exchange, asyncio.get_running_loop())  # type: ignore[arg-type]

    async def start(self) -> None:
        await self.hub.start()
        assert self.hub._flusher is not None
        self.hub._flusher.cancel()

    def connect(self, viewer: Viewer = access.ANYBODY) -> Peer:
        return Peer(self.hub, viewer)

    async def flush(self) -> None:
        await asyncio.sleep(0)  # what the writer's thread announced arrives
        await self.hub._flush()


class Peer:
    """A client on a wire."""

    def __init__(self, hub: Hub, viewer: Viewer) -> None:
        self.hub = hub
        self.wire = HeldWire()
        self.client = Client()
        self.socket: Socket = hub.open(self.wire, viewer)

    def say(self, **message: Any) -> None:
        self.hub.receive(self.socket, orjson.dumps(message))

    def subscribe(self, channel: str, *, resume: bool = True) -> None:
        self.hub.receive(self.socket, self.client.subscribe(channel, resume=resume))

    def hear(self, count: int = 1_000_000) -> list[dict[str, Any]]:
        return [self.client.receive(payload) for payload in self.wire.read(count)]

    def types(self) -> list[str]:
        return [message["type"] for message in self.hear()]


def play(scene: Callable[[Market], Awaitable[None]]) -> None:
    """Run a scene on a fresh market."""

    async def run() -> None:
        market = Market()
        await market.start()
        try:
            await scene(market)
        finally:
            await market.hub.stop()

    asyncio.run(run())


async def beat(market: Market) -> None:
    """Let one (shortened) heartbeat pass."""
    await asyncio.sleep(0.002)
    await market.hub.delivery._beat()
