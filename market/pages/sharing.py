"""Sharing on the account page: who gets what I have left over, whose I get, and what has been proposed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from market.engine.contracts import contract_name
from market.exchange import operations
from market.exchange.exchange import Exchange
from market.exchange.outcomes import CommitFailed, NotRunning, Outcome, Overloaded
from market.households import queries as households
from market.households.models import Role
from market.pages.context import running_exchange
from market.pages.forms import OnceForm, price_field
from market.pages.roles import only_for, problem_sentence
from market.settlement import queries

GIVE, RECEIVE = "give", "receive"
TROUBLE = (NotRunning, Overloaded, CommitFailed, TimeoutError)
_SENTENCES = {
    "unknown_account": gettext_lazy("There is no such account."),
    "account_closed": gettext_lazy("This account is closed."),
    "outside_sharing": gettext_lazy("The market does not let these two homes share."),
    "too_many_agreements": gettext_lazy("One of the two has too many agreements already."),
    "unknown_agreement": gettext_lazy("There is no such agreement of yours."),
    "not_your_account": gettext_lazy("There is no such agreement of yours."),
    "nothing_to_change": gettext_lazy("This would change nothing."),
}


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


def context_of(account: households.AccountInfo | None) -> dict[str, Any]:
    """Return what the account page says about sharing; nothing while the market does not run, or lets nobody share."""
    exchange = running_exchange()
    if account is None or account.closed or exchange is None:
        return {}
    if not exchange.read(lambda engine: engine.params.sharing_scope):
        return {}
    return {"agreements": queries.agreements(exchange, account.index), "share_form": ShareForm()}


def _start(exchange: Exchange) -> str:
    """Return the next contract: an agreement begins with what can still be agreed on in time."""
    length_ms = exchange.read(lambda engine: engine.interval_ms)
    return contract_name((exchange.now_ms() // length_ms + 1) * length_ms)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def propose(request: HttpRequest) -> HttpResponse:
    """Propose an agreement to a neighbour."""
    form = ShareForm(request.POST)
    account, exchange = households.account_of(request.user), running_exchange()
    if account is None or exchange is None:
        messages.error(request, problem_sentence(NotRunning("no exchange or account")))
        return redirect("account")
    if not form.is_valid():
        for errors in form.errors.values():
            messages.error(request, errors[0])
        return redirect("account")
    other = queries.account_index(exchange, form.cleaned_data["neighbour"])
    if other is None or other == account.index:
        messages.error(request, _("No other home has this sharing code."))
        return redirect("account")
    giver, receiver = (account.index, other) if form.cleaned_data["side"] == GIVE else (other, account.index)
    return _tell(
        request,
        lambda: operations.propose_agreement(
            exchange,
            account=account.index,
            giver=giver,
            receiver=receiver,
            price_e4=form.cleaned_data["price"],
            start=_start(exchange),
            key=f"share:{form.cleaned_data['once']}",
        ),
        _("Proposed. It holds once your neighbour has accepted it."),
    )


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def answer(request: HttpRequest, agreement: int) -> HttpResponse:
    """Accept an agreement, or end it."""
    account, exchange = households.account_of(request.user), running_exchange()
    if account is None or exchange is None:
        messages.error(request, problem_sentence(NotRunning("no exchange or account")))
        return redirect("account")
    index = account.index
    if request.POST.get("decision") == "accept":
        done = _("Agreed. It holds from the next interval on.")
        return _tell(request, lambda: operations.accept_agreement(exchange, account=index, agreement=agreement), done)
    done = _("Ended. Intervals that have begun are still shared out.")
    return _tell(request, lambda: operations.revoke_agreement(exchange, account=index, agreement=agreement), done)


def _tell(request: HttpRequest, act: Any, done: str) -> HttpResponse:
    try:
        outcome: Outcome = act()
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
        return redirect("account")
    if outcome.refused is not None:
        sentence = _SENTENCES.get(outcome.refused.code, gettext_lazy("The market does not accept this value."))
        messages.error(request, str(sentence))
    elif outcome.conflict is None:
        messages.success(request, done)
    return redirect("account")


urlpatterns = [
    path("account/sharing", propose, name="propose-agreement"),
    path("account/sharing/<int:agreement>", answer, name="answer-agreement"),
]
