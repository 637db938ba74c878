"""Sharing on the account page: who gets what I have left over, whose I get, and what has been proposed."""

from __future__ import annotations

from typing import Any

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
from market.pages.accountview import show
from market.pages.context import running_exchange
from market.pages.roles import only_for, problem_sentence
from market.pages.shareview import GIVE, ShareForm
from market.settlement import queries

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
        return show(request, share_form=form)
    other = queries.account_index(exchange, form.cleaned_data["neighbour"])
    if other is None or other == account.index:
        return _refused(request, form, "neighbour", _("No other home has this sharing code."))
    giver, receiver = (account.index, other) if form.cleaned_data["side"] == GIVE else (other, account.index)
    try:
        outcome = operations.propose_agreement(
            exchange,
            account=account.index,
            giver=giver,
            receiver=receiver,
            price_e4=form.cleaned_data["price"],
            start=_start(exchange),
            key=f"share:{form.cleaned_data['once']}",
        )
    except TROUBLE as error:
        form.add_error(None, problem_sentence(error))  # with its token: sending it again does not propose it twice
        return show(request, share_form=form)
    if outcome.refused is not None:
        field = "price" if outcome.refused.field.startswith("price") else "neighbour"
        return _refused(request, form, field, _sentence(outcome))
    if outcome.conflict is None:
        messages.success(request, _("Proposed. It holds once your neighbour has accepted it."))
    return redirect("account")


def _refused(request: HttpRequest, form: ShareForm, field: str, sentence: str) -> HttpResponse:
    """Show the page again with what was typed and what is wrong with it."""
    form.renew()
    form.add_error(field, sentence)
    return show(request, share_form=form)


def _sentence(outcome: Outcome) -> str:
    assert outcome.refused is not None
    return str(_SENTENCES.get(outcome.refused.code, gettext_lazy("The market does not accept this value.")))


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
        messages.error(request, _sentence(outcome))
    elif outcome.conflict is None:
        messages.success(request, done)
    return redirect("account")


urlpatterns = [
    path("account/sharing", propose, name="propose-agreement"),
    path("account/sharing/<int:agreement>", answer, name="answer-agreement"),
]
