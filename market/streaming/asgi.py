"""The ASGI application at ``/ws/v1/``: the handshake's checks, then the hub.

Refusals come before the handshake completes, as HTTP statuses: a page of another site, a missing subprotocol or a bad
key never gets a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from market.exchange import gateway
from market.exchange.outcomes import NotRunning
from market.households import endings
from market.households.identities import CACHE
from market.streaming import access, ending, hub, protocol, server
from market.streaming.sockets import AsgiWire, Wire

PATH: Final = "/ws/v1/"

endings.listen(ending.recheck)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def socket_app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one WebSocket connection."""
    assert scope["type"] == "websocket"
    await receive()  # websocket.connect
    generation = CACHE.generation()
    headers: dict[bytes, bytes] = dict(scope["headers"])
    refusal, viewer, credentials = await _admit(scope, headers)
    if refusal is None:
        streams = await _hub()
        if streams is None or streams.full:
            refusal = 503, "unavailable"
    if refusal is not None:
        await _deny(scope, send, *refusal)
        return
    assert streams is not None
    await send({"type": "websocket.accept", "subprotocol": protocol.SUBPROTOCOL})
    offered = scope["extensions"].get(server.EXTENSION) if scope.get("extensions") else None
    wire: Wire = offered["wire"] if offered else AsgiWire(send)
    socket = streams.open(wire, viewer, credentials)
    if CACHE.generation() != generation and viewer.user_id is not None:
        streams.delivery.recheck(viewer.user_id)  # what ended during the handshake found no socket to close
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            streams.receive(socket, message.get("text"))
    finally:
        streams.lost(socket)
        if isinstance(wire, AsgiWire):
            wire.stop()


async def _admit(
    scope: Message, headers: dict[bytes, bytes]
) -> tuple[tuple[int, str] | None, access.Viewer, access.Credentials | None]:
    """Return why the handshake is refused (status, code), or ``None`` and who comes with which credentials."""
    if scope["path"] != PATH:
        return (404, "not_found"), access.ANYBODY, None
    if not access.host_allowed(headers):
        return (400, "host_not_allowed"), access.ANYBODY, None
    if not access.origin_allowed(headers):
        return (403, "origin_not_allowed"), access.ANYBODY, None
    if protocol.SUBPROTOCOL not in scope.get("subprotocols", ()):
        return (400, "subprotocol_required"), access.ANYBODY, None
    try:
        credentials = access.credentials_of(headers)
    except ValueError:
        return (401, "invalid_key"), access.ANYBODY, None
    if credentials is None:
        return None, access.ANYBODY, None
    viewer = await access.viewer_of(credentials)
    if viewer is None and credentials.kind == "key":
        return (401, "invalid_key"), access.ANYBODY, None
    if viewer is None:  # a session that has ended: the page may still show public prices
        return None, access.ANYBODY, None
    return None, viewer, credentials


_attaching: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}


async def _hub() -> hub.Hub | None:
    """Return this process's hub; start it when the exchange runs and nobody has yet."""
    try:
        exchange = gateway.current()
    except NotRunning:
        return None
    loop = asyncio.get_running_loop()
    running = hub.current()
    if running is not None and running.exchange is exchange and running.loop is loop and running.ready:
        return running
    for ended in [known for known in _attaching if known.is_closed()]:
        del _attaching[ended]
    async with _attaching.setdefault(loop, asyncio.Lock()):
        return await hub.attach(exchange, loop)


async def _deny(scope: Message, send: Send, status: int, code: str) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": code})  # servers answer 403
        return
    body = b'{"type":"error","code":"%s"}' % code.encode()
    headers = [(b"content-type", b"application/json")]
    if status == 503:
        headers.append((b"retry-after", b"%d" % hub.RETRY_S))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
