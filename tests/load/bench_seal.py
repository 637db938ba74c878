"""What a block costs, and whether there is one every second while 10,000 orders a second come in.

``seal``: the CPU time from entries to a published block. Inside the clock: the hash of each leaf and of each node above it,
batch by batch, with the tiles this fills; then the seal: the leaves of all accounts that changed in the block and the
nodes above them (the state root), the sums over all money and all traded energy, the seal's entry, the root, the
checkpoint's Ed25519 signature, and the published file. Outside: the engine, and making the leaves' bytes. The reference
is SHA-256 of as many inputs of the same lengths as the log's tree has: each leaf, and a node for each.

``seal_under_load``: the market of ``durable_postgres``, its orders at a fixed rate. A gap is the time between two moments at
which listeners were told of a block that was durable and published. It needs what ``durable_postgres`` needs.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable

from tests.load.bench import Figure
from tests.load.bench_durable import child, on_postgres

RATE = 10_000  # orders/s
EVERY_S = 1.0  # what the exchange promises


def seal() -> Figure:
    """Blocks of a second's entries in a city of 443 areas, without a database."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        result = child("seal_child", f"sqlite:///{folder}/bench.sqlite3", folder)
    runs = result["runs"]
    entries = sum(run["entries"] for run in runs)
    parts = {name: sum(run[name] for run in runs) * 1e6 / entries for name in ("tiles", "seal", "publish")}
    rates = [run["entries"] / (run["tiles"] + run["seal"] + run["publish"]) for run in runs]
    value, reference = statistics.median(rates), statistics.median(run["entries"] / run["bare"] for run in runs)
    note = (
        f"median of {len(runs)} (lowest {min(rates):,.0f}), blocks of {result['block']:,} entries in which "
        f"{sum(run['changed'] for run in runs) // sum(run['blocks'] for run in runs):,} of {result['accounts']:,} accounts "
        f"change; µs an entry: tree and tiles {parts['tiles']:.2f}, state root, seal, signature {parts['seal']:.2f}, "
        f"publishing {parts['publish']:.2f}; reference: SHA-256 of as many leaves and nodes"
    )
    return Figure(value, "entries/CPU s", reference, value / reference, note)


def seal_under_load() -> Figure:
    """The longest gap between two blocks at a fixed rate of orders, on PostgreSQL."""
    result = on_postgres("seal_under_load", lambda url, folder: child("seal_load_child", url, folder, str(RATE)))
    gaps = result["gaps"]
    note = (
        f"longest of {len(gaps)} gaps, median {statistics.median(gaps):.3f} s, shortest {min(gaps):.3f} s; "
        f"{result['orders'] / result['seconds']:,.0f} orders/s taken in for {result['seconds']:.0f} s of {RATE:,} sent "
        f"({result['turned_away']:,} turned away), "
        f"{result['entries']:,} entries, acknowledged after {result['p50_ms']:.0f} ms (p99 {result['p99_ms']:.0f}); "
        "reference: a block every second"
    )
    return Figure(max(gaps), "s between blocks", EVERY_S, max(gaps) / EVERY_S, note)


BENCHES: dict[str, Callable[[], Figure]] = {"seal": seal, "seal_under_load": seal_under_load}
