"""What the regulator keeps for itself: searches with a name, exports with their hash, and the log of what it looked at."""

from __future__ import annotations

from django.conf import settings
from django.db import models

NAME_LENGTH = 80
QUERY_LENGTH = 1_000  # of a search as a URL; all its fields at their longest are shorter


class SavedView(models.Model):
    """A search that somebody gave a name; ``query`` is the query of its URL."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=NAME_LENGTH)
    query = models.CharField(max_length=QUERY_LENGTH)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="savedview_name_once")]


class Export(models.Model):
    """A file that was made for somebody. The row stays when the file is gone: which bytes were handed out is known."""

    reader = models.BigIntegerField()
    made_at = models.DateTimeField()
    kind = models.CharField(max_length=8)  # trades, orders, entries
    format = models.CharField(max_length=8)  # csv, jsonl, parquet
    query = models.CharField(max_length=QUERY_LENGTH)
    upto_seq = models.BigIntegerField()  # entries of the ledger when it was made
    rows = models.BigIntegerField()
    complete = models.BooleanField()  # False: there was more than an export may have
    size = models.BigIntegerField()  # bytes
    sha256 = models.CharField(max_length=64)
    file = models.CharField(max_length=64)  # its name in the folder of exports, "" once it was dropped

    class Meta:
        indexes = [models.Index(fields=["reader", "id"], name="export_reader")]


class Look(models.Model):
    """That somebody who watches the market looked at something: once a minute, however often.

    ``query`` is the filter as it stood in the URL; an export has its hash.
    """

    reader = models.BigIntegerField()
    minute = models.DateTimeField()
    at = models.DateTimeField()  # of the first time in the minute
    what = models.CharField(max_length=16)  # see ``looks.WHAT``
    path = models.CharField(max_length=200)
    query = models.CharField(max_length=QUERY_LENGTH)
    sha256 = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["reader", "minute", "what", "path", "query", "sha256"], name="look_once_a_minute"
            )
        ]
        indexes = [
            models.Index(fields=["reader", "id"], name="look_reader"),
            models.Index(fields=["at"], name="look_at"),
        ]
