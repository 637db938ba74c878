"""The web server, as every command of ours starts it: one process, one event loop."""

from __future__ import annotations

import contextlib
import resource

import uvicorn

BACKLOG = 4_096  # connections that wait to be accepted: a restart makes thousands of sockets come back at once
KEEP_ALIVE_S = 30
SHUTDOWN_S = 10  # for requests under way


def run(*, host: str, port: int, application: str = "market.config.asgi:application") -> int:
    """Serve until a signal ends it; return the exit code (3: the market did not open)."""
    _allow_many_sockets()
    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="market.streaming.server:SocketProtocol",
        ws_per_message_deflate=False,
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # raised once more after the server has closed in good order
        server.run()
    return 0 if server.started else 3


def _allow_many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
