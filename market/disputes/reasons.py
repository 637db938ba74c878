"""Why something is contested and how it was answered: codes that are kept, words for the screen."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

CLAIMS = {
    "meter_shows_other": _("My meter shows something else"),
    "estimated_wrong": _("The estimate is far off"),
    "meter_broken": _("My meter was out of order"),
    "not_mine": _("This is not my home's"),
    "other": _("Something else"),
}
ACCEPTED = {
    "meter_read_again": _("The meter was read again"),
    "meter_fault": _("The meter was at fault"),
    "clock": _("The meter's clock was wrong"),
    "mixed_up": _("Two meters were mixed up"),
}
DECLINED = {
    "reading_confirmed": _("The meter was read again: the value is right"),
    "rule": _("The line follows the rulebook"),
    "no_evidence": _("Nothing speaks for another value"),
}
_OTHER = {"agreed": _("Agreed"), "again": _("Contested once more")}
WORDS = {**CLAIMS, **ACCEPTED, **DECLINED, **_OTHER}


def reason_text(code: str) -> str:
    """Return the word for a code; an unknown one stands for itself."""
    return str(WORDS.get(code, code))
