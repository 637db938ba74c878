"""Where a household stands on the trade page: energy by contract, money set aside, what its connection can still carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from market.engine.accounts import UNLIMITED_WH
from market.engine.engine import Engine
from market.exchange import queries as exchange
from market.households.queries import AccountInfo
from market.pages.context import Page

MAX_ROWS = 200  # contracts in the table; 36 hours of quarter hours are 144


@dataclass(frozen=True)
class Standing:
    """One contract: what was traded, what is on offer and what is left of the connection's limits (None = no limit)."""

    contract: str
    bought_wh: int
    sold_wh: int
    paid_e7: int  # all-in, for what was bought
    proceeds_e7: int
    open_buy_wh: int  # of orders that wait, sleeping ones not counted
    open_sell_wh: int
    import_left_wh: int | None
    export_left_wh: int | None

    @property
    def net_wh(self) -> int:
        """Bought minus sold energy."""
        return self.bought_wh - self.sold_wh

    @property
    def bought_e4(self) -> int | None:
        """Average price of what was bought, rounded down; None when nothing was."""
        return self.paid_e7 // self.bought_wh if self.bought_wh else None

    @property
    def sold_e4(self) -> int | None:
        """Average price of what was sold, rounded down; None when nothing was."""
        return self.proceeds_e7 // self.sold_wh if self.sold_wh else None


@dataclass(frozen=True)
class Standings:
    """All of it. ``halt`` is why this account cannot order in any contract, "" when it can."""

    rows: list[Standing]
    held_e7: int
    free_e7: int
    halt: str

    def data(self) -> dict[str, Any]:
        """Return what the scripts need: net energy by contract (Wh)."""
        return {row.contract: row.net_wh for row in self.rows if row.net_wh}


@dataclass(frozen=True)
class _Open:
    """What the engine knows, read in one go; energies (Wh) by contract."""

    buys: dict[str, int]
    sells: dict[str, int]
    left: dict[str, tuple[int | None, int | None]]  # import and export
    held_e7: int
    free_e7: int
    halt: str


def load(page: Page, account: AccountInfo) -> Standings | None:
    """Return where an account stands, contracts by start; None when the market does not run."""
    if page.exchange is None:
        return None
    traded = {row.contract: row for row in exchange.positions(account.index)}
    opened = page.exchange.read(lambda engine: _read(engine, account.index, list(traded)))
    names = sorted({*traded, *opened.buys, *opened.sells})[:MAX_ROWS]
    return Standings(
        rows=[_standing(name, traded.get(name), opened) for name in names],
        held_e7=opened.held_e7,
        free_e7=opened.free_e7,
        halt=opened.halt,
    )


def _standing(name: str, traded: exchange.PositionView | None, opened: _Open) -> Standing:
    left = opened.left.get(name, (None, None))
    return Standing(
        contract=name,
        bought_wh=0 if traded is None else traded.bought_wh,
        sold_wh=0 if traded is None else traded.sold_wh,
        paid_e7=0 if traded is None else traded.paid_e7,
        proceeds_e7=0 if traded is None else traded.proceeds_e7,
        open_buy_wh=opened.buys.get(name, 0),
        open_sell_wh=opened.sells.get(name, 0),
        import_left_wh=left[0],
        export_left_wh=left[1],
    )


def _read(engine: Engine, index: int, traded: list[str]) -> _Open:
    account = engine.accounts[index]
    buys: dict[str, int] = {}
    sells: dict[str, int] = {}
    for order_id in account.open_ids:
        order = engine.orders[order_id]
        if order.complex is not None and order.complex.asleep:
            continue
        side = buys if order.is_buy else sells
        side[order.contract] = side.get(order.contract, 0) + order.remaining_wh
    left: dict[str, tuple[int | None, int | None]] = {}
    for name in {*traded, *buys, *sells}:
        contract = engine.contracts.get(name)
        if contract is None or contract.state != "open":
            continue
        used = contract.exposures.get(account.slot)
        taken_wh, given_wh = (0, 0) if used is None else (used.buy_wh, used.sell_wh)
        left[name] = (_rest(account.import_wh, taken_wh), _rest(account.export_wh, given_wh))
    return _Open(buys, sells, left, account.held_e7, account.free_e7, engine.halt_of(index))


def _rest(limit_wh: int, used_wh: int) -> int | None:
    return None if limit_wh >= UNLIMITED_WH else max(0, limit_wh - used_wh)
