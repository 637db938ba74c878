"""The two servers that ``bench_fanout`` compares, each a process: ``python -m tests.load.fanout_server KIND``.

``hub``: our streams as they are served, uvicorn and all, fed by a market steered by hand (its engine and journal have
benchmarks of their own). ``bare``: the ``websockets`` library's ``broadcast`` of messages of the same size, nothing
else. Both run on uvloop without compression. On stdin: a number of messages to send to every socket, one each 100 ms;
on stdout: the port, then after each run the CPU seconds it took.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable

import uvloop

INTERVAL_S = 0.1
BACKLOG = 2048
AREA = "LV1.101"


def raise_file_limit() -> None:
    """Let this process hold as many sockets as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_s() -> float:
    """Return the CPU seconds this process has used, all threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def listening() -> socket.socket:
    """Return a listening socket on a free port of the loopback."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener


def obey(send_one: Callable[[int], None]) -> None:
    """Carry out the runs that stdin asks for, in this thread."""
    for line in sys.stdin:
        before = cpu_s()
        due = time.monotonic()
        for number in range(int(line)):
            send_one(number)
            due = max(due + INTERVAL_S, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        print(f"{cpu_s() - before:.6f}", flush=True)


def serve_bare() -> None:
    """Broadcast with the ``websockets`` library."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    from market.streaming import protocol

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = listening()
        connections: set[ServerConnection] = set()

        async def handle(connection: ServerConnection) -> None:
            await connection.recv()  # its subscription
            await connection.send('{"type":"snapshot"}')
            connections.add(connection)
            try:
                await connection.wait_closed()
            finally:
                connections.discard(connection)

        def send_one(number: int) -> None:
            data = {
                "contract": "2026-06-06T12:15Z",
                "area": AREA,
                "bids": [["0.2500", 1000 + number, "0.0100"]],
                "asks": [],
            }
            frames = protocol.delta(f"book:{AREA}:2026-06-06T12:15Z", 1000 + number, 1001 + number, data)
            (payload,) = protocol.payloads(frames)
            done = threading.Event()

            def tell() -> None:
                broadcast(connections, payload.decode())
                done.set()

            loop.call_soon_threadsafe(tell)
            done.wait()

        async with serve(handle, sock=listener, compression=None, subprotocols=["market.v1"]):  # type: ignore[list-item]
            await _announce_and_obey(listener, send_one)

    uvloop.run(main())


def serve_hub() -> None:
    """Serve our streams."""
    folder = tempfile.TemporaryDirectory(prefix="fanout-")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
    os.environ["SUNLEDGER_DATA"] = folder.name
    os.environ["SUNLEDGER_DEMO"] = "1"
    import django

    django.setup()
    import uvicorn

    from market.exchange import gateway
    from market.streaming import hub
    from market.streaming.asgi import socket_app
    from tests.streaming.fake import CONTRACT, FakeExchange

    exchange = FakeExchange()
    exchange.engine.seq = 1001
    gateway.connect(exchange)  # type: ignore[arg-type]

    def send_one(number: int) -> None:
        streams = hub.current()
        before = streams.delivery.written if streams else 0
        expected = before + (len(streams.delivery.sockets) if streams else 0)
        exchange.set_level(CONTRACT, "bids", 2500, 1000 + number)
        while streams and streams.delivery.written < expected:
            time.sleep(0.002)  # one message a flush, none merged: this counts messages

    async def main() -> None:
        listener = listening()
        await hub.attach(exchange, newest=None)  # type: ignore[arg-type]
        config = uvicorn.Config(
            socket_app,
            ws="market.streaming.server:SocketProtocol",
            lifespan="off",
            log_level="warning",
            backlog=BACKLOG,
        )
        server = uvicorn.Server(config)
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
        await _announce_and_obey(listener, send_one)
        server.should_exit = True
        server.force_exit = True
        await asyncio.wait([serving], timeout=5)

    uvloop.run(main())


async def _announce_and_obey(listener: socket.socket, send_one: Callable[[int], None]) -> None:
    print(listener.getsockname()[1], flush=True)
    obeying: Awaitable[None] = asyncio.get_running_loop().run_in_executor(None, obey, send_one)
    await obeying


if __name__ == "__main__":
    raise_file_limit()
    {"bare": serve_bare, "hub": serve_hub}[sys.argv[1]]()
