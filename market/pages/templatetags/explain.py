"""``{% explain "gate" %}``: a word a newcomer does not know, explained where it stands (``glossary``)."""

from __future__ import annotations

from django import template

from market.pages.glossary import TERMS, Term

register = template.Library()


@register.inclusion_tag("parts/explain.html")
def explain(key: str) -> dict[str, Term]:
    """Return a disclosure about a word; raise ``KeyError`` for one that the glossary does not have."""
    return {"term": TERMS[key]}
