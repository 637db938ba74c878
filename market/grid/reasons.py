"""Why an official changes something: a code for the ledger (``market.engine.reasons``), a word for the screen."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from market.engine.reasons import CODES, OPENING, OPERATOR

REASONS = {
    "planning": _("Planned value"),
    "maintenance": _("Maintenance"),
    "works": _("Works on the network"),
    "overload": _("Overload"),
    "fault": _("Fault"),
    "restored": _("Restored"),
    "tariff": _("New network tariff"),
    "market": pgettext_lazy("reason of a tariff", "Prices of supply have changed"),
    "law": _("Law or regulator asks for it"),
    "error": _("Obvious error"),
    "integrity": _("Integrity of the market"),
    "drill": _("Drill"),
    "device": _("A device was confirmed"),
    "request": _("At the member's request"),
    "resumed": _("The cause is gone"),
    OPENING: _("Opening of the market"),
    OPERATOR: _("Decided by a program of the operator"),
    "renewal": _("Change to a new account number"),
    "recall": _("A trade was taken back that went the other way"),
    "netting": _("Netting gives back less than before"),
    "collar": _("The price moved too far in too short a time"),
}
NOT_CHOSEN = frozenset((OPENING, OPERATOR, "device", "renewal"))  # what nobody decides in a form
TO_GO_ON = frozenset(("resumed",))  # why a halt ends; the form that stops trading offers none of them


def choices(kind: str) -> list[tuple[str, object]]:
    """Return the reasons a form offers for a kind of decision, in the order of the words above."""
    return [(code, word) for code, word in REASONS.items() if code in CODES[kind] - NOT_CHOSEN]


def reason_text(code: str) -> str:
    """Return the word for a reason's code; an unknown code stands for itself."""
    return str(REASONS.get(code, code))
