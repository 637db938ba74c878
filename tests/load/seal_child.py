"""The measured process of ``bench_seal``: a city's trading, each second of it sealed by the exchange's own sealer.

The journal, the log and the sealer are the product's. Its rows are made and thrown away: no database is written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402

from ledger.core.merkle import LEAF, NODE  # noqa: E402
from ledger.models import Entry  # noqa: E402
from ledger.operations import verifier_key  # noqa: E402
from market.engine import commands as c  # noqa: E402
from market.exchange.journal import LEDGER, Batch  # noqa: E402
from market.exchange.outcomes import SealInfo  # noqa: E402
from market.exchange.recovery import recover  # noqa: E402
from tests.load.audit_log import BATCH, SEED, City  # noqa: E402
from tests.load.grid_mix import START_MS, exchange_collector  # noqa: E402
from tests.market_log import RULES, MarketLog  # noqa: E402

RUNS = 5
BLOCKS = 5  # of a run
BLOCK = 20_000  # entries: what 10,000 orders/s with a trade each leave in a second
HOMES_PER_AREA = 75  # 32,000 homes: as many as the city has


class SealedLog(MarketLog):
    """Takes a market's events as the exchange's writer does, in batches, and measures what makes blocks of them."""

    def __init__(self) -> None:
        super().__init__(START_MS)
        recovered = recover(settings.PUBLISHED_CHECKPOINT_FILE)
        self.engine = recovered.engine
        self.store, self.journal, self.sealer = recovered.store, recovered.journal, recovered.sealer
        self.ledger = self.journal._log
        self.leaves: list[bytes] = []
        self.spent = {"tiles": 0.0, "seal": 0.0, "publish": 0.0}  # CPU seconds
        self.changed = self.blocks = 0  # accounts, each counted once a block
        self.sealed: SealInfo | None = None  # the newest block
        self._kept = 0

    def found(self, currency: str = "EUR") -> None:
        """Found the market with the log's own key."""
        command = c.Found(settings.LEDGER_ORIGIN, currency, 15, verifier_key(), 2, RULES)
        self.sealer.note(self.do(command)[0])

    def keep(self, events: Iterable[Any]) -> None:
        """Record a command's events; after some commands end the batch."""
        self.journal.record(events)
        self._kept += 1
        if self._kept >= BATCH:
            self.finish()

    def finish(self) -> None:
        """Hash the batch's leaves into the tree, and have its rows made."""
        self._measured("tiles", self.ledger.root)
        batch = Batch(0, self.at_ms)
        self.journal.finish(batch)
        self.leaves += [leaf for table, rows in batch.tables if table is LEDGER[Entry] for _, leaf in rows]
        self._kept = 0

    def seal(self) -> None:
        """End the block."""
        self.finish()
        self.blocks += 1
        self.changed += len(self.journal.unsealed_accounts)
        sealed = self._measured("seal", lambda: self.sealer.seal(self.engine.apply(c.Seal(), self.at_ms)[0]))
        self.finish()
        self._measured("publish", lambda: self.sealer.publish(sealed))
        self.sealed = sealed

    def _measured(self, part: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = work()
        self.spent[part] += time.process_time() - started
        return result


def bare(leaves: list[bytes]) -> float:
    """Return the CPU seconds of the tree's hashes alone: one of each leaf and one of each node above them."""
    inputs = [LEAF + leaf for leaf in leaves]
    inputs += [NODE + sha256(leaf).digest() * 2 for leaf in leaves]
    started = time.process_time()
    for data in inputs:
        sha256(data).digest()
    return time.process_time() - started


@exchange_collector()
def main() -> None:
    """Measure and print one JSON line."""
    call_command("migrate", verbosity=0)
    log = SealedLog()
    city = City(SEED, log, HOMES_PER_AREA)
    runs = []
    for run in range(RUNS + 1):
        log.leaves, log.spent = [], dict.fromkeys(log.spent, 0.0)
        log.changed = log.blocks = 0
        city.trade(log.engine.seq + BLOCKS * BLOCK, BLOCK)
        if run:  # the first warms up: the book fills
            counts = {"entries": len(log.leaves), "changed": log.changed, "blocks": log.blocks}
            runs.append({**counts, "bare": bare(log.leaves), **log.spent})
    print(json.dumps({"runs": runs, "accounts": len(log.engine.accounts), "block": BLOCK}), flush=True)


if __name__ == "__main__":
    main()
