"""Who decided what. The ledger says what is in force and why (a code); it never names a person."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Decision(models.Model):
    """A decision of an official that became a ledger entry. ``seq`` is that entry."""

    seq = models.BigIntegerField(unique=True)
    at_ms = models.BigIntegerField()  # market time of the entry
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(
        max_length=16
    )  # capacity, fee, tariff, params, rulebook, halt, connection, recall, account, fund
    target = models.CharField(max_length=80, blank=True)  # area, contract, account or trade; "" = the market
    reason = models.CharField(max_length=32, blank=True)
    note = models.CharField(max_length=200, blank=True)  # in the official's own words; never on the ledger
    values = models.JSONField(default=dict)  # what was set, in the system's integers


class Acknowledgement(models.Model):
    """That an official has seen an alert: ``seq`` is the alert's, the ledger entry that raised it."""

    seq = models.BigIntegerField(unique=True)
    at_ms = models.BigIntegerField()  # market time
    note = models.CharField(max_length=200, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
