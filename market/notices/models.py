"""How far a person has read, what their devices are told, and where those are. The notifications themselves are not stored.

They are read from what happened (``queries``). All rows go with the person; what could recognise a device is sealed.
"""

from __future__ import annotations

from django.db import models

from market.households.models import User
from market.households.sealed import SealedField

DEVICE_NAME_LENGTH = 80


class ReadMark(models.Model):
    """Everything up to this place, in market time and ledger sequence, has been seen."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="+")
    at_ms = models.BigIntegerField()
    seq = models.BigIntegerField()


class PushSettings(models.Model):
    """What a person's devices are told; no row: the defaults (``operations.DEFAULTS``)."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="+")
    kinds = models.CharField(max_length=120, blank=True)  # space-separated
    amounts = models.BooleanField(default=False)
    quiet_from = models.SmallIntegerField(null=True)  # hours of the day in the market's zone, both or neither
    quiet_until = models.SmallIntegerField(null=True)


class PushDevice(models.Model):
    """A browser that asked to be told: its push service's address and the keys that only it can read with."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)  # keyed, of the endpoint: the same browser once
    endpoint = SealedField()
    p256dh = SealedField()
    auth = SealedField()
    name = SealedField(blank=True, default="", max_length=DEVICE_NAME_LENGTH)
    since = models.DateTimeField()
    failures = models.SmallIntegerField(default=0)  # in a row

    def sealing_key(self) -> str:
        """Return the name of its owner's key."""
        return self.user.person_key
