"""How fast a ledger is verified and audited: 200,000 entries of a market of 443 areas, from its files in memory.

The reference, in the same run, is the least that checking a canonical log can cost: parse each leaf, write it again,
compare, hash.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from hashlib import sha256

import orjson

from ledger.core.encoding import OPTIONS
from ledger.core.note import parse_vkey
from ledger.core.tiles import parse_bundle
from ledger.core.verify import verify_log
from market.audit.judge import Judge
from market.audit.parallel import COLLECT_AFTER
from tests.load.audit_log import ENTRIES, city_files
from tests.load.bench import Figure
from tests.market_log import SIGNER
from tests.unit.ledger_logs import source

RUNS = 5


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of this process for a piece of work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def bare(leaves: list[bytes]) -> None:
    """Parse, re-encode, compare and hash each leaf."""
    for leaf in leaves:
        assert orjson.dumps(orjson.loads(leaf), option=OPTIONS) == leaf
        sha256(b"\x00" + leaf).digest()


def measured(work: Callable[[dict[str, bytes]], int]) -> tuple[list[float], list[float]]:
    """Return entries a CPU second of the work and of the reference, runs taken in turn."""
    files = city_files()
    bundles = sorted(path for path in files if path.startswith("tile/entries/"))
    leaves = [leaf for path in bundles for leaf in parse_bundle(files[path])]
    rates: list[float] = []
    references: list[float] = []
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(*COLLECT_AFTER)  # as the command does
    try:
        for _ in range(RUNS):
            references.append(len(leaves) / cpu_seconds(lambda: bare(leaves)))
            rates.append(len(leaves) / cpu_seconds(lambda: work(files)))
    finally:
        gc.set_threshold(*before)
    return rates, references


def figure(work: Callable[[dict[str, bytes]], int], text: str) -> Figure:
    """Return the rate of a piece of work beside the reference's."""
    rates, references = measured(work)
    value, reference = statistics.median(rates), statistics.median(references)
    return Figure(
        value, "entries/CPU s", reference, value / reference,
        f"{text}; {ENTRIES:,} entries of 443 areas, median of {RUNS} (lowest {min(rates):,.0f}), files in memory, one process; "
        "reference: each leaf parsed, written again, compared and hashed",
    )  # fmt: skip


def verified(files: dict[str, bytes]) -> int:
    """Verify the log."""
    return verify_log(source(files), [parse_vkey(SIGNER.vkey)]).size


def audited(files: dict[str, bytes]) -> int:
    """Verify the log and play its market again."""
    judge = Judge()
    report = verify_log(source(files), [parse_vkey(SIGNER.vkey)], each=judge.take)
    return judge.end(report.size).entries


def verify() -> Figure:
    """The log alone: signature, seals, roots, canonical bytes."""
    return figure(verified, "signature, seals, tiles, roots, canonical bytes, times, salts")


def audit() -> Figure:
    """The log, and its auction again through the engine, with the root over all accounts at each seal."""
    return figure(audited, "all that verify does, every event compared, all accounts' root at each of the seals")


BENCHES = {"verify": verify, "audit": audit}
