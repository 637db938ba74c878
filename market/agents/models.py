"""What members allow their autopilot, and which orders it placed for them: the ledger does not tell them from others."""

from __future__ import annotations

from django.db import models

from market.households.models import User


class Autopilot(models.Model):
    """The limits of one person's autopilot; no row: none. Whether it trades at all is ``Account.automatic``.

    A person's, not an account number's: a new number goes on with the same limits, and erasing the person takes them along.
    """

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="+")
    sell_from_e4 = models.BigIntegerField(null=True)
    buy_to_e4 = models.BigIntegerField(null=True)
    reserve_percent = models.SmallIntegerField(default=0)
    # Counts up with every change of the limits or the switch, so that agents see cheaply that something changed and who
    # changes it that somebody else did in the meantime.
    changes = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(reserve_percent__gte=0, reserve_percent__lte=100), name="autopilot_reserve"
            ),
            models.CheckConstraint(
                condition=(models.Q(sell_from_e4=None) | models.Q(sell_from_e4__gte=1))
                & (models.Q(buy_to_e4=None) | models.Q(buy_to_e4__gte=1)),
                name="autopilot_prices",
            ),
        ]


class PlacedOrder(models.Model):
    """An order that the autopilot placed for a person. Dropped some days after its delivery, see ``operations.KEEP_MS``."""

    order = models.BigIntegerField(primary_key=True)  # the ledger's sequence
    account = models.BigIntegerField()
    contract = models.CharField(max_length=17)
    at_ms = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["account", "order"], name="placedorder_account"),
            models.Index(fields=["contract"], name="placedorder_contract"),
        ]
