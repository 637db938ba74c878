"""Who listens, and what they may hear.

Market data is public as far as it names nobody: trades and blocks always; books and tickers of areas with at least
``MIN_HOMES`` homes above the lowest level. The view from a smaller or lowest area shows what single homes do, so it is
for the members of that area and for those who run or watch the market. In the demo every book is open.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.db import close_old_connections
from django.http.request import split_domain_port, validate_host
from django.utils import timezone
from django.utils.http import is_same_domain

from market.households import operations
from market.households import queries as households
from market.households.identities import Identity
from market.streaming import disclosure
from market.streaming.protocol import BadMessage

MIN_HOMES: Final = 10
OFFICIAL_ROLES: Final = frozenset({"operator", "regulator", "staff"})


class Viewer(NamedTuple):
    """Who is at the other end. ``user_id`` is ``None`` for anybody."""

    user_id: int | None
    role: str
    account: int | None
    area: str  # of the account
    may_read: bool  # its own affairs
    until_s: float | None = None  # when what it came with ends by itself, in seconds since 1970


class Credentials(NamedTuple):
    """What a client proves itself with: an API key (``key``) or a session cookie (``session``)."""

    kind: str
    secret: str


ANYBODY: Final = Viewer(None, "", None, "", False)


# --- the handshake ---------------------------------------------------------------------------------------------------


def credentials_of(headers: dict[bytes, bytes]) -> Credentials | None:
    """Return what the handshake's headers prove; raise ``ValueError`` when they are no key at all.

    A cookie counts only beside an ``Origin``, which ``origin_allowed`` has checked: browsers always send one, so a
    cookie without it comes from no page of ours.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise ValueError("expected Authorization: Bearer KEY")
        return Credentials("key", token.strip())
    if b"origin" not in headers:
        return None
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return None
    morsel = cookies.get(settings.SESSION_COOKIE_NAME)
    return Credentials("session", morsel.value) if morsel is not None and morsel.value else None


def host_allowed(headers: dict[bytes, bytes]) -> bool:
    """Whether the handshake names a host of ours; else a page could have bent its own name to our address."""
    domain, _ = split_domain_port(headers.get(b"host", b"").decode("latin-1"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def origin_allowed(headers: dict[bytes, bytes]) -> bool:
    """Whether the page that opens the socket is ours or trusted. No ``Origin`` at all is a program, not a page."""
    raw = headers.get(b"origin")
    if raw is None:
        return True
    try:
        parts = urlsplit(raw.decode("latin-1").lower())
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return False
    secure_enough = parts.scheme == "https" or not settings.SESSION_COOKIE_SECURE
    if secure_enough and parts.netloc == headers.get(b"host", b"").decode("latin-1").lower():
        return True
    for trusted in settings.CSRF_TRUSTED_ORIGINS:
        wanted = urlsplit(trusted.lower())
        if wanted.scheme == parts.scheme and is_same_domain(parts.netloc, wanted.netloc.removeprefix("*")):
            return True
    return False


# --- identities ------------------------------------------------------------------------------------------------------


THREADS: Final = 4  # each keeps a database connection; a look-up takes about a millisecond, handshakes wait in line
_threads: ThreadPoolExecutor | None = None


def close_threads() -> None:
    """End the threads that look up credentials, and with them their database connections."""
    global _threads
    threads, _threads = _threads, None
    if threads is not None:
        threads.shutdown(wait=True)


async def viewer_of(credentials: Credentials) -> Viewer | None:
    """Return who the credentials belong to, ``None`` when nobody. The database is asked in a thread, if at all."""
    if credentials.kind == "key":
        remembered, identity = households.known_key(credentials.secret)
        if remembered:
            return _viewer(identity)
    global _threads
    if _threads is None:
        _threads = ThreadPoolExecutor(THREADS, thread_name_prefix="socket-lookup")
    return await asyncio.get_running_loop().run_in_executor(_threads, _look_up, credentials)


def _look_up(credentials: Credentials) -> Viewer | None:
    close_old_connections()  # what a request's end does for views; this thread sees no requests
    try:
        if credentials.kind == "key":
            identity = households.identify_key(credentials.secret)
            if identity is not None:
                operations.note_key_use(identity=identity, now=timezone.now())
            return _viewer(identity)
        return _viewer(households.identify_session(credentials.secret))
    finally:
        close_old_connections()


def _viewer(identity: Identity | None) -> Viewer | None:
    if identity is None:
        return None
    return Viewer(
        user_id=identity.user_id,
        role=identity.role,
        account=identity.account_index,
        area=identity.area,
        may_read="read" in identity.scopes,
        until_s=None if identity.expires_at is None else identity.expires_at.timestamp(),
    )


# --- permissions -----------------------------------------------------------------------------------------------------


def own_account(viewer: Viewer, channel: str) -> int:
    """Return the account whose affairs the viewer may follow; raise ``BadMessage`` when there is none."""
    if viewer.user_id is None:
        raise BadMessage("not_signed_in", channel)
    if viewer.account is None or not viewer.may_read:
        raise BadMessage("forbidden", channel)
    return viewer.account


def need_role(viewer: Viewer, roles: frozenset[str], channel: str) -> None:
    """Raise ``BadMessage`` unless the viewer has one of the roles, and a key that may read."""
    if viewer.user_id is None:
        raise BadMessage("not_signed_in", channel)
    if viewer.role not in roles or not viewer.may_read:
        raise BadMessage("forbidden", channel)


def audience(engine: Any, area: str) -> frozenset[str] | None:
    """Return the areas whose members may see the market from ``area``; ``None``: everybody may."""
    if settings.DEMO:
        return None
    parent = engine.areas.parent
    inside = {area}
    # Parents come before their children in the engine's order, so one pass finds the whole subtree.
    for child, above in parent.items():
        if above in inside:
            inside.add(child)
    homes = sum(1 for account in engine.accounts if account.kind == "member" and account.area in inside)
    if len(inside) > 1 and homes >= MIN_HOMES:
        return None
    return frozenset(inside)


def in_audience(viewer: Viewer, areas: frozenset[str] | None) -> bool:
    """Whether the viewer belongs to an audience."""
    return areas is None or viewer.area in areas or viewer.role in OFFICIAL_ROLES


def nameable(engine: Any, viewer: Viewer) -> frozenset[str]:
    """Return the areas that a viewer may be told about by name: those with at least ``MIN_HOMES`` homes, and its own with
    all above it; for officials, and in the demo, all.

    For sentences only. Numbers of several areas can be subtracted from each other, see ``mappable``.
    """
    areas = engine.areas.areas
    if _sees_all(viewer):
        return frozenset(area.name for area in areas)
    homes = [engine.members_by_area.get(area.name, 0) for area in areas]
    for area in reversed(areas):  # children come after their parents
        if area.parent >= 0:
            homes[area.parent] += homes[area.index]
    found = {area.name for area in areas if homes[area.index] >= MIN_HOMES}
    index = engine.areas.index.get(viewer.area, -1)
    while index >= 0:
        found.add(areas[index].name)
        index = areas[index].parent
    return frozenset(found)


def mappable(engine: Any, viewer: Viewer, count: int) -> frozenset[str]:
    """Return those of the grid's first ``count`` areas (all that a contract knows) whose flows a viewer may see side by
    side: from them nobody can work out what 1 to ``MIN_HOMES - 1`` homes trade. For officials, and in the demo, all.
    """
    areas = engine.areas.areas[:count]
    if _sees_all(viewer):
        return frozenset(area.name for area in areas)
    parents = [area.parent for area in areas]
    homes = [engine.members_by_area.get(area.name, 0) for area in areas]
    return frozenset(areas[index].name for index in disclosure.shown_edges(parents, homes, MIN_HOMES))


def _sees_all(viewer: Viewer) -> bool:
    return settings.DEMO or viewer.role in OFFICIAL_ROLES
