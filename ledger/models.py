"""The log as it is stored: rows are only ever added. Partial tiles are cut from these rows, never stored."""

from __future__ import annotations

from django.db import models

from ledger.fields import SequenceField


class Entry(models.Model):
    """An entry of the ledger: its index and its bytes, which are the truth about it."""

    seq = SequenceField(primary_key=True)
    leaf = models.BinaryField()


class HashTile(models.Model):
    """A full tile of 256 hashes, and the root over them, which is its hash in the level above."""

    pk = models.CompositePrimaryKey("level", "number")
    level = models.SmallIntegerField()
    number = models.BigIntegerField()
    data = models.BinaryField()
    root = models.BinaryField()


class Checkpoint(models.Model):
    """A signed head of the log and the block it closed: entries ``first`` to ``size``."""

    size = models.BigIntegerField(primary_key=True)
    height = models.BigIntegerField(unique=True)
    first = models.BigIntegerField()
    at_ms = models.BigIntegerField()
    root = models.CharField(max_length=64)
    note = models.TextField()


class Row(models.Model):
    """A salted row that the ``readings`` or ``settle`` entry ``seq`` commits to."""

    pk = models.CompositePrimaryKey("seq", "number")
    seq = models.BigIntegerField()
    number = models.IntegerField()
    data = models.BinaryField()


class Rulebook(models.Model):
    """A text of the rulebook under its SHA-256, by which entries name it."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    text = models.TextField()
