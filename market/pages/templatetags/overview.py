"""Words of the public market page."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext, gettext_lazy, ngettext

register = template.Library()

WITNESS_WORDS = {
    "none": gettext_lazy("none asked"),
    "ok": gettext_lazy("cosigning"),
    "behind": gettext_lazy("behind"),
    "refused": gettext_lazy("one refuses"),
}


@register.filter
def percent(permille: int) -> str:
    """734 -> "73.4 %"."""
    return f"{permille // 10}.{permille % 10} %"


@register.filter
def span(span_ms: int) -> str:
    """Return how long ago something was, in its largest unit."""
    seconds = span_ms // 1000
    if seconds < 120:
        return ngettext("%(count)s second ago", "%(count)s seconds ago", seconds) % {"count": seconds}
    minutes = seconds // 60
    return ngettext("%(count)s minute ago", "%(count)s minutes ago", minutes) % {"count": minutes}


@register.filter
def witness_word(state: str) -> str:
    """Return what the state of the witnesses is called."""
    return str(WITNESS_WORDS.get(state) or gettext("in trouble"))
