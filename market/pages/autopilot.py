"""The autopilot: what a household allows it, in words what it will do, and what it did today."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.agents import members, operations, queries
from market.agents.queries import Settings
from market.agents.strategies.limits import FULL_PERCENT, Limits
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.households import queries as households
from market.households import signing
from market.households.models import Role
from market.households.operations import HouseholdError
from market.households.queries import AccountInfo
from market.pages.context import Page, day_span_ms, local, running_exchange
from market.pages.forms import price_field
from market.pages.roles import only_for, problem_sentence
from market.pages.templatetags.market import unit_price

TROUBLE = (NotRunning, Overloaded, CommitFailed, TimeoutError)


class LimitsForm(forms.Form):
    """The limits of an autopilot; the names are those of the REST call."""

    sell_from = price_field(
        label=gettext_lazy("Lowest price to sell"),
        required=False,
        help_text=gettext_lazy("All-in at your meter. Empty: never for less than the grid pays."),
    )
    buy_to = price_field(
        label=gettext_lazy("Highest price to buy"),
        required=False,
        help_text=gettext_lazy("All-in at your meter, grid fee included. Empty: never for more than the grid charges."),
    )
    reserve_percent = forms.IntegerField(
        label=gettext_lazy("Battery reserve, percent"),
        required=False,
        min_value=0,
        max_value=FULL_PERCENT,
        help_text=gettext_lazy("What stays in the battery for yourself, whatever others pay."),
    )

    revision = forms.IntegerField(required=False, min_value=0, widget=forms.HiddenInput)  # of what was shown

    def __init__(self, *args: Any, settings: Settings, **kwargs: Any):
        limits = settings.limits
        shown = {
            "revision": settings.revision,
            "sell_from": limits.sell_from_e4,
            "buy_to": limits.buy_to_e4,
            "reserve_percent": limits.reserve_percent,
        }
        super().__init__(*args, initial=shown, **kwargs)
        if not settings.has_battery:
            del self.fields["reserve_percent"]
        for field in self.fields.values():
            field.widget.attrs["autocomplete"] = "off"

    def limits(self, before: Limits) -> Limits:
        """Return what was typed; a reserve is kept as it was where it cannot be typed."""
        values = self.cleaned_data
        reserve = values.get("reserve_percent", before.reserve_percent)
        return Limits(values["sell_from"], values["buy_to"], reserve or 0)


def words(settings: Settings) -> list[str]:
    """Return what an autopilot with these settings does, a sentence each."""
    limits, exchange = settings.limits, running_exchange()
    topup_e4, spill_e4 = (-1, -1) if exchange is None else exchange.read(lambda e: (e.topup_e4, e.spill_e4))
    if limits.sell_from_e4 is None:
        said = [_("It sells what your home leaves over, never for less than the grid pays.")]
    elif limits.sell_from_e4 > topup_e4 >= 0:
        said = [_("It sells nothing at present: nobody pays more than the grid charges.")]
    else:
        said = [
            _("It sells what your home leaves over at %(price)s or more.") % {"price": unit_price(limits.sell_from_e4)}
        ]
    if limits.buy_to_e4 is None:
        said.append(_("It buys what your home lacks, never for more than the grid charges."))
    elif limits.buy_to_e4 < spill_e4:
        said.append(_("It buys nothing at present: nobody sells for less than the grid pays."))
    else:
        said.append(_("It buys what your home lacks at %(price)s or less.") % {"price": unit_price(limits.buy_to_e4)})
    if settings.has_battery and limits.reserve_percent:
        said.append(_("It keeps %(percent)s %% of your battery.") % {"percent": limits.reserve_percent})
    return said


def _sentence(on: bool, cancelled: int) -> str:
    said = _("Autopilot is on.") if on else _("Autopilot is off.")
    return f"{said} {_taken_back(cancelled)}" if cancelled else said


def _not_yet(said: str) -> str:
    later = _("The market is busy: its orders are taken back as soon as possible, without you.")
    return f"{said} {later}"


def _taken_back(cancelled: int) -> str:
    sentence = ngettext("%(n)s order was taken back.", "%(n)s orders were taken back.", cancelled)
    return sentence % {"n": cancelled}


@never_cache
@require_safe
@only_for(Role.HOUSEHOLD)
def autopilot(request: HttpRequest) -> HttpResponse:
    """Show a household what its autopilot may do, and did today."""
    account = households.account_of(request.user)
    return redirect("home") if account is None else _show(request, account)


@never_cache
@require_POST
@only_for(Role.HOUSEHOLD)
def set_limits(request: HttpRequest) -> HttpResponse:
    """Put other limits in force."""
    account = households.account_of(request.user)
    if account is None:
        return redirect("home")
    settings = queries.settings_of(account.index)
    form = LimitsForm(request.POST, settings=settings)
    if not form.is_valid():
        return _show(request, account, form)
    try:
        changed = operations.change(
            running_exchange(),
            account=account.index,
            limits=form.limits(settings.limits),
            revision=form.cleaned_data["revision"],
        )
    except HouseholdError as error:
        if error.code == "changed_meanwhile":
            # What was typed stays, beside what holds now: saving it again is meant, then.
            now = queries.settings_of(account.index)
            again = LimitsForm({**request.POST.dict(), "revision": now.revision}, settings=now)
            again.add_error(None, str(error.sentence))
            return _show(request, account, again, status=409)
        form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        return _show(request, account, form)
    except TROUBLE as error:
        messages.warning(request, problem_sentence(error))
        return redirect("autopilot")
    if changed.trouble is not None:
        messages.warning(request, _not_yet(_("Your limits are saved.")))
        return redirect("autopilot")
    said = _("Your limits are in force.")
    messages.success(request, f"{said} {_taken_back(changed.cancelled)}" if changed.cancelled else said)
    return redirect("autopilot")


@never_cache
@require_POST
@only_for(Role.HOUSEHOLD)
def set_automatic(request: HttpRequest) -> HttpResponse:
    """Hand the trading to the autopilot, or take it back with the orders it has in the book."""
    account = households.account_of(request.user)
    if account is None:
        return redirect("home")
    on, quietly = request.POST.get("automatic") == "on", request.headers.get("Accept") == "application/json"
    back = "autopilot" if request.POST.get("page") == "autopilot" else "home"
    try:
        changed = operations.change(running_exchange(), account=account.index, on=on)
    except HouseholdError as error:
        messages.error(request, str(error.sentence))
        return HttpResponse(status=409) if quietly else redirect(back)
    except TROUBLE as error:
        messages.warning(request, problem_sentence(error))
        return HttpResponse(status=503) if quietly else redirect(back)
    said = _sentence(on, changed.cancelled)
    if changed.trouble is not None:
        said = _not_yet(said)
    if quietly:
        return HttpResponse(said)
    messages.add_message(request, messages.SUCCESS if changed.trouble is None else messages.WARNING, said)
    return redirect(back)


def _show(
    request: HttpRequest, account: AccountInfo, form: LimitsForm | None = None, *, status: int = 422
) -> HttpResponse:
    page = Page(request)
    settings = queries.settings_of(account.index)
    start_ms, end_ms = day_span_ms(local(page.now_ms).date())
    exchange = page.exchange
    context = {
        "settings": settings,
        "words": words(settings),
        "form": form or LimitsForm(settings=settings),
        "done": queries.done(account.index, start_ms=start_ms, end_ms=end_ms),
        "waiting": 0 if exchange is None else len(queries.open_orders(exchange, [account.index])),
        "waits": members.waits_for(exchange, account.index, page.now_ms),
        "signed": exchange is not None and signing.is_signed(exchange, account=account.index),
    }
    return render(request, "autopilot/autopilot.html", context, status=200 if form is None else status)


urlpatterns = [
    path("autopilot", autopilot, name="autopilot"),
    path("autopilot/limits", set_limits, name="autopilot-limits"),
    path("home/automatic", set_automatic, name="home-automatic"),
]
