"""The grid as a drawing: the tree with what every edge carries, hot branches first, kept up to date by itself."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.exchange.exchange import Exchange
from market.grid import outlook as grid_outlook
from market.grid import queries as grid_queries
from market.grid import tree
from market.grid.queries import PERMILLE, ContractInfo
from market.households.models import Role
from market.pages.context import running_exchange
from market.pages.flows import Row, Way, ahead, chosen_contract, minutes_of, row_of
from market.pages.outlook import Cell, cells_of
from market.pages.roles import only_for

OPERATORS = (Role.OPERATOR, Role.STAFF)
ROW_PX = 44  # a finger's width: every row is a link
PAD_PX = 12
STEP_PERCENT = 6  # of the width, a level
THIN_PX, THICK_PX = 2, 12  # lines of an empty and of a full edge
MAX_SEARCH = 80  # characters
HOURS = 12  # beside each row, where there is room
HOURS_FRESH_S = 20.0  # the map is asked for every second, a whole city's hours ahead take half a second


class Mark(NamedTuple):
    """A row as it is drawn. Lengths in px but for ``left`` and ``parent_left``, which are per cent of the width."""

    area: str
    kind: str  # "area" or "more"
    url: str
    top: int
    left: int
    parent_left: int
    trunk: int
    row: Row | None  # None for the root and for what is folded
    way: Way | None  # the fuller direction
    inward: bool  # that direction is into the area
    width: int
    count: int
    percent: int  # of what is folded
    halted: bool
    chosen: bool
    hours: list[Cell]  # the next ones of this edge; of the root those of any, for their names


class Drawing(NamedTuple):
    """All rows of the drawing, and what may be asked of it."""

    marks: list[Mark]
    height: int
    url: str  # of its newest state
    chosen: str  # area whose branch is open, "" = the whole grid
    whole: str  # leads back to the whole grid, "" when that is shown
    asked: str
    found: list[tuple[str, str]]  # names and links of what the search found
    names: list[str]
    contract: str


def drawn(exchange: Exchange, contract: ContractInfo, asked: QueryDict) -> Drawing:
    """Return the drawing of the grid in a contract, as ``node``, ``all`` and ``find`` of a query ask for it."""
    minutes = minutes_of(contract)
    infos = {info.area: info for info in grid_queries.areas(exchange)}
    rows = {load.area: row_of(load, minutes) for load in grid_queries.loads(exchange, contract.name) or []}
    parents = {name: info.parent for name, info in infos.items()}
    heat = {name: row.load.load_permille for name, row in rows.items()}
    text = asked.get("find", "")[:MAX_SEARCH]
    hits = tree.search(parents, text)
    node = asked.get("node", "")
    if hits and (len(hits) == 1 or hits[0].casefold() == text.strip().casefold()):
        node, hits = hits[0], []
    node = node if parents.get(node) else ""
    whole = asked.get("all") == "1"

    def url(**more: str) -> str:
        return f"{reverse('operator')}?{urlencode({'contract': contract.name, **more})}#map"

    placed = tree.place(parents, heat, chosen=node, whole=whole)
    # Not where somebody asked for all rows: a browser would follow thousands of cells.
    shown = [one.area for one in placed if one.kind == "area"] if len(placed) <= tree.MAX_ROWS else []
    hours = cells_of(grid_outlook.recent(exchange, HOURS_FRESH_S), shown, HOURS) if shown else {}
    if shown:
        hours[shown[0]] = next((cells for cells in hours.values() if cells), [])
    marks = [
        _mark(one, rows.get(one.area), infos[one.area].halted, node, url)._replace(
            hours=hours.get(one.area, []) if one.kind == "area" else []
        )
        for one in placed
    ]
    same = {"contract": contract.name, **({"node": node} if node else {}), **({"all": "1"} if whole else {})}
    return Drawing(
        marks=marks,
        height=len(marks) * ROW_PX,
        url=f"{reverse('operator-map')}?{urlencode(same)}",
        chosen=node,
        whole=url() if node or whole else "",
        asked=text,
        found=[(name, url(node=name)) for name in hits],
        names=list(parents),
        contract=contract.name,
    )


def _mark(placed: tree.Placed, row: Row | None, halted: bool, chosen: str, url: object) -> Mark:
    more = placed.kind == "more"
    row = None if more else row
    way, inward = None, True
    if row is not None:
        inward = (row.load.import_permille, row.load.import_wh) >= (row.load.export_permille, row.load.export_wh)
        way = row.into if inward else row.out
    load = 0 if row is None else min(PERMILLE, row.load.load_permille)
    return Mark(
        area=placed.area,
        kind=placed.kind,
        url=url(node=placed.area, all="1") if more else reverse("operator-area", args=[placed.area]),  # type: ignore[operator]
        top=placed.row * ROW_PX,
        left=placed.depth * STEP_PERCENT,
        parent_left=max(0, placed.depth - 1) * STEP_PERCENT,
        trunk=placed.trunk * ROW_PX,
        row=row,
        way=way,
        inward=inward,
        width=THIN_PX + (THICK_PX - THIN_PX) * load // PERMILLE,
        count=placed.count,
        percent=placed.heat // 10,
        halted=halted and not more,
        chosen=placed.area == chosen and not more,
        hours=[],
    )


@never_cache
@only_for(*OPERATORS)
@require_safe
def map_part(request: HttpRequest) -> HttpResponse:
    """Show the drawing alone, for a page that is open."""
    exchange = running_exchange()
    contract = None if exchange is None else chosen_contract(ahead(exchange), request.GET.get("contract", ""))
    if exchange is None or contract is None:
        return HttpResponse(status=503)
    return render(request, "operator/map.html", {"drawing": drawn(exchange, contract, request.GET)})


urlpatterns = [path("operator/map", map_part, name="operator-map")]
