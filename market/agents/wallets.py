"""How accounts stand in the market: what their agent has in the book, and what is left for it to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from market.agents.strategies.limits import Purse, Room
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


NOTHING = Standing(0, -1, "", 0, 0, 0)


def wallets_of(
    engine: Engine,
    accounts: Iterable[int],
    standing: dict[tuple[int, str], Standing],
    contracts: Iterable[str],
) -> dict[int, Wallet]:
    """Return what persons' accounts can do now; a halted one is left out: it could not do anything."""
    found: dict[int, Wallet] = {}
    for index in accounts:
        account = engine.accounts[index]
        if account.halted:
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
