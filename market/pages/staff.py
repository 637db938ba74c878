"""The market operator's pages: accounts, limits, tariff and rulebook. Each change is a ledger entry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from ledger import queries as ledger_queries
from market.engine.commands import SetParams
from market.exchange.units import parse_at
from market.grid import operations as grid
from market.grid import queries as grid_queries
from market.households import accesslog
from market.households import operations as households
from market.households import queries as household_queries
from market.households.models import AccountRequest, Role
from market.households.operations import HouseholdError
from market.pages import privacy
from market.pages.context import market_now, running_exchange
from market.pages.forms import ParamsForm, RequestForm, RulebookForm, TariffForm
from market.pages.roles import attempt, decide, only_for, tell_entry

SHOWN_DECISIONS = 20
ACCOUNT_KINDS = ("account", "payout", "connection", "recall")
RULE_KINDS = ("params", "tariff", "rulebook")
PRICES = ("max_price", "tick", "collar")  # of the limits


# --- accounts ----------------------------------------------------------------------------------------------
@never_cache
@only_for(Role.STAFF)
@require_safe
def staff(request: HttpRequest) -> HttpResponse:
    """Show who waits for an account and who wants to be erased."""
    return _show_people(request)


def _show_people(request: HttpRequest, wrong: RequestForm | None = None) -> HttpResponse:
    areas = _home_areas()
    erasures = privacy.waiting()
    forms = [
        wrong if wrong is not None and wrong.request.pk == waiting.pk else RequestForm(areas=areas, request=waiting)
        for waiting in household_queries.open_requests()
    ]
    context = {
        "tab": "people",
        "forms": forms,
        "erasures": erasures,
        "decisions": grid_queries.decisions(limit=SHOWN_DECISIONS, kinds=ACCOUNT_KINDS),
    }
    named = {form.request.user.pk for form in forms} | {one.user.pk for one in erasures}
    privacy.note(request, accesslog.PEOPLE, people=named)
    return render(request, "staff/people.html", context, status=200 if wrong is None else 422)


@never_cache
@only_for(Role.STAFF)
@require_POST
def decide_request(request: HttpRequest, request_id: int) -> HttpResponse:
    """Open the account a household asked for, or turn it down."""
    waiting = household_queries.open_request(request_id)
    if waiting is None:
        messages.warning(request, _("This request has been decided already."))
        return redirect("staff")
    now = market_now()
    if request.POST.get("decision") == "decline":
        _declined(request, waiting, now)
        return redirect("staff")
    form = RequestForm(request.POST, areas=_home_areas(), request=waiting)
    if not form.is_valid():
        return _show_people(request, wrong=form)
    area = form.cleaned_data["area"]
    account = attempt(
        form,
        lambda exchange: households.accept_request(exchange, request_id=waiting.pk, now=now, area=area),
    )
    if account is None:
        return _show_people(request, wrong=form)
    _note(request, seq=account.opened_seq, kind="account", target=str(account.index), values={"area": area})
    sentence = _("Account %(number)s is open in %(area)s.") % {"number": account.index, "area": area}
    tell_entry(request, sentence, account.opened_seq)
    return redirect("staff")


def _declined(request: HttpRequest, waiting: AccountRequest, now: datetime) -> None:
    try:
        households.decline_request(request_id=waiting.pk, now=now)
    except HouseholdError as error:
        messages.warning(request, str(error.sentence))
    else:
        messages.success(request, _("The request of %(name)s is turned down.") % {"name": waiting.user.username})


# --- limits, tariff, rulebook ----------------------------------------------------------------------------------------
@never_cache
@only_for(Role.STAFF)
@require_safe
def rules(request: HttpRequest) -> HttpResponse:
    """Show limits, tariff and rulebook with what changes them."""
    return _show_rules(request)


@never_cache
@only_for(Role.STAFF)
@require_POST
def set_params(request: HttpRequest) -> HttpResponse:
    """Publish the limits of the market."""
    form = ParamsForm(request.POST, prefix="params")

    def limits(asked: dict[str, Any]) -> dict[str, Any]:
        why = {"reason": asked["reason"], "text": asked["text"]}
        values = {name: value for name, value in asked.items() if name not in ("once", *why)}
        for name in PRICES:
            values[f"{name}_e4"] = values.pop(name)
        exchange = running_exchange()
        # What the form does not ask for stays in force.
        now = SetParams(**values) if exchange is None else grid_queries.params(exchange)._replace(**values)
        return {"params": now, **why}

    if decide(request, form, grid.set_params, limits, _("The new limits are in force.")):
        return redirect("staff-rules")
    return _show_rules(request, params=form)


@never_cache
@only_for(Role.STAFF)
@require_POST
def set_tariff(request: HttpRequest) -> HttpResponse:
    """Publish the prices of the supplier of last resort."""
    form = TariffForm(request.POST, prefix="tariff")
    if decide(
        request,
        form,
        grid.set_tariff,
        lambda asked: {
            "topup_e4": asked["topup"],
            "spill_e4": asked["spill"],
            "reason": asked["reason"],
            "text": asked["text"],
        },
        _("The new tariff holds for contracts that open from now on."),
    ):
        return redirect("staff-rules")
    return _show_rules(request, tariff=form)


@never_cache
@only_for(Role.STAFF)
@require_POST
def publish_rulebook(request: HttpRequest) -> HttpResponse:
    """Put a new text of the rulebook in force."""
    form = RulebookForm(request.POST, prefix="rulebook")
    if decide(
        request,
        form,
        grid.publish_rulebook,
        # A browser sends line ends as CR LF; the text people have, and its hash, has LF.
        lambda asked: {
            "text": asked["text"].replace("\r\n", "\n"),
            "version": asked["version"],
            "reason": asked["reason"],
            "words": asked["words"],
        },
        _("The new rulebook is in force."),
    ):
        return redirect("staff-rules")
    return _show_rules(request, rulebook=form)


def _show_rules(
    request: HttpRequest,
    *,
    params: ParamsForm | None = None,
    tariff: TariffForm | None = None,
    rulebook: RulebookForm | None = None,
) -> HttpResponse:
    wrong = any(form is not None for form in (params, tariff, rulebook))
    exchange = running_exchange()
    current = None if exchange is None else grid_queries.rules(exchange)
    text = ""
    if current is not None:
        try:
            text = ledger_queries.rulebook(current.rulebook_sha256)
        except ledger_queries.NotThere:
            text = ""
        params = params or ParamsForm(
            prefix="params",
            initial={**current._asdict(), **{name: getattr(current, f"{name}_e4") for name in PRICES}},
        )
        tariff = tariff or TariffForm(prefix="tariff", initial={"topup": current.topup_e4, "spill": current.spill_e4})
        rulebook = rulebook or RulebookForm(
            prefix="rulebook", initial={"version": current.rulebook_version + 1, "text": text}
        )
    context = {
        "tab": "rules",
        "rules": current,
        "params": params,
        "tariff": tariff,
        "rulebook": rulebook,
        "decisions": grid_queries.decisions(limit=SHOWN_DECISIONS, kinds=RULE_KINDS),
    }
    return render(request, "staff/rules.html", context, status=422 if wrong else 200)


# --- helpers ---------------------------------------------------------------------------------------------------------
def _note(request: HttpRequest, *, seq: int, kind: str, target: str, values: dict[str, Any]) -> None:
    at_ms = parse_at(str(ledger_queries.entry(seq)["at"]))
    grid.note_entry(seq=seq, at_ms=at_ms, by=request.user, kind=kind, target=target, values=values)


def _home_areas() -> list[tuple[str, str]]:
    """Return areas in the order of the tree, indented by their depth."""
    exchange = running_exchange()
    if exchange is None:
        return []
    return [(area.area, "\u2003" * area.depth + f"{area.area} ({area.homes})") for area in grid_queries.areas(exchange)]


urlpatterns = [
    path("staff", staff, name="staff"),
    path("staff/requests/<int:request_id>", decide_request, name="decide-request"),
    path("staff/rules", rules, name="staff-rules"),
    path("staff/rules/params", set_params, name="set-params"),
    path("staff/rules/tariff", set_tariff, name="set-tariff"),
    path("staff/rules/rulebook", publish_rulebook, name="publish-rulebook"),
]
