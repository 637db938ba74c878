"""Who decided what. The ledger says what is in force and why (a code); it never names a person."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from market.households import keystore
from market.households.sealed import SealedField


class Decision(models.Model):
    """A decision of an official that became a ledger entry. ``seq`` is that entry."""

    seq = models.BigIntegerField(unique=True)
    at_ms = models.BigIntegerField()  # market time: of the entry, of a payment's decision where the entry is older
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(
        max_length=16
    )  # capacity, fee, tariff, params, rulebook, halt, connection, recall, account, fund
    target = models.CharField(max_length=80, blank=True)  # area, contract, account or trade; "" = the market
    reason = models.CharField(max_length=32, blank=True)
    note = models.CharField(max_length=200, blank=True)  # words from before ``Words``, which no entry commits to
    note_erased_at_ms = models.BigIntegerField(null=True)  # market time
    note_erased_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    values = models.JSONField(default=dict)  # what was set, in the system's integers


class Words(models.Model):
    """What an official said in their own words, sealed with a key of its own; the entry of the decision has ``commitment``.

    ``kept`` is record and salt, as of an account (``market.households.commitments``); "" once erased.
    """

    OWN_KEY = True

    commitment = models.CharField(max_length=64, unique=True)
    once = models.CharField(max_length=64, unique=True, null=True)  # keyed digest of the decision's idempotency key
    at_ms = models.BigIntegerField(default=0)  # market time when they were kept; 0 of an older version
    seq = models.BigIntegerField(null=True)  # the entry that commits to them, once it is known
    unused_ms = models.BigIntegerField(null=True)  # market time since when it is known that there is none
    words_key = models.CharField(max_length=32, default=keystore.new_id)
    kept = SealedField(blank=True, default="")
    erased_at_ms = models.BigIntegerField(null=True)  # market time
    erased_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    def sealing_key(self) -> str:
        """Return the name of the key these words have for themselves."""
        return self.words_key


class Acknowledgement(models.Model):
    """That an official has seen an alert: ``seq`` is the alert's, the ledger entry that raised it."""

    seq = models.BigIntegerField(unique=True)
    at_ms = models.BigIntegerField()  # market time
    note = models.CharField(max_length=200, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
