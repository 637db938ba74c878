"""Forgetting a person: what names them goes, what lies in backups loses its key, the ledger stays as it is.

The account is closed and paid out first; nothing is erased while money, open orders or unsettled intervals remain.
Afterwards the account's entries are those of a number that nobody can put a name to: its commitment has lost salt and
record, its connection the row that led from the meter number to it.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.exchange.units import money_text
from market.households import endings, keystore, renewal
from market.households.models import Access, Account, Connection, Device, Home, Renewal, Role, User
from market.households.operations import HouseholdError, close_account

CODE_BYTES = 8
CENT_E7 = 10**5  # what is less, no bank can pay: it stays under a number that is nobody's
LOOKED_AT_ONCE = 1_000  # sessions or people of one query


class Paid(NamedTuple):
    """What was set aside of an account for a transfer to a bank account."""

    account: int
    amount_e7: int
    seq: int  # the ledger's fund entry


class Erased(NamedTuple):
    """What became of a person."""

    accounts: list[int]
    sessions: int


def request_erasure(*, user: User, now: datetime) -> None:
    """Note that a household wants to be forgotten; the market operator does it. Raise ``HouseholdError``."""
    _check_role(user)
    User.objects.filter(pk=user.pk, erasure_requested_at=None).update(erasure_requested_at=now)


def withdraw_request(*, user: User) -> None:
    """Note that a household wants to stay after all."""
    User.objects.filter(pk=user.pk).update(erasure_requested_at=None)


def _check_role(user: User) -> None:
    if user.role != Role.HOUSEHOLD:
        raise HouseholdError(
            "not_a_household",
            "user",
            _("Only households are erased: who decided something in office stays named beside the decision."),
        )


def close_and_pay_out(exchange: Exchange, *, user: User, now: datetime, iban: str = "", holder: str = "") -> list[Paid]:
    """Close a person's accounts and ask for a withdrawal of what is in those where everything is settled. Safe to repeat.

    ``iban`` and ``holder``: where the money goes; needed only where there is some. The staff confirm and send it as any
    other. Raise ``HouseholdError`` (invalid_iban, invalid_holder, arrears, …), ``Refusal``.
    """
    _check_role(user)
    renewal.finish(exchange, user=user)
    paid = []
    for account in Account.objects.filter(user=user).order_by("index"):
        if account.closed_at is None:
            close_account(exchange, account_index=account.index, now=now)
            account.refresh_from_db()
        if _unsettled(account):
            continue
        balance = exchange_queries.balance(account.index)
        if balance is not None and balance.free_e7 >= CENT_E7:
            payment = import_module(settings.PAYOUTS).pay_out(
                exchange, account=account.index, free_e7=balance.free_e7, iban=iban, holder=holder, now=now
            )
            paid.append(Paid(account.index, payment.amount_e7, payment.seq))
    return paid


def _unsettled(account: Account) -> int:
    assert account.closed_at is not None
    return len(exchange_queries.unsettled(account.index, until_ms=int(account.closed_at.timestamp() * 1_000)))


def check_ready(user: User) -> None:
    """Raise ``HouseholdError`` that says what is still in the way of erasing a person."""
    _check_role(user)
    if renewal.under_way(user):
        raise HouseholdError("money_moving", "account", _("Money is on its way between two of the accounts."))
    for account in Account.objects.filter(user=user).order_by("index"):
        number = {"number": account.index}
        if account.closed_at is None:
            raise HouseholdError(
                "account_open", "account", _("Account %(number)s is still open. Close it first.") % number
            )
        if count := _unsettled(account):
            sentence = ngettext(
                "Account %(number)s is closed, but %(count)s interval is not settled yet. Try again once it is.",
                "Account %(number)s is closed, but %(count)s intervals are not settled yet. Try again once they are.",
                count,
            )
            raise HouseholdError("unsettled", "account", sentence % {**number, "count": count})
        balance = exchange_queries.balance(account.index)
        if balance is not None and balance.arrears_e7:
            sentence = _("Account %(number)s owes %(amount)s. That has to be paid first.")
            raise HouseholdError("arrears", "account", sentence % {**number, "amount": money_text(balance.arrears_e7)})
        if balance is not None and balance.cash_e7 >= CENT_E7:
            sentence = _("Account %(number)s still holds %(amount)s. Pay it out first.")
            raise HouseholdError("money_left", "account", sentence % {**number, "amount": money_text(balance.cash_e7)})
    indexes = list(Account.objects.filter(user=user).values_list("index", flat=True))
    for module in _elsewhere():
        obstacle = module.obstacle(indexes)
        if obstacle is not None:
            raise obstacle


def _elsewhere() -> list[Any]:
    """Return the modules of packages above that know something about a person, too."""
    return [import_module(name) for name in settings.PERSONAL_DATA]


def erase(*, user: User) -> Erased:
    """Erase a person for good; raise ``HouseholdError`` while something is in the way.

    Everything goes in one transaction whose last act destroys the key. Cut short after that, the rows are there and
    unreadable, and the same call (or ``erase_again``) removes them.
    """
    check_ready(user)
    return _strip(user)


def erase_again() -> int:
    """Erase those once more whom a restored backup brought back; return how many."""
    count, last = 0, 0
    while people := list(User.objects.filter(pk__gt=last).order_by("pk")[:LOOKED_AT_ONCE]):
        last = people[-1].pk
        for person in people:
            if keystore.store().destroyed(person.person_key):
                _strip(person)
                count += 1
    return count


def _strip(user: User) -> Erased:
    pk, key = user.pk, user.person_key
    _overwrite_deleted()
    with transaction.atomic():
        accounts = list(Account.objects.filter(user=user).order_by("index"))
        indexes = [account.index for account in accounts]
        connections = {account.connection for account in accounts} - {""}
        for module in _elsewhere():
            module.forget(indexes)
        Renewal.objects.filter(Q(old__in=accounts) | Q(new__in=accounts)).delete()
        Account.objects.filter(pk__in=[account.pk for account in accounts]).update(
            user=None, home=None, salt=b"", identity="", automatic=False
        )
        _forget_connections(connections)
        Access.objects.filter(person=pk).delete()
        exchange_operations.forget_keys(accounts=indexes)
        sessions = _end_sessions(pk)
        # By name, too: what they said stays under the account's number, whose they were does not.
        Device.objects.filter(user=user).delete()
        User.objects.filter(pk=pk).delete()  # keys and the request for an account go with it
        endings.ended(pk)
        keystore.store().destroy(key)
    _empty_log()
    return Erased(indexes, sessions)


def _overwrite_deleted() -> None:
    """Have SQLite write zeros over what this connection deletes; PostgreSQL's vacuum gets to it in its own time."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA secure_delete=ON")
            cursor.fetchall()


def _empty_log() -> None:
    """Move SQLite's log, which still has the old pages, into the file. A busy reader leaves that to the next commit."""
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()


def _forget_connections(names: set[str]) -> None:
    """Forget which meters the ledger has these names for, those aside over which somebody else trades.

    Nothing here asks for the meter numbers themselves: after a restored backup nobody can read them any more.
    """
    for row in Connection.objects.filter(name__in=names):
        if Account.objects.filter(connection=row.name, closed_at=None).exists():
            continue
        row.delete()
        # The network may know the connection by the same number; it gets another one.
        for home in Home.objects.only("code").iterator():
            if keystore.lookup("meter", home.code) == row.lookup:
                Home.objects.filter(pk=home.pk).update(code=f"renamed-{secrets.token_hex(CODE_BYTES)}")


def _end_sessions(user_id: int) -> int:
    """End all sessions of a person; return how many."""
    ended, last = 0, ""
    while rows := list(Session.objects.filter(session_key__gt=last).order_by("session_key")[:LOOKED_AT_ONCE]):
        last = rows[-1].session_key
        theirs = [row.session_key for row in rows if row.get_decoded().get("_auth_user_id") == str(user_id)]
        ended += Session.objects.filter(session_key__in=theirs).delete()[0] if theirs else 0
    return ended
