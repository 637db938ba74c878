"""Fields of what an official says about a decision: the code of a reason, and their own words."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from market.grid.reasons import choices
from market.grid.words import MAX_WORDS


def reason_field(kind: str, *, without: frozenset[str] = frozenset()) -> forms.ChoiceField:
    """Return a field for the reason of a kind of decision (``market.engine.reasons``), ``without`` those that do not fit."""
    offered = [(code, word) for code, word in choices(kind) if code not in without]
    return forms.ChoiceField(label=_("Reason"), choices=offered, help_text=_("Its code goes on the ledger."))


def words_field() -> forms.CharField:
    """Return a field for what an official says beside the code of a reason."""
    return forms.CharField(
        label=_("In your own words"),
        max_length=MAX_WORDS,
        required=False,
        help_text=_(
            "Sealed beside the decision. The ledger gets a salted hash, so that nobody can change it unnoticed."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
