"""The grid operator's pages: flows against capacity, what an edge may carry and cost, halts, settlement, health."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.exchange.exchange import Exchange
from market.grid import operations as grid
from market.grid import queries as grid_queries
from market.grid.queries import Alert, AreaInfo, ContractInfo, EdgeLoad
from market.households.models import Role
from market.pages import halts
from market.pages.context import running_exchange
from market.pages.forms import CapacityForm, FeeForm, HaltForm
from market.pages.roles import decide, only_for
from market.settlement import queries as settlement

OPERATORS = (Role.OPERATOR, Role.STAFF)
SHOWN_DECISIONS = 12
SHOWN_ALERTS = 12
MAX_DIGITS = 15  # of a ledger sequence
SHOWN_SETTLEMENTS = 8  # two hours of quarter hours
SHOWN_AHEAD = 16  # intervals of one edge: four hours
SHOWN_AREAS = 600  # rows of the table; the largest city of the benchmarks has 443 areas
WARN_PERMILLE = 700
FULL_PERMILLE = 950
BAR = 100  # width of a bar in the units of its drawing


class Way(NamedTuple):
    """An edge in one direction. Powers are averages over the interval, in W.

    ``allocated_w`` is what counts against the capacity: the flow less what the opposite direction gives back.
    """

    flow_w: int
    allocated_w: int
    capacity_w: int
    residual_w: int  # what can still be traded; below zero: the capacity was cut below what is allocated
    bar: int  # per cent of the capacity, at most 100
    state: str  # "", "warn", "full", "cut" (no capacity), "blocked" (cut below what is allocated)


class Row(NamedTuple):
    """An edge as the table shows it."""

    load: EdgeLoad
    into: Way
    out: Way
    percent: int
    state: str  # the graver one of both directions


STATES = ("", "warn", "full", "cut", "blocked")  # of a direction, graver from left to right


def row_of(load: EdgeLoad, interval_min: int) -> Row:
    """Return what the table shows for an edge: energies of an interval become average power."""

    def watts(energy_wh: int) -> int:
        return int(energy_wh * 60 / interval_min)  # towards zero: what is left never looks larger than it is

    def way(flow_wh: int, used_wh: int, capacity_wh: int, residual_wh: int, permille: int) -> Way:
        state = "full" if permille >= FULL_PERMILLE else "warn" if permille >= WARN_PERMILLE else ""
        if residual_wh < 0:
            state = "blocked"
        elif not capacity_wh:
            state = "cut"
        sizes = [watts(energy_wh) for energy_wh in (flow_wh, used_wh, capacity_wh, residual_wh)]
        return Way(*sizes, min(BAR, permille // 10), state)

    into = way(
        load.import_wh, load.import_used_wh, load.import_capacity_wh, load.import_residual_wh, load.import_permille
    )
    out = way(
        load.export_wh, load.export_used_wh, load.export_capacity_wh, load.export_residual_wh, load.export_permille
    )
    state = max(into.state, out.state, key=STATES.index)
    return Row(load=load, into=into, out=out, percent=load.load_permille // 10, state=state)


# --- overview --------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*OPERATORS)
@require_safe
def operator(request: HttpRequest) -> HttpResponse:
    """Show what flows where in one interval, hot spots first, how settlement stands and whether the market is well."""
    exchange = running_exchange()
    if exchange is None:
        return render(request, "operator/closed.html", {"decisions": _decisions()})
    contracts = [c for c in grid_queries.contracts(exchange) if c.state in {"open", "closed"}]
    chosen = _chosen(contracts, request.GET.get("contract", ""))
    order = "tree" if request.GET.get("order") == "tree" else "load"
    context = {
        "contracts": contracts,
        "chosen": chosen,
        "order": order,
        "rows": _rows(exchange, chosen, order) if chosen is not None else [],
        "halts": grid_queries.halts(exchange),
        "health": grid_queries.health(exchange),
        "board": _board(exchange),
        "alerts": _alerts(),
        "decisions": _decisions(),
        "tab": "flows",
    }
    return render(request, "operator/overview.html", context)


def _chosen(contracts: list[ContractInfo], wanted: str) -> ContractInfo | None:
    """Return the contract to look at: the one asked for, else the next to be delivered that is still traded."""
    for contract in contracts:
        if contract.name == wanted:
            return contract
    return next((c for c in contracts if c.state == "open"), contracts[0] if contracts else None)


def _alerts() -> list[Alert]:
    """Return the newest alerts; first those that nobody has seen."""
    return sorted(grid_queries.alerts(limit=SHOWN_ALERTS), key=lambda alert: bool(alert.acknowledged_by))


@never_cache
@only_for(*OPERATORS)
@require_POST
def acknowledge(request: HttpRequest) -> HttpResponse:
    """Note that the reader has seen an alert; who was first stays."""
    text = request.POST.get("seq", "")
    exchange = running_exchange()
    seq = int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else -1
    if exchange is None:
        messages.error(request, _("The market is not running at the moment. Nothing was done."))
    elif grid.acknowledge(by=request.user, seq=seq, at_ms=exchange.now_ms()) is None:
        messages.error(request, _("There is no such alert."))
    else:
        messages.success(request, _("The alert is marked as seen by you."))
    return redirect("operator")


def _rows(exchange: Exchange, chosen: ContractInfo, order: str) -> list[Row]:
    loads = grid_queries.loads(exchange, chosen.name) or []
    if order == "load":
        loads = grid_queries.hottest_first(loads)
    minutes = _minutes(chosen)
    return [row_of(load, minutes) for load in loads[:SHOWN_AREAS]]


def _minutes(contract: ContractInfo) -> int:
    return (contract.end_ms - contract.start_ms) // 60_000


class BoardRow(NamedTuple):
    """Settlement of one contract as the board shows it."""

    contract: str
    state: str
    settled: int
    areas: int  # 0 = not known any more
    missing: int
    missing_areas: list[str]
    estimated: int


def _board(exchange: Exchange) -> list[BoardRow]:
    states = settlement.board(exchange, SHOWN_SETTLEMENTS)
    estimated = settlement.estimated([state.contract for state in states])
    return [
        BoardRow(
            contract=state.contract,
            state=state.state,
            settled=state.settled_areas,
            areas=len(state.areas),
            missing=state.missing_readings,
            missing_areas=[area.area for area in state.areas if not area.settled],
            estimated=estimated.get(state.contract, 0),
        )
        for state in states
    ]


def _decisions(target: str | None = None) -> list[Any]:
    return grid_queries.decisions(limit=SHOWN_DECISIONS, kinds=("capacity", "fee", "halt"), target=target)


# --- one area --------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*OPERATORS)
@require_safe
def area(request: HttpRequest, area: str) -> HttpResponse:
    """Show an area: its edge over the coming intervals, its capacity, fee and halt."""
    return _show_area(request, area)


@never_cache
@only_for(*OPERATORS)
@require_POST
def set_capacity(request: HttpRequest, area: str) -> HttpResponse:
    """Change what the area's edge can carry."""
    form = CapacityForm(request.POST, prefix="capacity")
    if decide(
        request,
        form,
        grid.set_capacity,
        lambda asked: {
            "area": area,
            "import_w": asked["import_kw"],
            "export_w": asked["export_kw"],
            "reason": asked["reason"],
        },
        _("The new capacity is in force."),
    ):
        return redirect("operator-area", area)
    return _show_area(request, area, capacity=form)


@never_cache
@only_for(*OPERATORS)
@require_POST
def set_fee(request: HttpRequest, area: str) -> HttpResponse:
    """Change what using the area's edge costs."""
    form = FeeForm(request.POST, prefix="fee")
    if decide(
        request,
        form,
        grid.set_fee,
        lambda asked: {"area": area, "fee_e4": asked["fee"]},
        _("The new fee holds for contracts that open from now on."),
    ):
        return redirect("operator-area", area)
    return _show_area(request, area, fee=form)


@never_cache
@only_for(*OPERATORS)
@require_POST
def set_halt(request: HttpRequest, area: str) -> HttpResponse:
    """Stop or resume trading in the area and all below it."""
    on = request.POST.get("decision") == "stop"
    data = request.POST.copy()
    data["halt-scope"], data["halt-target"] = "area", area
    if not on:
        data["halt-reason"] = "resumed"
    form = HaltForm(data, prefix="halt", scopes=("area",))
    done: HttpResponse | bool
    if on:
        done = halts.stop(request, form, back=reverse("operator-area", args=[area]))
    else:
        done = decide(
            request,
            form,
            grid.set_halt,
            lambda asked: {"scope": "area", "target": area, "on": False, "reason": asked["reason"]},
            _("Trading goes on."),
        )
    if isinstance(done, HttpResponse):
        return done
    return redirect("operator-area", area) if done else _show_area(request, area, halt=form)


def _show_area(
    request: HttpRequest,
    name: str,
    *,
    capacity: CapacityForm | None = None,
    fee: FeeForm | None = None,
    halt: HaltForm | None = None,
) -> HttpResponse:
    wrong = any(form is not None for form in (capacity, fee, halt))
    exchange = running_exchange()
    if exchange is None:
        return render(request, "operator/closed.html", {"decisions": _decisions()}, status=503 if wrong else 200)
    areas = grid_queries.areas(exchange)
    info = next((found for found in areas if found.area == name), None)
    if info is None:
        raise Http404
    ahead = [
        (contract, row_of(load, _minutes(contract)))
        for contract, load in grid_queries.edge_loads(exchange, name, limit=SHOWN_AHEAD)
    ]
    context = {
        "area": info,
        "above": _above(areas, info),
        "below": [found for found in areas if found.parent == name],
        "ahead": ahead,
        "capacity": capacity
        or CapacityForm(prefix="capacity", initial={"import_kw": info.import_w, "export_kw": info.export_w}),
        "fee": fee or FeeForm(prefix="fee", initial={"fee": info.fee_e4}),
        "halt": halt or HaltForm(prefix="halt", scopes=("area",), initial={"scope": "area", "target": name}),
        "decisions": _decisions(name),
    }
    return render(request, "operator/area.html", context, status=422 if wrong else 200)


def _above(areas: list[AreaInfo], info: AreaInfo) -> list[AreaInfo]:
    """Return the areas on the way from the root to an area."""
    known = {area.area: area for area in areas}
    way: list[AreaInfo] = []
    while info.parent:
        info = known[info.parent]
        way.append(info)
    return way[::-1]


urlpatterns = [
    path("operator", operator, name="operator"),
    path("operator/alerts", acknowledge, name="acknowledge"),
    path("operator/areas/<str:area>", area, name="operator-area"),
    path("operator/areas/<str:area>/capacity", set_capacity, name="set-capacity"),
    path("operator/areas/<str:area>/fee", set_fee, name="set-fee"),
    path("operator/areas/<str:area>/halt", set_halt, name="set-area-halt"),
]
