"""`make dirty-week DAYS=7`: a SimBench week whose readings go missing, come late, wrong, twice or never; what becomes of it.

The demo's neighbourhood (108 homes, a week of June) lives three times: once clean, twice with the same orders and the same
dirt in two orders of arrival. It fails unless

* the two dirty lives end in the same rows, daily statements and balances, and in the clean life's wherever the true values
  arrived;
* every estimate is what the home's own final readings, or its profile, said when it was made: final by the ledger's entries;
* all balances sum to zero after every call that settles, corrects, shares out or ends;
* every home is settled by each of its values within ``waiting.DEADLINE_MS`` of that value's own arrival, or of the interval's
  end, whatever other homes' meters do, and every area within it after delivery;
* the ledger of each life passes ``market.audit``, and its books ``check_books``.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.load import dirty_plan
from tests.load.dirty_plan import Place, Result, Script

if TYPE_CHECKING:
    from tests.load.dirty_life import Scenario

ROOT = Path(__file__).resolve().parents[2]
CLEAN, DIRTY = "clean", ("A", "B")
DAYS = 7
# Two days instead of the usual fourteen: within a week some estimates lean on days that are final.
FINAL_AFTER_MIN = 2 * 24 * 60
LONGEST_MS = 40 * dirty_plan.HOUR_MS
SEED = 7
ORDERS = {"A": 101, "B": 202}
INTERVALS_A_DAY = 96
TIMEOUT_S = 3_600.0
MEMORY = "/dev/shm"
MAX_TOLD = 5


def place_kinds(clean: Result) -> dict[Place, str]:
    """Return what happens to each value of the clean life: the first home's meter is dead, the last one's clock is off."""
    accounts = {account for _, account in clean.script.truth}
    starts = sorted({start_ms for start_ms, _ in clean.script.truth})
    return dirty_plan.kinds(
        starts, accounts, dead=min(accounts), clock=max(accounts), seed=SEED, shares=dirty_plan.SHARES
    )  # fmt: skip


def compare(clean: Result, one: Result, other: Result, what: Mapping[Place, str]) -> list[str]:
    """Return what is wrong with three lives; nothing when all is as it should be."""
    from market.engine.contracts import contract_start_ms

    wrong = [
        f"{name}: {text}" for name, life in ((CLEAN, clean), *zip(DIRTY, (one, other), strict=True))
        for text in life.violations
    ]  # fmt: skip
    for name, life in zip(DIRTY, (one, other), strict=True):
        if life.trades != clean.trades:
            wrong.append(f"{name}: {len(life.trades)} trades, not the {len(clean.trades)} of the clean life")
    for field in ("rows", "statements"):
        first, second = getattr(one, field), getattr(other, field)
        differ = sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))
        wrong += [f"{field} of A and B differ: {key}: {first.get(key)}, {second.get(key)}" for key in differ[:MAX_TOLD]]
        if len(differ) > MAX_TOLD:
            wrong.append(f"{field} of A and B differ: {len(differ)} in all")
    if one.net_e7 != other.net_e7:
        wrong.append("A and B end with other balances")
    arrived = {place for place, kind in what.items() if kind in dirty_plan.ARRIVE}
    differ = sorted(
        key
        for key, row in clean.rows.items()
        if (contract_start_ms(key[0]), key[1]) in arrived and one.rows.get(key) != row
    )
    wrong += [f"A is not clean: {key}: {one.rows.get(key)}, not {clean.rows[key]}" for key in differ[:MAX_TOLD]]
    if len(differ) > MAX_TOLD:
        wrong.append(f"A is not clean: {len(differ)} rows in all where the true values arrived")
    for place in sorted(statements_that_must_be_clean(clean, what)):
        if one.statements[place] != clean.statements[place]:
            wrong.append(f"A is not clean: the statement of {place}")
    return wrong


def statements_that_must_be_clean(clean: Result, what: Mapping[Place, str]) -> set[tuple[int, str]]:
    """Return the (account, day) of which all true values arrived."""
    from market.engine.contracts import contract_name

    spoiled = {
        (account, contract_name(start_ms)[:10])
        for (start_ms, account), kind in what.items()
        if kind not in dirty_plan.ARRIVE
    }
    return clean.statements.keys() - spoiled


def lines(clean: Result, one: Result, other: Result, what: Mapping[Place, str]) -> list[str]:
    """Return what to print of three lives."""
    sent = Counter(what.values())
    accounts = {account for _, account in what}
    found = [
        f"{len(accounts)} homes, {len(what):,} values, {len(clean.trades):,} trades; "
        + ", ".join(f"{kind} {count:,}" for kind, count in sent.most_common())
    ]
    for name, life in ((CLEAN, clean), ("A", one), ("B", other)):
        counts = Counter(life.counts)
        taken = ", ".join(
            f"{code} {counts[code]:,}"
            for code in ("accepted", "corrected", "superseded", "duplicate", "above_rating", "above_connection")
            if counts[code]
        )
        estimated = ", ".join(f"{basis} {count:,}" for basis, count in sorted(life.bases.items())) or "none"
        found.append(
            f"{name}: {counts['settled']:,} areas settled, {counts['held']:,} of them after waiting for a meter; values that "
            f"homes are settled by: {counts['values settled at once']:,} as they arrived, {counts['values settled later']:,} "
            f"later, at most {counts['longest wait'] / 60_000:.0f} min; "
            f"{counts['corrected areas']:,} areas corrected, {counts['final']:,} intervals final; "
            f"values {taken}; "
            f"estimates {estimated}; money summed to zero after each of {counts['sums']:,} calls; "
            f"audit and check_books passed; {life.seconds:.0f} s"
        )
    same = sum(one.rows.get(key) == row for key, row in clean.rows.items())
    must = statements_that_must_be_clean(clean, what)
    found.append(
        f"A and B: the same {len(one.rows):,} rows, {len(one.statements):,} daily statements and {len(one.net_e7):,} balances; "
        f"{same:,} rows and {len(must):,} statements are the clean life's, all those whose true values arrived"
    )
    return found


# --- each life in a process of its own ---------------------------------------------------------------------------------
def child(folder: Path, name: str, days: int) -> None:
    """Live once, on the empty database that the environment names."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
    django.setup()
    from market.config import database
    from tests.load import dirty_life

    database.prepare()
    found = scenario(days)
    if name == CLEAN:
        life = dirty_life.live(found, folder=folder / name)
    else:
        clean: Result = pickle.loads((folder / CLEAN / "life").read_bytes())
        what = place_kinds(clean)

        def arriving(meters: list[dirty_plan.Meter], script: Script) -> list[dirty_plan.Arrival]:
            return dirty_plan.arrivals(
                script.truth, what, meters, length_ms=24 * dirty_plan.HOUR_MS // INTERVALS_A_DAY,
                longest_ms=found.longest_ms, order=ORDERS[name],
            )  # fmt: skip

        life = dirty_life.live(found, folder=folder / name, script=clean.script, arriving=arriving)
    (folder / name / "life").write_bytes(pickle.dumps(life))


def scenario(days: int) -> Scenario:
    """Return the demo's homes over so many days."""
    from market.simulator.neighbourhood import load_city
    from tests.load.dirty_life import Scenario

    return Scenario(load_city(), days * INTERVALS_A_DAY, FINAL_AFTER_MIN, LONGEST_MS)


def start(folder: Path, name: str, days: int) -> subprocess.Popen[bytes]:
    """Begin a life in a process with a database and keys of its own."""
    home = folder / name
    home.mkdir()
    environment = {
        **os.environ, "SUNLEDGER_DATA": str(home), "DATABASE_URL": f"sqlite:///{home}/week.sqlite3",
        "SUNLEDGER_LOG_LEVEL": "ERROR", "SUNLEDGER_INTERVAL_MIN": "15",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.load.dirty_week", "--days", str(days), "--child", name, "--in", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def main(arguments: list[str] | None = None) -> int:
    """Run the three lives and compare them; return 1 on a violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=DAYS, choices=range(1, 8))
    parser.add_argument("--child", choices=(CLEAN, *DIRTY), default="", help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.folder, options.child, options.days)
        return 0
    began_s = time.monotonic()
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dirty-week-", dir=memory) as name:
        folder = Path(name)
        for lives in ((CLEAN,), DIRTY):  # the dirty ones replay the clean one, beside each other
            running = [start(folder, life, options.days) for life in lives]
            codes = [process.wait(TIMEOUT_S) for process in running]  # all of them end before their folder does
            if any(codes):
                print("VIOLATION: a life ended with an error", file=sys.stderr)
                return 1
        clean, one, other = (pickle.loads((folder / life / "life").read_bytes()) for life in (CLEAN, *DIRTY))
    what = place_kinds(clean)
    wrong = compare(clean, one, other, what)
    if wrong:
        print("\n".join(f"VIOLATION: {text}" for text in wrong), file=sys.stderr)
        return 1
    print("\n".join(lines(clean, one, other, what)))
    print(f"{options.days} days, three lives, {time.monotonic() - began_s:.0f} s: no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
