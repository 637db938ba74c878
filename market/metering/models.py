"""What the meters said. Readings of single homes never enter the ledger: it holds the root over their salted rows."""

from __future__ import annotations

from django.db import models


class Quality(models.TextChoices):
    """Where a value comes from."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    CORRECTED = "corrected"


class Mark(models.Model):
    """Readings of an area in a contract came in since settlement last looked at them: what settlement works off.

    Written in the transaction that stores the readings, so that none of them is overlooked, however late; ``count`` grows
    with each, so that a mark is taken away only when nothing came in meanwhile.
    """

    pk = models.CompositePrimaryKey("start_ms", "area")
    start_ms = models.BigIntegerField()  # of the contract
    area = models.CharField(max_length=64)
    count = models.BigIntegerField()


class Reading(models.Model):
    """Energy through one connection in one delivery interval, import and export apart. Append-only.

    A later reading with other values is a new ``version``; the highest one counts. ``seq`` is the ledger's readings
    entry and ``n`` the row in it, for the receipt. ``produced_wh``/``used_wh`` are behind the meter and known of some
    homes only. The columns stand in the order ``storage`` writes them.
    """

    pk = models.CompositePrimaryKey("start_ms", "account", "version")
    start_ms = models.BigIntegerField()  # of the contract
    account = models.BigIntegerField()
    version = models.SmallIntegerField()
    area = models.CharField(max_length=64)
    import_wh = models.BigIntegerField()
    export_wh = models.BigIntegerField()
    produced_wh = models.BigIntegerField(null=True)
    used_wh = models.BigIntegerField(null=True)
    quality = models.CharField(max_length=9, choices=Quality.choices)
    received_ms = models.BigIntegerField()  # market time
    seq = models.BigIntegerField()
    n = models.IntegerField()
    reason = models.CharField(max_length=16, default="", db_default="")  # why it is not simply measured; "" = it is
    source = models.CharField(max_length=64, default="", db_default="")  # SHA-256 of the signed batch that says it, hex
    revision = models.SmallIntegerField(
        default=0, db_default=0
    )  # the sender's count of corrections, 0 = it does not say

    class Meta:
        indexes = [models.Index(fields=["account", "start_ms"], name="reading_account")]
        constraints = [
            models.CheckConstraint(condition=models.Q(import_wh__gte=0, export_wh__gte=0), name="reading_not_negative"),
        ]


class Batch(models.Model):
    """Values that were taken together, and whether their readings are on the ledger yet (``committed_ms``).

    Append-only but for that mark. ``evidence`` is the SHA-256 of what a device signed, "" where a key opened the door.
    """

    device = models.BigIntegerField()  # who sent it; 0 = a person, or several devices
    received_ms = models.BigIntegerField()  # market time
    count = models.IntegerField()
    evidence = models.CharField(max_length=64, blank=True, default="")
    due_ms = models.BigIntegerField(default=0)  # not worth looking at before: an interval it touches is not over
    committed_ms = models.BigIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_ms"], condition=models.Q(committed_ms=None), name="batch_uncommitted"),
        ]


class DeviceValue(models.Model):
    """What a device said, as it said it. Append-only; several may be for one slot, ``validation.rank`` says which counts."""

    pk = models.CompositePrimaryKey("batch", "n")
    batch = models.BigIntegerField()
    n = models.IntegerField()
    device = models.BigIntegerField()
    account = models.BigIntegerField()  # -1: of an area
    start_ms = models.BigIntegerField()
    duration_ms = models.IntegerField()
    import_wh = models.BigIntegerField()
    export_wh = models.BigIntegerField()
    register = models.BooleanField()
    quality = models.CharField(max_length=9)
    revision = models.SmallIntegerField()
    received_ms = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["device", "start_ms"], name="device_value")]
