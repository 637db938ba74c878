"""The grid as its operator sees it: areas with capacities and fees, flows against capacity, halts, decisions.

Live values come from the running exchange; each look under its lock copies a few numbers an area and no more.
"""

from __future__ import annotations

from typing import NamedTuple

from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.grid.models import Decision

MAX_DECISIONS = 100
MAX_CONTRACTS = 200  # two days of quarter hours, more than the horizon
MINUTES_AN_HOUR = 60
PERMILLE = 1_000


class AreaInfo(NamedTuple):
    """A node of the grid in the order of the tree: parents first, each followed by what lies below it."""

    area: str
    parent: str  # "" = the root
    level: str
    depth: int
    homes: int  # open member accounts in the area itself
    import_w: int
    export_w: int
    fee_e4: int
    halted: bool  # itself, not by an area above it


class EdgeLoad(NamedTuple):
    """What a contract's trades ask of the edge between an area and its parent, energies in Wh.

    ``import_used_wh`` is what counts against the capacity: the flow less what the opposite direction gives back.
    """

    area: str
    parent: str
    level: str
    depth: int
    homes: int
    halted: bool
    import_wh: int
    export_wh: int
    import_capacity_wh: int
    export_capacity_wh: int
    import_used_wh: int
    export_used_wh: int

    @property
    def import_permille(self) -> int:
        """Return the load into the area, 1000 = full."""
        return _permille(self.import_used_wh, self.import_capacity_wh)

    @property
    def export_permille(self) -> int:
        """Return the load out of the area, 1000 = full."""
        return _permille(self.export_used_wh, self.export_capacity_wh)

    @property
    def load_permille(self) -> int:
        """Return the load of the fuller direction."""
        return max(self.import_permille, self.export_permille)


class ContractInfo(NamedTuple):
    """A contract the engine still holds."""

    name: str
    start_ms: int
    end_ms: int
    state: str
    halted: bool
    volume_wh: int


class Halts(NamedTuple):
    """Where trading is stopped."""

    market: bool
    contracts: list[str]
    areas: list[str]
    accounts: list[int]

    def __bool__(self) -> bool:
        return self.market or bool(self.contracts or self.areas or self.accounts)


class Rules(NamedTuple):
    """What is in force for the whole market."""

    max_price_e4: int
    tick_e4: int
    max_order_wh: int
    max_open_orders: int
    horizon_min: int
    lead_min: int
    netting_permille: int
    topup_e4: int
    spill_e4: int
    rulebook_version: int
    rulebook_sha256: str
    interval_min: int
    currency: str


def _permille(part: int, whole: int) -> int:
    # Nothing fits through an edge without capacity: whatever uses it has filled it.
    return part * PERMILLE // whole if whole else PERMILLE * bool(part)


def areas(exchange: Exchange) -> list[AreaInfo]:
    """Return all areas in the order of the tree."""
    return exchange.read(_areas)


def area(exchange: Exchange, name: str) -> AreaInfo | None:
    """Return one area, or None when there is none of that name."""
    return next((found for found in areas(exchange) if found.area == name), None)


def _areas(engine: Engine) -> list[AreaInfo]:
    grid = engine.areas.areas
    homes = [0] * len(grid)
    for account in engine.accounts:
        if account.kind == "member" and not account.closed:
            homes[engine.areas.index[account.area]] += 1
    children: dict[int, list[int]] = {}
    for node in grid:
        children.setdefault(node.parent, []).append(node.index)
    found: list[AreaInfo] = []
    stack = [(index, 0) for index in reversed(children.get(-1, []))]
    while stack:
        index, depth = stack.pop()
        node = grid[index]
        parent = grid[node.parent].name if node.parent >= 0 else ""
        found.append(
            AreaInfo(
                node.name,
                parent,
                node.level,
                depth,
                homes[index],
                node.import_w,
                node.export_w,
                node.fee_e4,
                node.halted,
            )
        )
        stack += [(child, depth + 1) for child in reversed(children.get(index, []))]
    return found


def loads(exchange: Exchange, contract: str) -> list[EdgeLoad] | None:
    """Return every edge's load in a contract, in the order of the tree; None when the engine holds no such contract."""

    def look(engine: Engine) -> list[EdgeLoad] | None:
        if contract not in engine.contracts:
            return None
        flows = engine.flows(contract)
        found = []
        for info in _areas(engine):
            flow = flows.get(info.area)
            if flow is None or not info.parent:
                continue
            found.append(
                EdgeLoad(
                    info.area,
                    info.parent,
                    info.level,
                    info.depth,
                    info.homes,
                    info.halted,
                    flow.import_wh,
                    flow.export_wh,
                    flow.import_capacity_wh,
                    flow.export_capacity_wh,
                    max(0, flow.import_capacity_wh - flow.import_residual_wh),
                    max(0, flow.export_capacity_wh - flow.export_residual_wh),
                )
            )
        return found

    return exchange.read(look)


def edge_loads(exchange: Exchange, area: str, *, limit: int = MAX_CONTRACTS) -> list[tuple[ContractInfo, EdgeLoad]]:
    """Return one edge's load in each contract that is open or waits for delivery, by start."""
    found = []
    for info in contracts(exchange):
        if info.state in {"open", "closed"} and len(found) < limit:
            lines = loads(exchange, info.name) or []
            found += [(info, line) for line in lines if line.area == area]
    return found


def hottest_first(lines: list[EdgeLoad]) -> list[EdgeLoad]:
    """Return loads with the fullest edge first."""
    return sorted(lines, key=lambda line: (-line.load_permille, line.area))


def contracts(exchange: Exchange) -> list[ContractInfo]:
    """Return the contracts the engine holds, by start."""

    def look(engine: Engine) -> list[ContractInfo]:
        return [
            ContractInfo(c.name, c.start_ms, c.end_ms, c.state, bool(c.halted), c.volume_wh)
            for c in engine.contracts.values()
        ]

    return sorted(exchange.read(look))[:MAX_CONTRACTS]


def decisions(*, limit: int = 20, kinds: tuple[str, ...] = (), target: str | None = None) -> list[Decision]:
    """Return the newest decisions of officials, newest first, of some kinds or of one target."""
    rows = Decision.objects.select_related("by").order_by("-seq")
    if kinds:
        rows = rows.filter(kind__in=kinds)
    if target is not None:
        rows = rows.filter(target=target)
    return list(rows[: min(limit, MAX_DECISIONS)])


def decision(seq: int) -> Decision | None:
    """Return the decision behind a ledger entry, or None."""
    return Decision.objects.select_related("by").filter(seq=seq).first()
