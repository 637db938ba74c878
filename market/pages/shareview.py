"""What the account page says about sharing, and the form that proposes it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from market.households import queries as households
from market.pages.context import running_exchange
from market.pages.forms import OnceForm, price_field
from market.settlement import queries

GIVE, RECEIVE = "give", "receive"


class ShareForm(OnceForm):
    """An agreement to propose."""

    side = forms.ChoiceField(
        label=gettext_lazy("What is left over"),
        choices=[
            (GIVE, gettext_lazy("goes from me to my neighbour")),
            (RECEIVE, gettext_lazy("comes from my neighbour")),
        ],
    )
    neighbour = forms.RegexField(
        label=gettext_lazy("Your neighbour's sharing code"),
        regex=r"\A[0-9a-f]{32}\Z",
        help_text=gettext_lazy("It stands on your neighbour's account page, as yours does here."),
        error_messages={"invalid": gettext_lazy("A sharing code has 32 digits and letters a to f.")},
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    price = price_field(label=gettext_lazy("Price"), help_text=gettext_lazy("0 is a gift."), initial="0")


def context_of(account: households.AccountInfo | None, *, form: ShareForm | None = None) -> dict[str, Any]:
    """Return what the account page says about sharing; nothing while the market does not run, or lets nobody share."""
    exchange = running_exchange()
    if account is None or account.closed or exchange is None:
        return {}
    if not exchange.read(lambda engine: engine.params.sharing_scope):
        return {}
    return {"agreements": queries.agreements(exchange, account.index), "share_form": form or ShareForm()}
