"""Alerts: what an official must look at, who has, and what they wrote beside it. Nothing here is ever taken away."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from market.grid import operations as grid
from market.grid import queries as grid_queries
from market.grid.operations import GridError
from market.households.models import Role
from market.pages.context import running_exchange
from market.pages.roles import only_for

OPERATORS = (Role.OPERATOR, Role.STAFF)
SHOWN = 30  # alerts of one page; older ones are a link away
MAX_DIGITS = 15  # of a ledger sequence


def number_of(text: str) -> int | None:
    """Return the sequence a text names, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


@never_cache
@only_for(*OPERATORS)
@require_http_methods(["GET", "HEAD", "POST"])
def alerts(request: HttpRequest) -> HttpResponse:
    """Show alerts, open or acknowledged ones, newest first; a POST notes that the reader has seen one."""
    if request.method == "POST":
        _acknowledge(request)
        if "state" not in request.POST:
            return redirect("operator")
        return redirect(f"{reverse('operator-alerts')}?state={_state(request.POST['state']) or 'all'}")
    state = _state(request.GET.get("state", grid_queries.OPEN_ALERTS))
    before = number_of(request.GET.get("before", ""))
    rows = grid_queries.alerts(before=before, limit=SHOWN + 1, state=state)
    context = {
        "tab": "alerts",
        "state": state,
        "alerts": rows[:SHOWN],
        "older": rows[SHOWN - 1].seq if len(rows) > SHOWN else None,
        "first": before is None,
        "max_note": grid.MAX_NOTE,
    }
    return render(request, "operator/alert_page.html", context)


def _state(text: str) -> str:
    return text if text in grid_queries.ALERT_STATES else ""


def _acknowledge(request: HttpRequest) -> None:
    exchange, seq = running_exchange(), number_of(request.POST.get("seq", ""))
    if exchange is None:
        messages.error(request, _("The market is not running at the moment. Nothing was done."))
        return
    try:
        text = request.POST.get("note", "").strip()
        noted = grid.acknowledge(by=request.user, seq=-1 if seq is None else seq, at_ms=exchange.now_ms(), text=text)
    except GridError as error:
        messages.error(request, str(error.sentence))
        return
    if noted is None:
        messages.error(request, _("There is no such alert."))
    elif noted.by == request.user:
        messages.success(request, _("The alert is marked as seen by you."))
    else:
        messages.success(request, _("%(name)s has seen this alert before you.") % {"name": noted.by.get_username()})


urlpatterns = [path("operator/alerts", alerts, name="operator-alerts")]
