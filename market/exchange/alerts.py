"""What the grid operator must look at: derived from the events of a batch, written in its transaction, so exactly once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from market.engine.contracts import CLOSED, OPEN
from market.engine.engine import Engine
from market.engine.events import CapacitySet, Event, HaltSet
from market.exchange.units import at_text
from market.exchange.views import AlertView

CAPACITY = "capacity"
COLLAR = "collar"
IMPORT = "import"
EXPORT = "export"


def raised(engine: Engine, events: Iterable[Event]) -> list[AlertView]:
    """Return the alerts that events of the batch just applied raise, in the order of their entries.

    Two settings of one edge in a batch are one: only the last is in force when anybody looks.
    """
    newest: dict[str, int] = {event.area: event.seq for event in events if isinstance(event, CapacitySet)}
    found = []
    for event in events:
        if isinstance(event, CapacitySet) and newest[event.area] == event.seq:
            over = overloads(engine, event)
            if over:
                detail = {"reason": event.reason, "contracts": over}
                found.append(_alert(event, CAPACITY, event.area, "", detail))
        elif isinstance(event, HaltSet) and event.scope == "contract" and event.on and event.reason == COLLAR:
            until = at_text(event.until_ms) if event.until_ms else None
            found.append(_alert(event, COLLAR, "", event.target, {"reason": COLLAR, "until": until}))
    return found


def _alert(event: CapacitySet | HaltSet, kind: str, area: str, contract: str, detail: dict[str, Any]) -> AlertView:
    return AlertView(event.seq, event.at_ms, kind, area, contract, orjson.dumps(detail).decode())


def overloads(engine: Engine, cut: CapacitySet) -> list[dict[str, Any]]:
    """Return where trades ask more of an edge than it can carry now: contract, direction, flow and capacity in Wh.

    Of contracts that are still to be delivered, by start, those whose gate has closed included. What the opposite flow
    gives back counts: an edge is overloaded when its residual is below zero.
    """
    node = engine.areas.index.get(cut.area, 0)
    import_wh, export_wh = engine.capacity_wh(cut.import_w), engine.capacity_wh(cut.export_w)
    found = []
    for name in sorted(engine.contracts):
        contract = engine.contracts[name]
        book = contract.book
        if contract.state not in (OPEN, CLOSED) or book is None or not 0 < node < book.topology.areas:
            continue
        flow = book.edge_flow(node)
        for direction, flow_wh, opposite_wh, capacity_wh in (
            (IMPORT, flow.import_wh, flow.export_wh, import_wh),
            (EXPORT, flow.export_wh, flow.import_wh, export_wh),
        ):
            over_wh = flow_wh - capacity_wh - book.netting * opposite_wh // 1000
            if over_wh > 0:
                found.append(
                    {
                        "contract": name,
                        "direction": direction,
                        "flow_wh": flow_wh,
                        "capacity_wh": capacity_wh,
                        "over_wh": over_wh,
                    }
                )
    return found
