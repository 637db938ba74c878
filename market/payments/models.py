"""Money in and out of wallets: what was asked for, who decided, what the bank said.

Who decided is a number, not a key: these rows outlive people. What names somebody (account at the bank, payer, text of a
transfer) is sealed, with the member's key or, while it is nobody's, with a key of its own.
"""

from __future__ import annotations

from django.db import models

from market.households import keystore
from market.households.models import Account
from market.households.sealed import SealedField

REFERENCE_LENGTH = 25  # ISO 11649


class Direction(models.TextChoices):
    """Where the money goes."""

    IN = "in"
    OUT = "out"


class State(models.TextChoices):
    """Where a payment stands; see docs/payments.md."""

    REQUESTED = "requested"
    SECOND = "second"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    SENT = "sent"


OPEN = (State.REQUESTED, State.SECOND)


class PayoutFile(models.Model):
    """A batch of payouts for the bank. Its bytes stay, sealed with a key of its own, until the bank has them or it is void."""

    MADE, HANDED, VOID = "made", "handed", "void"

    OWN_KEY = True

    message_id = models.CharField(max_length=35, unique=True)
    created_at = models.DateTimeField()
    by = models.BigIntegerField()
    count = models.IntegerField()
    sum_e7 = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    state = models.CharField(max_length=6, default=MADE)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.BigIntegerField(null=True, blank=True)
    text = SealedField(blank=True, default="")
    key = models.CharField(max_length=32, default=keystore.new_id, editable=False)

    def sealing_key(self) -> str:
        """Return the name of the file's key."""
        return self.key


class Payment(models.Model):
    """A deposit or withdrawal. ``Transition`` has how it came to its state."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="payments")
    direction = models.CharField(max_length=3, choices=Direction.choices)
    asked_e7 = models.BigIntegerField()  # what the member said; of a withdrawal not rounded yet
    amount_e7 = models.BigIntegerField()  # what is booked; of a deposit what arrived
    reference = models.CharField(max_length=REFERENCE_LENGTH, unique=True)
    once = models.CharField(max_length=80)  # the member's token: the same request twice is one
    state = models.CharField(max_length=9, choices=State.choices, default=State.REQUESTED)
    steps = models.IntegerField(default=0)  # transitions so far
    reason = models.CharField(max_length=32, blank=True, default="")  # why it was refused
    requested_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    first_by = models.BigIntegerField(null=True, blank=True)
    decided_by = models.BigIntegerField(null=True, blank=True)
    since_seq = models.BigIntegerField()  # no entry before this one is about it
    seq = models.BigIntegerField(
        null=True, blank=True
    )  # the ledger's fund entry: a deposit booked, a withdrawal set aside
    returned_seq = models.BigIntegerField(null=True, blank=True)  # of a withdrawal that was refused
    holder = SealedField(blank=True, default="")  # of the account at the bank that is paid
    iban = SealedField(blank=True, default="")
    file = models.ForeignKey(PayoutFile, null=True, blank=True, on_delete=models.PROTECT, related_name="payments")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "direction", "once"], name="payment_once"),
            models.CheckConstraint(condition=models.Q(amount_e7__gt=0, asked_e7__gt=0), name="payment_positive"),
            models.CheckConstraint(
                condition=models.Q(file=None) | models.Q(direction="out", state="sent"), name="payment_in_file_is_sent"
            ),
        ]
        indexes = [models.Index(fields=["state", "direction"], name="payment_state")]

    def sealing_key(self) -> str:
        """Return the name of the member's key."""
        return self.account.sealing_key()


class Transition(models.Model):
    """One step of a payment: who and when. Rows are only ever added (``exchange.guards``)."""

    APPEND_ONLY = True

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="transitions")
    n = models.IntegerField()
    before = models.CharField(max_length=9, blank=True)
    after = models.CharField(max_length=9)
    at = models.DateTimeField()
    by = models.BigIntegerField(null=True)  # a member of staff; None: the member, or the market itself
    reason = models.CharField(max_length=32, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["payment", "n"], name="transition_once")]


class BankFile(models.Model):
    """A bank statement that was read. Its text stays, sealed with a key of its own, until it is booked or discarded."""

    PREVIEW, BOOKED, DISCARDED = "preview", "booked", "discarded"

    OWN_KEY = True

    sha256 = models.CharField(max_length=64, db_index=True)
    message_id = models.CharField(max_length=80)
    received_at = models.DateTimeField()
    by = models.BigIntegerField(null=True)
    state = models.CharField(max_length=9, default=PREVIEW)
    text = SealedField(blank=True, default="")
    key = models.CharField(max_length=32, default=keystore.new_id, editable=False)

    def sealing_key(self) -> str:
        """Return the name of the file's key."""
        return self.key


class BankItem(models.Model):
    """Money that arrived at the bank, once: ``key`` is its account, statement, servicer's reference and entry."""

    OWN_KEY = True
    BOOKED, OPEN, ASIDE = "booked", "open", "aside"

    file = models.ForeignKey(BankFile, on_delete=models.PROTECT, related_name="items")
    key = models.CharField(max_length=64, unique=True)
    like = models.CharField(max_length=64, blank=True, db_index=True)
    amount_e7 = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    booked_on = models.CharField(max_length=10, blank=True)
    state = models.CharField(max_length=6)
    why = models.CharField(max_length=32, blank=True)  # it was not booked by itself
    alike = models.BooleanField(default=False)  # another statement has the like of it, whatever ``why`` says
    payment = models.ForeignKey(Payment, null=True, blank=True, on_delete=models.PROTECT, related_name="items")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.BigIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=32, blank=True, default="")
    details = SealedField(blank=True, default="")  # payer, IBAN and text as JSON, only while nobody has placed it
    details_key = models.CharField(max_length=32, default=keystore.new_id, editable=False)

    class Meta:
        indexes = [models.Index(fields=["state"], name="bankitem_state")]

    def sealing_key(self) -> str:
        """Return the name of the key of its details."""
        return self.details_key
