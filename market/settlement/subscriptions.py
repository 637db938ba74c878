"""Asking for the weekly summary and no longer; claiming one before it is sent, so that it never goes twice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core import signing
from django.db import IntegrityError, transaction

from market.households.models import Role, User
from market.settlement.models import Subscription, Summary

SALT = "settlement.summary"  # of the signed link in every summary; it does not expire, and opens nothing else
MAX_TOKEN = 200
MAX_WEEKS = 1_040  # twenty years of them


def subscribe(*, user: User, now: datetime) -> None:
    """Send a person the weekly summary from now on. Safe to repeat."""
    Subscription.objects.get_or_create(user=user, defaults={"since": now})


def unsubscribe(*, user_id: int) -> bool:
    """Send a person no more summaries; return whether they got any. Safe to repeat."""
    return bool(Subscription.objects.filter(user_id=user_id).delete()[0])


def is_subscribed(user: User) -> bool:
    """Whether a person asked for the weekly summary."""
    return Subscription.objects.filter(user_id=user.pk).exists()


def token_of(user: User) -> str:
    """Return what a link needs to stop a person's summaries without signing in."""
    return signing.dumps(user.pk, salt=SALT)


def user_of(token: str) -> int | None:
    """Return whose summaries a token stops, or None when it is none of ours."""
    if len(token) > MAX_TOKEN:
        return None
    try:
        found = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        return None
    return found if type(found) is int else None


def about(user: User) -> dict[str, Any]:
    """Return since when a person gets the summary, None for who does not, and the weeks of which one was sent, newest first."""
    rows = Summary.objects.filter(user=user).order_by("-week")[:MAX_WEEKS]
    return {
        "since": Subscription.objects.filter(user=user).values_list("since", flat=True).first(),
        "sent": [{"week": row.week, "state": row.state, "at": row.at} for row in rows],
    }


def subscribers(*, after: int, limit: int) -> list[User]:
    """Return people who get the summary, by key, those after ``after``; at most ``limit``."""
    rows = Subscription.objects.filter(user_id__gt=after, user__is_active=True, user__role=Role.HOUSEHOLD)
    return [row.user for row in rows.select_related("user").order_by("user_id")[:limit]]


def claim(*, user: User, week: str, now: datetime) -> bool:
    """Note that a week's summary is about to be sent to a person; return False when it was, or may have been, before.

    Whoever claims first sends: two runs at once, or one that was killed between this and the mail server's answer, send it
    once or not at all. What the mail server refused may be claimed again.
    """
    try:
        with transaction.atomic():
            Summary.objects.create(user=user, week=week, state=Summary.State.SENDING, at=now)
    except IntegrityError:
        refused = Summary.objects.filter(user=user, week=week, state=Summary.State.REFUSED)
        return bool(refused.update(state=Summary.State.SENDING, at=now))
    return True


def note(*, user: User, week: str, sent: bool) -> None:
    """Note what the mail server said."""
    state = Summary.State.SENT if sent else Summary.State.REFUSED
    Summary.objects.filter(user=user, week=week).update(state=state)
