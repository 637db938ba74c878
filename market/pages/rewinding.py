"""The regulator's pages about the past: the book as it stood after any entry; prices and concentration day by day."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.exchange import queries
from market.grid import queries as grid
from market.pages import privacy
from market.pages.context import local, market_now, running_exchange
from market.pages.regulator import line_of, number_of
from market.pages.roles import only_for
from market.pages.searching import WATCHERS
from market.surveillance import concentration, filters, looks, past, pastviews, steps

MAX_CONTRACTS = 300  # that a list offers
WIDTH, HEIGHT, FOOT = 960, 240, 60  # of the chart of a day, the foot for volumes
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
    """Show a contract's book as an area saw it after an entry; the address says which."""
    contract, area = request.GET.get("contract", "").strip(), request.GET.get("area", "").strip()
    areas = _areas()
    found = queries.contract(contract) if contract else None
    context: dict[str, Any] = {"name": contract, "area": area or (areas[0] if areas else ""), "areas": areas}
    if contract and found is None:
        context["problem"] = _("There is no such contract.")
    elif found is not None:
        asked = number_of(request.GET.get("seq", ""))
        seq = asked if asked is not None else steps.newest_change(contract) or found.opened_seq
        context |= _moment(request, contract, context["area"], seq)
    else:
        context["contracts"] = [one.name for one in queries.contracts(state="open", limit=MAX_CONTRACTS)]
    return render(request, "regulator/book.html", context)


def _moment(request: HttpRequest, contract: str, area: str, seq: int) -> dict[str, Any]:
    around = steps.around(contract, seq, seq)
    context: dict[str, Any] = {"seq": seq, "around": around}
    try:
        moment = past.book(contract=contract, area=area, seq=seq)
    except pastviews.NoSuchEntry:
        return {**context, "problem": _("The ledger has no such entry.")}
    except pastviews.UnknownArea:
        return {**context, "problem": _("There was no such area at that time.")}
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
class Stick(NamedTuple):
    """A contract in the picture of a day: from the lowest to the highest price, the mean, and its energy as a bar."""

    priced: concentration.Priced
    x: float
    bar_x: float
    top: float
    bottom: float
    mean: float
    bar_top: float
    bar_height: float
    width: float


class Mark(NamedTuple):
    """A line across the picture with its price."""

    y: float
    price_e4: int


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
    shown = by_area[: 2 * SHOWN_AREAS]
    named = {one[0] for row in [*wide, *shown] for one in row.largest}
    privacy.note(request, filters.TRADES, accounts=named, what=looks.CHARTS)
    prices = concentration.prices(day)
    context = {
        **asked,
        "sticks": _sticks(prices),
        "marks": _marks(prices),
        "prices": prices,
        "whole": wide,
        "by_area": shown,
        "more_areas": max(0, len(by_area) - len(shown)),
        "days": [row for row in rows if row.area == area],
        "width": WIDTH,
        "height": HEIGHT + FOOT,
    }
    return render(request, "regulator/charts.html", context)


def _scale(prices: list[concentration.Priced]) -> tuple[int, int]:
    low = min((one.low_e4 for one in prices), default=0)
    high = max((one.high_e4 for one in prices), default=1)
    return low, max(high, low + 1)


def _y(price_e4: int, low: int, high: int) -> float:
    return round(12 + (HEIGHT - 24) * (high - price_e4) / (high - low), 1)


def _marks(prices: list[concentration.Priced]) -> list[Mark]:
    low, high = _scale(prices)
    return (
        [Mark(_y(price_e4, low, high), price_e4) for price_e4 in sorted({low, (low + high) // 2, high})]
        if prices
        else []
    )


def _sticks(prices: list[concentration.Priced]) -> list[Stick]:
    low, high = _scale(prices)
    most = max((one.energy_wh for one in prices), default=1)
    step = (WIDTH - 70) / max(1, len(prices))
    sticks = []
    for place, one in enumerate(prices):
        bar = max(1.0, round((FOOT - 8) * one.energy_wh / most, 1))
        x, width = 64 + place * step + step / 2, min(24.0, step * 0.7)
        ends = (_y(price_e4, low, high) for price_e4 in (one.high_e4, one.low_e4, one.mean_e4))
        sticks.append(Stick(one, x, x - width / 2, *ends, HEIGHT + FOOT - bar, bar, width))
    return sticks


urlpatterns = [
    path("regulator/book", book, name="regulator-book"),
    path("regulator/charts", charts, name="regulator-charts"),
]
