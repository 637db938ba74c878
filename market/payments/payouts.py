"""Files for the bank: confirmed withdrawals as one batch, each withdrawal in one file only.

A file is what it was when it was made, whatever is set or erased afterwards, until the staff say that the bank has it. One that
the bank does not take is made void: its withdrawals go into the next one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from market.households import keystore
from market.households.models import Role, User
from market.payments.booking import PaymentError
from market.payments.formats import pain001
from market.payments.formats.references import bank_text, plain_iban
from market.payments.models import Direction, Payment, PayoutFile, State
from market.payments.operations import move, needs_two

ID_BYTES = 8


def make(*, by: User, now: datetime) -> PayoutFile:
    """Put all confirmed withdrawals that are in no file yet, at most 1,000, into one and mark them sent.

    Raise ``PaymentError``: forbidden, no_bank_account, nothing_to_send.
    """
    _check_staff(by)
    _check_own_account()
    with transaction.atomic():
        ready = Payment.objects.filter(direction=Direction.OUT, state=State.CONFIRMED, file=None)
        ready = ready.select_related("account__user").select_for_update(of=("self",))
        payments = list(ready.order_by("pk")[: pain001.MAX_TRANSFERS])
        if not payments:
            raise PaymentError("nothing_to_send", "file", _("No confirmed withdrawal waits for the bank."))
        message_id = f"SL-{now:%Y%m%d}-{secrets.token_hex(ID_BYTES).upper()}"
        data = _write(message_id, now, payments)
        file = PayoutFile.objects.create(
            message_id=message_id,
            created_at=now,
            by=by.pk,
            count=len(payments),
            sum_e7=sum(payment.amount_e7 for payment in payments),
            sha256=hashlib.sha256(data).hexdigest(),
            text=data.decode(),
        )
        for payment in payments:
            move(payment, State.SENT, by=by, now=now, file=file)  # raises when another file was quicker
    return file


def hand_over(*, file_id: int, by: User, now: datetime) -> PayoutFile:
    """Note that the bank has taken a file: its bytes are forgotten, its payees may be erased. Raise ``PaymentError``."""
    _check_staff(by)
    file = _find(file_id)
    _decide(file, PayoutFile.HANDED, by, now)
    keystore.store().destroy(file.key)
    return file


def void(*, file_id: int, by: User, now: datetime) -> PayoutFile:
    """Give the withdrawals of a file that the bank did not take back to those that wait for one.

    Above the limit it takes somebody else than the one who made it. Raise ``PaymentError``.
    """
    _check_staff(by)
    file = _find(file_id)
    if needs_two(file.sum_e7) and by.pk == file.by:
        sentence = _("You made this file. Above the limit somebody else of the staff makes it void.")
        raise PaymentError("second_person", "file", sentence)
    with transaction.atomic():
        _decide(file, PayoutFile.VOID, by, now)
        for payment in file.payments.order_by("pk"):
            move(payment, State.CONFIRMED, by=by, now=now, reason="file_void", file=None)
    keystore.store().destroy(file.key)
    return file


def _check_staff(by: User) -> None:
    if by.role != Role.STAFF:
        raise PaymentError("forbidden", "by", _("Only the market operator's staff may do this."))


def _find(file_id: int) -> PayoutFile:
    file = PayoutFile.objects.filter(pk=file_id).first()
    if file is None:
        raise PaymentError("unknown_file", "file", _("There is no such file."))
    return file


def _decide(file: PayoutFile, state: str, by: User, now: datetime) -> None:
    decided = {"state": state, "decided_at": now, "decided_by": by.pk, "text": ""}
    if not PayoutFile.objects.filter(pk=file.pk, state=PayoutFile.MADE).update(**decided):
        raise PaymentError("already_decided", "file", _("The bank has this file already, or it is void."))
    file.refresh_from_db()


def _check_own_account() -> None:
    try:
        plain_iban(settings.BANK_IBAN)
    except ValueError as error:
        sentence = _("The market's own bank account is not set or has a wrong digit (SUNLEDGER_BANK_IBAN).")
        raise PaymentError("no_bank_account", "file", sentence) from error


def content(file: PayoutFile) -> bytes:
    """Return the file for the bank: the same bytes each time.

    Raise ``PaymentError`` when it is void, and once the bank has it and a payee was erased or a payout came back.
    """
    if file.state == PayoutFile.VOID:
        raise PaymentError("file_void", "file", _("This file is void. Its withdrawals go into another one."))
    payments = list(file.payments.select_related("account__user").order_by("pk"))
    data = file.text.encode()
    if not data and len(payments) == file.count:
        data = _write(file.message_id, file.created_at, payments)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        sentence = _(
            "This file can no longer be made: somebody in it was erased, one of its payouts came back, "
            "or the market's bank account has changed."
        )
        raise PaymentError("file_gone", "file", sentence)
    return data


def _write(message_id: str, created_at: datetime, payments: Sequence[Payment]) -> bytes:
    return pain001.write(
        message_id=message_id,
        created_at=f"{created_at:%Y-%m-%dT%H:%M:%SZ}",
        execute_on=f"{created_at:%Y-%m-%d}",
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
