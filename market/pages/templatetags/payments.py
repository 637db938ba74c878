"""Words of payments."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils.translation import gettext_lazy as _

from market.payments.formats.references import grouped
from market.payments.reasons import reason_text, why_text

register = template.Library()

IN_WORDS = {
    "requested": (_("announced, not here yet"), "warn"),
    "second": (_("here, is being checked"), "warn"),
    "confirmed": (_("in your wallet"), "good"),
    "refused": (_("refused"), "bad"),
}
OUT_WORDS = {
    "requested": (_("set aside, is being checked"), "warn"),
    "second": (_("set aside, is being checked"), "warn"),
    "confirmed": (_("checked, goes to the bank next"), "warn"),
    "refused": (_("refused, back in your wallet"), "bad"),
    "sent": (_("given to the bank"), "good"),
}
KEPT = _("refused, it never left your wallet")
ON_ITS_WAY_BACK = _("refused, on its way back into your wallet")
OUTCOMES = {
    "matched": (_("will be booked"), "good"),
    "noted": (_("was confirmed by hand"), ""),
    "unplaced": (_("has to be placed by hand"), "warn"),
    "duplicate": (_("was booked before"), ""),
    "outgoing": (_("outgoing"), ""),
    "pending": (_("not booked by the bank yet"), ""),
}
STEPS = {
    "requested": _("asked for"),
    "second": _("confirmed, waits for a second person"),
    "confirmed": _("confirmed"),
    "refused": _("refused"),
    "sent": _("sent to the bank"),
}

register.filter("grouped", grouped)
register.filter("payment_reason", reason_text)
register.filter("why", why_text)


@register.filter
def state_word(payment) -> str:  # type: ignore[no-untyped-def]
    """Return what a payment's state means to its member."""
    if payment.direction == "out" and payment.state == "refused" and payment.returned_seq is None:
        return str(KEPT if payment.seq is None else ON_ITS_WAY_BACK)
    return str((IN_WORDS if payment.direction == "in" else OUT_WORDS)[payment.state][0])


@register.filter
def state_tone(payment) -> str:  # type: ignore[no-untyped-def]
    """Return the colour of a payment's state."""
    return (IN_WORDS if payment.direction == "in" else OUT_WORDS)[payment.state][1]


@register.filter
def outcome_word(outcome: str) -> str:
    """Return what becomes of a transfer."""
    return str(OUTCOMES[outcome][0])


@register.filter
def outcome_tone(outcome: str) -> str:
    """Return the colour of what becomes of a transfer."""
    return OUTCOMES[outcome][1]


@register.filter
def step_word(state: str) -> str:
    """Return a step of a payment in the staff's words."""
    return str(STEPS[state])


@register.filter
def ms(at: datetime) -> int:
    """Return an instant in ms, for ``day`` and ``clock``."""
    return round(at.timestamp() * 1000)


@register.filter
def cents(amount_e7: int) -> str:
    """Return whole cents as a plain number to type: 12500000 -> "1.25"."""
    return f"{amount_e7 // 10**7}.{amount_e7 % 10**7 // 10**5:02d}"
