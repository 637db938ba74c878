"""A round of the autopilots of the whole SimBench city: 32,511 members whose meters are read, and who trade in one interval.

``autopilots_city_s`` is the real time in which looks were under way in an interval of 900 s, the slower of two: the first
one after a start, which reads every week from the database, and one in which only the newest readings are new. The
reference is what an interval has room for: looks are begun for 1.5 s, every 3.5 s at most.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.load.bench import Figure, Peer

ROOT = Path(__file__).resolve().parents[2]
HOMES = 32_511
DAYS = 1.25  # of readings; a start after a whole week reads 5.6 times as much
INTERVAL_S = 900


def autopilots_city_s() -> Figure:
    """Let a city's autopilots have their turns."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = {**os.environ, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "WARNING"}
        environment["DATABASE_URL"] = f"sqlite:///{folder}/bench.sqlite3"
        run = subprocess.run(
            [sys.executable, "-m", "tests.load.autopilots_child", str(HOMES), str(DAYS)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    rounds = found["rounds"]
    peers = tuple(
        Peer(
            f"{name}, s", one["busy_s"], None,
            f"{one['cpu_seconds']:.0f} CPU s, longest look {one['longest_s']:.2f} s, {one['orders']:,} orders, "
            f"{one['missed']:,} homes without a turn",
        )
        for name, one in zip(("the first interval", "the second"), rounds, strict=True)
    )  # fmt: skip
    busy_s = max(one["busy_s"] for one in rounds)
    room_s = INTERVAL_S * found["room_permille"] / 1000
    note = (
        f"{HOMES:,} homes, {found['memory_mib']:,} MiB for their agents and orders; reference: the room an interval has"
    )
    return Figure(busy_s, "s", room_s, busy_s / room_s, note, peers)


BENCHES: dict[str, Callable[[], Figure]] = {"autopilots_city_s": autopilots_city_s}
