"""The streams as they are served: a real uvicorn, real sockets, a market steered by hand."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, NegotiationError

from market.exchange import gateway
from market.households.identities import Identity
from market.streaming import access, hub, sockets
from market.streaming.asgi import socket_app
from market.streaming.sockets import MAX_BACKLOG_BYTES
from tests.streaming.client import Client
from tests.streaming.fake import CONTRACT, FakeExchange

BOOK = f"book:LV1.101:{CONTRACT}"
ALICE = Identity(1, "household", 1, frozenset({"trade", "read"}), "LV1.101")


class Server:
    """uvicorn in a thread."""

    def __init__(self, ws: str) -> None:
        self.exchange = FakeExchange()
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(128)
        self.port: int = self.listener.getsockname()[1]
        config = uvicorn.Config(socket_app, ws=ws, lifespan="off", log_level="warning")
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await hub.attach(self.exchange, newest=None)  # type: ignore[arg-type]
        await self.uvicorn.serve(sockets=[self.listener])
        await hub.detach()

    def start(self) -> None:
        gateway.connect(self.exchange)  # type: ignore[arg-type]
        self.thread.start()
        while not self.uvicorn.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(10)
        gateway.disconnect()
        assert not self.thread.is_alive()

    def connect(self, **options: Any) -> Any:
        """Return a connection in the making, as a page of this site opens it."""
        port = options.pop("port", self.port)
        defaults = {
            "subprotocols": ["market.v1"],
            "origin": f"http://127.0.0.1:{port}",
            "compression": None,
            "open_timeout": 5,
            "close_timeout": 1,
        }
        return connect(f"ws://127.0.0.1:{port}{options.pop('path', '/ws/v1/')}", **{**defaults, **options})

    def status(self) -> dict[str, int]:
        running = hub.current()
        return running.status() if running else {}


@pytest.fixture(params=["market.streaming.server:SocketProtocol", "websockets-sansio"], ids=["frames", "plain-asgi"])
def server(request: pytest.FixtureRequest, settings: Any) -> Iterator[Server]:
    """The server with our protocol class, and as any ASGI server without it would run the application."""
    settings.DEMO = True
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
    running = Server(request.param)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def households(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alice has a key and a session; nobody else has either."""
    monkeypatch.setattr(
        access,
        "households",
        SimpleNamespace(
            known_key=lambda token: (False, None),
            identify_key=lambda token: ALICE if token == "sk_alice" else None,
            identify_session=lambda key: ALICE if key == "alice" else None,
        ),
    )


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_task(scene), 30))


async def _task(scene: Callable[[], Awaitable[None]]) -> None:
    await scene()


async def hear(connection: ClientConnection, client: Client | None = None) -> dict[str, Any]:
    """Return the next message, applied to the client if there is one."""
    text = await asyncio.wait_for(connection.recv(), 5)
    return client.receive(text) if client else json.loads(text)  # type: ignore[arg-type]


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, fn, *args)


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Return the code and reason the server closes with."""
    try:
        while True:
            await asyncio.wait_for(connection.recv(), 10)
    except ConnectionClosed as ended:
        assert ended.rcvd is not None, "the server said goodbye"
        return ended.rcvd.code, ended.rcvd.reason


def test_snapshot_delta_resume(server: Server) -> None:
    async def scene() -> None:
        client = Client()
        async with server.connect() as connection:
            assert connection.subprotocol == "market.v1"
            assert (await hear(connection, client))["type"] == "welcome"
            await connection.send(client.subscribe(BOOK).decode())
            await connection.send(client.subscribe("trades").decode())
            heard = {(await hear(connection, client))["channel"] for _ in range(2)}
            assert heard == {BOOK, "trades"}
            started = time.monotonic()
            await in_thread(server.exchange.set_level, CONTRACT, "asks", 2500, 700)
            assert (await hear(connection, client))["type"] == "delta"
            assert time.monotonic() - started < 1.0
            assert client.data[BOOK]["asks"] == [["0.2500", 700, "0.0100"]]
        await in_thread(server.exchange.set_level, CONTRACT, "asks", 2500, 0)
        await in_thread(server.exchange.trade)
        client.reconnect()
        async with server.connect() as connection:
            await hear(connection, client)
            for channel in (BOOK, "trades"):
                await connection.send(client.subscribe(channel).decode())
            types = sorted([(await hear(connection, client))["type"] for _ in range(4)])
            assert types == ["delta", "delta", "resumed", "resumed"]
            assert client.data[BOOK]["asks"] == []
            assert len(client.data["trades"]["items"]) == 1

    play(scene)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1"}, 403),  # another port is another site
        ({"path": "/ws/v1"}, 404),
        ({"path": "/ws/v2/"}, 404),
        ({"additional_headers": {"Authorization": "Bearer nonsense"}}, 401),
        ({"additional_headers": {"Authorization": "Basic YTpi"}}, 401),
    ],
)
def test_handshakes_that_are_refused(server: Server, households: None, options: dict[str, Any], status: int) -> None:
    async def scene() -> None:
        with pytest.raises(InvalidStatus) as refused:
            await server.connect(**options)
        assert refused.value.response.status_code == status

    play(scene)


def test_the_subprotocol_is_required(server: Server) -> None:
    async def scene() -> None:
        for offered in (None, ["market.v2"]):
            with pytest.raises((InvalidStatus, NegotiationError)) as refused:
                await server.connect(subprotocols=offered)
            assert isinstance(refused.value, InvalidStatus)
            assert refused.value.response.status_code == 400

    play(scene)


def test_a_strange_host_is_refused(server: Server, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["market.example"]

    async def scene() -> None:
        with pytest.raises(InvalidStatus) as refused:
            await server.connect()
        assert refused.value.response.status_code == 400

    play(scene)


def test_trusted_origins_and_programs_come_in(server: Server, settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://*.partner.example"]

    async def scene() -> None:
        for origin in ("https://shop.partner.example", None):
            async with server.connect(origin=origin) as connection:
                assert (await hear(connection))["type"] == "welcome"
        with pytest.raises(InvalidStatus):
            await server.connect(origin="http://shop.partner.example")

    play(scene)


def test_who_may_hear_its_own_affairs(server: Server, households: None) -> None:
    async def scene() -> None:
        cookie = {"Cookie": "sessionid=alice"}
        for options, answer in (
            ({"additional_headers": {"Authorization": "Bearer sk_alice"}, "origin": None}, "snapshot"),
            ({"additional_headers": cookie}, "snapshot"),
            ({"additional_headers": cookie, "origin": None}, "not_signed_in"),  # a cookie comes from our pages only
            ({"additional_headers": {"Cookie": "sessionid=over"}}, "not_signed_in"),
            ({}, "not_signed_in"),
        ):
            async with server.connect(**options) as connection:
                await hear(connection)
                await connection.send('{"type":"subscribe","channel":"me"}')
                message = await hear(connection)
                assert message.get("code", message["type"]) == answer

    play(scene)


def test_bad_messages(server: Server) -> None:
    async def scene() -> None:
        async with server.connect() as connection:
            await hear(connection)
            for text, code in (
                ("{", "bad_json"),
                ('{"type":"order"}', "unknown_type"),
                ('{"type":"subscribe","channel":"orders"}', "unknown_channel"),
                ('{"type":"unsubscribe","channel":"trades"}', "not_subscribed"),
                (b"binary", "bad_message"),
            ):
                await connection.send(text)
                message = await hear(connection)
                assert (message["type"], message["code"], message["retry"]) == ("error", code, None)
            await connection.send('{"type":"subscribe","channel":"trades"}')
            assert (await hear(connection))["type"] == "snapshot", "and it goes on"

    play(scene)


def test_a_message_that_is_too_big(server: Server, request: pytest.FixtureRequest) -> None:
    async def scene() -> None:
        async with server.connect() as connection:
            await hear(connection)
            await connection.send('{"type":"pong","n":1}' + " " * 2_000)
            if "frames" in request.node.callspec.id:
                code, _ = await closed(connection)
                assert code == 1009
            else:  # a server without the frames extension has read it already
                assert (await hear(connection))["code"] == "message_too_big"

    play(scene)


def test_a_flood_is_cut_off(server: Server) -> None:
    async def scene() -> None:
        async with server.connect() as connection:
            for _ in range(int(sockets.MESSAGE_BURST) + 200):
                try:
                    await connection.send('{"type":"pong","n":0}')
                except ConnectionClosed:
                    break
            assert await closed(connection) == (4429, "too_many_messages")

    play(scene)


def test_no_market_no_socket(server: Server) -> None:
    async def scene() -> None:
        gateway.disconnect()
        with pytest.raises(InvalidStatus) as refused:
            await server.connect()
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == str(hub.RETRY_S)

    play(scene)


def _stalled_reader(server: Server) -> socket.socket:
    """Return a socket that has subscribed and will not read."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(
        f"GET /ws/v1/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: market.v1\r\n\r\n".encode()
    )
    time.sleep(0.2)
    for channel in (BOOK, "trades"):
        payload = json.dumps({"type": "subscribe", "channel": channel}).encode()
        reader.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
    return reader


def test_a_stalled_reader_is_bounded_and_closed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.streaming.delivery.WRITE_DEADLINE_S", 0.5)
    monkeypatch.setattr("market.streaming.hub.FLUSH_INTERVAL_S", 0.005)

    async def scene() -> None:
        async with server.connect() as quick:
            client = Client()
            await hear(quick, client)
            await quick.send(client.subscribe(BOOK).decode())
            await hear(quick, client)
            reader = await in_thread(_stalled_reader, server)
            largest = 0
            stop = time.monotonic() + 20
            price = 0
            while time.monotonic() < stop and (server.status()["sockets"] == 2 or price < 5):
                price += 1
                await in_thread(server.exchange.set_level, CONTRACT, "bids", 1 + price, 5)
                await in_thread(server.exchange.trade, CONTRACT, 200)
                await hear(quick, client)
                for held in tuple(hub.current().delivery.sockets):  # type: ignore[union-attr]
                    largest = max(largest, held.backlog() + held.queued_bytes)
            assert server.status()["sockets"] == 1, "the stalled one was closed"
            assert 0 < largest <= MAX_BACKLOG_BYTES
            assert client.data[BOOK]["bids"][0][0] == f"{(1 + price) / 1e4:.4f}", "the quick one never waited"
            reader.close()

    play(scene)


def test_a_slow_reader_ends_up_with_the_servers_book(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.streaming.hub.FLUSH_INTERVAL_S", 0.002)
    monkeypatch.setattr("market.streaming.delivery.WRITE_DEADLINE_S", 60.0)  # how slow is not what this asks

    async def scene() -> None:
        reader = await in_thread(_stalled_reader, server)
        for step in range(400):
            await in_thread(server.exchange.set_level, CONTRACT, "bids", 1 + step % 40, step % 5)
            await in_thread(server.exchange.trade, CONTRACT, 40)
        client = Client()
        assert (await in_thread(_read_all, reader, client)) > 0
        side = server.exchange.engine.side(CONTRACT, "bids")
        best = sorted(side, reverse=True)[:25]
        assert client.data[BOOK]["bids"] == [[f"{price / 1e4:.4f}", side[price], "0.0100"] for price in best]
        last = client.data["trades"]["items"][-1]["seq"]
        assert client.seqs["trades"] == server.exchange.engine.seq - 1
        assert any(message["type"] == "resync" for message in client.messages) or last == client.seqs["trades"]
        reader.close()

    play(scene)


def _read_all(reader: socket.socket, client: Client) -> int:
    """Read until nothing comes any more; return the number of messages."""
    reader.settimeout(1.0)
    data = b""
    try:
        while True:
            part = reader.recv(65_536)
            if not part:
                break
            data += part
    except TimeoutError:
        pass
    data = data.partition(b"\r\n\r\n")[2]
    count = 0
    while data:
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        client.receive(data[start : start + length])
        data = data[start + length :]
        count += 1
    return count


def test_a_restart_says_so(settings: Any) -> None:
    settings.DEMO = True
    server = Server("market.streaming.server:SocketProtocol")
    server.start()

    async def scene() -> None:
        connection = await server.connect()
        await hear(connection)
        stopping = asyncio.ensure_future(in_thread(server.stop))
        code, _ = await closed(connection)
        await stopping
        assert code == 1012

    play(scene)
