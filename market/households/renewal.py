"""A new account number for a member, so that what a home did in one period is not under one number with the next.

The engine knows money from outside and to outside only, so what is in the wallet goes through the bank's account: one fund
entry out of the old number, one into the new, both with the reason ``renewal``. The connection stays, and with it the limits
on what it may take and give. Both numbers carry the same connection and account group on the ledger: who may read its
entries can still join them; who sees trades, books or one number's entries cannot.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from market.engine.commands import OpenAccount
from market.engine.engine import Engine
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.households.commitments import commitment_of, identity_text
from market.households.models import Account, Device, Renewal, User
from market.households.operations import (
    CONNECTION_BYTES,
    SALT_BYTES,
    HouseholdError,
    Refusal,
    close_account,
    group_of,
)

REASON = "renewal"


def renew_account(exchange: Exchange, *, user: User, now: datetime) -> Account:
    """Give a member a new account number and return its account; goes on where an earlier call was cut short.

    Calls at the same time do it once. Raise ``HouseholdError``: no_account, too_soon, signed, open_orders, unsettled,
    arrears, key_conflict; ``Refusal``.
    """
    begun = _begun(user)
    if begun is None:
        finish(exchange, user=user)
        old = Account.objects.filter(user=user, closed_at=None).select_related("user", "home").order_by("index").first()
        if old is None:
            raise HouseholdError("no_account", "account", _("You have no open account yet."))
        _check(exchange, old, now)
        begun = _begin(exchange, old, now)
    new = _open_again(exchange, begun, now)
    close_account(exchange, account_index=begun.old.index, now=now)  # all that is open for the old number hears of it
    fetch_left(exchange, user=user)
    new.refresh_from_db()
    return new


def _begun(user: User) -> Renewal | None:
    """Return the change of number that is under way, or None."""
    under_way = Renewal.objects.filter(old__user=user, old__closed_at=None, in_seq=None)
    # The present number's money on its way to what an earlier one owes is no change of number.
    under_way = under_way.filter(Q(new=None) | Q(new__closed_at=None))
    return under_way.select_related("old__user", "old__home", "new").first()


def _check(exchange: Exchange, old: Account, now: datetime) -> None:
    if not settings.RENEWAL_DAYS or old.opened_at + timedelta(days=settings.RENEWAL_DAYS) > now:
        sentence = _("A new number can be had %(days)s days after the last one.") % {"days": settings.RENEWAL_DAYS}
        raise HouseholdError("too_soon", "account", sentence)
    if old.user_id is not None and owed_e7(old.user_id):
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


def _begin(exchange: Exchange, old: Account, now: datetime) -> Renewal:
    """Claim the change: what is to be opened is written down first. Whoever comes second gets the first one's claim."""
    record = orjson.loads(old.identity)["record"] if old.identity else {"area": old.area}
    connection = _connection_of(exchange, old.index)
    claim = Renewal(old=old, account_id=exchange_operations.new_account_id(), amount_e7=0, at=now)
    claim.identity = identity_text(record, secrets.token_bytes(SALT_BYTES))
    try:
        with transaction.atomic():
            claim.save()
            # One that was begun and done meanwhile has closed the account, and frees the claim only after that.
            if Account.objects.filter(pk=old.pk, closed_at=None).update(connection=connection):
                return claim
            claim.delete()
    except IntegrityError:
        found = _begun(old.user)  # type: ignore[arg-type]
        if found is not None:
            return found
    raise HouseholdError("too_soon", "account", _("Your number was changed just now."))


def _open_again(exchange: Exchange, claim: Renewal, now: datetime) -> Account:
    """Open the claimed account on the same connection, with the same home and the same record under a new salt."""
    if claim.new is not None:
        return claim.new
    old = claim.old
    identity = orjson.loads(claim.identity)
    command = OpenAccount(
        account_id=claim.account_id,
        area=old.area,
        group=group_of(old.user),
        connection=old.connection or _connection_of(exchange, old.index),
        commitment=commitment_of(bytes.fromhex(identity["salt"]), identity["record"]),
    )
    index = exchange_queries.account_by_id(claim.account_id)
    opened_seq = None
    if index is None:
        outcome = exchange.call(command)
        opened_seq = None if outcome.refused is not None else outcome.events[0].seq  # type: ignore[union-attr]
        index = exchange_queries.account_by_id(claim.account_id)  # somebody else's call may have opened it
        if index is None:
            assert outcome.refused is not None, f"account {claim.account_id} is open and nowhere to be found"
            raise Refusal(outcome.refused)
    with transaction.atomic():
        # Evidence of signed readings names the device's key: the same key under both numbers would join them.
        Device.objects.filter(user=old.user).update(public_key="")
        Account.objects.filter(pk=old.pk).update(home=None)
        new, _made = Account.objects.get_or_create(
            index=index,
            defaults={
                "account_id": claim.account_id,
                "user": old.user,
                "home": old.home,
                "area": old.area,
                "salt": b"",
                "identity": claim.identity,
                "connection": command.connection,
                "automatic": old.automatic,
                "opened_at": now,
                "opened_seq": opened_seq,
            },
        )
        claim.new, claim.identity = new, ""
        claim.save(update_fields=["new", "identity"])
    return new


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
        exchange, account=index, connection=name, import_w=import_w, export_w=export_w, reason=REASON
    )
    if outcome.refused is not None:
        raise Refusal(outcome.refused)
    return name


def owed_e7(user_id: int) -> int:
    """Return what a person owes under all their numbers together (e7)."""
    balances = map(exchange_queries.balance, Account.objects.filter(user=user_id).values_list("index", flat=True))
    return sum(balance.arrears_e7 for balance in balances if balance is not None)


def fetch_left(exchange: Exchange, *, user: User) -> int:
    """Bring what is left in a member's earlier accounts into the present one; return how much (e7).

    Settlement and corrections may still pay into an account after it was closed, or take from it: what an earlier one owes
    is then paid out of the present one, as far as that goes. Raise ``Refusal``.
    """
    moved_e7 = finish(exchange, user=user)
    new = Account.objects.filter(user=user, closed_at=None).order_by("-index").first()
    if new is None:
        return moved_e7
    for old in Account.objects.filter(user=user).exclude(closed_at=None).order_by("index"):
        balance = exchange_queries.balance(old.index)
        if balance is None or balance.free_e7 <= 0:
            Renewal.objects.filter(old=old, new=new, in_seq=None, out_seq=None, amount_e7=0).delete()
            continue
        renewal, _made = Renewal.objects.get_or_create(
            old=old, in_seq=None, defaults={"new": new, "amount_e7": balance.free_e7, "at": old.closed_at}
        )
        # Set once: two who fetch at the same time book the same amount under the same key.
        Renewal.objects.filter(pk=renewal.pk, amount_e7=0).update(amount_e7=balance.free_e7)
        moved_e7 += _move(exchange, renewal.pk)
    for old in Account.objects.filter(user=user).exclude(closed_at=None).order_by("index"):
        owing, paying = exchange_queries.balance(old.index), exchange_queries.balance(new.index)
        if owing is None or paying is None or min(owing.arrears_e7, paying.free_e7) <= 0 or paying.arrears_e7:
            continue
        amount_e7 = min(owing.arrears_e7, paying.free_e7)
        renewal, _made = Renewal.objects.get_or_create(
            old=new, in_seq=None, defaults={"new": old, "amount_e7": amount_e7, "at": old.closed_at}
        )
        _move(exchange, renewal.pk)
    return moved_e7


def finish(exchange: Exchange, *, user: User) -> int:
    """Finish what was cut short after its amount was set; return how much (e7) came in. Raise ``Refusal``."""
    begun = Renewal.objects.filter(new__user=user, in_seq=None, amount_e7__gt=0).order_by("pk")
    return sum(_move(exchange, pk) for pk in begun.values_list("pk", flat=True))


def under_way(user: User) -> bool:
    """Return whether money of a member has left one account and not reached the other."""
    return Renewal.objects.filter(old__user=user, in_seq=None).exclude(out_seq=None).exists()


def _move(exchange: Exchange, pk: int) -> int:
    """Move money out of one account and into the other, each step once; return how much (e7) this call brought in."""
    renewal = Renewal.objects.select_related("old", "new").filter(pk=pk).first()
    if renewal is None or renewal.new is None or renewal.in_seq is not None:
        return 0
    for field, account, amount_e7 in (
        ("out_seq", renewal.old.index, -renewal.amount_e7),
        ("in_seq", renewal.new.index, renewal.amount_e7),
    ):
        if getattr(renewal, field) is not None:
            continue
        reference = hashlib.sha256(f"{renewal.token}:{field}".encode()).hexdigest()
        seq = exchange_queries.fund_seq(account=account, reference=reference)
        if seq is None and field == "in_seq" and _put_back_before(renewal) is not None:
            return _put_back(exchange, renewal)
        if seq is None:
            outcome = exchange_operations.fund(
                exchange, account=account, amount_e7=amount_e7, reason=REASON, reference=reference, key=reference
            )
            if outcome.refused is not None and field == "in_seq" and outcome.refused.code == "account_closed":
                # It owes less by now, and may have no more than that: back to where it came from.
                return _put_back(exchange, renewal)
            if outcome.refused is not None:
                if field == "out_seq" and outcome.refused.code == "insufficient_funds":
                    renewal.delete()  # somebody else's call has moved it; nothing of this one is booked
                    return 0
                raise Refusal(outcome.refused)
            if outcome.conflict is not None:
                raise HouseholdError("key_conflict", outcome.conflict, _("This was booked with other content."))
            seq = outcome.events[0].seq  # type: ignore[union-attr]
        Renewal.objects.filter(pk=pk).update(**{field: seq})
    return renewal.amount_e7 if renewal.new.closed_at is None else 0


def _put_back_reference(renewal: Renewal) -> str:
    return hashlib.sha256(f"{renewal.token}:back".encode()).hexdigest()


def _put_back_before(renewal: Renewal) -> int | None:
    return exchange_queries.fund_seq(account=renewal.old.index, reference=_put_back_reference(renewal))


def _put_back(exchange: Exchange, renewal: Renewal) -> int:
    """Book money that did not reach the account it was for into the one it came from, once; nothing came in: 0."""
    seq, reference = _put_back_before(renewal), _put_back_reference(renewal)
    if seq is None:
        outcome = exchange_operations.fund(
            exchange, account=renewal.old.index, amount_e7=renewal.amount_e7, reason=REASON, reference=reference,
            key=reference,
        )  # fmt: skip
        if outcome.refused is not None:
            raise Refusal(outcome.refused)
        if outcome.conflict is not None:
            raise HouseholdError("key_conflict", outcome.conflict, _("This was booked with other content."))
        seq = outcome.events[0].seq  # type: ignore[union-attr]
    Renewal.objects.filter(pk=renewal.pk).update(in_seq=seq)
    return 0
