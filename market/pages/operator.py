"""The grid operator's pages: flows against capacity, what an edge may carry and cost, halts, settlement, health."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.engine.foreseeing import Foreseen
from market.exchange.exchange import Exchange
from market.grid import operations as grid
from market.grid import preview
from market.grid import queries as grid_queries
from market.grid.preview import CapacityEffect
from market.grid.queries import AreaInfo, ContractInfo
from market.households.models import Role
from market.pages import gridmap, halts
from market.pages.context import running_exchange
from market.pages.flows import Row, Way, ahead, chosen_contract, minutes_of, row_of, ways
from market.pages.forms import CapacityForm, FeeForm, HaltForm, SureForm
from market.pages.roles import decide, only_for
from market.settlement import queries as settlement

OPERATORS = (Role.OPERATOR, Role.STAFF)
SHOWN_DECISIONS = 12
SHOWN_ALERTS = 12
SHOWN_SETTLEMENTS = 8  # two hours of quarter hours
SHOWN_AHEAD = 16  # intervals of one edge: four hours
SHOWN_AREAS = 600  # rows of the table; the largest city of the benchmarks has 443 areas


# --- overview --------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*OPERATORS)
@require_safe
def operator(request: HttpRequest) -> HttpResponse:
    """Show what flows where in one interval, hot spots first, how settlement stands and whether the market is well."""
    exchange = running_exchange()
    if exchange is None:
        return render(request, "operator/closed.html", {"decisions": _decisions()})
    contracts = ahead(exchange)
    chosen = chosen_contract(contracts, request.GET.get("contract", ""))
    order = "tree" if request.GET.get("order") == "tree" else "load"
    context = {
        "contracts": contracts,
        "chosen": chosen,
        "order": order,
        "rows": _rows(exchange, chosen, order) if chosen is not None else [],
        "halts": grid_queries.halts(exchange),
        "health": grid_queries.health(exchange),
        "board": _board(exchange),
        "alerts": grid_queries.alerts(limit=SHOWN_ALERTS, state=grid_queries.OPEN_ALERTS),
        "drawing": None if chosen is None else gridmap.drawn(exchange, chosen, request.GET),
        "decisions": _decisions(),
        "tab": "flows",
    }
    return render(request, "operator/overview.html", context)


def _rows(exchange: Exchange, chosen: ContractInfo, order: str) -> list[Row]:
    loads = grid_queries.loads(exchange, chosen.name) or []
    if order == "load":
        loads = grid_queries.hottest_first(loads)
    minutes = minutes_of(chosen)
    return [row_of(load, minutes) for load in loads[:SHOWN_AREAS]]


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
    """Show what a new capacity of the area's edge would do; set it when the reader is sure."""
    form = CapacityForm(request.POST, prefix="capacity")
    exchange = running_exchange()
    if form.is_valid() and not form.cleaned_data["sure"] and exchange is not None:
        asked = form.cleaned_data
        info = _area_or_404(exchange, area)
        effect = preview.capacity(exchange, area=area, import_w=asked["import_kw"], export_w=asked["export_kw"])
        lines = _effect_lines(effect)
        return _preview(
            request,
            form,
            info,
            "operator/capacity.html",
            effect=effect,
            lines=lines,
            empty=len(effect.lines) - len(lines),
        )
    if decide(
        request,
        form,
        grid.set_capacity,
        lambda asked: {
            "area": area,
            "import_w": asked["import_kw"],
            "export_w": asked["export_kw"],
            "reason": asked["reason"],
            "text": asked["text"],
        },
        _("The new capacity is in force."),
    ):
        return redirect("operator-area", area)
    form.doubt()
    return _show_area(request, area, capacity=form)


class EffectLine(NamedTuple):
    """What a capacity would do in one interval."""

    contract: ContractInfo
    foreseen: Foreseen
    into: Way  # after
    out: Way


def _effect_lines(effect: CapacityEffect) -> list[EffectLine]:
    """Return the intervals in which something is allocated, can be traded or happens."""
    found = []
    for info, foreseen in effect.lines:
        into, out = ways(foreseen.after, minutes_of(info))
        happens = foreseen.trades or foreseen.cancelled or foreseen.collar
        reach = foreseen.offers_before.orders or foreseen.bids_before.orders
        if happens or reach or into.flow_w or out.flow_w:
            found.append(EffectLine(info, foreseen, into, out))
    return found


def _preview(request: HttpRequest, form: SureForm, info: AreaInfo, template: str, **context: Any) -> HttpResponse:
    """Return the page that says what a form would do and has the button that does it."""
    fields = halts.sent_again(request, form)
    return render(request, template, {"area": info, "asked": form.cleaned_data, "fields": fields, **context})


@never_cache
@only_for(*OPERATORS)
@require_POST
def set_fee(request: HttpRequest, area: str) -> HttpResponse:
    """Show from when on a new fee of the area's edge would hold; set it when the reader is sure."""
    form = FeeForm(request.POST, prefix="fee")
    exchange = running_exchange()
    if form.is_valid() and not form.cleaned_data["sure"] and exchange is not None:
        info = _area_or_404(exchange, area)
        return _preview(request, form, info, "operator/fee.html", effect=preview.fee(exchange, area=area))
    if decide(
        request,
        form,
        grid.set_fee,
        lambda asked: {"area": area, "fee_e4": asked["fee"], "reason": asked["reason"], "text": asked["text"]},
        _("The new fee holds for contracts that open from now on."),
    ):
        return redirect("operator-area", area)
    form.doubt()
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
        data.pop("halt-reason", None)
    form = HaltForm(data, prefix="halt", scopes=("area",))
    form.fields["reason"].required = on  # a halt ends for one reason only, which nobody chooses
    done: HttpResponse | bool
    if on:
        done = halts.stop(request, form, back=reverse("operator-area", args=[area]))
    else:
        done = decide(
            request,
            form,
            grid.set_halt,
            lambda asked: {"scope": "area", "target": area, "on": False, "reason": "resumed"},
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
    info = _area_or_404(exchange, name)
    coming = [
        (contract, row_of(load, minutes_of(contract)))
        for contract, load in grid_queries.edge_loads(exchange, name, limit=SHOWN_AHEAD)
    ]
    context = {
        "area": info,
        "above": _above(areas, info),
        "below": [found for found in areas if found.parent == name],
        "ahead": coming,
        "capacity": capacity
        or CapacityForm(prefix="capacity", initial={"import_kw": info.import_w, "export_kw": info.export_w}),
        "fee": fee or FeeForm(prefix="fee", initial={"fee": info.fee_e4}),
        "halt": halt or HaltForm(prefix="halt", scopes=("area",), initial={"scope": "area", "target": name}),
        "decisions": _decisions(name),
    }
    return render(request, "operator/area.html", context, status=422 if wrong else 200)


def _area_or_404(exchange: Exchange, name: str) -> AreaInfo:
    found = grid_queries.area(exchange, name)
    if found is None:
        raise Http404
    return found


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
    path("operator/areas/<str:area>", area, name="operator-area"),
    path("operator/areas/<str:area>/capacity", set_capacity, name="set-capacity"),
    path("operator/areas/<str:area>/fee", set_fee, name="set-fee"),
    path("operator/areas/<str:area>/halt", set_halt, name="set-area-halt"),
]
