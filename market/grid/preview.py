"""What a decision would do, said before it is made. Nothing here changes anything.

A capacity is played on each contract's own book and put back (``market.engine.foreseeing``), one look a contract, so that
the writer goes on in between; one more look, the first, plays the contracts in which blocks wait together.
"""

from __future__ import annotations

from typing import NamedTuple

from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.engine.foreseeing import Foreseen, Reach
from market.exchange.exchange import Exchange
from market.grid import queries
from market.grid.queries import ContractInfo


class CapacityEffect(NamedTuple):
    """What a capacity would do, contract by contract, and in all."""

    lines: list[tuple[ContractInfo, Foreseen]]  # by start
    import_blocked: list[str]  # contracts in which nothing more could flow in, and could before
    export_blocked: list[str]
    import_opened: list[str]  # … in which something could again
    export_opened: list[str]
    import_over: list[str]  # contracts in which more is allocated than could flow in
    export_over: list[str]
    offers_lost: Reach  # of what the area could buy: orders that it no longer reaches, and their energy
    bids_lost: Reach
    buys: Reach  # what rests in the area and below it
    sells: Reach
    trades: int
    traded_wh: int
    cancelled: int
    collar: list[str]  # contracts that the price collar would halt
    block_trades: int  # blocks that wait and would trade; their trades are among those above
    block_legs: int  # and their legs
    more: bool


class FeeEffect(NamedTuple):
    """From which contract on a fee holds, and which keep the one they opened with."""

    first: str
    kept: int  # contracts that are open
    last_kept: str  # "" = none is open
    before_e4: int


class HaltEffect(NamedTuple):
    """What rests where trading would stop."""

    orders: int  # open ones, hibernating ones included
    energy_wh: int
    accounts: int  # whose they are
    contracts: int  # they are about


def capacity(exchange: Exchange, *, area: str, import_w: int, export_w: int) -> CapacityEffect:
    """Return what a capacity in W of an area's edge would do. Raise ``KeyError`` on an unknown area."""
    lines: list[tuple[ContractInfo, Foreseen]] = []
    blocks = exchange.read(lambda engine: engine.foresee_blocks(area, import_w, export_w))
    for info in queries.contracts(exchange):
        found = blocks.contracts.get(info.name)
        if found is None:
            found = exchange.read(lambda engine, name=info.name: _foresee(engine, name, area, import_w, export_w))
        if found is not None:
            lines.append((info, found))

    def names(test: object) -> list[str]:
        return [info.name for info, found in lines if test(found)]  # type: ignore[operator]

    return CapacityEffect(
        lines=lines,
        import_blocked=names(lambda f: f.before.import_residual_wh > 0 >= f.after.import_residual_wh),
        export_blocked=names(lambda f: f.before.export_residual_wh > 0 >= f.after.export_residual_wh),
        import_opened=names(lambda f: f.before.import_residual_wh <= 0 < f.after.import_residual_wh),
        export_opened=names(lambda f: f.before.export_residual_wh <= 0 < f.after.export_residual_wh),
        import_over=names(lambda f: f.after.import_residual_wh < 0),
        export_over=names(lambda f: f.after.export_residual_wh < 0),
        offers_lost=_lost([(found.offers_before, found.offers_after) for _, found in lines]),
        bids_lost=_lost([(found.bids_before, found.bids_after) for _, found in lines]),
        buys=_sum([found.buys for _, found in lines]),
        sells=_sum([found.sells for _, found in lines]),
        trades=sum(found.trades for _, found in lines),
        traded_wh=sum(found.traded_wh for _, found in lines),
        cancelled=sum(found.cancelled for _, found in lines),
        collar=names(lambda f: f.collar),
        block_trades=blocks.traded,
        block_legs=sum(found.legs for _, found in lines),
        more=blocks.more or any(found.more for _, found in lines),
    )


def _foresee(engine: Engine, contract: str, area: str, import_w: int, export_w: int) -> Foreseen | None:
    if contract not in engine.contracts:  # settled since the list was made
        return None
    return engine.foresee_capacity(contract, area, import_w, export_w)


def _sum(found: list[Reach]) -> Reach:
    return Reach(sum(one.orders for one in found), sum(one.energy_wh for one in found))


def _lost(found: list[tuple[Reach, Reach]]) -> Reach:
    return Reach(
        sum(max(0, before.orders - after.orders) for before, after in found),
        sum(max(0, before.energy_wh - after.energy_wh) for before, after in found),
    )


def fee(exchange: Exchange, *, area: str) -> FeeEffect:
    """Return from which contract on a new fee of an area's edge would hold. Raise ``KeyError`` on an unknown area."""

    def look(engine: Engine) -> FeeEffect:
        found = engine.areas.areas[engine.areas.index[area]]
        kept = sorted(one.name for one in engine.contracts.values() if one.state == "open")
        first_ms = max(engine.last_opened_ms, engine.at_ms // engine.interval_ms * engine.interval_ms)
        return FeeEffect(
            contract_name(first_ms + engine.interval_ms), len(kept), kept[-1] if kept else "", found.fee_e4
        )

    return exchange.read(look)


def halt(exchange: Exchange, *, scope: str, target: str) -> HaltEffect | None:
    """Return what rests in the scope of a halt; None when there is no such contract, area or account.

    ``target`` is that of ``SetHalt``.
    """

    def look(engine: Engine) -> HaltEffect | None:
        orders = list(engine.orders.values())
        if scope == "contract":
            if target not in engine.contracts:
                return None
            orders = [order for order in orders if order.contract == target]
        elif scope == "account":
            if int(target) >= len(engine.accounts):
                return None
            orders = [order for order in orders if order.account == int(target)]
        elif scope == "area":
            if target not in engine.areas:
                return None
            inside = {engine.areas.index[target]}
            for node in engine.areas.areas:  # parents come before their children
                if node.parent in inside:
                    inside.add(node.index)
            orders = [order for order in orders if engine.accounts[order.account].node in inside]
        return HaltEffect(
            len(orders),
            sum(order.left_wh for order in orders),
            len({order.account for order in orders}),
            len({order.contract for order in orders}),
        )

    return exchange.read(look)
