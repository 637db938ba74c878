"""The ledger as a Django application."""

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Tables ``ledger_*``: entries, hash tiles, checkpoints, rows, rulebooks; cosignatures, quorums, alarms, keys."""

    name = "ledger"
