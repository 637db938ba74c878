"""Words of disputes."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext_lazy as _

from market.disputes.reasons import reason_text

register = template.Library()

STATES = {
    "open": (_("with the operator"), "warn"),
    "accepted": (_("accepted"), "good"),
    "declined": (_("declined"), "bad"),
    "closed": (_("closed"), ""),
}
KINDS = {"reading": _("Reading"), "line": _("Statement line")}

register.filter("dispute_reason", reason_text)


@register.filter
def dispute_state(state: str) -> str:
    """Return the word for a dispute's state."""
    return str(STATES[state][0])


@register.filter
def dispute_tone(state: str) -> str:
    """Return the colour of a dispute's state."""
    return STATES[state][1]


@register.filter
def dispute_kind(kind: str) -> str:
    """Return the word for what is contested."""
    return str(KINDS[kind])


@register.filter
def kwh(energy_wh: int | None) -> str:
    """Return an energy as a plain number to type, in kWh: 1250 -> "1.250"."""
    return "" if energy_wh is None else f"{energy_wh // 1000}.{energy_wh % 1000:03d}"
