"""The next 36 hours of the grid: how full which edge will be, and which intervals become full."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.exchange.exchange import Exchange
from market.grid import outlook as grid_outlook
from market.grid.outlook import EdgeAhead, Outlook
from market.grid.queries import FULL_PERMILLE
from market.households.models import Role
from market.pages.context import local, running_exchange
from market.pages.flows import WARN_PERMILLE
from market.pages.roles import only_for

OPERATORS = (Role.OPERATOR, Role.STAFF)
SHOWN_EDGES = 12  # strips
SHOWN_FULL = 60  # lines of the table of what becomes full
MAX_HOURS = 48  # of a strip


class Cell(NamedTuple):
    """An edge in one hour: its fullest interval."""

    contract: str
    start_ms: int
    percent: int
    rest_percent: int
    state: str  # "", "warn", "full", "blocked"; "rest": it would be full with what rests
    x: str  # per cent of the strip
    width: str
    middle: str


class Strip(NamedTuple):
    """An edge over all hours."""

    area: str
    percent: int
    rest_percent: int
    cells: list[Cell]


class Hour(NamedTuple):
    """All edges in one hour, in words."""

    start_ms: int
    contract: str  # the fullest interval
    area: str  # its fullest edge
    percent: int
    rest_percent: int
    full: int  # intervals in which some edge is full
    may_fill: int


class Full(NamedTuple):
    """An interval and edge that is full, or would be."""

    contract: str
    edge: EdgeAhead
    percent: int
    rest_percent: int
    inward: bool


def state_of(edge: EdgeAhead) -> str:
    """Return what to call an edge's load."""
    if edge.blocked:
        return "blocked"
    if edge.load_permille >= FULL_PERMILLE:
        return "full"
    if edge.may_fill:
        return "rest"
    return "warn" if edge.load_permille >= WARN_PERMILLE else ""


def _heat(edge: EdgeAhead) -> tuple[int, int]:
    return edge.load_permille, edge.rest_permille


def strips(found: Outlook) -> list[Strip]:
    """Return the hottest edges hour by hour, the hottest first."""
    hottest: dict[str, EdgeAhead] = {}
    for _, edges in found:
        for edge in edges:
            if edge.area not in hottest or _heat(edge) > _heat(hottest[edge.area]):
                hottest[edge.area] = edge
    shown = sorted(hottest.values(), key=lambda edge: (-edge.load_permille, -edge.rest_permille, edge.area))[
        :SHOWN_EDGES
    ]
    cells = cells_of(found, [edge.area for edge in shown])
    return [Strip(edge.area, edge.load_permille // 10, edge.rest_permille // 10, cells[edge.area]) for edge in shown]


def cells_of(found: Outlook, areas: Iterable[str], most: int = MAX_HOURS) -> dict[str, list[Cell]]:
    """Return the next hours, at most ``most``, of some edges, in each its fullest interval; none for an unknown area."""
    hours = _by_hour(found)[:most]
    cells: dict[str, list[Cell]] = {area: [] for area in areas}
    for place, inside in enumerate(hours):
        fullest: dict[str, tuple[EdgeAhead, str]] = {}
        for info, edges in inside:
            for edge in edges:
                if edge.area in cells and (edge.area not in fullest or _heat(edge) > _heat(fullest[edge.area][0])):
                    fullest[edge.area] = edge, info.name
        for area, (edge, name) in fullest.items():
            x, width = 100 * place / len(hours), 100 / len(hours)
            cells[area].append(
                Cell(
                    name, inside[0][0].start_ms, edge.load_permille // 10, edge.rest_permille // 10, state_of(edge),
                    f"{x:.3f}%", f"{width:.3f}%", f"{x + width / 2:.3f}%",
                )
            )  # fmt: skip
    return cells


def _by_hour(found: Outlook) -> list[Outlook]:
    hours: list[Outlook] = []
    for one in found:
        start = local(one[0].start_ms)
        if not hours or local(hours[-1][0][0].start_ms).replace(minute=0) != start.replace(minute=0):
            hours.append([])
        hours[-1].append(one)
    return hours[:MAX_HOURS]


def hours_of(found: Outlook) -> list[Hour]:
    """Return the strips' hours as rows of a table."""
    rows = []
    for inside in _by_hour(found):
        edge, name = max(((edge, info.name) for info, edges in inside for edge in edges), key=lambda one: _heat(one[0]))
        rows.append(
            Hour(
                inside[0][0].start_ms, name, edge.area, edge.load_permille // 10, edge.rest_permille // 10,
                sum(any(edge.full for edge in edges) for _, edges in inside),
                sum(any(edge.may_fill for edge in edges) for _, edges in inside),
            )
        )  # fmt: skip
    return rows


def full_ones(found: Outlook) -> list[Full]:
    """Return which edges are full when, and then which would be with what rests; each by time."""
    lines = [(info, edge) for info, edges in found for edge in edges]
    chosen = [line for line in lines if line[1].full] + [line for line in lines if line[1].may_fill]
    return [
        Full(
            info.name, edge, edge.load_permille // 10, edge.rest_permille // 10,
            edge.import_permille >= edge.export_permille if edge.full
            else edge.import_rest_permille >= edge.export_rest_permille,
        )
        for info, edge in chosen[:SHOWN_FULL]
    ]  # fmt: skip


@never_cache
@only_for(*OPERATORS)
@require_safe
def forward(request: HttpRequest) -> HttpResponse:
    """Show how full the edges will be in every hour ahead."""
    exchange = running_exchange()
    if exchange is None:
        return render(request, "operator/closed.html", {"decisions": []})
    return render(request, "operator/forward.html", {"tab": "ahead", **_context(exchange)})


def _context(exchange: Exchange) -> dict[str, object]:
    found = grid_outlook.recent(exchange)
    edges = [edge for _, edges in found for edge in edges]
    hours = hours_of(found)
    return {
        "strips": strips(found),
        "hours": hours,
        "quiet_hours": sum(not hour.rest_percent and not hour.full for hour in hours),
        "full": full_ones(found),
        "full_count": sum(edge.full for edge in edges),
        "may_fill_count": sum(edge.may_fill for edge in edges),
        "shown_full": SHOWN_FULL,
        "intervals": len(found),
    }


urlpatterns = [path("operator/ahead", forward, name="operator-ahead")]
