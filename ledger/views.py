"""The log over HTTP, in the shape of https://c2sp.org/tlog-tiles, with rows and rulebooks beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from ledger import cosigning, queries
from ledger.access import may_read_entries
from ledger.core.tiles import TILE_WIDTH, parse_path

IMMUTABLE = "max-age=31536000, immutable"
PARTIAL = "max-age=60"  # its bytes never change, but nobody asks for it again once the log has grown
OCTETS = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
LINES = "application/jsonl; charset=utf-8"
MAX_DIGITS = 19  # of a 64-bit sequence

View = Callable[..., HttpResponse]


def problem(status: int, title: str, code: str, field: str, detail: str) -> HttpResponse:
    """Return an error as ``application/problem+json`` with a stable code."""
    kind = f"urn:sunledger:problem:{code}"
    body = {"type": kind, "title": title, "status": status, "code": code, "field": field, "detail": detail}
    return JsonResponse(body, status=status, content_type="application/problem+json")


def _not_found(field: str, detail: str) -> HttpResponse:
    return problem(404, "Not found", "not_found", field, detail)


def _reads(view: View) -> View:
    """Answer only GET and HEAD, and say 404 where the log has no such thing."""

    @csrf_exempt  # nothing is changed here; other methods are to meet the 405, not a page about cookies
    @wraps(view)
    def answer(request: HttpRequest, **arguments: str) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            response = problem(
                405, "Method not allowed", "method_not_allowed", "", "Only GET and HEAD are served here."
            )
            response["Allow"] = "GET, HEAD"
            return response
        try:
            return view(request, **arguments)
        except queries.NotThere as error:
            return _not_found("", f"The log does not have this: {error}.")

    return answer


def _refused(known: bool) -> HttpResponse:
    """Return 403 for a caller we know, 401 for any other."""
    detail = "Entries and rows need the role of a regulator or operator, or an API key with the scope ledger:read."
    if known:
        response = problem(403, "Forbidden", "forbidden", "", detail)
    else:
        response = problem(401, "Unauthorized", "not_authenticated", "", detail)
        response["WWW-Authenticate"] = "Bearer"
    response["Cache-Control"] = "no-store"
    return response


def _file(data: bytes | str, kind: str, caching: str, *, gated: bool = False) -> HttpResponse:
    response = HttpResponse(data, content_type=kind)
    response["Cache-Control"] = f"{'private' if gated else 'public'}, {caching}"
    if gated:
        response["Vary"] = "Authorization, Cookie"
    return response


@_reads
def checkpoint(request: HttpRequest) -> HttpResponse:
    """``GET checkpoint``: the newest signed head."""
    return _file(queries.checkpoint(), TEXT, "max-age=1")


@_reads
def witnessed(request: HttpRequest) -> HttpResponse:
    """``GET witnessed``: the newest head that has a quorum of witnesses."""
    return _file(queries.witnessed_checkpoint(), TEXT, "max-age=1")


@_reads
def keys(request: HttpRequest) -> HttpResponse:
    """``GET keys``: the entries that say who may sign, one a line, oldest first."""
    return _file(queries.key_entries(), LINES, "max-age=1")


@_reads
def witnesses(request: HttpRequest) -> HttpResponse:
    """``GET witnesses``: the verifier keys of the policy's witnesses, one a line."""
    return _file("".join(f"{key}\n" for key in cosigning.witness_keys()), TEXT, "max-age=60")


@_reads
def tile(request: HttpRequest, rest: str) -> HttpResponse:
    """``GET tile/<L>/<N>[.p/<W>]`` and ``GET tile/entries/<N>[.p/<W>]``, as far as the newest checkpoint goes."""
    try:
        place = parse_path(f"tile/{rest}")
    except ValueError as error:
        return _not_found("path", f"{str(error).capitalize()}.")
    gated = place.level < 0
    if gated and not (may := may_read_entries(request)):
        return _refused(may is not None)
    return _file(queries.tile(place), OCTETS, IMMUTABLE if place.width == TILE_WIDTH else PARTIAL, gated=gated)


@_reads
def rows(request: HttpRequest, seq: str) -> HttpResponse:
    """``GET rows/<seq>``: the salted rows an entry commits to, one JSON object a line."""
    if not (may := may_read_entries(request)):
        return _refused(may is not None)
    if not (seq.isascii() and seq.isdigit() and len(seq) <= MAX_DIGITS):
        return _not_found("seq", "Expected the number of an entry.")
    return _file(queries.rows_file(int(seq)), LINES, IMMUTABLE, gated=True)


@_reads
def evidence(request: HttpRequest, sha256: str) -> HttpResponse:
    """``GET evidence/<sha256>``: the signed batch that rows of readings name as their source."""
    if not (may := may_read_entries(request)):
        return _refused(may is not None)
    return _file(queries.evidence(sha256), OCTETS, IMMUTABLE, gated=True)


@_reads
def snapshot(request: HttpRequest, sha256: str) -> HttpResponse:
    """``GET snapshot/<sha256>``: the market's state that a ``snapshot`` entry commits to, while it is kept."""
    if not (may := may_read_entries(request)):
        return _refused(may is not None)
    return _file(queries.snapshot(sha256), OCTETS, IMMUTABLE, gated=True)


@_reads
def rulebook(request: HttpRequest, sha256: str) -> HttpResponse:
    """``GET rulebook/<sha256>``: a text of the rulebook, past or present."""
    return _file(queries.rulebook(sha256), TEXT, IMMUTABLE)


@_reads
def nothing(request: HttpRequest, path: str) -> HttpResponse:
    """Answer for every other path below the log's prefix."""
    return _not_found("path", "There is nothing at this address.")
