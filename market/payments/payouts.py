"""Files for the bank: confirmed withdrawals as one batch, each withdrawal in one file only."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from market.households.models import Role, User
from market.payments.booking import PaymentError
from market.payments.formats import pain001
from market.payments.formats.references import bank_text, plain_iban
from market.payments.models import Direction, Payment, PayoutFile, State
from market.payments.operations import move

ID_BYTES = 8


def make(*, by: User, now: datetime) -> PayoutFile:
    """Put all confirmed withdrawals that are in no file yet, at most 1,000, into one and mark them sent.

    Raise ``PaymentError``: forbidden, no_bank_account, nothing_to_send.
    """
    if by.role != Role.STAFF:
        raise PaymentError("forbidden", "by", _("Only the market operator's staff may do this."))
    _check_own_account()
    with transaction.atomic():
        ready = Payment.objects.filter(direction=Direction.OUT, state=State.CONFIRMED, file=None)
        payments = list(ready.select_for_update().order_by("pk")[: pain001.MAX_TRANSFERS])
        if not payments:
            raise PaymentError("nothing_to_send", "file", _("No confirmed withdrawal waits for the bank."))
        file = PayoutFile.objects.create(
            message_id=f"SL-{now:%Y%m%d}-{secrets.token_hex(ID_BYTES).upper()}",
            created_at=now,
            by=by.pk,
            count=len(payments),
            sum_e7=sum(payment.amount_e7 for payment in payments),
            sha256="",
        )
        for payment in payments:
            move(payment, State.SENT, by=by, now=now, file=file)  # raises when another file was quicker
        file.sha256 = hashlib.sha256(_write(file)).hexdigest()
        file.save(update_fields=["sha256"])
    return file


def _check_own_account() -> None:
    try:
        plain_iban(settings.BANK_IBAN)
    except ValueError as error:
        sentence = _("The market's own bank account is not set or has a wrong digit (SUNLEDGER_BANK_IBAN).")
        raise PaymentError("no_bank_account", "file", sentence) from error


def content(file: PayoutFile) -> bytes:
    """Return the file for the bank: the same bytes each time. Raise ``PaymentError`` once a payee was erased."""
    data = _write(file)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        sentence = _(
            "This file can no longer be made: somebody in it was erased, or the market's bank account has changed."
        )
        raise PaymentError("file_gone", "file", sentence)
    return data


def _write(file: PayoutFile) -> bytes:
    payments = file.payments.select_related("account__user").order_by("pk")
    return pain001.write(
        message_id=file.message_id,
        created_at=f"{file.created_at:%Y-%m-%dT%H:%M:%SZ}",
        execute_on=f"{file.created_at:%Y-%m-%d}",
        currency=settings.MARKET_CURRENCY,
        payer=pain001.Payer(bank_text(settings.BANK_HOLDER), settings.BANK_IBAN, settings.BANK_BIC),
        transfers=[
            pain001.Transfer(
                end_to_end=payment.reference,
                amount_e7=payment.amount_e7,
                holder=payment.holder,
                iban=payment.iban,
                text=f"Sunledger {payment.reference}",
            )
            for payment in payments
        ],
    )
