"""What an autopilot does, in words, for the small section on the home page."""

from __future__ import annotations

from django import template

from market.agents import queries
from market.pages.autopilot import words

register = template.Library()


@register.simple_tag
def autopilot_words(account: int) -> str:
    """Return what an account's autopilot does, or would do."""
    return " ".join(words(queries.settings_of(account)))
