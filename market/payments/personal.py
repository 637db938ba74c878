"""What becomes of a person's money and bank account when they leave (see ``settings.PAYOUTS`` and ``PERSONAL_DATA``)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from market.exchange.exchange import Exchange
from market.households import keystore
from market.households.operations import HouseholdError
from market.payments import operations
from market.payments.models import BankItem, Direction, Payment, PayoutFile, State


def pay_out(exchange: Exchange, *, account: int, free_e7: int, iban: str, holder: str, now: datetime) -> Payment:
    """Ask for a withdrawal of what is free in a closed account; staff decide about it as about any. Raise ``PaymentError``."""
    amount_e7 = min(free_e7, operations.MAX_AMOUNT_E7)
    return operations.request_withdrawal(
        exchange, account_index=account, amount_e7=amount_e7, iban=iban, holder=holder, now=now, leaving=True
    )


def obstacle(accounts: Iterable[int]) -> HouseholdError | None:
    """Return what is in the way of erasing the person behind these accounts: money on its way out, until the bank has it.

    Money that is in no wallet and not out either, too: refused and never given back, or come back and not placed yet.
    """
    out = Payment.objects.filter(account__index__in=list(accounts), direction=Direction.OUT)
    going = Q(state__in=(State.REQUESTED, State.SECOND, State.CONFIRMED))
    going |= Q(state=State.SENT, file__state=PayoutFile.MADE)
    going |= Q(state=State.REFUSED, seq__isnull=False, returned_seq=None)
    if not (out.filter(going).exists() or BankItem.objects.filter(payment__in=out, state=BankItem.OPEN).exists()):
        return None
    return HouseholdError(
        "payment_open",
        "account",
        _("A withdrawal is on its way. The bank has to have it, or it has to be refused, first."),
    )


def forget(accounts: Iterable[int]) -> None:
    """Drop bank accounts, payers and texts; amounts and states stay, of numbers that nobody can put a name to."""
    payments = Payment.objects.filter(account__index__in=list(accounts))
    items = BankItem.objects.filter(payment__in=payments)
    for key in items.values_list("details_key", flat=True):
        keystore.store().destroy(key)
    items.update(details="")
    payments.update(holder="", iban="")
