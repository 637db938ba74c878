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


class Evidence(models.Model):
    """What rows name by its SHA-256: a batch of readings with the signature of the device that sent it."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    data = models.BinaryField()


class Rulebook(models.Model):
    """A text of the rulebook under its SHA-256, by which entries name it."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    text = models.TextField()


class KeyEntry(models.Model):
    """Which entries say who may sign: the genesis and every ``key`` entry. What they say is in the entry."""

    seq = models.BigIntegerField(primary_key=True)


class Cosignature(models.Model):
    """A witness' signature line of the checkpoint at ``size`` entries, checked before it was kept.

    ``witness`` is the text of its key, ``at_s`` the time it says.
    """

    size = models.BigIntegerField()
    witness = models.CharField(max_length=400)
    at_s = models.BigIntegerField()
    line = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["size", "witness"], name="cosignature_once")]


class Quorum(models.Model):
    """That the checkpoint at ``size`` entries has a quorum of the policy with this SHA-256."""

    size = models.BigIntegerField()
    policy = models.CharField(max_length=64)
    at_ms = models.BigIntegerField()  # market time

    class Meta:
        constraints = [models.UniqueConstraint(fields=["policy", "size"], name="quorum_once")]


class Alarm(models.Model):
    """Something about the log itself that must be looked at: the quorum is late, or a witness refuses to go on.

    ``seq`` is the seal of the checkpoint it is about, or the nearest one before it that has no alarm yet: in the list it
    stands among the alerts that ledger entries raised. ``detail`` is a JSON object.
    """

    seq = models.BigIntegerField(primary_key=True)
    at_ms = models.BigIntegerField()  # market time
    kind = models.CharField(max_length=8)  # quorum, fork
    detail = models.TextField()
