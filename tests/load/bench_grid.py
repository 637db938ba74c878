"""One book for the whole grid: how many commands a CPU second, how that holds as the book grows, what a view costs.

Beside it, in the same run: the scan (``scan_book.py``), Python order books from PyPI (``peers.py``) and a bare heap book.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from market.engine import commands as c
from tests.load import peers
from tests.load.bare_book import BareBook
from tests.load.bench import Figure, Peer
from tests.load.grid_mix import CHUNK, CONTRACT, Mix, exchange_collector, one_area, simbench_grid
from tests.load.scan_book import ScanBook

ROOT = Path(__file__).resolve().parents[2]
RUNS = 5
RESTING = 20_000
CHUNKS = 400  # of the engine, a run
SCAN_CHUNKS = 20
NARROW = 50  # part of the capacities at which about a quarter of the edges fill up
SIZES = (1_000, 10_000, 100_000, 1_000_000)
GROWTH_CHUNKS = 200
LEVELS = 10
VIEWS = 3  # of each area; the median counts
SCAN_VIEWS = 20  # every so many-th area
COARSE_E4 = 100  # whole cents


def narrow_grid() -> list[Any]:
    """Return the grid with a fraction of its capacities."""
    return [
        command._replace(import_w=command.import_w // NARROW, export_w=command.export_w // NARROW)
        if type(command) is c.SetCapacity
        else command
        for command in simbench_grid()
    ]


def full_edges(mix: Mix) -> int:
    """Return how many edges are full, each direction counted."""
    flows = mix.engine.flows(CONTRACT).values()
    return sum((flow.import_residual_wh <= 0) + (flow.export_residual_wh <= 0) for flow in flows)


def scan_rate(seed: int, grid: list[Any] | None = None) -> float:
    """Return the scan's commands a CPU second, its trades compared with the engine's."""
    mix = Mix(seed, RESTING, grid)
    scan = ScanBook(mix.engine, CONTRACT)
    steps, trades = mix.recorded(SCAN_CHUNKS)
    spent = 0.0
    for commands, trim in steps:
        started = time.process_time()
        for command in commands:
            scan.apply(command)
        spent += time.process_time() - started
        for command in trim:
            scan.apply(command)
    expected = [(t.seq, t.maker, t.taker, t.energy_wh, t.buy_e4, t.sell_e4) for t in trades]
    assert expected and scan.trades == expected, "the scan and the engine trade differently"
    return SCAN_CHUNKS * CHUNK / spent


def bare_rate(seed: int) -> float:
    """Return the bare book's commands a CPU second on a peer's script."""
    wanted = peers.script(seed, RESTING, CHUNKS * CHUNK)
    book, spent = BareBook(), 0.0

    def play(steps: list[list[Any]]) -> None:
        for kind, number, side, price_e4, energy_wh in steps:
            if kind == "cancel":
                book.cancel(number)
            else:
                book.place(side, price_e4, energy_wh, kind == "add")

    play(wanted["resting"])
    for commands, trim in wanted["chunks"]:
        started = time.process_time()
        play(commands)
        spent += time.process_time() - started
        play(trim)
    assert book.traded_wh == wanted["traded_wh"]
    return CHUNKS * CHUNK / spent


def peer_row(name: str, value: float, rates: list[float | str], note: str) -> Peer:
    """Return the median of a peer's rates, or why it has none."""
    for problem in rates:
        if isinstance(problem, str):
            return Peer(name, None, None, problem)
    median = statistics.median(rates)  # type: ignore[type-var]
    return Peer(name, median, value / median, note)


@exchange_collector()
def engine_grid() -> Figure:
    """The mix on 20,000 resting orders in the areas of SimBench; runs of everybody taken in turn."""
    missing = peers.provide()
    wide: list[float] = []
    narrow: list[float] = []
    alone: list[float | str] = []
    scan: list[float] = []
    bare: list[float | str] = []
    others: dict[str, list[float | str]] = {name: [] for name in peers.PEERS}
    full = 0
    for seed in range(RUNS):
        wide.append(CHUNKS * CHUNK / Mix(seed, RESTING).seconds(CHUNKS))
        tight = Mix(seed, RESTING, narrow_grid())
        narrow.append(CHUNKS * CHUNK / tight.seconds(CHUNKS))
        full = full_edges(tight)
        alone.append(CHUNKS * CHUNK / Mix(seed, RESTING, one_area()).seconds(CHUNKS))
        scan.append(scan_rate(seed))
        scan_rate(seed, narrow_grid())  # for the comparison: here edges fill and open
        bare.append(bare_rate(seed))
        for name, rates in others.items():
            rates.append(missing.get(name) or peers.rate(name, seed))
    value, reference = statistics.median(wide), statistics.median(scan)
    rows = [
        peer_row(name, value, rates, f"one area, {size.resting:,} resting orders, {size.commands:,} commands")
        for (name, size), rates in zip(peers.PEERS.items(), others.values(), strict=True)
    ]
    rows.append(peer_row("this engine in one area", value, alone, "all checks, holds and events on"))
    rows.append(
        peer_row("bare heap book", value, bare, f"one area, {RESTING:,} resting orders, {CHUNKS * CHUNK:,} commands")
    )
    areas = sum(type(command) is c.SetArea for command in simbench_grid())
    return Figure(
        value, "commands/CPU s", reference, value / reference,
        f"{areas} areas of SimBench, {RESTING:,} resting orders of one contract, 60 % adds, 25 % cancels, 15 % takers, "
        f"median of {RUNS} (lowest {min(wide):,.0f}); with 1/{NARROW} of the capacities, {full} of {2 * (areas - 1)} edge "
        f"directions full: {statistics.median(narrow):,.0f}; reference: the scan over all areas, same trades. Peers have no "
        "accounts, checks, holds, fees, areas, events",
        tuple(rows),
    )  # fmt: skip


def grown(size: int, seed: int, alone: bool) -> float:
    """Return microseconds a command on a book of this size, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.load.growth_child", str(size), str(seed), str(GROWTH_CHUNKS)]
    run = subprocess.run(command + ["one-area"] * alone, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr.strip().splitlines()[-1])
    return float(json.loads(run.stdout)["us"])


def engine_growth() -> Figure:
    """Time a command as the book grows from 1,000 to 1,000,000 resting orders; the worse of city and one area."""
    times: dict[tuple[bool, int], list[float]] = {}
    for seed in range(RUNS):
        for alone in (False, True):
            for size in SIZES:
                times.setdefault((alone, size), []).append(grown(size, seed, alone))
    medians = {key: statistics.median(found) for key, found in times.items()}
    ratios = {alone: medians[alone, SIZES[-1]] / medians[alone, SIZES[0]] for alone in (False, True)}
    worse = max(ratios, key=lambda alone: ratios[alone])

    def row(alone: bool) -> str:
        return " / ".join(f"{medians[alone, size]:.2f}" for size in SIZES)

    return Figure(
        ratios[worse], "x from 1,000 orders", 2.5, ratios[worse] / 2.5,
        f"CPU time a command at {' / '.join(f'{size:,}' for size in SIZES)} resting orders of one contract, median of {RUNS}: "
        f"{row(False)} us in the areas of SimBench ({ratios[False]:.2f}x), {row(True)} us in one area ({ratios[True]:.2f}x); "
        "the worse counts; a process each, collector as the exchange sets it; reference: the most allowed",
    )  # fmt: skip


def milliseconds(view: Callable[[], object]) -> float:
    """Return the CPU time of a view, median of a few."""
    found = []
    for _ in range(VIEWS):
        started = time.process_time()
        view()
        found.append((time.process_time() - started) * 1_000)
    return statistics.median(found)


def views(mix: Mix) -> list[float]:
    """Return the time of a view of each area."""
    return [milliseconds(lambda n=area.name: mix.engine.depth(n, CONTRACT, LEVELS)) for area in mix.engine.grid.areas]


def scan_views(mix: Mix) -> list[float]:
    """Return the time of some areas' views by the scan, compared with the engine's."""
    scan = ScanBook(mix.engine, CONTRACT)
    found = []
    for area in mix.engine.grid.areas[::SCAN_VIEWS]:
        bids, asks = mix.engine.depth(area.name, CONTRACT, LEVELS)
        started = time.process_time()
        seen = [scan.depth(area.index, is_buy, LEVELS) for is_buy in (False, True)]
        found.append((time.process_time() - started) * 1_000)
        assert seen == [[level[:2] for level in side] for side in (bids, asks)], "scan and engine show different depth"
    return found


@exchange_collector()
def view_ms() -> Figure:
    """A view of ten levels of one area, both sides, after the mix has traded for a while."""
    medians, worst, tight, coarse, scan = [], [], [], [], []
    for seed in range(RUNS):
        mix = Mix(seed, RESTING)
        mix.seconds(CHUNKS // 2)
        times = views(mix)
        medians.append(statistics.median(times))
        worst.append(max(times))
        scan.append(statistics.median(scan_views(mix)))
        mix = Mix(seed, RESTING, narrow_grid())
        mix.seconds(CHUNKS // 2)
        tight.append(statistics.median(views(mix)))
        scan_views(mix)  # for the comparison
        mix = Mix(seed, RESTING, step_e4=COARSE_E4)
        mix.seconds(CHUNKS // 2)
        coarse.append(statistics.median(views(mix)))
    value, reference = statistics.median(medians), statistics.median(scan)
    return Figure(
        value, "ms CPU", reference, value / reference,
        f"{LEVELS} levels, both sides, of each of {len(times)} areas, {RESTING:,} resting orders at prices of 0.01 ct, "
        f"median of {RUNS} runs; slowest area {statistics.median(worst):.2f}; with 1/{NARROW} of the capacities "
        f"{statistics.median(tight):.2f}; at prices of whole cents "
        f"{statistics.median(coarse):.2f}; reference: all orders sorted for each view, same levels",
    )  # fmt: skip


BENCHES = {"engine_grid": engine_grid, "engine_growth": engine_growth, "view_ms": view_ms}
