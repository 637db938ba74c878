"""Who in office read what about whom: noted where it is shown, visible to the person and to the reader.

A note is one row a reader, kind, subject and hour, however often somebody looks; a page that shows many accounts is one
statement. Kept for ``settings.ACCESS_LOG_DAYS``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from market.households.models import Access, Account, Consent, Role, User

PEOPLE, ACCOUNT, ORDERS, TRADES, REFUSALS, ENTRIES, LEDGER, CONSENT, EXPORT = (
    "people", "account", "orders", "trades", "refusals", "entries", "ledger", "consent", "export",
)  # fmt: skip
KINDS = {
    PEOPLE: _("Name, address and meter number"),
    ACCOUNT: _("Account: money, orders, trades, settlement"),
    ORDERS: _("Orders"),
    TRADES: _("Trades"),
    REFUSALS: _("Orders that were refused"),
    ENTRIES: _("Entries of the ledger"),
    LEDGER: _("The whole ledger"),
    CONSENT: _("What you allowed"),
    EXPORT: _("A copy of everything about you"),
}
OFFICIALS = frozenset((Role.OPERATOR.value, Role.REGULATOR.value, Role.STAFF.value))
NOBODY = 0
NO_ACCOUNT = -1
MAX_SUBJECTS = 2_000  # of one note: above the largest page
REMEMBERED = 10_000  # notes of this hour, so that looking again costs nothing
PRUNE_ROWS = 5_000  # at most so many old rows are dropped at once
SHOWN = 20

_known: OrderedDict[tuple[object, ...], None] = OrderedDict()
_pruned: list[datetime] = []  # the hour in which this process last dropped old rows
_lock = threading.Lock()


class Seen(NamedTuple):
    """One look, as it is shown. ``reader`` is "" when that person is gone."""

    at: datetime
    reader: str
    role: str
    kind: object
    account: int | None


def note(
    *,
    reader: int,
    role: str,
    kind: str,
    now: datetime,
    accounts: Iterable[int] = (),
    people: Iterable[int] = (),
    everybody: bool = False,
) -> None:
    """Note what somebody in office is shown; nothing for anybody else. ``now`` is the time of day, not market time."""
    if role not in OFFICIALS:
        return
    assert kind in KINDS, kind
    subjects = {(account, NOBODY) for account in accounts if account >= 0}
    subjects |= {(NO_ACCOUNT, person) for person in people}
    if everybody:
        subjects.add((NO_ACCOUNT, NOBODY))
    assert len(subjects) <= MAX_SUBJECTS, f"expected at most {MAX_SUBJECTS} subjects, was {len(subjects)}"
    hour = now.replace(minute=0, second=0, microsecond=0)
    names = {subject: (reader, role, kind, hour, *subject) for subject in subjects}
    new = [subject for subject in sorted(subjects) if names[subject] not in _known]
    if new:
        rows = [
            Access(hour=hour, at=now, reader=reader, role=role, kind=kind, account=account, person=person)
            for account, person in new
        ]
        Access.objects.bulk_create(rows, ignore_conflicts=True)
        _remember(names[subject] for subject in new)
    if _pruned != [hour]:
        _pruned[:] = [hour]
        prune(now=now)


def note_consent(*, user_id: int, consent: int, now: datetime) -> None:
    """Note that a third party used the key that a person's consent gave it."""
    _note_own(user_id, CONSENT, consent, now)


def note_export(*, user_id: int, now: datetime) -> None:
    """Note that a person took a copy of everything about them: was it not them, they see it here."""
    _note_own(user_id, EXPORT, 0, now)


def _note_own(user_id: int, kind: str, consent: int, now: datetime) -> None:
    hour = now.replace(minute=0, second=0, microsecond=0)
    row = Access(
        hour=hour, at=now, reader=user_id, role=Role.HOUSEHOLD.value, kind=kind, person=user_id, consent=consent
    )
    Access.objects.bulk_create([row], ignore_conflicts=True)


def _remember(names: Iterable[tuple[object, ...]]) -> None:
    with _lock:
        for name in names:
            _known[name] = None
        while len(_known) > REMEMBERED:
            _known.popitem(last=False)


def forget_remembered() -> None:
    """Note everything anew, as a process that just started does."""
    with _lock:
        _known.clear()
        _pruned.clear()


def prune(*, now: datetime) -> int:
    """Drop what is older than it is kept, a bounded part of it; return how many rows."""
    oldest = now - timedelta(days=settings.ACCESS_LOG_DAYS)
    ids = list(Access.objects.filter(at__lt=oldest).order_by("at").values_list("id", flat=True)[:PRUNE_ROWS])
    return Access.objects.filter(id__in=ids).delete()[0] if ids else 0


def about(user: User, *, limit: int = SHOWN) -> list[Seen]:
    """Return who read about a person: by name, by one of their accounts, or with everybody's; newest first."""
    accounts = list(Account.objects.filter(user=user).values_list("index", flat=True))
    rows = Access.objects.filter(
        Q(person=user.pk) | Q(account__in=accounts) | Q(person=NOBODY, account=NO_ACCOUNT, at__gte=user.date_joined)
    )
    return _seen(list(rows.order_by("-at", "-id")[:limit]))


def by(user: User, *, limit: int = SHOWN) -> list[Seen]:
    """Return what a person in office read, newest first."""
    return _seen(list(Access.objects.filter(reader=user.pk).order_by("-at", "-id")[:limit]))


def _seen(rows: list[Access]) -> list[Seen]:
    readers = {person.pk: person.username for person in User.objects.filter(pk__in={row.reader for row in rows})}
    consents = Consent.objects.filter(pk__in={row.consent for row in rows}).select_related("user")
    parties = {consent.pk: consent.party for consent in consents}
    return [_shown(row, readers, parties) for row in rows]


def _shown(row: Access, readers: dict[int, str], parties: dict[int, str]) -> Seen:
    reader, role = readers.get(row.reader, ""), Role(row.role).label
    if row.kind == CONSENT:
        reader, role = parties.get(row.consent, ""), str(_("Third party"))
    elif row.kind == EXPORT:
        reader, role = "", str(_("You"))
    return Seen(row.at, reader, role, KINDS[row.kind], None if row.account == NO_ACCOUNT else row.account)
