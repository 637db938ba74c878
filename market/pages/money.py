"""A household's money: put in, take out, and what became of it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.households import queries as households
from market.households import renewal
from market.households.models import Role
from market.households.operations import HouseholdError
from market.pages.again import freshly, typed
from market.pages.context import market_now, running_exchange
from market.pages.forms import new_once
from market.pages.moneyforms import DepositForm, WithdrawalForm
from market.pages.roles import attempt, only_for, problem_sentence
from market.pages.templatetags.market import money as money_text
from market.payments import operations, queries
from market.payments.models import OPEN, Direction
from market.settlement.statement_queries import numbers_of

SHOWN = 40
TROUBLE = (HouseholdError, NotRunning, Overloaded, CommitFailed, TimeoutError)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_safe
def money(request: HttpRequest) -> HttpResponse:
    """Show a household's money with what puts some in and takes some out."""
    return _show(request)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def put_in(request: HttpRequest) -> HttpResponse:
    """Note money a member is about to send; the reference for the transfer is shown in the list."""
    mine = households.account_of(request.user)
    if mine is None:
        messages.error(request, _("You have no open account yet."))
        return redirect("money")
    form = DepositForm(request.POST)
    if not form.is_valid():
        return _show(request, deposit=form)
    try:
        operations.request_deposit(
            account_index=mine.index, amount_e7=form.amount_e7(), now=market_now(), once=form.cleaned_data["once"]
        )
    except HouseholdError as error:
        form.renew()
        form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        return _show(request, deposit=form)
    messages.success(request, _("Now send the money from your bank, with the reference below."))
    return redirect("money")


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
@freshly(back="money")
def take_out(request: HttpRequest) -> HttpResponse:
    """Set money aside for a transfer to the member's bank account."""
    mine = households.account_of(request.user)
    if mine is None:
        messages.error(request, _("You have no open account yet."))
        return redirect("money")
    form = WithdrawalForm(request.POST)
    if not form.is_valid():
        return _show(request, withdrawal=form)
    asked, now = form.cleaned_data, market_now()
    payment = attempt(
        form,
        lambda exchange: operations.request_withdrawal(
            exchange, account_index=mine.index, amount_e7=form.amount_e7(), iban=asked["iban"], holder=asked["holder"],
            now=now, once=asked["once"],
        ),
    )  # fmt: skip
    if payment is None:
        return _show(request, withdrawal=form)
    sentence = _("%(amount)s are set aside for your bank account.") % {"amount": money_text(payment.amount_e7)}
    messages.success(request, sentence)
    return redirect("money")


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def top_up(request: HttpRequest) -> HttpResponse:
    """Give a member of the demo play money."""
    mine = households.account_of(request.user)
    if mine is None or not settings.DEMO:
        raise Http404
    try:
        payment = operations.top_up(
            _exchange(), account_index=mine.index, now=market_now(), once=request.POST.get("once", "")
        )
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    else:
        messages.success(request, _("%(amount)s are in your wallet.") % {"amount": money_text(payment.amount_e7)})
    return redirect("money")


def _exchange() -> Exchange:
    exchange = running_exchange()
    if exchange is None:
        raise NotRunning("no exchange runs in this process")
    return exchange


def _show(
    request: HttpRequest, *, deposit: DepositForm | None = None, withdrawal: WithdrawalForm | None = None
) -> HttpResponse:
    mine = households.account_of(request.user)
    if mine is None:
        return redirect("account")
    payments = queries.payments_of(numbers_of(request.user, mine.index), limit=SHOWN)
    context: dict[str, Any] = {
        "balance": exchange_queries.balance(mine.index),
        "owed_e7": renewal.owed_e7(request.user.pk),  # under earlier numbers, too
        "security_e7": exchange_queries.security(mine.index),
        "deposit": deposit or DepositForm(),
        "withdrawal": withdrawal or WithdrawalForm(initial=typed(request, reverse("take-out"), prefix="out", at="out")),
        "announced": [one for one in payments if one.direction == Direction.IN and one.state in OPEN],
        "payments": payments,
        "bank": {"iban": settings.BANK_IBAN, "holder": settings.BANK_HOLDER},
        "limit_e7": operations.one_person_limit_e7(),
        "top_up_e7": operations.TOP_UP_E7,
        "top_up_once": new_once(),
    }
    wrong = deposit is not None or withdrawal is not None
    return render(request, "home/money.html", context, status=422 if wrong else 200)


urlpatterns = [
    path("money", money, name="money"),
    path("money/deposits", put_in, name="put-in"),
    path("money/withdrawals", take_out, name="take-out"),
    path("money/top-up", top_up, name="top-up"),
]
