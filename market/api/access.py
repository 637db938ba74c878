"""Who may call the lean endpoints: a key, or a session whose request comes from a page of ours."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from market.api.http import Scope
from market.api.problems import Problem
from market.api.threads import LOOKUPS
from market.households import operations as households_operations
from market.households import queries as households
from market.households.identities import Identity

SAFE_METHODS = frozenset({"GET", "HEAD"})
_CHALLENGE = (("WWW-Authenticate", "Bearer"),)


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check of token, Origin and Referer; it answers with the reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _no_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


_CSRF = _CsrfCheck(_no_view)


async def identify(scope: Scope, authorization: bytes | None, cookie: bytes | None) -> Identity:
    """Return who is asking. Raise ``Problem``: 401 without a valid key or session, 403 for a forged request."""
    if authorization is not None:
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Problem(401, "invalid_key", headers=_CHALLENGE)
        remembered, identity = households.known_key(token)
        if not remembered:
            identity = await LOOKUPS.run(_look_up_key, token)
        if identity is None:
            raise Problem(401, "invalid_key", headers=_CHALLENGE)
        return identity
    session = session_of(cookie)
    identity = await LOOKUPS.run(households.identify_session, session) if session else None
    if identity is None:
        raise Problem(401, "not_authenticated", headers=_CHALLENGE)
    if scope["method"] not in SAFE_METHODS and _forged(scope):
        raise Problem(403, "csrf_failed")
    return identity


def _look_up_key(token: str) -> Identity | None:
    from django.utils import timezone

    identity = households.identify_key(token)
    if identity is not None:
        households_operations.note_key_use(identity=identity, now=timezone.now())
    return identity


def session_of(cookie: bytes | None) -> str:
    """Return the session's key in a Cookie header, or ""."""
    if cookie is None:
        return ""
    try:
        morsel = SimpleCookie(cookie.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return ""
    value = "" if morsel is None else morsel.value
    return value if value.isascii() and value.isalnum() else ""


def _forged(scope: Scope) -> bool:
    request = ASGIRequest(scope, BytesIO())
    _CSRF.process_request(request)
    return _CSRF.process_view(request, _no_view, (), {}) is not None


def need_scope(identity: Identity, wanted: str) -> None:
    """Raise ``Problem`` unless the identity may do this."""
    if wanted not in identity.scopes:
        raise Problem(403, "missing_scope", params={"scope": wanted})


def need_account(identity: Identity) -> int:
    """Return the caller's account; raise ``Problem`` when it has none."""
    if identity.account_index is None:
        raise Problem(403, "no_account")
    return identity.account_index
