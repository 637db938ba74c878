"""The grid as its operator sees it: areas with capacities and fees, flows against capacity, halts, decisions.

Live values come from the running exchange; each look under its lock copies a few numbers an area and no more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, NamedTuple

import orjson

from ledger import queries as ledger_queries
from ledger import witnessing
from market.engine.commands import SetParams
from market.engine.engine import Engine
from market.engine.reasons import decision_of
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.grid import words
from market.grid.models import Acknowledgement, Decision
from market.grid.words import Said
from market.households.models import User

MAX_DECISIONS = 100
MAX_CONTRACTS = 200  # two days of quarter hours, more than the horizon
OPEN_ALERTS, SEEN_ALERTS = "open", "acknowledged"
ALERT_STATES = (OPEN_ALERTS, SEEN_ALERTS)
RATE_SPAN_S = 30  # seconds the entries a second are an average of
PERMILLE = 1_000
FULL_PERMILLE = 950  # an edge that is called full


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
    import_residual_wh: int  # what can still be carried; below zero: a cut went below what is allocated
    export_residual_wh: int

    @property
    def import_permille(self) -> int:
        """Return the load into the area, 1000 = full."""
        return permille(self.import_used_wh, self.import_capacity_wh)

    @property
    def export_permille(self) -> int:
        """Return the load out of the area, 1000 = full."""
        return permille(self.export_used_wh, self.export_capacity_wh)

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
    collar_e4: int
    collar_period_s: int
    collar_halt_s: int
    throttle_per_min: int
    throttle_burst: int
    throttle_credit: int
    connection_import_w: int
    connection_export_w: int
    final_after_min: int
    sharing_scope: int
    topup_e4: int
    spill_e4: int
    rulebook_version: int
    rulebook_sha256: str
    interval_min: int
    currency: str


class Alert(NamedTuple):
    """Something an official must look at, and who has. ``seq`` is the ledger entry that raised it.

    ``kind`` capacity: what the edge above ``area`` may carry was cut below what is allocated in the contracts that
    ``detail`` lists; collar: the price collar halted ``contract``.
    """

    seq: int
    at_ms: int
    kind: str
    area: str
    contract: str
    detail: dict[str, Any]
    acknowledged_by: str  # "" = nobody yet
    acknowledged_at_ms: int
    note: str = ""  # what they wrote beside it


class Health(NamedTuple):
    """How the market is doing."""

    state: str  # running, stopped, failed, …
    seq: int  # entries
    sealed: int  # of them under a signed checkpoint
    height: int
    queue: int  # commands that wait
    error: str
    entries_a_s: float | None
    sealed_ago_s: float | None  # real seconds
    witnesses: witnessing.Status


class Rate:
    """Entries a second over the last looks; bounded by ``RATE_SPAN_S`` and by one look a second."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=RATE_SPAN_S)
        self._lock = threading.Lock()

    def note(self, now_s: float, seq: int) -> float | None:
        """Add a look and return the rate since the oldest one that counts; None when that is less than a second ago."""
        with self._lock:
            looks = self._looks
            while looks and (now_s - looks[0][0] > RATE_SPAN_S or looks[0][1] > seq):
                looks.popleft()
            if not looks or now_s - looks[-1][0] >= 1:
                looks.append((now_s, seq))
            since_s, since_seq = looks[0]
            return (seq - since_seq) / (now_s - since_s) if now_s - since_s >= 1 else None


_rate = Rate()


def permille(part: int, whole: int) -> int:
    """Return the load of an edge, 1000 = full."""
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
    homes = engine.members_by_area
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
                homes.get(node.name, 0),
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
                    flow.import_residual_wh,
                    flow.export_residual_wh,
                )
            )
        return found

    return exchange.read(look)


def edge_loads(exchange: Exchange, area: str, *, limit: int = MAX_CONTRACTS) -> list[tuple[ContractInfo, EdgeLoad]]:
    """Return one edge's load in each contract that is open or waits for delivery, by start."""
    ahead = [info for info in contracts(exchange) if info.state in {"open", "closed"}][: min(limit, MAX_CONTRACTS)]
    found = []
    # One look a contract: the writer goes on in between.
    for info in ahead:
        found += [(info, line) for line in loads(exchange, info.name) or [] if line.area == area]
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


def halts(exchange: Exchange) -> Halts:
    """Return where trading is stopped."""

    def look(engine: Engine) -> Halts:
        return Halts(
            engine.halted,
            sorted(c.name for c in engine.contracts.values() if c.halted),
            [area.name for area in engine.areas.areas if area.halted],
            [account.index for account in engine.accounts if account.halted],
        )

    return exchange.read(look)


def params(exchange: Exchange) -> SetParams:
    """Return the limits in force, as the command that would set them."""
    return SetParams(*exchange.read(lambda engine: tuple(engine.params)))


def rules(exchange: Exchange) -> Rules | None:
    """Return the limits, tariff and rulebook in force; None before the market was founded."""

    def look(engine: Engine) -> tuple[tuple[int, ...], int, int, int]:
        return tuple(engine.params), engine.topup_e4, engine.spill_e4, engine.interval_min

    params, topup_e4, spill_e4, interval_min = exchange.read(look)
    if not interval_min:
        return None
    genesis = ledger_queries.entry(0)
    newest = Decision.objects.filter(kind="rulebook").order_by("-seq").values_list("values", flat=True).first()
    book = newest or {"version": genesis["rulebook_version"], "sha256": genesis["rulebook_sha256"]}
    return Rules(
        *params,
        topup_e4,
        spill_e4,
        int(book["version"]),
        str(book["sha256"]),
        interval_min,
        str(genesis["currency"]),
    )


def health(exchange: Exchange) -> Health:
    """Return how the market is doing: queue, seals, entries a second of real time (None until it has been measured)."""
    status = exchange.status()
    newest = ledger_queries.blocks(1)
    now_ms = exchange.now_ms()
    return Health(
        state=status["state"],
        seq=status["seq"],
        sealed=status["sealed"],
        height=status["height"],
        queue=status["queue"],
        error=status["error"],
        entries_a_s=_rate.note(time.monotonic(), status["seq"]),
        sealed_ago_s=max(0.0, (now_ms - newest[0].at_ms) / 1000 / exchange.speed) if newest else None,
        witnesses=witnessing.status(),
    )


class Told(NamedTuple):
    """A decision as it is shown: what the market keeps of it, and what the ledger says of its reason."""

    seq: int
    at_ms: int
    by: User
    kind: str
    target: str
    values: dict[str, Any]
    reason: str
    on_ledger: bool  # whether the reason is the entry's; those of older fees are kept beside it alone
    said: Said | None


def decisions(*, limit: int = 20, kinds: tuple[str, ...] = (), target: str | None = None) -> list[Told]:
    """Return the newest decisions of officials, newest first, of some kinds or of one target."""
    # As they were noted: a withdrawal's entry is older than what was decided about it.
    rows = Decision.objects.select_related("by", "note_erased_by").order_by("-pk")
    if kinds:
        rows = rows.filter(kind__in=kinds)
    if target is not None:
        rows = rows.filter(target=target)
    return _told(list(rows[: min(limit, MAX_DECISIONS)]))


def decision(seq: int) -> Told | None:
    """Return the decision behind a ledger entry, or None."""
    found = _told(list(Decision.objects.select_related("by", "note_erased_by").filter(seq=seq)))
    return found[0] if found else None


def _told(rows: list[Decision]) -> list[Told]:
    leaves = ledger_queries.leaves_of([row.seq for row in rows])
    # Entries of accounts opened and money moved have commitments and reasons of their own, which are about something else.
    entries = {seq: entry for seq, leaf in leaves if decision_of(entry := orjson.loads(leaf))}
    said = words.said(entries.values(), rows)
    found = []
    for row in rows:
        code = entries.get(row.seq, {}).get("reason", "")
        about = (row.seq, row.at_ms, row.by, row.kind, row.target, row.values)
        found.append(Told(*about, code or row.reason, bool(code), said.get(row.seq)))
    return found


def alerts(*, before: int | None = None, limit: int = 100, state: str = "") -> list[Alert]:
    """Return what officials must look at, newest first; ``before`` (a sequence) is left out.

    ``state``: "open" (nobody has seen it), "acknowledged" or "" for all.
    """
    seen = None if state not in ALERT_STATES else Acknowledgement.objects.values("seq")
    return _with_acknowledgements(
        exchange_queries.alerts(before=before, limit=limit, among=seen, without=state == OPEN_ALERTS)
    )


def open_alerts() -> int:
    """Return how many alerts nobody has acknowledged."""
    return max(0, exchange_queries.alert_count() - Acknowledgement.objects.count())


def alert(seq: int) -> Alert | None:
    """Return one alert by the ledger entry that raised it, or None."""
    found = exchange_queries.alert(seq)
    return None if found is None else _with_acknowledgements([found])[0]


def _with_acknowledgements(rows: list[exchange_queries.AlertView]) -> list[Alert]:
    seen = {
        note.seq: note
        for note in Acknowledgement.objects.select_related("by").filter(seq__in=[row.seq for row in rows])
    }
    return [_alert(row, seen.get(row.seq)) for row in rows]


def _alert(row: exchange_queries.AlertView, note: Acknowledgement | None) -> Alert:
    by, at_ms = ("", 0) if note is None else (note.by.get_username(), note.at_ms)
    said = "" if note is None else note.note
    return Alert(row.seq, row.at_ms, row.kind, row.area, row.contract, orjson.loads(row.detail), by, at_ms, said)
