"""The log that the benches of verification and audit read: a market of 443 areas, made once a run."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from market.engine import commands as c
from market.engine.contracts import contract_name
from market.engine.events import Refused
from tests.load.grid_mix import HOMES_PER_AREA, START_MS, guarded_params, simbench_grid
from tests.market_log import MarketLog

ENTRIES = 200_000
RESTING = 20_000
SEAL_EVERY = 5_000  # entries: half a second at 10,000 orders/s
BATCH = 100  # commands of one instant
INTERVAL_MS = 15 * 60_000
CONTRACTS = 8  # traded in: the third to the tenth interval from the start
SEED = 4


class City:
    """Trades at random in the areas of SimBench: 60 % adds, 25 % cancels, 14 % takers, 1 % complex orders and amends."""

    def __init__(self, seed: int, log: MarketLog | None = None, homes_per_area: int = HOMES_PER_AREA):
        self.draw = random.Random(seed)
        self.log = log = log or MarketLog(START_MS)
        grid = simbench_grid()
        homes = [command.area for command in grid if type(command) is c.SetArea and command.level == "LV"]
        log.found()
        for command in (guarded_params(), *grid, c.SetTariff(3_000, 800)):
            log.do(command)
        count = len(homes) * homes_per_area
        for n in range(count):
            log.do(c.OpenAccount(f"{n:032x}", homes[n % len(homes)], "", f"{n:064x}", ""))
        self.members = [account.index for account in log.engine.accounts if account.kind == "member"]
        for index in self.members:
            log.do(c.Fund(index, min(10**12, 2**52 // count), "opening", ""))  # all together stay within 2^53
        log.due(START_MS)
        self.contracts = [contract_name(START_MS + n * INTERVAL_MS) for n in range(3, 3 + CONTRACTS)]
        self.ids: list[int] = []
        log.seal()

    def order(self, taking: bool) -> Any:
        """Return an order that rests, or takes at any price."""
        draw = self.draw
        side = draw.choice((c.BUY, c.SELL))
        account, contract = draw.choice(self.members), draw.choice(self.contracts)
        if taking:
            price_e4, time_in_force = 3_000 if side == c.BUY else 800, "ioc"
        else:
            price_e4 = draw.randint(800, 1_899) if side == c.BUY else draw.randint(2_000, 3_000)
            time_in_force = "gtg"
        return c.PlaceOrder(account, contract, side, price_e4, draw.randint(100, 5_000), time_in_force, 0)

    def complex(self) -> Any:
        """Return one of the rarer commands."""
        draw = self.draw
        account, n = draw.choice(self.members), draw.randrange(CONTRACTS - 1)
        contract, last = self.contracts[n], self.contracts[n + 1]
        price_e4, energy_wh = draw.randint(800, 1_899), draw.randint(100, 1_000)
        kind = draw.randrange(5)
        if kind == 0:
            return c.PlaceIceberg(account, contract, c.BUY, price_e4, 10 * energy_wh, "gtg", 0, energy_wh)
        if kind == 1:
            return c.PlaceSweep(account, contract, last, c.BUY, 3_000, energy_wh)
        if kind == 2:
            return c.PlaceBlock(account, contract, last, c.BUY, 3_000, energy_wh, "fok", 0)
        if kind == 3:
            legs = (c.Leg(account, contract, c.BUY, 3_000, energy_wh), c.Leg(account, last, c.SELL, 800, energy_wh))
            return c.PlaceBasket(account, legs)
        order = self.open_order()
        return c.AmendOrder(order.account, order.id, -1, order.energy_wh + 100)

    def open_order(self) -> Any:
        """Return a random open order."""
        ids, orders = self.ids, self.log.engine.orders
        while True:
            place = self.draw.randrange(len(ids))
            ids[place], ids[-1] = ids[-1], ids[place]
            order = orders.get(ids.pop())
            if order is not None:
                return order

    def trade(self, entries: int, seal_every: int = SEAL_EVERY) -> None:
        """Go on until the log has so many entries, sealed."""
        log, draw = self.log, self.draw
        apply, engine = log.engine.apply, log.engine
        sealed, commands = engine.seq, 0
        while engine.seq < entries:
            commands += 1
            if commands % BATCH == 0:
                log.at_ms += 10
            chance = draw.random()
            full = len(engine.orders) >= RESTING
            if chance < 0.01:
                command = self.complex()
            elif not full or chance < 0.61:
                command = self.order(False)
            elif chance < 0.86:
                order = self.open_order()
                command = c.CancelOrder(order.account, order.id, "owner")
            else:
                command = self.order(True)
            events = apply(command, log.at_ms)
            if events and not isinstance(events[0], Refused):
                log.keep(events)
                if events[0].seq in engine.orders:
                    self.ids.append(events[0].seq)
            if full and len(engine.orders) > RESTING:
                order = self.open_order()
                log.do(c.CancelOrder(order.account, order.id, "owner"))
            if engine.seq - sealed >= seal_every:
                log.seal()
                sealed = engine.seq
        if engine.seq > sealed:
            log.seal()


@cache
def city_files(entries: int = ENTRIES) -> dict[str, bytes]:
    """Return the files of the city's log."""
    city = City(SEED)
    city.trade(entries)
    return city.log.files()
