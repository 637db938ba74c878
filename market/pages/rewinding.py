"""The regulator's pages about the past: the book as it stood after any entry; prices and concentration day by day."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ledger import queries as ledger
from market.engine.contracts import contract_start_ms
from market.exchange import queries
from market.exchange.views import ContractView
from market.grid import queries as grid
from market.pages import privacy
from market.pages.context import day_span_ms, local, market_now, running_exchange, shown
from market.pages.daychart import chart_of
from market.pages.regulator import line_of, number_of
from market.pages.roles import only_for
from market.pages.searching import WATCHERS
from market.surveillance import concentration, filters, looks, past, pastviews, steps

MAX_CONTRACTS = 300  # that a list offers
SUGGESTED = 8  # contracts that traded last, a tap away
SHOWN_LEVELS = 15  # of a side; what changed is shown wherever it is
SHOWN_AREAS = 12  # of the table of one day, besides everywhere


def _areas() -> list[str]:
    """Return the areas to choose from, the root first; none while no market runs here: a name can be typed."""
    exchange = running_exchange()
    return [] if exchange is None else [one.area for one in grid.areas(exchange)]


# --- the book --------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*WATCHERS)
@require_safe
def book(request: HttpRequest) -> HttpResponse:
    """Show a contract's book as an area saw it after an entry; the address says which. Without one, offer some."""
    contract, area = request.GET.get("contract", "").strip(), request.GET.get("area", "").strip()
    seq = request.GET.get("seq", "").strip()
    areas = _areas()
    context: dict[str, Any] = {
        "name": contract,
        "area": area or (areas[0] if areas else ""),
        "areas": areas,
        "seq": seq,
        "newest": max(0, ledger.size() - 1),
    }
    found, wrong = _contract_of(contract)
    if seq and number_of(seq) is None:
        wrong["seq"] = _("A number, like 4711.")
    if found is not None and not wrong:
        number = number_of(seq)
        number = number if number is not None else steps.newest_change(contract) or found.opened_seq
        context |= _moment(request, contract, context["area"], number)
    context["wrong"] = wrong | context.get("wrong", {})
    lately = steps.traded_lately(SUGGESTED)
    names = [
        *(one.contract for one in lately),
        *(one.name for one in queries.contracts(state="open", limit=MAX_CONTRACTS)),
    ]
    context["contracts"] = list(dict.fromkeys(names))
    if "moment" not in context and "rebuilding" not in context:
        context["lately"] = lately
    return render(request, "regulator/book.html", context)


def _contract_of(name: str) -> tuple[ContractView | None, dict[str, str]]:
    """Return the contract of a name, and what is wrong with the name by its field; neither for none."""
    if not name:
        return None, {}
    try:
        contract_start_ms(name)
    except ValueError:
        return None, {"contract": _("A contract is named by its start in UTC, like 2026-06-06T12:15Z.")}
    found = queries.contract(name)
    return found, {} if found is not None else {"contract": _("There is no such contract: none starts then.")}


def _moment(request: HttpRequest, contract: str, area: str, seq: int) -> dict[str, Any]:
    context: dict[str, Any] = {"seq": seq, "around": steps.around(contract, seq, seq)}
    try:
        moment = past.book(contract=contract, area=area, seq=seq)
    except pastviews.NoSuchEntry:
        sentence = _("The ledger has no such entry: the newest is %(newest)s.")
        return {**context, "around": None, "wrong": {"seq": sentence % {"newest": ledger.size() - 1}}}
    except pastviews.UnknownArea:
        return {**context, "wrong": {"area": _("There was no such area at that time.")}}
    except pastviews.Busy:
        return {**context, "problem": _("Other books are being rebuilt; try again in a moment."), "again": True}
    except pastviews.Rebuilding as error:
        return {**context, "rebuilding": error, "again": True}
    except pastviews.Contradicted as error:
        sentence = _(
            "Entry %(seq)s does not follow from the rules: the book cannot be rebuilt. The ledger must be audited."
        )
        return {**context, "problem": sentence % {"seq": error.seq}, "contradiction": error.seq}
    privacy.note(request, looks.KIND_OF_BOOK, accounts={order.account for order in moment.orders}, what=looks.BOOK)
    return {
        **context,
        "moment": moment,
        "around": steps.around(contract, moment.first, moment.last),
        "lines": [line_of(entry) for entry in moment.entries],
        "asks": _near(moment.asks)[::-1],  # as a ladder: the best ask next to the best bid
        "bids": _near(moment.bids),
    }


def _near(levels: tuple[pastviews.PastLevel, ...]) -> list[pastviews.PastLevel]:
    """Return the levels next to the best one, and all that changed."""
    return [level for place, level in enumerate(levels) if place < SHOWN_LEVELS or level.mark]


# --- prices and concentration ----------------------------------------------------------------------------------------
@never_cache
@only_for(*WATCHERS)
@require_safe
def charts(request: HttpRequest) -> HttpResponse:
    """Show a delivery day: what was paid by contract, and how much of it is in few hands, by area and on the days before."""
    try:
        day = date.fromisoformat(request.GET.get("day", ""))
    except ValueError:
        day = local(int(market_now().timestamp() * 1000)).date()
    day = min(max(day, concentration.FIRST_DAY), concentration.LAST_DAY)
    area = request.GET.get("area", "").strip()[: filters.MAX_AREA_CHARS]
    asked = {
        "day": day,
        "before": day - timedelta(days=1),
        "after": day + timedelta(days=1),
        "area": area,
        "areas": _areas(),
    }
    try:
        rows = concentration.by_day(last=day, days=concentration.MAX_DAYS)
    except concentration.TooMany:
        return render(request, "regulator/charts.html", {**asked, "busy": True}, status=503)
    today = [row for row in rows if row.day == day]
    wide = [row for row in today if not row.area]
    by_area = sorted((row for row in today if row.area), key=lambda row: -row.energy_wh)
    if area:
        by_area = [row for row in by_area if row.area == area]
    listed = by_area[: 2 * SHOWN_AREAS]
    named = {one[0] for row in [*wide, *listed] for one in row.largest}
    privacy.note(request, filters.TRADES, accounts=named, what=looks.CHARTS)
    prices = concentration.prices(day)
    context = {
        **asked,
        "chart": chart_of(
            prices,
            [contract_start_ms(one.contract) for one in prices],
            settings.MARKET_INTERVAL_MIN * 60_000,
            day_span_ms(day),
            shown,
        ),
        "prices": prices,
        "whole": wide,
        "by_area": listed,
        "more_areas": max(0, len(by_area) - len(listed)),
        "days": [row for row in rows if row.area == area],
    }
    return render(request, "regulator/charts.html", context)


urlpatterns = [
    path("regulator/book", book, name="regulator-book"),
    path("regulator/charts", charts, name="regulator-charts"),
]
