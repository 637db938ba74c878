"""Payouts that the bank sends back after it had their file.

Into a wallet such money is booked like any other that arrives. Where no wallet could take it, because the member has left, its
withdrawal is opened again. That is no entry of the ledger: the money left the wallet once, and leaves the market once.
"""

from __future__ import annotations

from datetime import datetime

import orjson
from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from market.households import keystore
from market.households.models import User
from market.payments import bank, operations
from market.payments.booking import PaymentError, wallet_of
from market.payments.formats.references import references_in
from market.payments.models import BankItem, Direction, Payment, PayoutFile, State
from market.payments.reasons import PAYOUT_RETURNED


def payout_of(item: BankItem) -> Payment | None:
    """Return the payout that came back with a transfer and that no wallet can take, None where there is none."""
    rows = Payment.objects.filter(direction=Direction.OUT, state=State.SENT).select_related("account__user", "file")
    if item.payment_id is not None:
        found = rows.filter(pk=item.payment_id)
    elif item.why == PAYOUT_RETURNED and item.details:  # kept before rows said which payout it was
        found = rows.filter(reference__in=references_in(orjson.loads(item.details)["text"]))
    else:
        return None
    payment = found.first()
    if payment is None or wallet_of(payment.account) is not None:
        return None
    # The same return in another statement, after the payout went out again: that one has not come back.
    again = BankItem.objects.filter(payment=payment, state=BankItem.BOOKED, like=item.like)
    return None if again.exists() else payment


def reopen(*, item_id: int, by: User, now: datetime) -> Payment:
    """Let the withdrawal that came back with a transfer be decided about again, for the same or another bank account.

    Raise ``PaymentError``: already_decided, unknown_payment, unknown_account (its owner was erased), forbidden, file_open,
    other_amount.
    """
    item = bank.open_item(item_id)
    payment = payout_of(item)
    if payment is None:
        raise PaymentError("unknown_payment", "payment", _("No payout of a closed account came back with it."))
    if payment.account.user_id is None:
        sentence = _("Its owner was erased: nobody knows another bank account. It can only be left aside.")
        raise PaymentError("unknown_account", "account", sentence)
    operations.check_person(payment, by)
    if payment.file is None or payment.file.state != PayoutFile.HANDED:
        sentence = _("Note first that the bank has the file with this payout.")
        raise PaymentError("file_open", "file", sentence)
    if (item.amount_e7, item.currency) != (payment.amount_e7, settings.MARKET_CURRENCY):
        raise PaymentError("other_amount", "amount", _("Another amount came back than was paid out."))
    with transaction.atomic():
        operations.move(
            payment, State.REQUESTED, by=by, now=now, reason=PAYOUT_RETURNED, file=None, first_by=None
        )  # fmt: skip
        decided = {"state": BankItem.BOOKED, "payment": payment, "decided_at": now, "decided_by": by.pk}
        if not BankItem.objects.filter(pk=item.pk, state=BankItem.OPEN).update(details="", **decided):
            raise bank.placed()
    keystore.store().destroy(item.details_key)
    return payment
