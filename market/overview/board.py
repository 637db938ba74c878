"""The market in public: prices, volumes, the share of local sun and how the ledger does, with nobody's name.

Everybody gets the same board, which is made anew at most every ``KEPT_S`` seconds however many look: one reader makes it, the
others get the one before meanwhile. What trades of a delivered interval add up to is asked once and kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db.models import F, Q, Sum

from ledger import queries as ledger
from ledger import witnessing
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.exchange.models import Adjustment, Contract, Recall, SettlementLine, Trade
from market.exchange.queries import seq_before
from market.households import queries as households
from market.overview.sun import LocalSun, Measured, local_sun

KEPT_S: Final = 5.0  # how old a board may be
DAY_MS: Final = 24 * 3_600_000
AHEAD: Final = 24  # intervals to come: six hours, what people plan with
MAX_INTERVALS: Final = 100  # behind: a day of quarter hours
MAX_KEPT: Final = 2 * MAX_INTERVALS  # intervals whose sums are remembered
MIN_HOMES: Final = 10  # fewer would be visible behind a sum (``streaming.access`` has the same number)
MS_A_MINUTE: Final = 60_000


class Ahead(NamedTuple):
    """An interval that is open for trading; all-in prices seen from the top of the grid, None where nobody offers."""

    contract: str
    bid_e4: int | None  # what buyers pay
    ask_e4: int | None  # what sellers ask
    last_e4: int | None
    volume_wh: int
    halted: bool


class Behind(NamedTuple):
    """An interval that is over. ``price_e4``: what sellers got on average, by energy; None without trades."""

    contract: str
    price_e4: int | None
    volume_wh: int
    near_wh: int  # of it between homes of one street


class Health(NamedTuple):
    """How the ledger does. ``age_ms``: market time since the last seal, None before the first."""

    height: int
    entries: int
    age_ms: int | None
    keys: tuple[str, ...]
    witnesses: str  # the state of ``witnessing.Status``
    witnessed: int | None  # entries under a quorum; None: no witness is asked


class Board(NamedTuple):
    """Everything. ``area``: the one whose ticker is public; ``sun``: None with too few homes to show it."""

    at_ms: int
    area: str
    topup_e4: int
    spill_e4: int
    ahead: tuple[Ahead, ...]
    behind: tuple[Behind, ...]
    sun: LocalSun | None
    settled: int  # intervals that ``sun`` is about
    health: Health

    @property
    def now(self) -> Ahead | None:
        """The next interval that can be traded."""
        return self.ahead[0] if self.ahead else None

    @property
    def volume_wh(self) -> int:
        """Energy traded for delivery in the last 24 hours."""
        return sum(one.volume_wh for one in self.behind)

    @property
    def near_wh(self) -> int:
        """The part of it traded between homes of one street."""
        return sum(one.near_wh for one in self.behind)

    @property
    def near_permille(self) -> int | None:
        """That part as a share, rounded down; None without trades."""
        return self.near_wh * 1000 // self.volume_wh if self.volume_wh else None

    @property
    def price_e4(self) -> int | None:
        """What sellers got on average over the last 24 hours, by energy."""
        priced = [one for one in self.behind if one.price_e4 is not None]
        volume = sum(one.volume_wh for one in priced)
        return sum((one.price_e4 or 0) * one.volume_wh for one in priced) // volume if volume else None


class _Engine(NamedTuple):
    root: str
    topup_e4: int
    spill_e4: int
    ahead: tuple[Ahead, ...]


# --- the board ---------------------------------------------------------------------------------------------------------
class Keeper:
    """Keeps the newest board for everybody of this process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._making = threading.Lock()
        self._made: tuple[Exchange, float, Board] | None = None
        self._sums = _Sums()

    def board(self, exchange: Exchange) -> Board:
        """Return the board, at most ``KEPT_S`` old unless somebody else is just making the next one."""
        made = self._made
        if made is not None and made[0] is exchange:
            if self._monotonic() - made[1] < KEPT_S:
                return made[2]
            if not self._making.acquire(blocking=False):
                return made[2]
        else:
            self._making.acquire()
        try:
            made = self._made
            if made is not None and made[0] is exchange and self._monotonic() - made[1] < KEPT_S:
                return made[2]  # somebody made it while this reader waited
            if made is not None and made[0] is not exchange:
                self._sums = _Sums()
            board = _make(exchange, self._sums)
            self._made = exchange, self._monotonic(), board
            return board
        finally:
            self._making.release()

    def forget(self) -> None:
        """Forget everything, for tests."""
        self._made, self._sums = None, _Sums()


def board(exchange: Exchange) -> Board:
    """Return the public board of the running market."""
    return KEEPER.board(exchange)


def _make(exchange: Exchange, sums: _Sums) -> Board:
    now_ms = exchange.now_ms()
    homes = sum(households.area_sizes().values())
    open_to_all = settings.DEMO or homes >= MIN_HOMES
    live = exchange.read(lambda engine: _look(engine, open_to_all))
    length_ms = settings.MARKET_INTERVAL_MIN * MS_A_MINUTE
    running_ms = now_ms // length_ms * length_ms
    count = min(MAX_INTERVALS, DAY_MS // length_ms)
    names = [contract_name(running_ms - back * length_ms) for back in range(count, 0, -1)]
    behind = sums.traded(names)
    measured, settled = sums.measured(names)
    return Board(
        now_ms, live.root, live.topup_e4, live.spill_e4, live.ahead, tuple(behind),
        local_sun(measured) if open_to_all else None, settled, _health(exchange, now_ms),
    )  # fmt: skip


def _look(engine: Engine, prices: bool) -> _Engine:
    """Read what only the engine knows; bounded, for the writer waits meanwhile."""
    root = engine.areas.areas[0].name if engine.areas.areas else ""
    names = sorted(name for name, contract in engine.contracts.items() if contract.state == "open")[:AHEAD]
    ahead = []
    for name in names:
        contract = engine.contracts[name]
        bid, ask = engine.best(root, name) if prices else (None, None)
        ahead.append(Ahead(name, bid, ask, contract.last_e4 or None, contract.volume_wh, bool(contract.halted)))
    return _Engine(root, engine.topup_e4, engine.spill_e4, tuple(ahead))


def _health(exchange: Exchange, now_ms: int) -> Health:
    newest = ledger.blocks(1)
    witnesses = witnessing.status()
    if not newest:
        return Health(0, 0, None, (), witnesses.state, witnesses.witnessed)
    head = newest[0]
    age_ms = max(0, now_ms - head.at_ms)
    return Health(head.height, head.size, age_ms, tuple(ledger.valid_keys()), witnesses.state, witnesses.witnessed)


# --- sums of intervals that are over -----------------------------------------------------------------------------------
class _Sums:
    """Sums of delivered intervals: trades and settled readings do not change any more, recalls and corrections do."""

    def __init__(self) -> None:
        self._traded: dict[str, tuple[int, int, int]] = {}  # energy, of it within one area, energy × price
        self._measured: dict[str, dict[str, Measured]] = {}

    def traded(self, names: list[str]) -> list[Behind]:
        """Return the traded energy and mean price of each interval, those taken back left out."""
        new = [name for name in names if name not in self._traded]
        if new:
            found = _trade_sums(Trade.objects.filter(contract__in=new))
            for name in new:
                self._traded[name] = found.get(name, (0, 0, 0))
        back = _trade_sums(Trade.objects.filter(id__in=Recall.objects.filter(contract__in=names).values("trade")))
        told = []
        for name in names:
            energy, near, value = self._traded[name]
            less = back.get(name, (0, 0, 0))
            energy, near, value = energy - less[0], near - less[1], value - less[2]
            told.append(Behind(name, value // energy if energy else None, energy, near))
        _trim(self._traded, names)
        return told

    def measured(self, names: list[str]) -> tuple[list[Measured], int]:
        """Return what the meters saw by area and interval, as corrected so far, and how many intervals are settled."""
        new = [name for name in names if name not in self._measured]
        if new:
            # Whole or not at all: an interval whose areas are not all settled yet would change its share later.
            for name, areas in _line_sums(_settled(new)).items():
                self._measured[name] = areas
        known = [name for name in names if name in self._measured]
        changes = _corrections(known)
        told = []
        for name in known:
            for area, seen in self._measured[name].items():
                import_wh, export_wh = changes.get((name, area), (0, 0))
                told.append(Measured(seen.import_wh + import_wh, seen.export_wh + export_wh))
        _trim(self._measured, names)
        return told, len(known)


def _trim(kept: dict[str, Any], wanted: list[str]) -> None:
    """Forget intervals that nobody asks for any more."""
    if len(kept) > MAX_KEPT:
        for name in [name for name in kept if name < wanted[0]]:
            del kept[name]


def _trade_sums(rows: Any) -> dict[str, tuple[int, int, int]]:
    found = (
        rows.order_by()
        .values("contract")
        .annotate(
            energy=Sum("energy_wh"),
            near=Sum("energy_wh", filter=Q(buy_area=F("sell_area")), default=0),
            value=Sum(F("energy_wh") * F("sell_e4")),
        )
    )
    return {row["contract"]: (int(row["energy"]), int(row["near"]), int(row["value"])) for row in found}


def _settled(names: Iterable[str]) -> dict[str, int]:
    """Return those of the intervals that are settled in every area, with the ledger's entry that settled the last."""
    rows = Contract.objects.filter(name__in=list(names), state="settled")
    return dict(rows.values_list("name", "changed_seq"))


def _line_sums(settled: dict[str, int]) -> dict[str, dict[str, Measured]]:
    if not settled:
        return {}
    # Lines are in the order of the ledger and have no index by interval: nothing settles before its delivery.
    first = seq_before(contract_start_ms(min(settled)))
    rows = SettlementLine.objects.filter(seq__gt=first, seq__lte=max(settled.values()), contract__in=list(settled))
    found: dict[str, dict[str, Measured]] = {}
    grouped = rows.order_by().values("contract", "area").annotate(taken=Sum("import_wh"), given=Sum("export_wh"))
    for row in grouped:
        found.setdefault(row["contract"], {})[row["area"]] = Measured(int(row["taken"]), int(row["given"]))
    return found


def _corrections(names: list[str]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return by how much later readings changed import and export of an interval's area."""
    grouped = (
        Adjustment.objects.filter(contract__in=names)
        .order_by()
        .values("contract", "area")
        .annotate(
            taken=Sum(F("import_wh") - F("was_import_wh")),
            given=Sum(F("export_wh") - F("was_export_wh")),
        )
    )
    return {(row["contract"], row["area"]): (int(row["taken"]), int(row["given"])) for row in grouped}


KEEPER: Final = Keeper()
