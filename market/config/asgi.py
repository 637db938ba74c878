"""One ASGI application: the lean order endpoints, the streams, and Django for everything else."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from market.api.lean import PATH, order_app  # noqa: E402
from market.api.threads import LOOKUPS  # noqa: E402
from market.config import runtime  # noqa: E402
from market.config.threaded import ThreadedDjango  # noqa: E402
from market.streaming.asgi import socket_app  # noqa: E402

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

django_app = ThreadedDjango()
_ORDERS = PATH + "/"


async def http_app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one request: orders by the lean endpoints, everything else by Django."""
    path: str = scope["path"]
    if path == PATH or path.startswith(_ORDERS):
        await order_app(scope, receive, send)
    else:
        await django_app(scope, receive, send)


def close_threads() -> None:
    """End the threads that ask the database; not from an event loop, which must not wait."""
    django_app.close()
    LOOKUPS.close()


async def lifespan_app(scope: Message, receive: Receive, send: Send) -> None:
    """Open the market before the first request, close it after the last."""
    market = runtime.current()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await market.start()
            except Exception as error:
                log.exception("the market does not open")
                await market.stop()
                await send({"type": "lifespan.startup.failed", "message": f"the market does not open: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await market.stop()
            await asyncio.get_running_loop().run_in_executor(None, close_threads)
            await send({"type": "lifespan.shutdown.complete"})
            return


application = ProtocolTypeRouter({"http": http_app, "websocket": socket_app, "lifespan": lifespan_app})
