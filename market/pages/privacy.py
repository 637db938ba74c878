"""What a person may ask about their data: who read it, a new account number, to be forgotten; and the staff's side of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from market.exchange import queries as exchange_queries
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.households import accesslog, erasure, queries, renewal
from market.households.models import Role, User
from market.households.operations import HouseholdError
from market.pages.again import freshly, typed
from market.pages.context import market_now, running_exchange
from market.pages.roles import only_for, problem_sentence
from market.pages.templatetags.market import exact_money
from market.surveillance import looks

TROUBLE = (HouseholdError, NotRunning, Overloaded, CommitFailed, TimeoutError)
SHOWN_ERASURES = 20
MAX_BANK_TEXT = 200  # characters of a form
MAX_ERASURES = 500  # requests looked through for one that a form names


class Earlier(NamedTuple):
    """A number a member had before, what is left in its wallet, and what it owes."""

    index: int
    left_e7: int
    owed_e7: int


class Waiting(NamedTuple):
    """Somebody who wants to be erased. ``obstacle`` says what is in the way, "" when nothing is."""

    user: User
    accounts: list[int]
    obstacle: str


def note(
    request: HttpRequest, kind: str, *, accounts: Iterable[int] = (), people: Iterable[int] = (), everybody: bool = False,
    what: str = "", query: str | None = None, sha256: str = "",
) -> None:  # fmt: skip
    """Note whom a page shows to somebody in office, and for those who watch the market what they looked at."""
    user, now = request.user, timezone.now()
    accesslog.note(
        reader=user.pk, role=user.role, kind=kind, now=now, accounts=accounts, people=people, everybody=everybody
    )
    asked = request.META.get("QUERY_STRING", "") if query is None else query
    looks.note(
        reader=user.pk, role=user.role, what=what or kind, path=request.path, query=asked, now=now, sha256=sha256
    )


# --- a person's own ---------------------------------------------------------------------------------------------------
def context_of(user: User) -> dict[str, Any]:
    """Return what the account page says about a person's data."""
    household = user.role == Role.HOUSEHOLD
    earlier = [Earlier(account.index, *_left(account.index)) for account in queries.earlier_accounts(user)]
    return {
        "seen": accesslog.about(user) if household else accesslog.by(user),
        "kept_days": settings.ACCESS_LOG_DAYS,
        "earlier": earlier,
        "left_e7": sum(account.left_e7 for account in earlier),
        "owed_e7": sum(account.owed_e7 for account in earlier),
        "renewal_days": settings.RENEWAL_DAYS,
    }


def _left(index: int) -> tuple[int, int]:
    balance = exchange_queries.balance(index)
    return (0, 0) if balance is None else (balance.free_e7, balance.arrears_e7)


def _exchange() -> Any:
    exchange = running_exchange()
    if exchange is None:
        raise NotRunning("no exchange runs in this process")
    return exchange


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def renew(request: HttpRequest) -> HttpResponse:
    """Give a member a new account number."""
    try:
        account = renewal.renew_account(_exchange(), user=request.user, now=market_now())
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    else:
        messages.success(request, _("Your new account number is %(number)s.") % {"number": account.index})
    return redirect("account")


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def fetch_left(request: HttpRequest) -> HttpResponse:
    """Bring what is left under earlier numbers into the present wallet, and pay what they owe out of it."""
    owed_e7 = renewal.owed_e7(request.user.pk)
    try:
        moved_e7 = renewal.fetch_left(_exchange(), user=request.user)
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    else:
        paid_e7 = owed_e7 - renewal.owed_e7(request.user.pk)
        if paid_e7 > 0:
            messages.success(request, _("%(amount)s is paid of what was owed.") % {"amount": exact_money(paid_e7)})
        if moved_e7 or paid_e7 <= 0:
            messages.success(request, _("%(amount)s moved into your wallet.") % {"amount": exact_money(moved_e7)})
    return redirect("account")


@never_cache
@only_for(Role.HOUSEHOLD)
@require_http_methods(["GET", "POST"])
@freshly(changes_only=True, unless=lambda request: request.POST.get("decision") == "withdraw")
def ask_erasure(request: HttpRequest) -> HttpResponse:
    """Say what being erased means, and note that a person wants it, or not any more."""
    user = request.user
    if request.method == "POST" and request.POST.get("decision") == "withdraw":
        erasure.withdraw_request(user=user)
        messages.success(request, _("You stay. Nothing was erased."))
        return redirect("account")
    if request.method == "POST" and request.POST.get("sure"):
        erasure.request_erasure(user=user, now=timezone.now())
        messages.success(request, _("The market operator erases you once your account is closed and paid out."))
        return redirect("account")
    mine = queries.account_of(user)
    context = {
        "unsure": request.method == "POST",
        "sure": bool(typed(request, request.path).get("sure")),
        "account": mine,
        "balance": None if mine is None else exchange_queries.balance(mine.index),
    }
    return render(request, "account/erasure.html", context, status=422 if request.method == "POST" else 200)


# --- the market operator's --------------------------------------------------------------------------------------------
def waiting() -> list[Waiting]:
    """Return who wants to be erased, and what is in the way."""
    return [
        Waiting(user, queries.account_indexes(user.pk), _obstacle(user))
        for user in queries.erasure_requests()[:SHOWN_ERASURES]
    ]


def _obstacle(user: User) -> str:
    try:
        erasure.check_ready(user)
    except HouseholdError as error:
        return str(error.sentence)
    return ""


@never_cache
@only_for(Role.STAFF)
@require_POST
def erase(request: HttpRequest, user_id: int) -> HttpResponse:
    """Close and pay out the accounts of a person who asked to be erased, or, once that is done, erase the person."""
    user = next((one for one in queries.erasure_requests()[:MAX_ERASURES] if one.pk == user_id), None)
    if user is None:
        raise Http404
    try:
        if request.POST.get("decision") == "close":
            _close(request, user)
        else:
            done = erasure.erase(user=user)
            numbers = ", ".join(map(str, done.accounts)) or "–"
            messages.success(
                request, _("The person is erased. Their accounts were: %(numbers)s.") % {"numbers": numbers}
            )
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    return redirect("staff")


def _close(request: HttpRequest, user: User) -> None:
    bank = {name: request.POST.get(name, "")[:MAX_BANK_TEXT] for name in ("iban", "holder")}
    paid = erasure.close_and_pay_out(_exchange(), user=user, now=market_now(), **bank)
    for one in paid:
        sentence = _("%(amount)s of account %(number)s wait as a withdrawal: confirm and send it as any other.")
        messages.success(request, sentence % {"amount": exact_money(one.amount_e7), "number": one.account})
    obstacle = _obstacle(user)
    if obstacle:
        messages.warning(request, obstacle)


urlpatterns = [
    path("account/renew", renew, name="renew-account"),
    path("account/fetch", fetch_left, name="fetch-left"),
    path("account/erasure", ask_erasure, name="ask-erasure"),
    path("staff/people/<int:user_id>/erase", erase, name="erase-person"),
]
