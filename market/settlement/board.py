"""The operator's settlement board: where each interval stands, whose meters are missing, what money is outstanding.

An interval that has been delivered goes through these stages, each area by itself:

* ``waiting``: some areas are not settled; they wait for meters, until the deadline at the latest.
* ``provisional``: every area is settled; later readings may still correct it.
* ``corrected``: a later reading has changed it (an ``adjust`` entry), and others still may.
* ``final``: nothing corrects it any more (a ``final`` entry; at once in a market that corrects nothing).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from django.db.models import Count, F, Q, Sum

from market.engine.commands import NO_QUALITY
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.exchange.models import Adjustment, Balance, Contract, Final, SettlementLine
from market.settlement import waiting

CLOSED, WAITING, PROVISIONAL, CORRECTED, FINAL = "closed", "waiting", "provisional", "corrected", "final"
STAGES = (CLOSED, WAITING, PROVISIONAL, CORRECTED, FINAL)
# What the database calls those stages that one of its states is enough for.
STATES = {CLOSED: ("closed",), WAITING: ("delivered",), PROVISIONAL: ("settled",)}
PAGE = 24  # contracts of one page: six hours; in a city of 30,000 homes their settlement is 700,000 rows
MAX_EXPORT = 96  # contracts of one file: a day
MAX_CONTRACTS_LOOKED_AT = 1_000  # for a page of what later entries say
SHOWN_AREAS = 50  # of the list by area; those with the most missing and estimated meters
MAX_GROUPS = 100_000  # areas of a page's contracts


class Wait(NamedTuple):
    """An area that is not settled in a delivered contract, and what it waits for."""

    area: str
    homes: int
    missing: int  # meters; 0: all are there, and the next run settles it


class Corrected(NamedTuple):
    """What corrections changed in a contract: differences, e7, each new value minus the old one."""

    entries: int
    accounts: int
    short_e7: int  # paid by sellers who did not deliver
    topup_e7: int  # on supply bills
    spill_e7: int  # paid to homes for what they had left over


class Interval(NamedTuple):
    """One contract on the board. Money is e7."""

    contract: str
    state: str  # closed, delivered, settled
    stage: str
    deadline_ms: int  # market time from which silent meters are estimated
    areas: int  # due in it while it waits; 0: not delivered yet, or all are settled
    settled_areas: int  # of them; once all are settled, those that have homes today
    accounts: int  # settled
    estimated: int  # of them, on an estimate
    outstanding_e7: int  # what its clearing account holds: paid for by buyers and not paid out
    waits: tuple[Wait, ...]
    corrected: Corrected | None  # None: it never was

    @property
    def missing(self) -> int:
        """Return how many meters it waits for."""
        return sum(wait.missing for wait in self.waits)


class AreaMeters(NamedTuple):
    """The meters of one area over the contracts of a page."""

    area: str
    settled: int  # rows: accounts times contracts
    estimated: int
    missing: int
    waiting: int  # contracts in which it is not settled

    @property
    def estimated_permille(self) -> int:
        """Return the share of estimates in what was settled."""
        return self.estimated * 1_000 // self.settled if self.settled else 0


class Cell(NamedTuple):
    """One area in one contract, for the export."""

    contract: str
    stage: str
    area: str
    settled: int
    estimated: int
    missing: int
    corrected: int = 0  # accounts


class Page(NamedTuple):
    """A page of the board, newest contract first; ``next`` is the contract before which the following page begins."""

    intervals: list[Interval]
    areas: list[AreaMeters]
    cells: list[Cell]
    next: str | None


class Outstanding(NamedTuple):
    """Money that has not found its way yet, e7, positive."""

    clearing_e7: int  # paid into contracts that are not settled
    bill_e7: int  # on the homes' supply bills, owed to the supplier
    arrears_e7: int  # owed by members
    arrears: int  # members who owe
    fees_e7: int  # the grid operator's


def page(exchange: Exchange, *, before: str | None = None, stage: str = "", limit: int = PAGE) -> Page:
    """Return contracts whose gate has closed, newest first, those before a contract and in a stage if asked for.

    Raise ``ValueError`` naming the field: ``stage``, ``before``, ``limit`` (1 to ``MAX_EXPORT``).
    """
    if stage and stage not in STAGES:
        raise ValueError(f"stage: expected one of {', '.join(STAGES)}, was {stage!r:.40}")
    if not 0 < limit <= MAX_EXPORT:
        raise ValueError(f"limit: expected 1 to {MAX_EXPORT}, was {limit}")
    rows = Contract.objects.exclude(state="open")
    if before is not None:
        try:
            contract_start_ms(before)
        except ValueError:
            raise ValueError("before: expected the name of a contract") from None
        rows = rows.filter(name__lt=before)
    if stage in STATES:
        rows = rows.filter(state__in=STATES[stage])
    elif stage:  # a stage that only later entries tell: found among the settled ones
        rows = rows.filter(state="settled")
    looked_at = MAX_CONTRACTS_LOOKED_AT if stage in (PROVISIONAL, CORRECTED, FINAL) else limit + 1
    found = list(
        rows.order_by("-name").values_list("name", "state", "account", "opened_seq", "changed_seq")[:looked_at]
    )
    later = later_stages(exchange, [row[0] for row in found if row[1] == "settled"])
    stages = {row[0]: _stage(row[1], later.get(row[0])) for row in found}
    if stage:
        found = [row for row in found if stages[row[0]] == stage]
    shown, more = found[:limit], len(found) > limit
    cells = _cells(shown, stages)
    waits = _waits(exchange, [row[0] for row in shown if row[1] == "delivered"])
    cash = dict(Balance.objects.filter(account__in=[row[2] for row in shown]).values_list("account", "cash_e7"))
    held, everywhere, length_ms = exchange.read(_held)
    deadlines = exchange.read(lambda engine: {row[0]: waiting.deadline_ms(engine, row[0]) for row in shown})
    corrections = _corrections([row[0] for row in shown])
    by_contract: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_contract[cell.contract].append(cell)
    intervals = [
        Interval(
            contract=name,
            state=state,
            stage=stages[name],
            deadline_ms=contract_start_ms(name) + length_ms + deadlines[name],
            areas=held.get(name, (0, 0))[0],
            settled_areas=held[name][1] if name in held else everywhere if state == "settled" else 0,
            accounts=sum(cell.settled for cell in by_contract[name]),
            estimated=sum(cell.estimated for cell in by_contract[name]),
            outstanding_e7=cash.get(account, 0),
            waits=tuple(waits.get(name, ())),
            corrected=corrections.get(name),
        )
        for name, state, account, _opened, _changed in shown
    ]
    cells = _with_waits(cells, waits, stages)
    return Page(intervals, _by_area(cells, waits), cells, shown[-1][0] if more and shown else None)


def later_stages(exchange: Exchange, contracts: Sequence[str]) -> dict[str, str]:
    """Return those of the settled contracts that are corrected or final, with their stage."""
    if not contracts:
        return {}
    changed = Adjustment.objects.filter(contract__in=contracts).order_by().values_list("contract", flat=True).distinct()
    found = dict.fromkeys(changed, CORRECTED)
    found |= dict.fromkeys(Final.objects.filter(contract__in=contracts).values_list("contract", flat=True), FINAL)
    # In a market that corrects nothing no entry ends it: what is settled is not among the provisional ones.
    open_ = exchange.read(lambda engine: {name for name in contracts if name in engine.provisional})
    return found | {name: FINAL for name in contracts if name not in open_}


def _corrections(contracts: list[str]) -> dict[str, Corrected]:
    """Return what was corrected, by contract; those without a correction are left out."""
    rows = Adjustment.objects.filter(contract__in=contracts).values("contract")
    sums = {name: Sum(F(f"{name}_e7") - F(f"was_{name}_e7")) for name in ("short", "topup", "spill")}
    counted = rows.annotate(entries=Count("seq", distinct=True), accounts=Count("account", distinct=True), **sums)
    names = ("contract", "entries", "accounts", "short", "topup", "spill")
    return {name: Corrected(*map(int, values)) for name, *values in counted.order_by().values_list(*names)}


def _stage(state: str, later: str | None) -> str:
    if state == "settled":
        return later or PROVISIONAL
    return WAITING if state == "delivered" else CLOSED


def _held(engine: Engine) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Return areas due and settled in the delivered contracts, areas with homes, and the length of an interval, ms."""
    delivered = {name: one for name, one in engine.contracts.items() if one.state == "delivered"}
    counts = {name: (len(one.areas_due), len(one.settled_areas)) for name, one in delivered.items()}
    return counts, len(engine.members_by_area), engine.interval_min * 60_000


def _cells(shown: list[tuple[str, str, int, int, int]], stages: dict[str, str]) -> list[Cell]:
    """Return settled accounts, estimates and corrected accounts by contract and area."""
    if not shown:
        return []
    # Settlement rows come after their contract's opening, and none after the entry that settled the last area: the bounds
    # keep the rest of the past out of the scan.
    rows = SettlementLine.objects.filter(contract__in=[row[0] for row in shown], seq__gte=min(row[3] for row in shown))
    if all(row[1] == "settled" for row in shown):
        rows = rows.filter(seq__lte=max(row[4] for row in shown))
    grouped = rows.values("contract", "area").annotate(
        settled=Count("account"), estimated=Count("account", filter=Q(quality="estimated"))
    )
    found = {
        (row["contract"], row["area"]): Cell(
            row["contract"], stages[row["contract"]], row["area"], row["settled"], row["estimated"], 0
        )
        for row in grouped.order_by("-contract", "area")[:MAX_GROUPS]
    }
    changed = Adjustment.objects.filter(contract__in=[row[0] for row in shown]).values("contract", "area")
    counts = changed.annotate(
        accounts=Count("account", distinct=True),
        new=Count("account", filter=Q(was_quality=NO_QUALITY)),
        guessed=Count("account", filter=Q(quality="estimated")) - Count("account", filter=Q(was_quality="estimated")),
    )
    for row in counts.order_by()[:MAX_GROUPS]:
        place = (row["contract"], row["area"])
        cell = found.get(place, Cell(row["contract"], stages[row["contract"]], row["area"], 0, 0, 0))
        found[place] = cell._replace(
            settled=cell.settled + row["new"],
            estimated=cell.estimated + row["guessed"],
            corrected=row["accounts"],
        )
    return list(found.values())


def _waits(exchange: Exchange, contracts: list[str]) -> dict[str, list[Wait]]:
    """Return the areas that delivered contracts wait for."""

    def look(engine: Engine) -> dict[str, list[str]]:
        held = {name: engine.contracts[name] for name in contracts if name in engine.contracts}
        return {name: sorted(one.areas_due - one.settled_areas) for name, one in held.items()}

    counted = waiting.missing(exchange, exchange.read(look))
    return {name: [Wait(area, *counts) for area, counts in found.items()] for name, found in counted.items()}


def _with_waits(cells: list[Cell], waits: dict[str, list[Wait]], stages: dict[str, str]) -> list[Cell]:
    """Return the cells, and those that are not settled yet, newest contract first."""
    open_cells = [
        Cell(name, stages[name], wait.area, 0, 0, wait.missing) for name, found in waits.items() for wait in found
    ]
    return sorted([*cells, *open_cells], key=lambda cell: (-contract_start_ms(cell.contract), cell.area))


def _by_area(cells: Iterable[Cell], waits: dict[str, list[Wait]]) -> list[AreaMeters]:
    """Return the areas with missing or estimated meters, the worst first; at most ``SHOWN_AREAS``."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    waiting: dict[str, int] = defaultdict(int)
    for cell in cells:
        for n, value in enumerate((cell.settled, cell.estimated, cell.missing)):
            sums[cell.area][n] += value
    for found in waits.values():
        for wait in found:
            waiting[wait.area] += 1
    areas = [AreaMeters(area, *values, waiting[area]) for area, values in sums.items()]
    bad = [area for area in areas if area.estimated or area.missing]
    return sorted(bad, key=lambda area: (-area.missing, -area.estimated, area.area))[:SHOWN_AREAS]


def outstanding() -> Outstanding:
    """Return the money that is on its way through the whole market."""
    by_kind = exchange_queries.money_by_kind()
    owed = Balance.objects.filter(arrears_e7__gt=0).aggregate(
        sum=Sum("arrears_e7", default=0), members=Count("account")
    )
    return Outstanding(
        clearing_e7=by_kind.get("clearing", 0),
        bill_e7=-by_kind.get("billing", 0),
        arrears_e7=int(owed["sum"]),
        arrears=owed["members"],
        fees_e7=by_kind.get("operator", 0),
    )


def export_rows(found: Page) -> Iterator[list[str | int]]:
    """Return the lines of the CSV export: a header, then one a contract and area."""
    yield ["interval start [UTC]", "state", "area", "settled accounts", "estimated accounts", "missing meters",
           "corrected accounts"]  # fmt: skip
    for cell in found.cells:
        yield [cell.contract, cell.stage, cell.area, cell.settled, cell.estimated, cell.missing, cell.corrected]
