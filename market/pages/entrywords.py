"""What the ledger's entries are called on pages."""

from __future__ import annotations

from django.utils.translation import gettext_lazy

ENTRY_WORDS = {
    "genesis": gettext_lazy("The market is founded"),
    "rulebook": gettext_lazy("Rulebook"),
    "params": gettext_lazy("Limits"),
    "key": gettext_lazy("Key of the log"),
    "area": gettext_lazy("Area"),
    "capacity": gettext_lazy("Capacity"),
    "fee": gettext_lazy("Grid fee"),
    "tariff": gettext_lazy("Tariff"),
    "account": gettext_lazy("Account"),
    "fund": gettext_lazy("Money in or out"),
    "contract": gettext_lazy("Contract"),
    "halt": gettext_lazy("Halt"),
    "order": gettext_lazy("Order"),
    "amend": gettext_lazy("Amendment"),
    "cancel": gettext_lazy("Cancellation"),
    "trade": gettext_lazy("Trade"),
    "recall": gettext_lazy("Trade taken back"),
    "readings": gettext_lazy("Meter readings"),
    "settle": gettext_lazy("Settlement"),
    "agreement": gettext_lazy("Private agreement"),
    "adjust": gettext_lazy("Correction of a settlement"),
    "final": gettext_lazy("Settlement is final"),
    "snapshot": gettext_lazy("Snapshot"),
    "seal": gettext_lazy("Seal"),
}
# Entries of one type that do different things: what the entry's action says.
ACTION_WORDS = {
    ("amend", "hibernated"): gettext_lazy("Order put to sleep"),
    ("amend", "reactivated"): gettext_lazy("Order brought back"),
    ("account", "opened"): gettext_lazy("Account opened"),
    ("account", "closed"): gettext_lazy("Account closed"),
    ("account", "connection"): gettext_lazy("Connection of an account"),
    ("account", "key"): gettext_lazy("Key of an account"),
    ("agreement", "proposed"): gettext_lazy("Private agreement proposed"),
    ("agreement", "accepted"): gettext_lazy("Private agreement accepted"),
    ("agreement", "revoked"): gettext_lazy("Private agreement ended"),
    ("adjust", "shared"): gettext_lazy("Left-over energy shared out"),
    ("contract", "opened"): gettext_lazy("Contract opened"),
    ("contract", "closed"): gettext_lazy("Gate closed"),
    ("contract", "delivered"): gettext_lazy("Contract delivered"),
}
