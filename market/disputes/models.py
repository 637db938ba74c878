"""What households contest and what the operator answered. Texts are sealed with the member's key."""

from __future__ import annotations

from django.db import models

from market.households.models import Account
from market.households.sealed import SealedField


class Kind(models.TextChoices):
    """What is contested."""

    READING = "reading"
    LINE = "line"  # of the statement: a settlement row


class State(models.TextChoices):
    """Where a dispute stands; see docs/payments.md."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    CLOSED = "closed"


class Dispute(models.Model):
    """A reading or a statement line somebody contests. ``Step`` has what was said and decided."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="disputes")
    kind = models.CharField(max_length=7, choices=Kind.choices)
    contract = models.CharField(max_length=17)
    seq = models.BigIntegerField()  # the ledger's readings or settle entry that is contested
    import_wh = models.BigIntegerField(null=True)  # what it said, as far as there was a reading
    export_wh = models.BigIntegerField(null=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    steps = models.IntegerField(default=0)
    reopened = models.BooleanField(default=False)
    opened_at = models.DateTimeField()
    # What it is accepted with, from before the reading is recorded: from then on no other answer can be given.
    granted_import_wh = models.BigIntegerField(null=True)
    granted_export_wh = models.BigIntegerField(null=True)
    corrected_seq = models.BigIntegerField(null=True)  # the readings entry that an accepted one led to

    class Meta:
        constraints = [
            # What was answered and closed is not asked again: a corrected value has an entry of its own.
            models.UniqueConstraint(fields=["account", "kind", "contract", "seq"], name="dispute_once"),
        ]
        indexes = [models.Index(fields=["state"], name="dispute_state")]


class Step(models.Model):
    """One step of a dispute: who, when, why. Rows are only ever added (``exchange.guards``).

    ``commitment`` is SHA-256 of salt and text, which the ledger may carry; the text is beside it, sealed.
    """

    APPEND_ONLY = True

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="history")
    n = models.IntegerField()
    before = models.CharField(max_length=8, blank=True)
    after = models.CharField(max_length=8)
    at = models.DateTimeField()
    by = models.BigIntegerField(null=True)  # an official; None: the member
    code = models.CharField(max_length=32)
    text = SealedField(blank=True, default="")
    commitment = models.CharField(max_length=64, blank=True)
    import_wh = models.BigIntegerField(null=True)  # what the member says, or what the operator found
    export_wh = models.BigIntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dispute", "n"], name="dispute_step_once")]

    def sealing_key(self) -> str:
        """Return the name of the member's key."""
        return self.dispute.account.sealing_key()
