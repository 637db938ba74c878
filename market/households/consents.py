"""Consents: who else may read or trade for a person, with what scopes, until when. Each gives a key of its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from market.households import endings, keys
from market.households.identities import CACHE
from market.households.models import KEY_NAME_LENGTH, ApiKey, Consent, Role, User
from market.households.operations import HouseholdError, new_key

MAX_CONSENTS = 20  # that hold at a time, of one person
MAX_DAYS = 366  # of one consent: nobody remembers for longer whom they allowed what; it can be extended
SHOWN = 50

HOLDS, EXPIRED, WITHDRAWN = "holds", "expired", "withdrawn"


class ConsentView(NamedTuple):
    """A consent as it is shown. ``state``: holds, expired or withdrawn; ``used_at`` to the hour."""

    id: int
    party: str
    scopes: tuple[str, ...]
    state: str
    granted_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None
    used_at: datetime | None
    prefix: str


class Granted(NamedTuple):
    """A consent just given; ``token`` is the party's key and is never shown again."""

    token: str
    consent: ConsentView


def grant(*, user: User, party: str, scopes: Iterable[str], expires_at: datetime, now: datetime) -> Granted:
    """Let a third party act for a household until ``expires_at``. Raise ``HouseholdError`` (invalid_value, …)."""
    wanted, party = set(scopes), party.strip()
    if user.role != Role.HOUSEHOLD:
        raise HouseholdError("not_a_household", "party", _("Only households let others act for them."))
    if not party or len(party) > KEY_NAME_LENGTH or not party.isprintable():
        raise HouseholdError("invalid_value", "party", _("Say who it is, in at most 80 characters."))
    if not wanted:
        raise HouseholdError("invalid_value", "scopes", _("Choose what they may do."))
    if not wanted <= keys.allowed_scopes(user.role):
        raise HouseholdError("scope_not_allowed", "scopes", _("You cannot allow this to anybody."))
    _check_end(expires_at, now)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # two at the same moment are counted one after the other
        if _holding(user, now).count() >= MAX_CONSENTS:
            raise HouseholdError("too_many_consents", "party", _("You have too many consents; withdraw one first."))
        made = new_key(user=user, name=party, scopes=wanted, expires_at=expires_at)
        consent = Consent.objects.create(user=user, key=made.key, party=party, granted_at=now)
    CACHE.forget(made.key.digest)
    return Granted(made.token, _view(consent, now))


def extend(*, user: User, consent_id: int, expires_at: datetime, now: datetime) -> ConsentView:
    """Let a consent that holds end at another time, later or sooner. Raise ``HouseholdError`` (unknown_consent, …)."""
    consent = _standing(user, consent_id, now)
    _check_end(expires_at, now)
    with transaction.atomic():
        ApiKey.objects.filter(pk=consent.key_id, revoked_at=None).update(expires_at=expires_at)
        endings.ended(user.pk)  # it may end sooner than its sockets were told
    consent.key.refresh_from_db()
    return _view(consent, now)


def withdraw(*, user: User, consent_id: int, now: datetime) -> ConsentView:
    """End a consent: its key is refused from now on, and its sockets close. Raise ``HouseholdError`` (unknown_consent)."""
    consent = _standing(user, consent_id, now)
    with transaction.atomic():
        ApiKey.objects.filter(pk=consent.key_id, revoked_at=None).update(revoked_at=now)
        endings.ended(user.pk)
    consent.key.refresh_from_db()
    return _view(consent, now)


def consents_of(user: User, *, now: datetime, limit: int = SHOWN) -> list[ConsentView]:
    """Return a person's consents, those that hold before those that ended, newest first: what holds is always shown."""
    holding = list(_holding(user, now).select_related("key", "user").order_by("-pk")[:limit])
    ended = Consent.objects.filter(user=user).exclude(pk__in=[consent.pk for consent in holding])
    rows = [*holding, *ended.select_related("key", "user").order_by("-pk")[: limit - len(holding)]]
    return [_view(consent, now) for consent in rows]


def last_day(now: datetime) -> datetime:
    """Return until when a consent given now may hold at most."""
    return now + timedelta(days=MAX_DAYS)


def _check_end(expires_at: datetime, now: datetime) -> None:
    if expires_at <= now:
        raise HouseholdError("invalid_value", "expires_at", _("This lies in the past."))
    if expires_at > last_day(now):
        raise HouseholdError("invalid_value", "expires_at", _("A consent holds for at most a year; extend it then."))


def _holding(user: User, now: datetime):  # type: ignore[no-untyped-def]
    return Consent.objects.filter(user=user, key__revoked_at=None, key__expires_at__gt=now)


def _standing(user: User, consent_id: int, now: datetime) -> Consent:
    consent = _holding(user, now).filter(pk=consent_id).select_related("key", "user").first()
    if consent is None:
        raise HouseholdError("unknown_consent", "consent", _("There is no such consent of yours, or it has ended."))
    return consent


def _view(consent: Consent, now: datetime) -> ConsentView:
    key = consent.key
    assert key.expires_at is not None, "a consent always has an end"
    if key.revoked_at is not None:
        state = WITHDRAWN
    else:
        state = HOLDS if key.expires_at > now else EXPIRED
    return ConsentView(
        id=consent.pk,
        party=consent.party,
        scopes=tuple(key.scopes.split()),
        state=state,
        granted_at=consent.granted_at,
        expires_at=key.expires_at,
        withdrawn_at=key.revoked_at,
        used_at=key.last_used_at,
        prefix=key.prefix,
    )
