"""How many commands the engine does a CPU second, all checks, holds and events on, beside a bare book that has none."""

from __future__ import annotations

import gc
import random
import statistics
import time
from typing import Any

from market.engine import commands as c
from tests.load.bare_book import BareBook
from tests.load.bench import Figure
from tests.load.grid_mix import START_MS, market, one_area, resting_order, taker

RESTING = 100_000
COMMANDS = 50_000
ACCOUNTS = 2_000
RUNS = 5


MV_AREAS = 4
LV_AREAS = 436  # with the rest of the tree 443 areas, as many as the SimBench city has
LV_W, MV_W, HV_W = 400_000, 40_000_000, 900_000_000


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
            found.append(taker(draw, members))
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
