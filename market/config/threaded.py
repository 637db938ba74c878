"""Django's views on an event loop: a fixed set of threads, each with a database connection that stays open.

Django's own ASGI handler starts a thread, and so a database connection, for every request that runs synchronous code,
and all of ours does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from io import BytesIO
from typing import Any

import orjson
from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpResponseBase
from django.http.response import StreamingHttpResponse
from django.urls import set_script_prefix

from market.api import access, http
from market.api.threads import LOOKUPS, Busy, DatabaseThreads
from market.households import queries as households
from market.metering.formats.values import MAX_FILE_BYTES

THREADS = 8  # a page asks the database a handful of short questions; more threads would only wait for the interpreter
MAX_WAITING = 500  # requests that wait for a thread; at 5 ms each and 8 threads the last one starts after 0.3 s
SEND_TIMEOUT_S = 30.0  # a reader of a long answer that takes nothing for so long is cut off, its thread is needed
BODY_TIMEOUT_S = 30.0
UPLOADS = {
    "/account/readings": MAX_FILE_BYTES + 64 * 1024
}  # paths that take files: their limit, with the form around it
MAX_UPLOADS = 4  # files read at a time, so that they never fill the memory

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)


class ThreadedDjango(ASGIHandler):
    """An ASGI application around Django's synchronous middleware and views."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = DatabaseThreads("django", THREADS, MAX_WAITING)
        self._uploads = 0  # files being read or worked on

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        limit = UPLOADS.get(scope["path"])
        try:
            large = limit is not None and _is_file(scope) and await _signed_in(scope)
        except Busy:  # nobody knows whether it may: to be told that it is too large would be wrong
            await _problem(send, 503, "overloaded", "More requests wait than can be answered in time.")
            return
        if limit is None or not large:
            await self._answer(scope, await _body(scope, receive, settings.DATA_UPLOAD_MAX_MEMORY_SIZE), send)
            return
        if self._uploads >= MAX_UPLOADS:
            await _problem(send, 503, "overloaded", "More files are being read than can be at a time.")
            return
        self._uploads += 1
        try:
            await self._answer(scope, await _body(scope, receive, limit), send)
        finally:
            self._uploads -= 1

    async def _answer(self, scope: Message, body: bytes | int, send: Send) -> None:
        if isinstance(body, int):
            if body:
                code = "body_too_large" if body == 413 else "bad_request"
                await _problem(send, body, code, "The body is too large or too slow.")
            return
        try:
            await self._threads.run(self._respond, scope, body, send, asyncio.get_running_loop())
        except Busy:
            await _problem(send, 503, "overloaded", "More requests wait than can be answered in time.")

    def close(self) -> None:
        """End the threads and their connections."""
        self._threads.close()

    def _respond(self, scope: Message, body: bytes, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, error = self.create_request(scope, BytesIO(body))
        response = self.get_response(request) if error is None else error
        try:
            _send_response(response, send, loop)
        finally:
            response.close()  # sends request_finished: connections that broke or grew old are dropped


def _send_response(response: HttpResponseBase, send: Send, loop: asyncio.AbstractEventLoop) -> None:
    def tell(message: Message) -> None:
        asyncio.run_coroutine_threadsafe(send(message), loop).result(SEND_TIMEOUT_S)  # type: ignore[arg-type]

    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    headers += [
        (b"set-cookie", cookie.output(header="").strip().encode("latin-1")) for cookie in response.cookies.values()
    ]
    start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
    if not isinstance(response, StreamingHttpResponse):
        content = response.content  # type: ignore[attr-defined]
        if not response.has_header("Content-Length"):
            headers.append((b"content-length", b"%d" % len(content)))
        asyncio.run_coroutine_threadsafe(_send_all(send, start, content), loop).result(SEND_TIMEOUT_S)
        return
    tell(start)
    for chunk in response:
        tell({"type": "http.response.body", "body": chunk, "more_body": True})
    tell({"type": "http.response.body", "body": b""})


async def _send_all(send: Send, start: Message, content: bytes) -> None:
    await send(start)
    await send({"type": "http.response.body", "body": content})


def _is_file(scope: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"multipart/form-data") for name, value in scope["headers"])


async def _signed_in(scope: Message) -> bool:
    """Whether a request comes with a session: strangers, however slow, hold none of the few places for files.

    Raise ``Busy`` when that cannot be looked up in time.
    """
    session = access.session_of(http.header(scope, b"cookie"))
    return bool(session) and await LOOKUPS.run(households.identify_session, session) is not None


async def _body(scope: Message, receive: Receive, limit: int) -> bytes | int:
    """Return the body, or the status to refuse it with: 413, 408, or 0 when the client has gone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > limit):
            return 413
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return 0
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    return 413
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        return 408


async def _problem(send: Send, status: int, code: str, detail: str) -> None:
    body = orjson.dumps(
        {"type": f"urn:sunledger:problem:{code}", "title": code, "status": status, "code": code, "field": "",
         "detail": detail}
    )  # fmt: skip
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await _send_all(send, {"type": "http.response.start", "status": status, "headers": headers}, body)
