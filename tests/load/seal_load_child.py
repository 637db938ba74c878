"""The measured process of ``seal_under_load``: orders at a fixed rate, and when each block was there.

``python -m tests.load.seal_load_child RATE`` prints JSON. BENCH_SECONDS (default 60) is the length of the measured part.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

from market.exchange.outcomes import Overloaded
from tests.load.durable_child import (
    INTERVAL_MS,
    POOL,
    SECONDS,
    Exchange,
    accepted,
    an_order,
    call_command,
    connection,
    contract_name,
    found,
    guards,
    wall_clock_ms,
)

TICK_S = 0.01  # between two submissions
LATE_S = 1.0  # how far the feeder falls behind its own times before it leaves orders out


class Feeder:
    """Submits keyed orders at their times, whether or not the earlier ones were answered, as clients do."""

    def __init__(self, exchange: Exchange, accounts: list[int], rate: int):
        chance = random.Random(1)
        slot = exchange.now_ms() // INTERVAL_MS
        contracts = [contract_name((slot + ahead) * INTERVAL_MS) for ahead in range(8, 16)]
        self.pool = [an_order(chance, accounts, contracts) for _ in range(POOL)]
        self.each = round(rate * TICK_S)
        assert POOL % self.each == 0, "a submission lies within the pool"
        self.exchange = exchange
        self.waits_s: list[float] = []  # from a submission to its answer
        self.futures: list[Any] = []
        self.turned_away = 0  # orders for which the queue had no place

    def submit(self, number: int) -> None:
        """Submit the next orders."""
        first = number % POOL
        batch = [(order, f"seal-{number + i}") for i, order in enumerate(self.pool[first : first + self.each])]
        sent_s = time.perf_counter()
        try:
            future = self.exchange.submit_many(batch)
        except Overloaded:
            self.turned_away += self.each
            return
        future.add_done_callback(lambda _: self.waits_s.append(time.perf_counter() - sent_s))
        self.futures.append(future)

    def run(self, seconds: float) -> tuple[int, float]:
        """Return how many orders were accepted, and the seconds until the last one was."""
        number, started_s = 0, time.perf_counter()
        due_s = started_s
        while due_s < started_s + seconds:
            early_s = due_s - time.perf_counter()
            if early_s > 0:
                time.sleep(early_s)
            elif early_s < -LATE_S:
                due_s = time.perf_counter()  # this machine is too busy to send them: they count as not taken in
            self.submit(number)
            number += self.each
            due_s += TICK_S
        orders = sum(accepted(future) for future in self.futures)
        return orders, time.perf_counter() - started_s


def main(rate: int) -> None:
    """Measure and print one JSON line."""
    call_command("migrate", verbosity=0)
    guards.install(connection)
    exchange = Exchange(wall_clock_ms)
    exchange.start()
    feeder = Feeder(exchange, found(exchange), rate)
    feeder.run(2.0)  # warm up
    feeder.waits_s, feeder.futures = [], []
    sealed_s: list[float] = []
    exchange.listen(lambda committed: sealed_s.append(time.perf_counter()) if committed.sealed else None)
    before = exchange.status()["seq"]
    orders, seconds = feeder.run(SECONDS)
    entries = exchange.status()["seq"] - before
    gaps = [later - earlier for earlier, later in pairwise(sealed_s)]
    exchange.stop()
    hundredths = statistics.quantiles(feeder.waits_s, n=100)
    result = {
        "orders": orders, "seconds": seconds, "entries": entries, "gaps": gaps,
        "turned_away": feeder.turned_away,
        "p50_ms": hundredths[49] * 1_000, "p99_ms": hundredths[98] * 1_000,
    }  # fmt: skip
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
