"""What agents see of the market in one look: prices, how accounts stand, and what is left for their agents to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from market.agents.strategies.limits import Limits, Purse, Room
from market.agents.turns import AgentHome
from market.engine.commands import BUY, SELL
from market.engine.engine import Engine


class Standing(NamedTuple):
    """How one home stands in one contract."""

    position_wh: int
    order: int  # id of its resting order, -1 = none
    side: str
    price_e4: int
    filled_wh: int
    remaining_wh: int


class Wallet(NamedTuple):
    """What a person's account can do now: its money, and its room by contract, the agent's own orders left out."""

    purse: Purse
    rooms: dict[str, Room]


class Best(NamedTuple):
    """Best all-in prices of a contract seen from an area, 0 = none."""

    bid_e4: int
    ask_e4: int


class Terms(NamedTuple):
    """A contract's prices and the market's tick."""

    topup_e4: int
    spill_e4: int
    tick_e4: int
    max_order_wh: int
    best: dict[str, Best]  # by area
    halted: frozenset[str]  # areas in which nobody may trade now


NO_BEST = Best(0, 0)
NOTHING = Standing(0, -1, "", 0, 0, 0)

Orders = Mapping[str, Mapping[int, int]]  # contract -> account -> resting order of its agent


def terms_of(engine: Engine, contracts: Iterable[str], homes: Sequence[AgentHome]) -> dict[str, Terms]:
    """Return the terms of those of the contracts in which anybody may trade now."""
    terms: dict[str, Terms] = {}
    tick_e4, max_order_wh = engine.params.tick_e4, engine.params.max_order_wh
    areas = {home.area for home in homes}
    halted = frozenset(area.name for area in engine.grid.areas if area.halted_above)
    for name in contracts:
        contract = engine.contracts.get(name)
        if contract is None or contract.state != "open" or contract.halted or engine.halted:
            continue  # asking would only be refused, and each refusal is kept for the regulator
        best = {area: Best(*(price or 0 for price in engine.best(area, name))) for area in areas}
        terms[name] = Terms(contract.topup_e4, contract.spill_e4, tick_e4, max_order_wh, best, halted)
    return terms


def standing_of(
    engine: Engine, contracts: Iterable[str], homes: Sequence[AgentHome], orders: Orders
) -> dict[tuple[int, str], Standing]:
    """Return how homes stand in contracts; who has neither traded nor an order there is left out."""
    standing: dict[tuple[int, str], Standing] = {}
    for name in contracts:
        tallies, resting = engine.contracts[name].tallies, orders.get(name, {})
        for account in (home.account for home in homes):
            tally = tallies.get(account)
            order = engine.orders.get(resting.get(account, -1))
            if tally is None and order is None:
                continue
            position = 0 if tally is None else tally.bought_wh - tally.sold_wh
            if order is None:
                standing[account, name] = Standing(position, -1, "", 0, 0, 0)
            else:
                standing[account, name] = Standing(
                    position, order.id, order.side, order.price_e4, order.filled_wh, order.remaining_wh
                )
    return standing


def wallets_of(
    engine: Engine,
    accounts: Iterable[int],
    standing: dict[tuple[int, str], Standing],
    contracts: Iterable[str],
) -> dict[int, Wallet]:
    """Return what persons' accounts can do now; left out is who can do nothing: halted, closed, or signing its orders."""
    found: dict[int, Wallet] = {}
    for index in accounts:
        account = engine.accounts[index]
        if account.halted or account.closed or account.key:
            continue
        rooms: dict[str, Room] = {}
        for name in contracts:
            exposure = engine.contracts[name].exposures.get(account.slot)
            buys_wh, sells_wh = (0, 0) if exposure is None else (exposure.buy_wh, exposure.sell_wh)
            stands = standing.get((index, name), NOTHING)
            if stands.order >= 0:  # makes way for the next one
                buys_wh -= stands.remaining_wh if stands.side == BUY else 0
                sells_wh -= stands.remaining_wh if stands.side == SELL else 0
            rooms[name] = Room(account.import_wh - buys_wh, account.export_wh - sells_wh)
        for order in (engine.orders[id] for id in account.open_ids):
            agents = standing.get((index, order.contract), NOTHING).order == order.id
            if agents or order.contract not in rooms or (order.complex is not None and order.complex.asleep):
                continue
            room = rooms[order.contract]
            if order.is_buy:
                rooms[order.contract] = room._replace(own_buys_wh=room.own_buys_wh + order.left_wh)
            else:
                rooms[order.contract] = room._replace(own_sells_wh=room.own_sells_wh + order.left_wh)
        found[index] = Wallet(Purse(account.free_e7, account.arrears_e7 > 0), rooms)
    return found


def breaking(engine: Engine, orders: Orders, limits: Mapping[int, Limits | None]) -> list[tuple[int, int, str]]:
    """Return account, order and contract of agents' resting orders that break the limits; None: any order does."""
    found: list[tuple[int, int, str]] = []
    for contract, resting in orders.items():
        for account, bounds in limits.items():
            order = engine.orders.get(resting.get(account, -1))
            if order is not None and (bounds is None or not bounds.allow(order.side, order.price_e4)):
                found.append((account, order.id, contract))
    return found


def still_open(engine: Engine, orders: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of the orders (account, id) that are in the book."""
    return [one for one in orders if one[1] in engine.orders]


def money_of(engine: Engine, accounts: Iterable[int]) -> dict[int, int]:
    """Return what accounts have, set aside or not, less what they owe, in money_e7."""
    return {index: engine.accounts[index].net_e7 for index in accounts}
