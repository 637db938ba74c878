"""A household's history: what the sun earned in a day, month or year, and how far its energy went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.exchange.history import seq_before
from market.grid import queries as grid
from market.households import queries as households
from market.households.models import Role
from market.households.queries import AccountInfo
from market.pages.context import Page, local
from market.pages.roles import only_for
from market.settlement import statement_queries
from market.settlement.distances import NEAR, STREET, TOWN, Amount, Group, by_distance
from market.settlement.history import HOUR_MS, History, Part, history
from market.settlement.levies import commercial
from market.settlement.periods import DAY, KINDS, MONTH, YEAR, Period, parse_day, period_of, start_ms
from market.settlement.periods import after as after_period
from market.settlement.periods import before as before_period
from market.settlement.statements import CENT_E11

CHART_W, CHART_H = 960, 160
LABELS = 4  # under the chart, at its quarters; the first would stand outside

WHERE: dict[tuple[int, ...], Any] = {
    (STREET,): _("in your street"),
    (NEAR,): _("in the next streets"),
    (TOWN,): _("across town"),
    (STREET, NEAR): _("in your street and the next ones"),
    (STREET, TOWN): _("in town"),
    (NEAR, TOWN): _("in the next streets and across town"),
    (STREET, NEAR, TOWN): _("in town"),
}


@dataclass(frozen=True)
class Bar:
    """A part of the period in the picture's units."""

    x: int
    earned: int
    spent_y: int  # from the top


@dataclass(frozen=True)
class Chart:
    """The picture: what each part earned, as a bar, and spent, as a line."""

    bars: list[Bar]
    bar_w: int
    peak_e7: int
    labels: list[str]


@dataclass(frozen=True)
class Row:
    """A part in the table; ``link`` leads to its own history, "" for an hour."""

    part: Part
    end_ms: int
    link: str


def chart_of(found: History) -> Chart | None:
    """Return the picture of a period, or None while nothing in it is settled."""
    parts = found.parts
    peak_e7 = max((max(part.sums.earned_e7, part.sums.paid_e7) for part in parts), default=0)
    if peak_e7 <= 0:
        return None
    bars = [
        Bar(
            x=n * CHART_W // len(parts),
            earned=max(0, part.sums.earned_e7) * CHART_H // peak_e7,
            spent_y=CHART_H - max(0, part.sums.paid_e7) * CHART_H // peak_e7,
        )
        for n, part in enumerate(parts)
    ]
    labels = [_label(found.period, parts, len(parts) * n // LABELS) for n in range(1, LABELS)]
    return Chart(bars, max(1, CHART_W // len(parts) - 2), peak_e7, labels)


def _label(period: Period, parts: list[Part], n: int) -> str:
    if period.kind == DAY:  # of 23 or 25 hours, too
        return f"{local(parts[n].start_ms):%H:%M}"
    return date_format(parts[n].day, "M") if period.kind == YEAR else str(parts[n].day.day)


def rows_of(found: History) -> list[Row]:
    """Return the parts in which something is settled."""
    below = {YEAR: MONTH, MONTH: DAY}.get(found.period.kind)
    return [
        Row(part, part.start_ms + HOUR_MS, "" if below is None else link_to(period_of(below, part.day)))
        for part in found.parts
        if part.sums.intervals
    ]


def link_to(period: Period | None) -> str:
    """Return the query that leads to a period; "" for none."""
    return "" if period is None else f"?period={period.kind}&date={period.first.isoformat()}"


def _groups(
    page: Page, account: AccountInfo, amounts: Mapping[str, Amount], homes: Mapping[str, int]
) -> list[tuple[Any, Group]]:
    parents = {} if page.exchange is None else {area.area: area.parent for area in grid.areas(page.exchange)}
    found = by_distance(amounts, area=account.area, parents=parents, homes=homes)
    return [(WHERE[group.rings], group) for group in found if group.energy_wh]


def _others(page: Page, account: AccountInfo, period: Period) -> dict[str, int]:
    """Return the other homes of each area that were there in a period: who came later hides nobody in it."""
    end_ms = start_ms(period.end, statement_queries.market_zone())
    homes = households.homes_by_area(opened_before=seq_before(end_ms) if end_ms <= page.now_ms else None)
    homes[account.area] = max(0, homes.get(account.area, 0) - 1)
    return homes


def _period(request: HttpRequest, today: date) -> Period:
    """Return the period that is asked for; today's where it makes no sense."""
    kind = request.GET.get("period", DAY)
    kind = kind if kind in KINDS else DAY
    try:
        return period_of(kind, parse_day(request.GET["date"])) if "date" in request.GET else period_of(kind, today)
    except ValueError:
        return period_of(kind, today)


@never_cache
@require_safe
@only_for(Role.HOUSEHOLD)
def show(request: HttpRequest) -> HttpResponse:
    """Show a household a day, month or year."""
    page = Page(request)
    account = page.account
    if account is None:
        return redirect("home")
    today = statement_queries.local_day(page.now_ms)
    period = _period(request, today)
    found = history(statement_queries.numbers_of(request.user, account.index), period)
    # Down to where one came from: the day that is today, or the period's first.
    day = today if period.first <= today < period.end else period.first
    later = after_period(period)
    others = _others(page, account, period)
    context = {
        "tab": "history",
        "period": period,
        "start_ms": start_ms(period.first, statement_queries.market_zone()),
        "kinds": [(kind, link_to(period_of(kind, day)), kind == period.kind) for kind in KINDS],
        "earlier": link_to(before_period(period)),
        "later": "" if later is None or later.first > today else link_to(later),
        "sums": found.total.sums,
        "gain_cents": commercial(found.total.gain_e11, CENT_E11),
        "chart": chart_of(found),
        "rows": rows_of(found),
        "sold": _groups(page, account, found.sold, others),
        "bought": _groups(page, account, found.bought, others),
        "query": link_to(period),
    }
    return render(request, "history/history.html", context)


urlpatterns = [path("history", show, name="history")]
