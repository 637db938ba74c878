"""Errors as ``application/problem+json`` (RFC 9457) with a stable ``code`` and the name of the input at fault.

One vocabulary for the lean order endpoints and the REST framework views, so that a client handles errors once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf

from market.api.sentences import SENTENCES
from market.engine.events import Refused
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.exchange.units import money_text, price_text
from market.households.operations import HouseholdError

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = 2  # when the exchange is not there; it comes back within seconds or not at all
MAX_VALUE_CHARS = 60  # of what a sentence repeats from the input

log = logging.getLogger(__name__)

# Refusals of the engine that are not simply 422 (the request is well-formed but cannot be done).
_STATUS = {
    "unknown_order": 404,
    "contract_not_open": 409,
    "gate_closed": 409,
    "market_halted": 409,
    "contract_halted": 409,
    "area_halted": 409,
    "account_halted": 409,
    "account_closed": 409,
    "signature_required": 403,
    "orders_signed": 409,
    "order_not_open": 409,
    "contract_state": 409,
    "contract_exists": 409,
    "duplicate_area": 409,
    "already_settled": 409,
    "already_founded": 409,
    "already_decided": 409,
    "idempotency_conflict": 409,
    "too_many_payments": 429,
    "too_many_disputes": 429,
    "already_contested": 409,
    "cannot_reopen": 409,
    "not_answered": 409,
    "not_settled": 409,
    "unknown_dispute": 404,
    "not_founded": 409,
    "too_many_orders": 429,
    "too_many_blocks": 429,
    "throttled": 429,
    "linked_order": 409,
    "order_hibernated": 409,
    "not_hibernated": 409,
    "unknown_trade": 404,
    "already_recalled": 409,
    "unknown_device": 404,
    "unknown_consent": 404,
    "too_many_consents": 429,
    "already_final": 409,
    "in_arrears": 409,
    "not_newest": 409,
    "not_shared": 409,
    "outside_sharing": 409,
    "unknown_agreement": 404,
    "too_many_agreements": 429,
}


# Fields whose name in a command is not the one of the REST call.
_REST_FIELDS = {
    "max_price_e4": "max_price",
    "tick_e4": "tick",
    "topup": "topup_price",
    "spill": "spill_price",
    "price_e4": "price",
    "expires_at_ms": "expires_at",
    "until_ms": "until",
    "collar_e4": "collar",
}
_LATER = frozenset({"too_many_orders", "too_many_blocks"})  # come again when something has gone
_LEG = re.compile(r"legs\.([0-9]{1,6})(?:\.(\w+))?", re.ASCII)


class Problem(Exception):
    """An answer other than success. ``params`` fill the sentence that belongs to ``code``."""

    def __init__(
        self,
        status: int,
        code: str,
        field: str = "",
        *,
        params: Mapping[str, object] | None = None,
        sentence: object = None,
        headers: tuple[tuple[str, str], ...] = (),
    ):
        super().__init__(code)
        self.status = status
        self.code = code
        self.field = field
        self.params = params or {}
        self.sentence = sentence
        self.headers = headers

    def detail(self) -> str:
        """Return the sentence in the language that is active now."""
        if self.sentence is not None:
            return str(self.sentence)
        for template in SENTENCES.get(self.code, ()):
            try:
                return gettext(template) % self.params
            except (KeyError, TypeError, ValueError):
                continue  # the refusal lacks a detail this sentence names: the next one needs less
        return gettext("This is not possible.")

    def body(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        return problem(self.status, self.code, self.field, self.detail())


def problem(status: int, code: str, field: str, detail: str) -> dict[str, Any]:
    """Return a problem document."""
    return {
        "type": f"urn:sunledger:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "field": field,
        "detail": detail,
    }


def rest_field(name: str) -> str:
    """Return the name a client knows a command's field by; legs are counted from 0, as in the JSON it sent."""
    leg = _LEG.fullmatch(name)
    if leg is None:
        return _REST_FIELDS.get(name, name)
    place = f"legs[{int(leg[1]) - 1}]"
    return f"{place}.{_REST_FIELDS.get(leg[2], leg[2])}" if leg[2] else place


def params_of(detail: Iterable[tuple[str, int | str]]) -> dict[str, object]:
    """Return what fills a sentence: prices and money as texts, without the unit in their names."""
    return dict(map(_detail, detail))


def _detail(item: tuple[str, int | str]) -> tuple[str, object]:
    name, value = item
    if isinstance(value, int) and name.endswith("_e4"):
        return name[:-3], price_text(value)
    if isinstance(value, int) and name.endswith("_e7"):
        return name[:-3], money_text(value)
    return name, value


def from_refused(refused: Refused) -> Problem:
    """Return the problem for a refusal of the exchange. Somebody else's order looks like one that does not exist."""
    code = "unknown_order" if refused.code == "not_your_order" else refused.code
    params = params_of(refused.detail) if code == refused.code else {}
    headers = (("Retry-After", "60"),) if code in _LATER else ()
    if code == "throttled":
        wait_s = max(1, -(-int(dict(refused.detail).get("retry_after_ms", 1_000)) // 1_000))
        params["retry_after_s"] = wait_s
        headers = (("Retry-After", str(wait_s)),)
    return Problem(_STATUS.get(code, 422), code, rest_field(refused.field), params=params, headers=headers)


def not_running() -> Problem:
    """Return the problem for a market that is not open in this process."""
    return Problem(503, "exchange_not_running", headers=(("Retry-After", str(RETRY_AFTER_S)),))


def overloaded(retry_after_s: int = RETRY_AFTER_S) -> Problem:
    """Return the problem for more work than can be done in time; nothing was done."""
    return Problem(503, "overloaded", headers=(("Retry-After", str(retry_after_s)),))


def from_error(error: BaseException) -> Problem | None:
    """Return the problem for an error of the packages below, or None when it is no expected one."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        return overloaded(error.retry_after_s)
    if isinstance(error, NotRunning):
        return not_running()
    if isinstance(error, CommitFailed):
        return Problem(503, "outcome_unknown", headers=(("Retry-After", str(RETRY_AFTER_S)),))
    if isinstance(error, TimeoutError):
        return Problem(503, "outcome_unknown", headers=(("Retry-After", str(RETRY_AFTER_S)),))
    if isinstance(error, HouseholdError):
        refused = getattr(error, "refused", None)
        if refused is not None:
            return from_refused(refused)
        return Problem(_STATUS.get(error.code, 422), error.code, error.field, sentence=error.sentence)
    return None


def unexpected(error: BaseException) -> Problem:
    """Log an error nobody foresaw and return what the client is told: try again later, and nothing of the inside."""
    log.error("a request met an unexpected error", exc_info=error)
    return Problem(503, "unavailable", headers=(("Retry-After", str(RETRY_AFTER_S)),))


def shorten(value: object) -> str:
    """Return a client's value as text that is safe to repeat in a sentence."""
    text = str(value)
    text = "".join(char if char.isprintable() else "?" for char in text[: MAX_VALUE_CHARS + 1])
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"


# --- Django and REST framework ---------------------------------------------------------------------------------------
def response(error: Problem) -> HttpResponse:
    """Return the problem as a response of Django's."""
    answer = HttpResponse(orjson.dumps(error.body()), status=error.status, content_type=CONTENT_TYPE)
    for name, value in error.headers:
        answer[name] = value
    return answer


def _first_field(detail: Any, path: str = "") -> tuple[str, str]:
    """Return (field, sentence) of the first message in a validation error's tree."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            if value:
                name = "" if key == "non_field_errors" else str(key)
                return _first_field(value, f"{path}.{name}" if path and name else path or name)
    if isinstance(detail, list | tuple):
        for index, value in enumerate(detail):
            if value:
                nested = isinstance(value, dict | list)
                return _first_field(value, f"{path}[{index}]" if nested else path)
    return path, str(detail)


_DRF_CODES: tuple[tuple[type[Exception], str], ...] = (
    (drf.ParseError, "malformed_json"),
    (drf.NotAuthenticated, "not_authenticated"),
    (drf.AuthenticationFailed, "invalid_key"),
    (drf.MethodNotAllowed, "method_not_allowed"),
    (drf.NotAcceptable, "not_acceptable"),
    (drf.UnsupportedMediaType, "unsupported_media_type"),
    (drf.Throttled, "overloaded"),
    (drf.NotFound, "not_found"),
)


def _of_framework(error: Exception) -> Problem:
    if isinstance(error, Http404):
        return Problem(404, "not_found")
    if isinstance(error, RequestDataTooBig):
        return Problem(413, "body_too_large")
    if isinstance(error, SuspiciousOperation):
        return Problem(400, "bad_request")
    if isinstance(error, drf.ValidationError):
        field, sentence = _first_field(error.detail)
        return Problem(422, "invalid_value", field, sentence=sentence)
    if isinstance(error, drf.PermissionDenied):
        csrf = str(error.detail).startswith("CSRF Failed")
        return Problem(403, "csrf_failed" if csrf else "forbidden")
    if isinstance(error, drf.APIException):
        for kind, code in _DRF_CODES:
            if isinstance(error, kind):
                challenge = (("WWW-Authenticate", "Bearer"),) if error.status_code == 401 else ()
                return Problem(error.status_code, code, headers=challenge)
    return unexpected(error)


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """Turn whatever a REST framework view raised into a problem document; nothing becomes a 500."""
    found = from_error(error) or _of_framework(error)
    answer = response(found)
    view = context.get("view")
    if found.status == 405 and view is not None:
        answer["Allow"] = ", ".join(view.allowed_methods)
    return answer


@csrf_exempt
def not_found(request: HttpRequest, path: str = "") -> HttpResponse:
    """Answer for paths under the API that do not exist."""
    return response(Problem(404, "not_found", sentence=gettext_lazy("There is nothing at this address.")))
