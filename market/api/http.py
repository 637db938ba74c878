"""The little of HTTP that the lean endpoints need: one request with its bounds, one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.utils import translation
from django.utils.translation.trans_real import parse_accept_lang_header

from market.api.problems import CONTENT_TYPE, Problem

MAX_ORDER_BYTES = 16 * 1024
MAX_BASKET_BYTES = 64 * 1024  # 100 legs
MAX_BATCH_BYTES = 1024 * 1024  # 1,000 orders of 200 bytes, with room for generous clients
BODY_TIMEOUT_S = 20.0  # for a body that comes in pieces
MAX_QUERY_BYTES = 4_096
MAX_QUERY_FIELDS = 20
UTF_8 = ("utf-8", "utf8")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON_HEADERS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_PROBLEM_HEADERS = ((b"content-type", CONTENT_TYPE.encode()), *_JSON_HEADERS[1:], (b"vary", b"accept-language"))


class Disconnected(Exception):
    """The client has gone before its request was complete; nobody waits for an answer."""


async def read_body(receive: Receive, declared: bytes | None, limit: int) -> bytes:
    """Return the request's body; ``declared`` is its Content-Length header. Raise ``Problem`` (413, 408) or ``Disconnected``.

    Too much is refused as soon as that is clear, before anything is read where the length is declared. The server throws
    away what comes after an answer, so a client that sends on still gets to read it.
    """
    if declared is not None and len(declared) > 4 and declared.isdigit() and int(declared[:18]) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise _too_large(limit)
    if not message.get("more_body"):
        return body
    parts = [body]
    size = len(body)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while message.get("more_body"):
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Problem(408, "bad_request", headers=(("Connection", "close"),)) from None
    return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", params={"limit": limit})


def query_of(scope: Scope, known: frozenset[str]) -> dict[str, str]:
    """Return the query string's fields; raise ``Problem`` on unknown or repeated ones, so that no filter is ignored."""
    raw: bytes = scope.get("query_string", b"")
    if not raw:
        return {}
    if len(raw) > MAX_QUERY_BYTES:
        raise Problem(414, "bad_request")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, "bad_request") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            shown = name if name.isascii() and name.isprintable() and len(name) < 60 else "?"
            raise Problem(400, "unknown_field", shown, params={"name": shown})
        if name in found:
            raise Problem(400, "invalid_value", name)
        found[name] = value
    return found


@lru_cache(maxsize=512)
def host_allowed(host: bytes) -> bool:
    """Whether a Host header names us; the same check as Django's."""
    domain, _port = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def is_json_type(content_type: str) -> bool:
    """Whether a Content-Type header announces JSON in UTF-8, the only charset JSON has between programs (RFC 8259)."""
    kind, *parameters = content_type.split(";")
    if kind.strip().lower() != "application/json":
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in UTF_8:
            return False
    return True


@lru_cache(maxsize=512)
def language_of(accept: str) -> str:
    """Return the first language of an Accept-Language header that we speak."""
    for code, _quality in parse_accept_lang_header(accept[:500]):
        if code == "*":
            break
        try:
            return translation.get_supported_language_variant(code)
        except LookupError:
            continue
    return settings.LANGUAGE_CODE


def accepted_language(scope: Scope) -> str:
    """Return the language a request is to be answered in."""
    accept = header(scope, b"accept-language")
    return settings.LANGUAGE_CODE if accept is None else language_of(accept.decode("latin-1"))


def header(scope: Scope, wanted: bytes) -> bytes | None:
    """Return a header's value, or None."""
    for name, value in scope["headers"]:
        if name == wanted:
            return value  # type: ignore[no-any-return]
    return None


async def answer(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a JSON answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*_JSON_HEADERS, (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def answer_problem(scope: Scope, send: Send, problem: Problem, language: str = "") -> None:
    """Send a problem document, its sentence in ``language`` or the one the client asks for."""
    body = problem_bytes(scope, problem, language)
    extra = [(name.lower().encode(), value.encode()) for name, value in problem.headers]
    headers = [*_PROBLEM_HEADERS, (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem_bytes(scope: Scope, problem: Problem, language: str = "") -> bytes:
    """Return the problem document as JSON."""
    return orjson.dumps(problem_dict(scope, problem, language))


def problem_dict(scope: Scope, problem: Problem, language: str = "") -> dict[str, Any]:
    """Return the problem document in the client's language."""
    with translation.override(language or accepted_language(scope)):
        return problem.body()
