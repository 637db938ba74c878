"""A new account number for a member, so that what a home did in one period is not under one number with the next.

The engine knows money from outside and to outside only, so what is in the wallet goes through the bank's account: one fund
entry out of the old number, one into the new, both with the reason ``renewal``. The connection stays, and with it the limits
on what it may take and give. Both numbers carry the same connection and account group on the ledger: who may read its
entries can still join them; who sees trades, books or one number's entries cannot.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

import orjson
from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from market.engine.engine import Engine
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.households.commitments import identity_text
from market.households.identities import CACHE
from market.households.models import Account, Device, Renewal, User
from market.households.operations import (
    CONNECTION_BYTES,
    HouseholdError,
    Refusal,
    close_account,
    opening,
)

REASON = "renewal"


def renew_account(exchange: Exchange, *, user: User, now: datetime) -> Account:
    """Give a member a new account number and return its account; goes on where an earlier call was cut short.

    Raise ``HouseholdError``: no_account, too_soon, signed, open_orders, unsettled, arrears; ``Refusal``.
    """
    begun = Renewal.objects.filter(old__user=user, old__closed_at=None).select_related("old", "new").first()
    if begun is None:
        old = Account.objects.filter(user=user, closed_at=None).select_related("user", "home").order_by("index").first()
        if old is None:
            raise HouseholdError("no_account", "account", _("You have no open account yet."))
        _check(exchange, old, now)
        begun = Renewal.objects.create(old=old, new=_open_again(exchange, old, now), amount_e7=0, at=now)
    close_account(exchange, account_index=begun.old.index, now=now)
    CACHE.forget_user(user.pk)
    fetch_left(exchange, user=user)
    begun.new.refresh_from_db()
    return begun.new


def _check(exchange: Exchange, old: Account, now: datetime) -> None:
    if not settings.RENEWAL_DAYS or old.opened_at + timedelta(days=settings.RENEWAL_DAYS) > now:
        sentence = _("A new number can be had %(days)s days after the last one.") % {"days": settings.RENEWAL_DAYS}
        raise HouseholdError("too_soon", "account", sentence)
    balance = exchange_queries.balance(old.index)
    if balance is not None and balance.arrears_e7:
        raise HouseholdError("arrears", "account", _("Something is owed on this account. That has to be paid first."))
    if exchange.read(lambda engine: engine.accounts[old.index].key):
        # A new number without the key would be open to orders that nobody signed.
        raise HouseholdError("signed", "account", _("Your orders are signed. Stop signing first."))
    if exchange.read(lambda engine: engine.accounts[old.index].open_orders):
        raise HouseholdError("open_orders", "account", _("Take back your open orders first."))
    if exchange_queries.unsettled(old.index, until_ms=0):
        raise HouseholdError(
            "unsettled",
            "account",
            _("You have traded in intervals that are not settled yet. Stop trading, and try again once they are."),
        )


def _open_again(exchange: Exchange, old: Account, now: datetime) -> Account:
    """Open the new account on the same connection, with the same home and the same record under a new salt."""
    connection = _connection_of(exchange, old.index)
    record = orjson.loads(old.identity)["record"] if old.identity else {"area": old.area}
    salt, command = opening(user=old.user, home=old.home, area=old.area, record=record)
    command = command._replace(connection=connection)
    outcome = exchange.call(command)
    if outcome.refused is not None:
        raise Refusal(outcome.refused)
    with transaction.atomic():
        home, old.home = old.home, None
        old.save(update_fields=["home"])
        # Evidence of signed readings names the device's key: the same key under both numbers would join them.
        Device.objects.filter(user=old.user).update(public_key="")
        return Account.objects.create(
            index=exchange_operations.opened_account(outcome),
            account_id=command.account_id,
            user=old.user,
            home=home,
            area=old.area,
            salt=b"",
            identity=identity_text(record, salt),
            connection=connection,
            automatic=old.automatic,
            opened_at=now,
            opened_seq=outcome.events[0].seq,  # type: ignore[union-attr]
        )


def _connection_of(exchange: Exchange, index: int) -> str:
    """Return the connection of an account, named now if it never was: limits must go along."""

    def look(engine: Engine) -> tuple[str, int, int]:
        account = engine.accounts[index]
        return account.connection, account.import_w, account.export_w

    name, import_w, export_w = exchange.read(look)
    if name:
        return name
    name = secrets.token_hex(CONNECTION_BYTES)
    outcome = exchange_operations.set_connection(
        exchange, account=index, connection=name, import_w=import_w, export_w=export_w
    )
    if outcome.refused is not None:
        raise Refusal(outcome.refused)
    return name


def fetch_left(exchange: Exchange, *, user: User) -> int:
    """Bring what is left in a member's earlier accounts into the present one; return how much (e7).

    Settlement and corrections may still pay into an account after it was closed. Raise ``Refusal``.
    """
    _finish(exchange, user)
    new = Account.objects.filter(user=user, closed_at=None).order_by("-index").first()
    if new is None:
        return 0
    moved_e7 = 0
    for old in Account.objects.filter(user=user).exclude(closed_at=None).order_by("index"):
        balance = exchange_queries.balance(old.index)
        if balance is None or balance.free_e7 <= 0:
            continue
        renewal, _new = Renewal.objects.get_or_create(
            old=old, new=new, out_seq=None, defaults={"amount_e7": 0, "at": old.closed_at}
        )
        renewal.amount_e7 = balance.free_e7
        renewal.save(update_fields=["amount_e7"])
        moved_e7 += renewal.amount_e7
        _move(exchange, renewal)
    return moved_e7


def _finish(exchange: Exchange, user: User) -> None:
    """Finish what was cut short after its amount was set."""
    for renewal in Renewal.objects.filter(new__user=user, in_seq=None, amount_e7__gt=0).select_related("old", "new"):
        _move(exchange, renewal)


def _move(exchange: Exchange, renewal: Renewal) -> None:
    """Move money out of one account and into the other, each step at most once."""
    for field, account, amount_e7 in (
        ("out_seq", renewal.old.index, -renewal.amount_e7),
        ("in_seq", renewal.new.index, renewal.amount_e7),
    ):
        if getattr(renewal, field) is not None:
            continue
        outcome = exchange_operations.fund(
            exchange, account=account, amount_e7=amount_e7, reason=REASON, key=f"renewal:{renewal.pk}:{field}"
        )
        if outcome.refused is not None:
            raise Refusal(outcome.refused)
        if outcome.conflict is not None:
            raise HouseholdError("key_conflict", outcome.conflict, _("This was booked with other content."))
        setattr(renewal, field, outcome.events[0].seq)  # type: ignore[union-attr]
        renewal.save(update_fields=[field])
