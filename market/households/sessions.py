"""Where a person is signed in: one row a browser, beside Django's session, which alone decides whether it holds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils.translation import gettext as _

from market.households import endings
from market.households.models import SignIn, User

SEEN_EVERY_S = 300  # how exact "last seen" is: more would be a write for every page
MAX_SIGN_INS = 50  # of one person; the one not seen for longest ends when there are more
MAX_DEMO_SIGN_INS = 5_000  # all visitors of a demo are the same few people
MAX_AGENT = 400  # characters of what a browser says about itself that are looked at

# In this order: each says the names of those below it, too.
_BROWSERS = (
    (r"Edg(?:e|A|iOS)?/", "Edge"), (r"OPR/|Opera", "Opera"), (r"SamsungBrowser/", "Samsung Internet"),
    (r"Firefox/|FxiOS/", "Firefox"), (r"HeadlessChrome/|Chrome/|CriOS/|Chromium/", "Chrome"), (r"Safari/", "Safari"),
)  # fmt: skip
_SYSTEMS = (
    (r"iPhone|iPod", "iPhone"), (r"iPad", "iPad"), (r"Android", "Android"), (r"Windows", "Windows"),
    (r"Mac OS X|Macintosh", "Mac"), (r"CrOS", "ChromeOS"), (r"Linux|X11", "Linux"),
)  # fmt: skip


class SignedIn(NamedTuple):
    """A browser in which a person is signed in, as it is shown."""

    id: int
    browser: str
    system: str
    first_at: datetime
    seen_at: datetime
    here: bool


def words_of(agent: str) -> tuple[str, str]:
    """Return the names of browser and system in a User-Agent header, "" for what is not known."""
    agent = agent[:MAX_AGENT]
    return _first(_BROWSERS, agent), _first(_SYSTEMS, agent)


def _first(patterns: tuple[tuple[str, str], ...], agent: str) -> str:
    return next((name for pattern, name in patterns if re.search(pattern, agent)), "")


def note(*, user: User, session_key: str, sign_in: int, agent: str, now: datetime) -> int:
    """Note that a browser was seen; return the number of its row. ``sign_in``: the number it had, 0 for none yet.

    The session's key may be another one than before: Django changes it when a password changes.
    """
    if sign_in and SignIn.objects.filter(pk=sign_in, user=user).update(session_key=session_key, seen_at=now):
        return sign_in
    browser, system = words_of(agent)
    with transaction.atomic():
        row, made = SignIn.objects.get_or_create(
            session_key=session_key,
            defaults={"user": user, "browser": f"{browser}/{system}", "first_at": now, "seen_at": now},
        )
        if made:
            _end_oldest(user)
    return row.pk


def _end_oldest(user: User) -> None:
    rows = SignIn.objects.filter(user=user).order_by("-seen_at", "-pk").values_list("session_key", flat=True)
    too_many = list(rows[MAX_DEMO_SIGN_INS if settings.DEMO else MAX_SIGN_INS :])
    if too_many:
        _end(user, too_many)


def sign_ins_of(user: User, *, session_key: str, now: datetime) -> list[SignedIn]:
    """Return where a person is signed in, this browser first, then the last seen; drop rows of sessions that are over."""
    mine = SignIn.objects.filter(user=user).select_related("user")
    others = mine.exclude(session_key=session_key).order_by("-seen_at", "-pk")[:MAX_SIGN_INS]
    rows = [*mine.filter(session_key=session_key), *others]
    keys = [row.session_key for row in rows]
    held = set(Session.objects.filter(session_key__in=keys, expire_date__gt=now).values_list("session_key", flat=True))
    SignIn.objects.filter(pk__in=[row.pk for row in rows if row.session_key not in held]).delete()
    return [_shown(row, session_key) for row in rows if row.session_key in held]


def _shown(row: SignIn, session_key: str) -> SignedIn:
    browser, _slash, system = row.browser.partition("/")
    return SignedIn(row.pk, browser, system, row.first_at, row.seen_at, row.session_key == session_key)


def name_of(one: SignedIn) -> str:
    """Return a browser in words: "Firefox on Linux"."""
    if one.browser and one.system:
        return _("%(browser)s on %(system)s") % {"browser": one.browser, "system": one.system}
    return one.browser or one.system or _("An unknown browser or program")


def end(*, user: User, sign_in: int) -> bool:
    """End one session of a person; return whether there was one."""
    key = SignIn.objects.filter(pk=sign_in, user=user).values_list("session_key", flat=True).first()
    if key is None:
        return False
    _end(user, [key])
    return True


def signed_out(*, user: User, session_key: str) -> None:
    """Forget a browser that signed out; Django has ended its session."""
    SignIn.objects.filter(session_key=session_key).delete()
    endings.ended(user.pk)


def end_others(*, user: User, session_key: str) -> int:
    """End a person's sessions but this one; return how many."""
    keys = list(SignIn.objects.filter(user=user).exclude(session_key=session_key).values_list("session_key", flat=True))
    _end(user, keys)
    return len(keys)


def _end(user: User, keys: list[str]) -> None:
    with transaction.atomic():
        Session.objects.filter(session_key__in=keys).delete()
        SignIn.objects.filter(session_key__in=keys).delete()
        endings.ended(user.pk)


def due(seen_s: float, now: datetime) -> bool:
    """Return whether a browser noted at ``seen_s`` (seconds since the epoch) is to be noted again."""
    return now - datetime.fromtimestamp(seen_s, now.tzinfo) >= timedelta(seconds=SEEN_EVERY_S)
