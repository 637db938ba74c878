"""`make bench [ONLY=name]`: run the benchmarks, print a table, write ``build/bench.json``.

Each ``tests/load/bench_*.py`` has ``BENCHES: dict[str, Callable[[], Figure]]``. Names stay for good:
``docs/performance.md`` and later comparisons refer to them. A figure is compared with a peer or a bare limit measured
in the same run.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CLUSTER = Path(__file__).resolve().parents[1] / "postgres.sh"
OUTPUT = Path(__file__).resolve().parents[2] / "build" / "bench.json"


class Peer(NamedTuple):
    """Somebody else's value in the unit of the figure it stands beside; ``ratio`` is the figure / that. None: no value."""

    name: str
    value: float | None
    ratio: float | None
    note: str


class Figure(NamedTuple):
    """One result. ``reference`` is the peer's or limit's value in the same unit, ``ratio`` value / reference."""

    value: float
    unit: str
    reference: float
    ratio: float
    note: str
    peers: tuple[Peer, ...] = ()  # measured in the same run


def find() -> dict[str, Callable[[], Figure]]:
    """Return every benchmark by name."""
    benches: dict[str, Callable[[], Figure]] = {}
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        module = importlib.import_module(f"tests.load.{path.stem}")
        benches.update(module.BENCHES)
    return benches


def provide_postgres() -> None:
    """Start a PostgreSQL cluster for this run unless BENCH_POSTGRES_URL names a server or none is installed."""
    if os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "").startswith("postgres"):
        return
    folder = tempfile.mkdtemp(prefix="bench-postgres-")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = subprocess.run(["bash", str(CLUSTER), "start", folder, str(port)], capture_output=True, text=True)
    if started.returncode:
        print(started.stderr.strip(), file=sys.stderr)
        shutil.rmtree(folder)
        return
    os.environ["BENCH_POSTGRES_URL"] = started.stdout.strip()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(subprocess.run, ["bash", str(CLUSTER), "stop", folder])


def main(wanted: list[str]) -> int:
    """Run the wanted benchmarks (all of them by default) and return the exit code."""
    benches = find()
    unknown = [name for name in wanted if name not in benches]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; there are: {', '.join(benches)}", file=sys.stderr)
        return 2
    provide_postgres()
    OUTPUT.parent.mkdir(exist_ok=True)
    results: dict[str, dict[str, object]] = {}
    failed = False
    print(f"{'name':<20}{'value':>14} {'unit':<22}{'reference':>14}{'ratio':>8}  note", flush=True)
    for name in wanted or benches:
        try:
            figure = benches[name]()
        except SystemExit as missing:  # a server it needs is not there
            print(f"{name:<20} not measured: {missing}", flush=True)
            failed = True
            continue
        results[name] = {**figure._asdict(), "peers": [peer._asdict() for peer in figure.peers]}
        print(
            f"{name:<20}{figure.value:>14,.2f} {figure.unit:<22}{figure.reference:>14,.2f}"
            f"{figure.ratio:>8.2f}  {figure.note}",
            flush=True,
        )
        for peer in figure.peers:
            value = "-" if peer.value is None else f"{peer.value:,.2f}"
            ratio = "-" if peer.ratio is None else f"{peer.ratio:.2f}"
            print(f"  {peer.name:<55}{value:>14}{ratio:>8}  {peer.note}", flush=True)
        OUTPUT.write_text(json.dumps(results, indent=2) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
