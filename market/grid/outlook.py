"""The hours ahead: every edge in every contract that is still to be delivered, from trades made and from what rests."""

from __future__ import annotations

import threading
import time
import weakref
from typing import NamedTuple

from market.engine.contracts import CLOSED, OPEN
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.grid import queries
from market.grid.queries import FULL_PERMILLE, PERMILLE, ContractInfo, permille

FRESH_S = 4.0  # a look at 443 areas in 144 contracts takes some half second: readers within this time share one


class EdgeAhead(NamedTuple):
    """An edge in one contract; ``rest``: what it would be asked for if all that rests below it crossed it."""

    area: str
    import_permille: int
    export_permille: int
    import_rest_permille: int
    export_rest_permille: int
    blocked: bool  # more is allocated than it may carry

    @property
    def load_permille(self) -> int:
        """Return the load of the fuller direction, from trades alone."""
        return max(self.import_permille, self.export_permille)

    @property
    def rest_permille(self) -> int:
        """Return the same with what rests."""
        return max(self.import_rest_permille, self.export_rest_permille)

    @property
    def full(self) -> bool:
        """Return whether a direction is full by trades that are made."""
        return self.blocked or self.load_permille >= FULL_PERMILLE

    @property
    def may_fill(self) -> bool:
        """Return whether a direction would be full if all that rests below it crossed it."""
        return not self.full and self.rest_permille >= PERMILLE


Outlook = list[tuple[ContractInfo, list[EdgeAhead]]]


def outlook(exchange: Exchange) -> Outlook:
    """Return all edges, in the order of the tree, in each contract that is open or waits for delivery, by start."""
    found: Outlook = []
    for info in queries.contracts(exchange):
        if info.state in (OPEN, CLOSED):
            # One look a contract: the writer goes on in between.
            edges = exchange.read(lambda engine, name=info.name: _edges(engine, name))
            if edges:
                found.append((info, edges))
    return found


def _edges(engine: Engine, name: str) -> list[EdgeAhead]:
    contract = engine.contracts.get(name)
    if contract is None or contract.book is None:
        return []
    book = contract.book
    areas = engine.areas.areas[: book.topology.areas]
    buys, sells = [0] * len(areas), [0] * len(areas)
    for order in book.orders.values():
        (buys if order.is_buy else sells)[order.node] += order.left_wh
    for area in reversed(areas):  # children before their parents
        if area.parent >= 0:
            buys[area.parent] += buys[area.index]
            sells[area.parent] += sells[area.index]
    found = []
    for area in areas:
        if area.parent < 0:
            continue
        flow = book.edge_flow(area.index)
        into, out = flow.import_capacity_wh, flow.export_capacity_wh
        into_wh, out_wh = max(0, into - flow.import_residual_wh), max(0, out - flow.export_residual_wh)
        found.append(
            EdgeAhead(
                area.name,
                permille(into_wh, into),
                permille(out_wh, out),
                permille(into_wh + buys[area.index], into),
                permille(out_wh + sells[area.index], out),
                flow.import_residual_wh < 0 or flow.export_residual_wh < 0,
            )
        )
    return found


class _Recent:
    """The newest outlook, and of which exchange."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.of: weakref.ref[Exchange] | None = None
        self.at_s = 0.0
        self.seq = -1
        self.found: Outlook = []


_recent = _Recent()


def recent(exchange: Exchange, fresh_s: float = FRESH_S) -> Outlook:
    """Return an outlook that is at most ``fresh_s`` old, or newer when nothing has happened since."""
    with _recent.lock:
        seq, now_s = exchange.status()["seq"], time.monotonic()
        same = _recent.of is not None and _recent.of() is exchange
        if not same or (now_s - _recent.at_s > fresh_s and _recent.seq != seq):
            _recent.found = outlook(exchange)
            _recent.of, _recent.at_s, _recent.seq = weakref.ref(exchange), now_s, seq
        return _recent.found
