"""`GET /api/v1/contracts` and a contract's book."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import PAGE, describe, query
from market.api.problems import Problem
from market.api.views import ApiView, answer, area_of, contract_of
from market.engine.contracts import SETTLED, contract_start_ms
from market.engine.engine import Engine
from market.exchange import queries
from market.exchange.units import at_text, price_text
from market.streaming import access

STATES = ("open", "closed", "delivered", "settled")
DEFAULT_DEPTH = 10
MAX_DEPTH = 100  # levels a side; walking them holds up the writer


def _live(names: list[str], engine: Engine) -> dict[str, tuple[bool, int, int]]:
    """Return halted, last price and volume of the contracts the engine holds: all but the settled ones."""
    found = {}
    for name in names:
        contract = engine.contracts.get(name)
        if contract is not None:
            found[name] = (bool(contract.halted), contract.last_e4 or 0, contract.volume_wh)
    return found


def _out(row: queries.ContractView, live: dict[str, tuple[bool, int, int]], interval_ms: int) -> dict[str, Any]:
    halted, last_e4, volume_wh = live[row.name]
    start_ms = contract_start_ms(row.name)
    return {
        "contract": row.name,
        "start": at_text(start_ms),
        "end": at_text(start_ms + interval_ms),
        "state": row.state,
        "halted": halted,
        "topup_price": price_text(row.topup_e4),
        "spill_price": price_text(row.spill_e4),
        "last_price": price_text(last_e4) if last_e4 else None,
        "volume_wh": volume_wh,
    }


class Contracts(ApiView):
    """The delivery intervals."""

    public = True

    @describe(
        "The contracts",
        shapes.ContractPage,
        tag="market",
        parameters=(query("state", "only contracts in this state: " + ", ".join(STATES)), *PAGE),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return contracts by start."""
        query = self.query("state", "limit", "cursor")
        state = query.get("state")
        if state is not None and state not in STATES:
            raise Problem(400, "invalid_value", "state")
        limit = cursors.limit_of(query)
        rows = queries.contracts(state=state, after=cursors.name_cursor(query), limit=limit + 1)
        exchange = self.exchange()
        live = exchange.read(partial(_live, [row.name for row in rows]))
        gone = [row.name for row in rows if row.name not in live]
        traded = queries.traded(gone)
        live |= {name: (False, *traded.get(name, (0, 0))) for name in gone}
        interval_ms = exchange.read(lambda engine: engine.interval_ms)
        return answer(cursors.page(rows, limit, lambda row: row.name, lambda row: _out(row, live, interval_ms)))


def _book(
    area: str, contract: str, depth: int, viewer: access.Viewer, stored: str | None, engine: Engine
) -> dict[str, Any]:
    """Return a book; ``stored`` is the contract's state in the database: the engine forgets contracts it has settled."""
    held = engine.contracts.get(contract)
    if held is None and stored is None:
        raise Problem(404, "unknown_contract", "contract")
    if area not in engine.areas:
        raise Problem(404, "unknown_area", "area")
    if not access.in_audience(viewer, access.audience(engine, area)):
        raise Problem(403, "forbidden", "area")
    bids, asks = ([], []) if held is None else engine.depth(area, contract, depth)
    return {
        "contract": contract,
        "state": SETTLED if held is None else held.state,
        "area": area,
        "seq": engine.seq - 1,
        **{
            side: [
                {
                    "price": price_text(level.price_e4),
                    "energy_wh": level.energy_wh,
                    "fee": price_text(level.fee_wh_e4 // level.energy_wh),
                }
                for level in levels
            ]
            for side, levels in (("bids", bids), ("asks", asks))
        },
    }


def _headroom(contract: str, stored: str | None, viewer: access.Viewer, engine: Engine) -> list[dict[str, Any]]:
    if contract not in engine.contracts:
        if stored is None:
            raise Problem(404, "unknown_contract", "contract")
        return []  # settled: nothing is traded any more
    flows, parent = engine.flows(contract), engine.areas.parent
    shown = access.mappable(engine, viewer, len(flows) + 1)  # the root has no flow
    return [
        {
            "area": area,
            "parent": parent[area],
            "import_residual_wh": flow.import_residual_wh,
            "export_residual_wh": flow.export_residual_wh,
            "import_capacity_wh": flow.import_capacity_wh,
            "export_capacity_wh": flow.export_capacity_wh,
        }
        for area, flow in flows.items()
        if area in shown
    ]


class Capacity(ApiView):
    """The capacity map. Areas with fewer than ten homes, and those that would give them away, are for officials."""

    public = True

    @describe("What the grid can still carry", shapes.HeadroomPage, tag="market")
    def get(self, request: Request, start: str) -> HttpResponse:
        """Return what every edge can still carry in a contract, each way."""
        self.query()
        contract = contract_of(start)
        stored = queries.contract_states([contract]).get(contract)
        rows = self.exchange().read(partial(_headroom, contract, stored, self.viewer()))
        return answer({"results": rows, "next": None})


class Book(ApiView):
    """Executable depth. The view from a lowest-level area is for its own members and the market's officials."""

    public = True

    @describe(
        "What can be executed, seen from an area",
        shapes.Book,
        tag="market",
        parameters=(
            query("area", "where the reader stands; by default the caller's own area, else the grid's root"),
            query("depth", f"levels a side, 1 to {MAX_DEPTH} (default {DEFAULT_DEPTH})", int),
        ),
    )
    def get(self, request: Request, start: str) -> HttpResponse:
        """Return the book of a contract."""
        query = self.query("area", "depth")
        depth = cursors.integer(query, "depth", low=1, high=MAX_DEPTH) or DEFAULT_DEPTH
        contract = contract_of(start)
        viewer = self.viewer()
        exchange = self.exchange()
        area = query.get("area") or viewer.area or exchange.read(_root)
        stored = queries.contract_states([contract]).get(contract)
        return answer(exchange.read(partial(_book, area_of(area), contract, depth, viewer, stored)))


def _root(engine: Engine) -> str:
    return engine.areas.areas[0].name if engine.areas.areas else ""
