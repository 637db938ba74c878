"""`make settle-crash KILLS=50`: kill -9 a settlement run at random moments; what comes out is what comes out undisturbed.

A run takes a small city from its first readings to the final entries: settle (a tenth of the meters is silent and
estimated), share out, late and corrected readings, corrections, more of both, share out again, the end. Each stage is begun
again in a new process until it says that nothing is due. A killed run is compared with one that was left alone:

* the same rows, settled and corrected, in as many entries, the same transfers, and the same money and arrears of every account;
* the recovered state has the hash of a full replay, the books are what the ledger says, and the log verifies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHILD = [sys.executable, "-m", "tests.load.settle_crash_child"]
STAGES = ("settle", "share", "late", "adjust", "later", "adjust again", "share again", "end")
MAX_LIVES = 1_000  # of one run: a stage that never ends is a failure of its own
TIMEOUT_S = 120.0


class Violation(Exception):
    """A killed run came to something else."""


def child(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Run a child to its end and return what it says in its last line."""
    done = subprocess.run(
        [*CHILD, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if done.returncode:
        raise Violation(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def killed(environment: dict[str, str], stage: str, after_s: float) -> bool:
    """Begin a stage and kill it so long after it was ready; return whether it was killed before it had ended."""
    process = subprocess.Popen([*CHILD, stage], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise Violation(f"{stage} did not start: exit code {process.wait(TIMEOUT_S)}")
    timer = threading.Timer(after_s, process.kill)
    timer.start()
    process.stdout.read()
    code = process.wait(TIMEOUT_S)
    timer.cancel()
    process.stdout.close()
    if code > 0:
        raise Violation(f"{stage} ended with {code}")
    return code < 0


def undisturbed(environment: dict[str, str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Run all stages and return the outcome, and how long each stage took."""
    child(environment, "prepare")
    took = {stage: float(child(environment, stage)["seconds"]) for stage in STAGES}
    return child(environment, "outcome"), took


def disturbed(
    environment: dict[str, str], chance: random.Random, took: dict[str, float], kills: int
) -> tuple[dict[str, Any], list[str]]:
    """Run all stages, killing as often as is still wanted; return the outcome and the stages that were killed."""
    child(environment, "prepare")
    hit: list[str] = []
    lives = 0
    for stage in STAGES:
        # Several kills a stage, each while a part of its work is done.
        wanted = len(hit) + -(-(kills - len(hit)) // (len(STAGES) - STAGES.index(stage)))
        ended = False
        while not ended and len(hit) < wanted:
            lives += 1
            if lives > MAX_LIVES:
                raise Violation(f"{stage} does not end")
            if killed(environment, stage, chance.uniform(0, took[stage] / 3)):
                hit.append(stage)
            else:
                ended = True
        if not ended:
            child(environment, stage)
    return child(environment, "outcome"), hit


def compare(expected: dict[str, Any], was: dict[str, Any]) -> None:
    """Raise ``Violation`` where two outcomes differ, or one is wrong in itself."""
    for outcome in (expected, was):
        if outcome["violations"]:
            raise Violation("; ".join(outcome["violations"]))
    for name, value in expected.items():
        if was[name] != value:
            raise Violation(f"{name}: expected {str(value)[:300]}, was {str(was[name])[:300]}")


def main(arguments: list[str] | None = None) -> int:
    """Run the harness; return 1 on a violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--database", default="", help="a PostgreSQL URL; ALL its tables are dropped. SQLite by default"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)
    began_s = time.monotonic()
    hits: list[str] = []
    runs = 0
    with tempfile.TemporaryDirectory(prefix="settle-crash-") as folder:
        environment = {**os.environ, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "CRITICAL"}
        environment["DATABASE_URL"] = options.database or f"sqlite:///{folder}/crash.sqlite3"
        print(f"seed {options.seed}, database {environment['DATABASE_URL']}", flush=True)
        try:
            expected, took = undisturbed(environment)
            print(", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in took.items()), flush=True)
            while len(hits) < options.kills:
                outcome, hit = disturbed(environment, chance, took, options.kills - len(hits))
                compare(expected, outcome)
                hits += hit
                runs += 1
                if not hit:
                    raise Violation("expected a run that can be killed, was over before")
                print(f"run {runs}: killed {len(hit)} times ({', '.join(dict.fromkeys(hit))}), same result", flush=True)
        except Violation as error:
            print(f"VIOLATION (seed {options.seed}): {error}", file=sys.stderr)
            return 1
    print(
        f"{len(hits)} kills in {runs} runs and {time.monotonic() - began_s:.0f} s: {expected['settled']} rows settled, "
        f"{expected['corrected']} corrected, {expected['shared_wh']} Wh shared, "
        f"{expected['final']} contracts final, each time the same; digest {expected['digest'][:16]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
