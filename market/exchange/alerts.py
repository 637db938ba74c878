"""What the grid operator must look at: derived from the events of a batch, written in its transaction, so exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from market.engine.contracts import CLOSED, OPEN
from market.engine.engine import Engine
from market.engine.events import CapacitySet, Event, HaltSet, ParamsSet, TradeRecalled
from market.exchange.units import at_text
from market.exchange.views import AlertView

CAPACITY = "capacity"
COLLAR = "collar"
RECALL = "recall"  # reasons that are the event's kind: an official's own reason says nothing of the edge
NETTING = "netting"
IMPORT = "import"
EXPORT = "export"
BOTH = (IMPORT, EXPORT)
_REASONS: dict[type[Event], str] = {TradeRecalled: RECALL, ParamsSet: NETTING}
MAX_OVERLOADS = 1_000  # in one alert; netting concerns all edges in all open contracts


def raised(engine: Engine, events: Iterable[Event]) -> list[AlertView]:
    """Return the alerts that events of the batch just applied raise, in the order of their entries, one an entry.

    A ``ParamsSet`` among them says that netting gives back less than before. The state after the batch counts: of several
    entries of a batch after which the same edge is overloaded, the last one tells of it.
    """
    found = []
    told: set[tuple[str, str, str]] = set()
    for event in sorted(events, key=lambda event: event.seq, reverse=True):
        if isinstance(event, HaltSet):
            if event.scope == "contract" and event.on and event.reason == COLLAR:
                until = at_text(event.until_ms) if event.until_ms else None
                found.append(_alert(event, COLLAR, "", event.target, {"reason": COLLAR, "until": until}))
            continue
        over: list[dict[str, Any]] = []
        for row in _overloads(engine, event):
            edge = (row["area"], row["contract"], row["direction"])
            if edge not in told:
                told.add(edge)
                over.append(row)
                if len(over) == MAX_OVERLOADS:
                    break
        if over:
            reason = event.reason if isinstance(event, CapacitySet) else _REASONS[type(event)]
            areas = {row["area"] for row in over}
            area = areas.pop() if len(areas) == 1 else ""
            found.append(_alert(event, CAPACITY, area, "", {"reason": reason, "contracts": over}))
    return found[::-1]


def with_area(overloads: list[dict[str, Any]], area: str) -> list[dict[str, Any]]:
    """Return the overloads of an alert, each with its area: those kept by earlier versions have the alert's."""
    return [{"area": area, **over} for over in overloads]


def _alert(event: Event, kind: str, area: str, contract: str, detail: dict[str, Any]) -> AlertView:
    return AlertView(event.seq, event.at_ms, kind, area, contract, orjson.dumps(detail).decode())


def _overloads(engine: Engine, event: Event) -> Iterator[dict[str, Any]]:
    """Yield where trades ask more of an edge than it can carry now, because of an event: area, contract, direction,
    flow and capacity in Wh.

    Of contracts that are still to be delivered, by start, those whose gate has closed included. What the opposite flow
    gives back counts: an edge is overloaded when its residual is below zero.
    """
    if isinstance(event, CapacitySet):
        node = engine.areas.index.get(event.area, 0)
        for name in sorted(engine.contracts):
            yield from _over(engine, name, node, BOTH)
    elif isinstance(event, TradeRecalled):
        yield from _left_by_recall(engine, event)
    elif isinstance(event, ParamsSet):
        for name in sorted(engine.contracts):
            book = engine.contracts[name].book
            if engine.contracts[name].state != OPEN or book is None:
                continue  # netting stays as it was once the gate has closed
            for node in range(1, book.topology.areas):
                if book.bids.flow_wh[node] and book.asks.flow_wh[node]:
                    yield from _over(engine, name, node, BOTH)


def _left_by_recall(engine: Engine, event: TradeRecalled) -> Iterator[dict[str, Any]]:
    """What a trade carried one way had let as much more pass the other way; that is gone."""
    contract = engine.contracts.get(event.contract)
    if contract is None or contract.book is None or not contract.book.netting:
        return
    seller, buyer = engine.accounts[event.seller], engine.accounts[event.buyer]
    climbed, descended = contract.book.topology.path(seller.node, buyer.node)
    for node in climbed:
        yield from _over(engine, event.contract, node, (IMPORT,))
    for node in descended:
        yield from _over(engine, event.contract, node, (EXPORT,))


def _over(engine: Engine, name: str, node: int, directions: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    contract = engine.contracts[name]
    book = contract.book
    if contract.state not in (OPEN, CLOSED) or book is None or not 0 < node < book.topology.areas:
        return
    area, flow = engine.areas.areas[node], book.edge_flow(node)
    for direction in directions:
        if direction == IMPORT:
            flow_wh, opposite_wh, capacity_w = flow.import_wh, flow.export_wh, area.import_w
        else:
            flow_wh, opposite_wh, capacity_w = flow.export_wh, flow.import_wh, area.export_w
        capacity_wh = engine.capacity_wh(capacity_w)
        over_wh = flow_wh - capacity_wh - book.netting * opposite_wh // 1000
        if over_wh > 0:
            yield {
                "area": area.name,
                "contract": name,
                "direction": direction,
                "flow_wh": flow_wh,
                "capacity_wh": capacity_wh,
                "over_wh": over_wh,
            }
