"""How many commands the engine does a CPU second, all checks, holds and events on, beside a bare book that has none."""

from __future__ import annotations

import gc
import random
import statistics
import time
from heapq import heappop, heappush
from typing import Any

from market.engine import commands as c
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.events import Refused
from tests.load.bench import Figure

START_MS = contract_start_ms("2026-06-06T10:00Z")
CONTRACT = "2026-06-06T12:00Z"
RESTING = 100_000
COMMANDS = 50_000
ACCOUNTS = 2_000
RUNS = 5


MV_AREAS = 4
LV_AREAS = 436  # with the rest of the tree 443 areas, as many as the SimBench city has
LV_W, MV_W, HV_W = 400_000, 40_000_000, 900_000_000


def one_area() -> list[Any]:
    """Return the commands that make a grid of one area."""
    return [c.SetArea("LV1", "", "LV")]


def city() -> list[Any]:
    """Return the commands that make a tree of 443 areas on four levels, every edge with a fee and capacities."""
    edges = [(f"HV{n}", "EHV", "HV", HV_W) for n in range(2)]
    edges += [(f"MV{n}", f"HV{n % 2}", "MV", MV_W) for n in range(MV_AREAS)]
    edges += [(f"LV{n}", f"MV{n % MV_AREAS}", "LV", LV_W) for n in range(LV_AREAS)]
    found: list[Any] = [c.SetArea("EHV", "", "EHV")]
    for area, parent, level, power_w in edges:
        found += [
            c.SetArea(area, parent, level),
            c.SetCapacity(area, power_w, power_w, "opening"),
            c.SetFee(area, 100),
        ]
    return found


def market(grid: list[Any], accounts: int) -> tuple[Engine, list[int]]:
    """Return an engine with this grid and so many rich members, spread over its lowest areas."""
    engine = Engine()
    setup: list[Any] = [
        c.Found("bench.example/log", "EUR", 15, "vkey", 1, "0" * 64),
        c.SetParams(40_000, 1, 1_000_000, 1_000_000, 180, 0, 1_000),
        *grid,
        c.SetTariff(3_000, 800),
    ]
    homes = [command.area for command in grid if type(command) is c.SetArea and command.level == "LV"]
    setup += [c.OpenAccount(f"{n:032x}", homes[n % len(homes)], "", "", "") for n in range(accounts)]
    for command in setup:
        answer = engine.apply(command, START_MS)
        assert answer and not isinstance(answer[0], Refused), answer
    members = [account.index for account in engine.accounts if account.kind == "member"]
    for index in members:
        engine.apply(c.Fund(index, 10**12, "opening", ""), START_MS)
    engine.apply(c.OpenContract(CONTRACT), START_MS)
    return engine, members


def resting_order(draw: random.Random, members: list[int]) -> c.PlaceOrder:
    """Return an order that does not cross: bids below 0.19, asks above 0.20."""
    side = draw.choice((c.BUY, c.SELL))
    price_e4 = draw.randint(800, 1_899) if side == c.BUY else draw.randint(2_000, 3_000)
    return c.PlaceOrder(draw.choice(members), CONTRACT, side, price_e4, draw.randint(100, 5_000), "gtg", 0)


def script(draw: random.Random, members: list[int], ids: list[int], count: int) -> list[Any]:
    """Return the mix: 60 % orders that rest, 25 % cancellations, 15 % takers."""
    found: list[Any] = []
    for _ in range(count):
        kind = draw.random()
        if kind < 0.60:
            found.append(resting_order(draw, members))
        elif kind < 0.85:
            found.append(c.CancelOrder(-1, ids.pop(), "owner"))
        else:
            side, price_e4 = draw.choice(((c.BUY, 3_000), (c.SELL, 800)))
            found.append(
                c.PlaceOrder(draw.choice(members), CONTRACT, side, price_e4, draw.randint(100, 5_000), "ioc", 0)
            )
    return found


def engine_rate(grid: list[Any], seed: int) -> float:
    """Return commands a CPU second of one run."""
    draw = random.Random(seed)
    engine, members = market(grid, ACCOUNTS)
    for _ in range(RESTING):
        engine.apply(resting_order(draw, members), START_MS)
    assert len(engine.orders) == RESTING
    ids = list(engine.orders)
    draw.shuffle(ids)
    commands = script(draw, members, ids, COMMANDS)
    apply, events = engine.apply, 0
    gc.collect()
    started = time.process_time()
    for command in commands:
        events += len(apply(command, START_MS))
    spent = time.process_time() - started
    assert events > COMMANDS
    return COMMANDS / spent


class BareBook:
    """Price-time priority and nothing else: no accounts, no checks, no holds, no events."""

    def __init__(self) -> None:
        self.sides: dict[str, list[list[int]]] = {c.BUY: [], c.SELL: []}
        self.orders: dict[int, list[int]] = {}
        self.next = 0

    def place(self, side: str, price_e4: int, energy_wh: int, rests: bool) -> None:
        other = self.sides[c.SELL if side == c.BUY else c.BUY]
        limit = price_e4 if side == c.BUY else -price_e4
        while energy_wh and other:
            best = other[0]
            if not best[2]:
                heappop(other)
                continue
            if best[0] > limit:
                break
            traded = min(energy_wh, best[2])
            best[2] -= traded
            energy_wh -= traded
            if not best[2]:
                heappop(other)
        if energy_wh and rests:
            order = [-limit, self.next, energy_wh]
            self.orders[self.next] = order
            heappush(self.sides[side], order)
        self.next += 1

    def cancel(self, number: int) -> None:
        self.orders.pop(number)[2] = 0


def bare_rate(seed: int) -> float:
    """Return commands a CPU second of the bare book on the same mix."""
    draw = random.Random(seed)
    book, members = BareBook(), [0]
    for _ in range(RESTING):
        order = resting_order(draw, members)
        book.place(order.side, order.price_e4, order.energy_wh, True)
    ids = list(book.orders)
    draw.shuffle(ids)
    commands = script(draw, members, ids, COMMANDS)
    gc.collect()
    started = time.process_time()
    for command in commands:
        if type(command) is c.CancelOrder:
            book.cancel(command.order)
        else:
            book.place(command.side, command.price_e4, command.energy_wh, command.time_in_force == "gtg")
    return COMMANDS / (time.process_time() - started)


def figure(grid: list[Any], text: str) -> Figure:
    """Return the engine's rate on a grid beside the bare book's, runs taken in turn."""
    rates = [(engine_rate(grid, seed), bare_rate(seed)) for seed in range(RUNS)]
    value, reference = (statistics.median(column) for column in zip(*rates, strict=True))
    return Figure(
        value, "commands/CPU s", reference, value / reference,
        f"{text}, median of {RUNS}; 60 % adds, 25 % cancels, 15 % takers on {RESTING:,} resting orders of one contract, "
        "garbage collector on; reference: a bare heap book without accounts, checks, holds, events",
    )  # fmt: skip


def engine_one_area() -> Figure:
    """One area, 100,000 resting orders."""
    return figure(one_area(), "one area")


def engine_443_areas() -> Figure:
    """A city's tree with fees and capacities; the reference knows no areas."""
    return figure(city(), "443 areas with fees and capacities")


BENCHES = {"engine_one_area": engine_one_area, "engine_443_areas": engine_443_areas}
