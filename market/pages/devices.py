"""What sends readings for a home, and what the grid operator confirms of it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.grid import devices as grid_devices
from market.grid import queries as grid_queries
from market.grid.operations import GridError
from market.households import accesslog, devices, queries
from market.households.models import Role
from market.households.operations import HouseholdError
from market.metering import balance, balances
from market.pages import privacy
from market.pages.again import freshly, typed
from market.pages.context import market_now, running_exchange
from market.pages.forms import DeviceForm, SubstationForm
from market.pages.roles import only_for, problem_sentence, tell_entry

SHOWN_AREAS = 600
OPERATORS = (Role.OPERATOR, Role.STAFF)
TROUBLE = (HouseholdError, GridError, NotRunning, Overloaded, CommitFailed, TimeoutError)


def _now_ms() -> int:
    return int(market_now().timestamp() * 1_000)


# --- a household's own -----------------------------------------------------------------------------------------------
@never_cache
@only_for(Role.HOUSEHOLD)
@require_safe
def own_devices(request: HttpRequest) -> HttpResponse:
    """Show a household's devices and what registers another one."""
    return _show(request)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
@freshly(back="devices")
def register(request: HttpRequest) -> HttpResponse:
    """Register a device and show its key, this once."""
    form = DeviceForm(request.POST)
    if not form.is_valid():
        return _show(request, form=form)
    asked = form.cleaned_data
    try:
        made = devices.register(
            user=request.user,
            kind=asked["kind"],
            name=asked["name"],
            rating_w=asked["rating_w"],
            register_digits=asked["register_digits"] or 0,
            once=asked["once"],
            now=timezone.now(),
            now_ms=_now_ms(),
        )
    except HouseholdError as error:
        form.renew()
        form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        return _show(request, form=form)
    if not made.token:
        messages.warning(request, _("This device has been registered already. Its key is not shown a second time."))
        return redirect("devices")
    return _show(request, made=made)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def revoke(request: HttpRequest, device: str) -> HttpResponse:
    """Revoke a lost or removed device."""
    try:
        devices.revoke(user=request.user, device_id=device, now=timezone.now(), now_ms=_now_ms())
    except HouseholdError as error:
        messages.warning(request, str(error.sentence))
    else:
        messages.success(request, _("The device is revoked: nothing it sends is taken any more."))
    return redirect("devices")


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
@freshly(back="devices")
def rekey(request: HttpRequest, device: str) -> HttpResponse:
    """Give a device a new key and show it, this once."""
    try:
        made = devices.rekey(user=request.user, device_id=device, now=timezone.now())
    except HouseholdError as error:
        messages.warning(request, str(error.sentence))
        return redirect("devices")
    return _show(request, made=made)


def _show(
    request: HttpRequest, *, form: DeviceForm | None = None, made: devices.Registered | None = None
) -> HttpResponse:
    own = devices.devices_of(request.user)
    for device in own:  # of a button that was pressed there is only to say that it waits
        typed(request, reverse("rekey-device", args=[device.device_id]))
    context: dict[str, Any] = {
        "account": queries.account_of(request.user),
        "devices": own,
        "form": form or DeviceForm(initial=typed(request, reverse("register-device"), at="register")),
        "made": made,
    }
    return render(request, "account/devices.html", context, status=200 if form is None else 422)


# --- the grid operator -----------------------------------------------------------------------------------------------
@never_cache
@only_for(*OPERATORS)
@require_safe
def waiting(request: HttpRequest) -> HttpResponse:
    """Show the inverters whose rating is to be confirmed, and the substation meters."""
    return _show_waiting(request)


def _show_waiting(
    request: HttpRequest, *, form: SubstationForm | None = None, made: devices.Registered | None = None
) -> HttpResponse:
    found = devices.waiting()
    privacy.note(request, accesslog.ACCOUNT, accounts={account for _device, account, _area in found})
    context = {
        "tab": "devices",
        "waiting": found,
        "substations": devices.substations(),
        "form": form
        or SubstationForm(areas=_areas(), initial=typed(request, reverse("register-substation"), at="substations")),
        "made": made,
    }
    return render(request, "operator/devices.html", context, status=200 if form is None else 422)


def _areas() -> list[tuple[str, str]]:
    """Return areas in the order of the tree, indented by their depth."""
    exchange = running_exchange()
    if exchange is None:
        return []
    return [(area.area, "\u2003" * area.depth + area.area) for area in grid_queries.areas(exchange)]


@never_cache
@only_for(*OPERATORS)
@require_POST
@freshly(back="operator-devices")
def register_substation(request: HttpRequest) -> HttpResponse:
    """Register the meter of an edge and show its key, this once."""
    form = SubstationForm(request.POST, areas=_areas())
    if not form.is_valid():
        return _show_waiting(request, form=form)
    asked = form.cleaned_data
    try:
        made = devices.register(
            user=request.user,
            kind="substation",
            area=asked["area"],
            name=asked["name"],
            rating_w=asked["rating_w"],
            once=asked["once"],
            now=timezone.now(),
            now_ms=_now_ms(),
        )
    except HouseholdError as error:
        form.renew()
        form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        return _show_waiting(request, form=form)
    if not made.token:
        messages.warning(request, _("This device has been registered already. Its key is not shown a second time."))
        return redirect("operator-devices")
    return _show_waiting(request, made=made)


@never_cache
@only_for(*OPERATORS)
@require_POST
def decide(request: HttpRequest, device: str) -> HttpResponse:
    """Confirm what an inverter may give, or turn it down."""
    now = timezone.now()
    try:
        if request.POST.get("decision") == "decline":
            grid_devices.refuse(by=request.user, device_id=device, now=now)
            messages.success(request, _("The device is turned down. The connection's limits stay as they are."))
            return redirect("operator-devices")
        exchange = running_exchange()
        if exchange is None:
            raise NotRunning("no exchange runs in this process")
        made = grid_devices.confirm(exchange, by=request.user, device_id=device, now=now)
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
        return redirect("operator-devices")
    if made is None:
        messages.success(request, _("Confirmed. The connection has this limit already."))
    else:
        tell_entry(request, _("Confirmed. The connection's new export limit is in force."), made.seq)
    return redirect("operator-devices")


CAUSES = {
    balance.UNKNOWN: gettext_lazy("no meter at its edge"),
    balance.MISSING: gettext_lazy("meters missing"),
    balance.LOSS: gettext_lazy("losses"),
    balance.CLOCK: gettext_lazy("a clock is off"),
    balance.THEFT: gettext_lazy("energy taken without a meter"),
    balance.METER: gettext_lazy("a meter counts too much"),
    balance.UNCLEAR: gettext_lazy("unclear"),
}


@never_cache
@only_for(*OPERATORS)
@require_safe
def areas_balance(request: HttpRequest) -> HttpResponse:
    """Show what flowed into each area and is in no reading, with the likely cause."""
    exchange = running_exchange()
    rows: list[tuple[balances.AreaBalance, Any]] = []
    start_ms = end_ms = 0
    if exchange is not None:
        start_ms, end_ms, _length_ms = balances.window_of(exchange)
        start_ms = balances.since_opening(start_ms, end_ms)
        found = balances.of_areas(exchange, start_ms=start_ms, end_ms=end_ms) if start_ms < end_ms else []
        rows = [(one, CAUSES[one.verdict.cause]) for one in found[:SHOWN_AREAS]]
    context = {"tab": "balance", "rows": rows, "start_ms": start_ms, "end_ms": end_ms, "running": exchange is not None}
    return render(request, "operator/balance.html", context)


@never_cache
@only_for(*OPERATORS)
@require_POST
def revoke_substation(request: HttpRequest, device: str) -> HttpResponse:
    """Revoke a lost or removed substation meter."""
    try:
        devices.revoke_substation(device_id=device, now=timezone.now(), now_ms=_now_ms())
    except HouseholdError as error:
        messages.warning(request, str(error.sentence))
    else:
        messages.success(request, _("The device is revoked: nothing it sends is taken any more."))
    return redirect("operator-devices")


urlpatterns = [
    path("account/devices", own_devices, name="devices"),
    path("account/devices/register", register, name="register-device"),
    path("account/devices/<str:device>/revoke", revoke, name="revoke-device"),
    path("account/devices/<str:device>/key", rekey, name="rekey-device"),
    path("operator/balance", areas_balance, name="operator-balance"),
    path("operator/devices", waiting, name="operator-devices"),
    path("operator/substations", register_substation, name="register-substation"),
    path("operator/substations/<str:device>/revoke", revoke_substation, name="revoke-substation"),
    path("operator/devices/<str:device>", decide, name="decide-device"),
]
