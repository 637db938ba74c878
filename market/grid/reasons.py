"""Why an official changes something: a code for the ledger, a word for the screen."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

CAPACITY_REASONS = {
    "planning": _("Planned value"),
    "maintenance": _("Maintenance"),
    "overload": _("Overload"),
    "fault": _("Fault"),
    "restored": _("Restored"),
}
FEE_REASONS = {
    "planning": _("Planned value"),
    "tariff": _("New network tariff"),
    "error": _("Obvious error"),
}
HALT_REASONS = {
    "integrity": _("Integrity of the market"),
    "fault": _("Fault"),
    "overload": _("Overload"),
    "maintenance": _("Maintenance"),
    "request": _("At the member's request"),
    "resumed": _("The cause is gone"),
}
RECALL_REASONS = {
    "error": _("Obvious error"),
    "integrity": _("Integrity of the market"),
    "fault": _("Fault"),
}
REASONS = {
    **CAPACITY_REASONS,
    **FEE_REASONS,
    **HALT_REASONS,
    **RECALL_REASONS,
    "opening": _("Opening of the market"),
    "recall": _("A trade was taken back that went the other way"),
    "netting": _("Netting gives back less than before"),
    "collar": _("The price moved too far in too short a time"),
}


def reason_text(code: str) -> str:
    """Return the word for a reason's code; an unknown code stands for itself."""
    return str(REASONS.get(code, code))
