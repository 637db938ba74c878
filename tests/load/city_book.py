"""A city's week of surplus and deficit as orders: isolated area books beside one book for the whole grid.

    python -m tests.load.city_book --city FOLDER --week DATE [--json FILE] [--markdown]

FOLDER is a city in the CSV form of ``market/simulator/data``: areas.csv, homes.csv, profiles-DATE.csv. In every 15-minute
interval each home places one good-till-gate order: it sells its surplus (generation less consumption; batteries rest) or
buys its deficit, at a limit drawn from the seed, uniform between a spill price of 8 and a top-up price of 30 ct/kWh in steps
of 0.01 ct; the orders arrive in random order. Whatever edge of the grid a trade's path uses, up or down, costs the fee. The
same orders go through the product's engine four times:

* ``isolated``: no edge carries anything, so orders meet within their own area;
* ``one_book``: every edge carries everything;
* ``one_book_with_capacity``: an edge carries ``capacity_kw`` of the file, in either direction;
* ``one_book_with_quarter_capacity``: a quarter of that.

Figures, sums over all intervals:

* ``energy_wh``: traded.
* ``welfare_share``: welfare, the sum of (buyer's limit - seller's limit - path's fees) * energy over the trades, as a share
  of the most that these orders could gain (``tests.load.optimum``): for the first two without capacities, for the other
  two under their own.
* ``self_sufficiency``: the part of the homes' consumption that was covered by their own generation at the same moment or
  bought in a trade; ``self_sufficiency_without_market`` is the first alone.
* ``edges_exceeded``: edges, directions and intervals whose net flow at the gate, added up from the trades, is above the
  capacity. ``edges_full``: those with less than 1 Wh of it left. The first two scenarios are held against the file's
  capacities: ``edges_exceeded`` of ``one_book`` is what the wires could not have carried.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from market.simulator.neighbourhood import STEP_MIN, City, CityError, load_city
from tests.load.city_market import TOPUP_E4, UNLIMITED_W, AccountingError, CityMarket, Judge, Needs, Tree, edges_at
from tests.load.optimum import optimum_e7

FEE_E4 = 100
INTERVALS_A_MARKET = 16  # in one engine: its closed contracts keep their tallies, so memory grows with them
MAX_PROCESSES = 64
COLUMNS = {
    "areas.csv": ("area_id", "parent_id", "level", "capacity_kw"),
    "homes.csv": ("home_id", "area_id", "load_profiles", "pv_profile", "pv_kw", "battery_kwh", "battery_kw"),
}


class Scenario(NamedTuple):
    """How much of the file's capacity the market may use, and what its welfare and its flows are held against.

    A part of 0 is nothing, ``None`` everything.
    """

    name: str
    title: str
    market: tuple[int, int] | None  # numerator, denominator
    measure: tuple[int, int] | None  # of the optimum
    judged: tuple[int, int]  # what counts as exceeded and full


WHOLE, QUARTER = (1, 1), (1, 4)
SCENARIOS = (
    Scenario("isolated", "isolated area books", (0, 1), None, WHOLE),
    Scenario("one_book", "one book, no capacities", None, None, WHOLE),
    Scenario("one_book_with_capacity", "one book, the file's capacities", WHOLE, WHOLE, WHOLE),
    Scenario("one_book_with_quarter_capacity", "one book, a quarter of them", QUARTER, QUARTER, QUARTER),
)


class Sums(NamedTuple):
    """Sums of one scenario over intervals."""

    intervals: int = 0
    orders: int = 0
    trades: int = 0
    energy_wh: int = 0
    welfare_e7: int = 0
    optimum_e7: int = 0
    fees_e7: int = 0
    used_wh: int = 0
    own_wh: int = 0
    edges_exceeded: int = 0
    edges_full: int = 0

    def plus(self, other: Sums) -> Sums:
        """Return both together."""
        return Sums(*(mine + its for mine, its in zip(self, other, strict=True)))

    def figures(self) -> dict[str, Any]:
        """Return what goes into the JSON file; shares are rounded to six places."""
        return {
            "energy_wh": self.energy_wh,
            "welfare_share": _share(self.welfare_e7, self.optimum_e7),
            "self_sufficiency": _share(self.own_wh + self.energy_wh, self.used_wh),
            "edges_exceeded": self.edges_exceeded,
            "edges_full": self.edges_full,
            "self_sufficiency_without_market": _share(self.own_wh, self.used_wh),
            "welfare_e7": self.welfare_e7,
            "optimum_e7": self.optimum_e7,
            "fees_e7": self.fees_e7,
            "used_wh": self.used_wh,
            "orders": self.orders,
            "trades": self.trades,
            "intervals": self.intervals,
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def capacities_w(tree: Tree, part: tuple[int, int] | None) -> list[int]:
    """Return what every edge can carry when it may use this part of its capacity, in W, rounded down."""
    if part is None:
        return [UNLIMITED_W] * len(tree.names)
    return [power_w * part[0] // part[1] for power_w in tree.capacity_w]


def energies_wh(powers_w: Iterable[int]) -> list[int]:
    """Return what powers carry in one interval, rounded down as the rulebook does."""
    return [power_w * STEP_MIN // 60 for power_w in powers_w]


def run_intervals(city: City, steps: Sequence[int], seed: int, fee_e4: int) -> dict[str, Sums]:
    """Replay some steps of the week, in order, through all scenarios; raise ``AccountingError``, ``CityError``."""
    tree = Tree.of(city)
    needs = Needs(city, tree)
    intervals = [needs.interval(step, seed) for step in steps]
    wallets_e7 = [TOPUP_E4 * sum(map(abs, net_wh)) for net_wh in zip(*(i.net_wh for i in intervals), strict=True)]
    markets = {}
    for scenario in SCENARIOS:
        powers_w = capacities_w(tree, scenario.market)
        market = markets[scenario.name] = CityMarket(tree, needs.areas, powers_w, fee_e4, intervals[0].start_ms)
        market.fund(wallets_e7)
    judge = Judge(tree, fee_e4, market.accounts)  # a home has the same account in all of them
    fees_e4 = [fee_e4] * len(tree.names)
    sums = {scenario.name: Sums() for scenario in SCENARIOS}
    for interval in intervals:
        best_e7: dict[tuple[int, int] | None, int] = {}
        for scenario in SCENARIOS:
            if scenario.measure not in best_e7:
                limits_wh = energies_wh(capacities_w(tree, scenario.measure))
                best_e7[scenario.measure] = optimum_e7(tree.parents, fees_e4, limits_wh, limits_wh, interval.offers())
            market = markets[scenario.name]
            trades = market.trade(interval)
            outcome = judge.judge(interval, trades)
            market.check(interval, outcome)
            if outcome.welfare_e7 > best_e7[scenario.measure]:
                raise AccountingError(f"{interval.name}: {scenario.name} gains more than the orders can give")
            exceeded, full = edges_at(outcome.flows_wh, energies_wh(capacities_w(tree, scenario.judged)))
            sums[scenario.name] = sums[scenario.name].plus(
                Sums(
                    1, len(interval.arrivals), len(trades), outcome.energy_wh, outcome.welfare_e7,
                    best_e7[scenario.measure], outcome.fees_e7, interval.used_wh, interval.own_wh, exceeded, full,
                )
            )  # fmt: skip
    return sums


def sample(steps: int, wanted: int, seed: int) -> list[int]:
    """Return so many steps spread over the week: one drawn from each of as many equal stretches."""
    if not 0 < wanted < steps:
        return list(range(steps))
    draw = random.Random(f"sample/{seed}")
    return [draw.randrange(i * steps // wanted, (i + 1) * steps // wanted) for i in range(wanted)]


def run(city: City, steps: Sequence[int], seed: int, fee_e4: int, processes: int) -> dict[str, Sums]:
    """Replay steps in parts, several processes at a time; the sums do not depend on how many."""
    parts = -(-len(steps) // INTERVALS_A_MARKET)
    parts = min(len(steps), -(-max(parts, processes) // processes) * processes)
    chunks = [steps[i::parts] for i in range(parts)]  # each with hours of the day and of the night
    sums = {scenario.name: Sums() for scenario in SCENARIOS}

    def add(found: dict[str, Sums]) -> None:
        for name, more in found.items():
            sums[name] = sums[name].plus(more)
        _progress(sums[SCENARIOS[0].name].intervals, len(steps))

    if processes == 1:
        for chunk in chunks:
            add(run_intervals(city, chunk, seed, fee_e4))
        return sums
    with ProcessPoolExecutor(processes, initializer=_remember, initargs=(city,)) as pool:
        jobs = [pool.submit(_run_remembered, chunk, seed, fee_e4) for chunk in chunks]
        try:
            for job in as_completed(jobs):
                add(job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sums


_remembered: list[City] = []  # of a worker process


def _remember(city: City) -> None:
    _remembered[:] = [city]


def _run_remembered(steps: Sequence[int], seed: int, fee_e4: int) -> dict[str, Sums]:
    return run_intervals(_remembered[0], steps, seed, fee_e4)


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of} intervals", end="\n" if done == of else "", file=sys.stderr, flush=True)


# --- input and output --------------------------------------------------------------------------------------------------


def read_city(folder: Path, week: str) -> City:
    """Return the city; raise ``CityError`` with one line on files, columns or areas that are not there."""
    rows = 0
    for name, columns in {**COLUMNS, f"profiles-{week}.csv": ("time",)}.items():
        try:
            with (folder / name).open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                missing = [column for column in columns if column not in (reader.fieldnames or ())]
                rows = sum(1 for _ in reader) if name == "homes.csv" else rows
        except OSError as error:
            weeks = sorted(path.stem.removeprefix("profiles-") for path in folder.glob("profiles-*.csv"))
            known = f" (weeks there: {', '.join(weeks)})" if name.startswith("profiles-") and weeks else ""
            raise CityError(f"{folder / name}: {error.strerror}{known}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise CityError(f"{folder / name}: {error}") from None
        if missing:
            raise CityError(f"{name}: expected the columns {', '.join(columns)}, {', '.join(missing)} missing")
    city = load_city(folder, week=week)
    if len(city.homes) != rows:
        raise CityError(f"homes.csv: expected areas of areas.csv, {rows - len(city.homes)} homes lie elsewhere")
    tree = Tree.of(city)
    CityMarket(tree, [], capacities_w(tree, WHOLE), 0, int(1e12))  # refuses what is no grid to it
    return city


def table(sums: dict[str, Sums], markdown: bool) -> str:
    """Return the figures as a table, plain or in markdown."""
    base = sums[SCENARIOS[0].name].energy_wh
    head = [
        "scenario", "energy traded, MWh", "× isolated", "welfare, share of optimum", "optimum with",
        "self-sufficiency", "edges exceeded", "edges full", "trades", "grid fees",
    ]  # fmt: skip
    rows = []
    for scenario in SCENARIOS:
        found = sums[scenario.name]
        figures = found.figures()
        rows.append(
            [
                scenario.title,
                f"{found.energy_wh / 1e6:,.{1 if base >= 10**8 else 3}f}",
                f"{_share(found.energy_wh, base):.2f}",
                f"{figures['welfare_share']:.1%}",
                "no capacities" if scenario.measure is None else "the same capacities",
                f"{figures['self_sufficiency']:.1%}",
                f"{found.edges_exceeded:,}",
                f"{found.edges_full:,}",
                f"{found.trades:,}",
                f"{found.fees_e7 / 1e7:,.0f}",
            ]
        )
    without = f"{_share(sums[SCENARIOS[0].name].own_wh, sums[SCENARIOS[0].name].used_wh):.1%}"
    rows.append(["no market", "0.0", "0.00", "", "", without, "0", "0", "0", "0"])
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(widths[i]) for i, cell in enumerate(line)).rstrip() for line in [head, *rows])


def _fee_e4(text: str) -> int:
    """Return a fee in 0.0001 currency of a text in cents."""
    try:
        fee_e4 = Decimal(text) * 100
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"expected ct/kWh, was {text!r}") from None
    if not fee_e4.is_finite() or not 0 <= fee_e4 <= TOPUP_E4 or fee_e4 != int(fee_e4):
        raise argparse.ArgumentTypeError(f"expected 0 to {TOPUP_E4 // 100} ct/kWh in steps of 0.01, was {text!r}")
    return int(fee_e4)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"expected a number from 1, was {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 2: bad input, 1: the accounts of a market do not agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.city_book", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--city", type=Path, required=True, help="folder with areas.csv, homes.csv, profiles-DATE.csv")
    parser.add_argument("--week", required=True, help="DATE of profiles-DATE.csv")
    parser.add_argument("--seed", type=int, default=1, help="of limits and arrivals (default 1)")
    parser.add_argument("--fee", type=_fee_e4, default=FEE_E4, help="ct/kWh for each edge of a path (default 1)")
    parser.add_argument("--intervals", type=_count, default=0, help="only so many, spread over the week")
    parser.add_argument("--processes", type=_count, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", action="store_true", help="print the table in markdown")
    options = parser.parse_args(arguments)
    began_s = time.monotonic()
    try:
        if options.json and not options.json.parent.is_dir():
            raise CityError(f"{options.json.parent}: expected a folder")  # said now, not after the run
        city = read_city(options.city, options.week)
        steps = sample(city.profiles.steps, options.intervals, options.seed)
        sums = run(city, steps, options.seed, options.fee, min(options.processes, MAX_PROCESSES))
        if options.json:
            figures = {name: found.figures() for name, found in sums.items()}
            options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except (CityError, OSError) as error:
        print(f"city_book: {error}", file=sys.stderr)
        return 2
    except AccountingError as error:
        print(f"city_book: {error}", file=sys.stderr)
        return 1
    print(table(sums, options.markdown))
    print(
        f"\n{len(city.homes):,} homes, {len(city.areas)} areas, {len(steps)} of {city.profiles.steps} intervals, "
        f"{sums[SCENARIOS[0].name].orders:,} orders a scenario, fee {options.fee / 100:g} ct/kWh an edge, seed "
        f"{options.seed}; {time.monotonic() - began_s:,.0f} s",
        file=sys.stderr if options.markdown else sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
