"""The market that the engine's benchmarks trade in: the areas of SimBench, fees, all guard rails on, one mix of commands.

The mix is 60 % orders that rest, 25 % cancellations of orders that rest, 15 % takers. It comes in chunks, drawn from what
rests just then, and after each the book is brought back to its size: so hardly a command is refused (a cancellation whose
order was taken within the same chunk), and the size a figure is given for is the size it was measured at.
"""

from __future__ import annotations

import csv
import gc
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from market.engine import commands as c
from market.engine.accounts import Params
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.events import Refused, Traded

AREAS = Path(__file__).parent / "data" / "simbench-areas.csv"
START_MS = contract_start_ms("2026-06-06T10:00Z")
CONTRACT = "2026-06-06T12:00Z"
EDGE_FEE_E4 = 100  # 1 ct a kWh and edge
HOMES_PER_AREA = 10
CHUNK = 100  # commands drawn, and timed, at a time
MAX_REFUSED = 0.01  # share of commands
# As the exchange sets the collector (market.exchange.exchange): what it does between two orders is part of an order's time.
COLLECT_AFTER = (50_000, 20, 50)


def guarded_params() -> c.SetParams:
    """Return the limits of the market with every guard rail there is on, none so tight that the mix runs into it."""
    values = {
        "max_price_e4": 40_000,
        "tick_e4": 1,
        "max_order_wh": 1_000_000,
        "max_open_orders": 1_000,
        "horizon_min": 180,
        "lead_min": 0,
        "netting_permille": 1_000,
        "collar_e4": 1_500,
        "collar_period_s": 60,
        "collar_halt_s": 300,
        "throttle_per_min": 300,
        "throttle_burst": 1_000,
        "throttle_credit": 1,
        "connection_import_w": 100_000_000,
        "connection_export_w": 100_000_000,
        "final_after_min": 20_160,
        "sharing_scope": 3,
    }
    left_out = set(Params._fields) - set(values)
    assert not left_out, f"a guard rail the benchmarks leave off: {', '.join(sorted(left_out))}"
    return c.SetParams(**values)


def one_area() -> list[Any]:
    """Return the commands that make a grid of one area."""
    return [c.SetArea("LV1", "", "LV")]


def simbench_grid() -> list[Any]:
    """Return the commands that make the tree of SimBench: a fee on every edge, its capacity both ways."""
    found: list[Any] = []
    with AREAS.open(newline="") as file:
        for row in csv.DictReader(file):
            found.append(c.SetArea(row["area_id"], row["parent_id"], row["level"]))
            if row["parent_id"]:
                power_w = int(row["capacity_kw"]) * 1_000
                found += [
                    c.SetCapacity(row["area_id"], power_w, power_w, "opening"),
                    c.SetFee(row["area_id"], EDGE_FEE_E4),
                ]
    return found


def market(grid: list[Any], accounts: int) -> tuple[Engine, list[int]]:
    """Return an engine with this grid and so many rich members, spread over its lowest areas, each at its connection."""
    engine = Engine()
    setup: list[Any] = [c.Found("bench.example/log", "EUR", 15, "vkey", 1, "0" * 64), guarded_params(), *grid]
    setup.append(c.SetTariff(3_000, 800))
    homes = [command.area for command in grid if type(command) is c.SetArea and command.level == "LV"]
    setup += [c.OpenAccount(f"{n:032x}", homes[n % len(homes)], "", f"{n:064x}", "") for n in range(accounts)]
    for command in setup:
        answer = engine.apply(command, START_MS)
        assert answer and not isinstance(answer[0], Refused), answer
    members = [account.index for account in engine.accounts if account.kind == "member"]
    for index in members:
        engine.apply(c.Fund(index, 10**12, "opening", ""), START_MS)
    engine.apply(c.OpenContract(CONTRACT), START_MS)
    return engine, members


def resting_order(draw: random.Random, members: list[int], step_e4: int = 1) -> c.PlaceOrder:
    """Return an order that does not cross: bids below 0.19, asks from 0.20, at multiples of a step."""
    side = draw.choice((c.BUY, c.SELL))
    price_e4 = draw.randint(800, 1_899) if side == c.BUY else draw.randint(2_000, 3_000)
    price_e4 -= price_e4 % step_e4
    return c.PlaceOrder(draw.choice(members), CONTRACT, side, price_e4, draw.randint(100, 5_000), "gtg", 0)


def taker(draw: random.Random, members: list[int]) -> c.PlaceOrder:
    """Return an order that takes at any price, as much as a resting order has."""
    side, price_e4 = draw.choice(((c.BUY, 3_000), (c.SELL, 800)))
    return c.PlaceOrder(draw.choice(members), CONTRACT, side, price_e4, draw.randint(100, 5_000), "ioc", 0)


@contextmanager
def exchange_collector() -> Iterator[None]:
    """Let the garbage collector run as the exchange sets it at its start."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Mix:
    """The mix on one engine, at ``resting`` orders; a millisecond of market time passes with each command."""

    def __init__(self, seed: int, resting: int, grid: list[Any] | None = None, step_e4: int = 1):
        self.draw = random.Random(seed)
        grid = simbench_grid() if grid is None else grid
        lowest = sum(type(command) is c.SetArea and command.level == "LV" for command in grid)
        self.engine, self.members = market(grid, max(lowest * HOMES_PER_AREA, 2_000))
        self.resting = resting
        self.step_e4 = step_e4
        self.at_ms = START_MS
        self.ids: list[int] = []  # orders that rest, and some that have been filled
        for _ in range(resting):
            self.at_ms += 1
            answer = self.engine.apply(resting_order(self.draw, self.members, self.step_e4), self.at_ms)
            assert len(answer) == 1 and not isinstance(answer[0], Refused), answer
        self.note_new(0)

    def note_new(self, first: int) -> None:
        """Make the orders that came to rest since sequence ``first`` known."""
        for id in reversed(self.engine.orders):
            if id < first:
                return
            self.ids.append(id)

    def cancellation(self) -> c.CancelOrder:
        """Return the cancellation of a random resting order by its owner."""
        ids, orders = self.ids, self.engine.orders
        while True:
            place = self.draw.randrange(len(ids))
            ids[place], ids[-1] = ids[-1], ids[place]
            order = orders.get(ids.pop())
            if order is not None:
                return c.CancelOrder(order.account, order.id, "owner")

    def chunk(self) -> list[Any]:
        """Return the next commands; apply them all, then call ``trim``."""
        found: list[Any] = []
        for _ in range(CHUNK):
            kind = self.draw.random()
            if kind < 0.60:
                found.append(resting_order(self.draw, self.members, self.step_e4))
            elif kind < 0.85:
                found.append(self.cancellation())
            else:
                found.append(taker(self.draw, self.members))
        return found

    def trim(self, first: int) -> list[Any]:
        """Bring the book back to its size and return the commands that did; ``first`` is the sequence before the chunk."""
        self.note_new(first)
        found: list[Any] = []
        while len(self.engine.orders) > self.resting:
            found.append(self.cancellation())
            self.engine.apply(found[-1], self.at_ms)
        while len(self.engine.orders) < self.resting:
            first = self.engine.seq
            found.append(resting_order(self.draw, self.members, self.step_e4))
            self.engine.apply(found[-1], self.at_ms)
            self.note_new(first)
        return found

    def seconds(self, chunks: int) -> float:
        """Apply so many chunks and return the CPU seconds of their commands."""
        apply, spent, refused = self.engine.apply, 0.0, 0
        for _ in range(chunks):
            commands, first, at_ms, events = self.chunk(), self.engine.seq, self.at_ms, 0
            started = time.process_time()
            for command in commands:
                at_ms += 1
                events += len(apply(command, at_ms))
            spent += time.process_time() - started
            refused += events - (self.engine.seq - first)  # a refusal is the one event without a number
            self.at_ms = at_ms
            self.trim(first)
        assert refused <= MAX_REFUSED * chunks * CHUNK, refused
        return spent

    def recorded(self, chunks: int) -> tuple[list[tuple[list[Any], list[Any]]], list[Traded]]:
        """Apply so many chunks; return each with the commands that brought the book back, and all trades."""
        steps: list[tuple[list[Any], list[Any]]] = []
        trades: list[Traded] = []
        for _ in range(chunks):
            commands, first = self.chunk(), self.engine.seq
            for command in commands:
                self.at_ms += 1
                answer = self.engine.apply(command, self.at_ms)
                trades += [event for event in answer if type(event) is Traded]
            steps.append((commands, self.trim(first)))
        return steps, trades
