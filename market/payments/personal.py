"""What a person who is erased leaves behind here: payments without a bank account (see ``settings.PERSONAL_DATA``)."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext_lazy as _

from market.households import keystore
from market.households.operations import HouseholdError
from market.payments.models import BankItem, Direction, Payment, PayoutFile, State


def obstacle(accounts: Iterable[int]) -> HouseholdError | None:
    """Return what is in the way of erasing the person behind these accounts: money on its way out, until the bank has it."""
    out = Payment.objects.filter(account__index__in=list(accounts), direction=Direction.OUT)
    going = out.filter(state__in=(State.REQUESTED, State.SECOND, State.CONFIRMED))
    if not (going | out.filter(state=State.SENT, file__state=PayoutFile.MADE)).exists():
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
