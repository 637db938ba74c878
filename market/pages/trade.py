"""The trade page."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from market.households.models import Role
from market.pages import positions, tradeview
from market.pages.context import Page
from market.pages.roles import only_for


@require_safe
@only_for(Role.HOUSEHOLD)
def trade(request: HttpRequest, contract: str = "") -> HttpResponse:
    """Show book, prices, ticket and orders of one contract, by default of the next one."""
    wanted = contract or request.GET.get("contract", "")
    page = Page(request)
    view = tradeview.load(page, page.account, wanted)
    if view is None and page.running:
        raise Http404(gettext("There is no such interval in the market."))
    data = None if view is None else view.data(page)
    found = None if view is None else view.positions
    return render(request, "trade/trade.html", {"trade": view, "positions": found, "data": data})


@require_safe
@only_for(Role.HOUSEHOLD)
def standings(request: HttpRequest) -> HttpResponse:
    """Show where the reader stands, alone: the script of the page puts it in the place of the older one."""
    page = Page(request)
    found = None if page.account is None else positions.load(page, page.account)
    return render(request, "trade/positions.html", {"positions": found})


urlpatterns = [
    path("trade/positions", standings, name="trade-positions"),
    path("trade", trade, name="trade"),
    path("trade/<str:contract>", trade, name="trade-contract"),
]
