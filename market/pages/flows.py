"""What flows over an edge against what it can carry, as the operator's pages show it."""

from __future__ import annotations

from typing import NamedTuple

from market.engine.grid import EdgeFlow
from market.exchange.exchange import Exchange
from market.grid import queries as grid_queries
from market.grid.queries import FULL_PERMILLE, ContractInfo, EdgeLoad, permille

WARN_PERMILLE = 700
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


def ways(flow: EdgeFlow, interval_min: int) -> tuple[Way, Way]:
    """Return what flows into an area and out of it: energies of an interval become average power."""

    def watts(energy_wh: int) -> int:
        return int(energy_wh * 60 / interval_min)  # towards zero: what is left never looks larger than it is

    def way(flow_wh: int, capacity_wh: int, residual_wh: int) -> Way:
        used_wh = max(0, capacity_wh - residual_wh)
        load = permille(used_wh, capacity_wh)
        state = "full" if load >= FULL_PERMILLE else "warn" if load >= WARN_PERMILLE else ""
        if residual_wh < 0:
            state = "blocked"
        elif not capacity_wh:
            state = "cut"
        sizes = [watts(energy_wh) for energy_wh in (flow_wh, used_wh, capacity_wh, residual_wh)]
        return Way(*sizes, min(BAR, load // 10), state)

    return (
        way(flow.import_wh, flow.import_capacity_wh, flow.import_residual_wh),
        way(flow.export_wh, flow.export_capacity_wh, flow.export_residual_wh),
    )


def row_of(load: EdgeLoad, interval_min: int) -> Row:
    """Return what the table shows for an edge."""
    flow = EdgeFlow(
        load.import_wh, load.export_wh, load.import_capacity_wh, load.export_capacity_wh, load.import_residual_wh,
        load.export_residual_wh,
    )  # fmt: skip
    into, out = ways(flow, interval_min)
    state = max(into.state, out.state, key=STATES.index)
    return Row(load=load, into=into, out=out, percent=load.load_permille // 10, state=state)


def minutes_of(contract: ContractInfo) -> int:
    """Return how long a contract's interval is."""
    return (contract.end_ms - contract.start_ms) // 60_000


def ahead(exchange: Exchange) -> list[ContractInfo]:
    """Return the contracts that are open or wait for their delivery, by start."""
    return [contract for contract in grid_queries.contracts(exchange) if contract.state in {"open", "closed"}]


def chosen_contract(contracts: list[ContractInfo], wanted: str) -> ContractInfo | None:
    """Return the contract to look at: the one asked for, else the next to be delivered that is still traded."""
    for contract in contracts:
        if contract.name == wanted:
            return contract
    return next((c for c in contracts if c.state == "open"), contracts[0] if contracts else None)
