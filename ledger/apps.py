"""The ledger as a Django application."""

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Tables ``ledger_entry``, ``ledger_hashtile``, ``ledger_checkpoint``, ``ledger_row``, ``ledger_rulebook``."""

    name = "ledger"
