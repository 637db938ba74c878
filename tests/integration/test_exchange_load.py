"""Under load: nobody sees what is not durable, nobody waits for ever, nothing is done twice."""

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections

from ledger import queries as ledger_queries
from market.engine.commands import BUY, SELL, PlaceOrder
from market.exchange import models, queries
from market.exchange.exchange import batch_keys
from market.exchange.outcomes import NotRunning
from tests.factories import Market, running_market
from tests.load import crash, settle_crash

pytestmark = pytest.mark.django_db(transaction=True)


def slow_commits(market: Market, seconds: float) -> None:
    """Make every commit take longer, so that what happens meanwhile shows."""
    assert market.exchange._writer is not None
    store = market.exchange._writer._store
    write = store.write

    def slow(*arguments: Any) -> None:
        time.sleep(seconds)
        write(*arguments)

    store.write = slow  # type: ignore[method-assign]


def submit_much(market: Market, batches: int, size: int = 50) -> list[Any]:
    """Submit batches of crossing orders without waiting; return their futures."""
    chance = random.Random(7)
    contracts = [market.contract(ahead) for ahead in range(1, 5)]
    futures = []
    for number in range(batches):
        orders = [
            PlaceOrder(
                chance.choice((market.alice, market.bob, market.charlie)), chance.choice(contracts),
                chance.choice((BUY, SELL)), chance.randint(1_500, 2_500), chance.randint(1, 50), "gtg", 0,
            )
            for _ in range(size)
        ]  # fmt: skip
        futures.append(market.exchange.submit_many(batch_keys(orders, f"load-{number}")))
    return futures


def test_readers_see_durable_states_only_and_do_not_starve() -> None:
    with running_market() as market:
        slow_commits(market, 0.01)
        futures = submit_much(market, 80)
        waits: list[float] = []
        while not futures[-1].done():
            asked_s = time.monotonic()
            seq = market.exchange.read(lambda engine: engine.seq)
            waits.append(time.monotonic() - asked_s)
            assert ledger_queries.size() >= seq
        assert len(waits) > 3
        assert max(waits) < 2
        assert all(outcome.events or outcome.refused for future in futures for outcome in future.result())


def test_answers_come_after_the_commit() -> None:
    with running_market() as market:
        slow_commits(market, 0.01)
        seen: list[int] = []

        def check(future: Any) -> None:
            last = max(event.seq for outcome in future.result() for event in outcome.events)
            with connection.cursor() as cursor:
                cursor.execute("SELECT max(seq) FROM ledger_entry")
                seen.append(cursor.fetchone()[0] - last)
            connections.close_all()

        futures = submit_much(market, 20)
        for future in futures:
            future.add_done_callback(check)
        for future in futures:
            future.result(30)
    assert len(seen) == 20 and min(seen) >= 0


def test_batches_in_flight_at_a_failure_are_never_acknowledged() -> None:
    with running_market() as market:
        assert market.exchange._writer is not None
        store = market.exchange._writer._store
        write = store.write
        futures: list[Any] = []
        submitted = threading.Event()

        def fail(*arguments: Any) -> None:
            # 120 batches of 50 are six commits at least: once the first is acknowledged, others are under way.
            assert submitted.wait(10)
            if futures[0].done():
                raise OSError("disk full")
            write(*arguments)

        store.write = fail  # type: ignore[method-assign]
        futures += submit_much(market, 120)
        submitted.set()
        market.exchange._writer._thread.join(10)
        with pytest.raises(NotRunning):
            market.place(market.alice, SELL)
        acknowledged = [future for future in futures if future.exception(10) is None]
        assert all(future.done() for future in futures)
        assert 1 <= len(acknowledged) < 120
        assert futures[: len(acknowledged)] == acknowledged
        last = max(event.seq for outcome in acknowledged[-1].result() for event in outcome.events)
    size = ledger_queries.size()
    assert last < size
    stored = set(models.IdempotencyKey.objects.values_list("key", flat=True))
    for number, future in enumerate(futures):
        assert (f"load-{number}#0" in stored) == (future in acknowledged)


def test_many_threads_with_the_same_keys_get_one_order_each() -> None:
    with running_market() as market:
        order = PlaceOrder(market.alice, market.contract(), SELL, 5_000, 10, "gtg", 0)
        answers: list[tuple[str, int]] = []

        def client() -> None:
            for number in range(50):
                outcome = market.exchange.call(order, key=f"same-{number}")
                answers.append((f"same-{number}", outcome.events[0].seq))  # type: ignore[union-attr]

        clients = [threading.Thread(target=client) for _ in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert len(answers) == 200 and len(set(answers)) == 50
    assert queries.counts()["orders"] == 50


def test_blocks_do_not_grow_beyond_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.exchange.writer.SEAL_ENTRIES", 100)
    with running_market(seal_every_s=3600) as market:
        for _ in range(200):
            market.place(market.alice, SELL, "0.5000", 10)
            assert ledger_queries.size() - ledger_queries.sealed_size() < 100
        assert len(ledger_queries.blocks(100)) > 1


def test_an_idle_market_seals_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.exchange.writer.SEAL_IDLE_S", 0.2)
    with running_market(seal_every_s=0.05) as market:
        height = market.exchange.status()["height"]
        deadline_s = time.monotonic() + 20
        while market.exchange.status()["height"] < height + 3:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        sealed = market.exchange.status()["sealed"]
    assert ledger_queries.entry(sealed - 1)["count"] == 1


@pytest.fixture
def crash_database() -> Iterator[list[str]]:
    """Arguments that name a database for the crash harness: one of its own beside the test database."""
    if connection.vendor != "postgresql":
        yield []
        return
    settings = connection.settings_dict
    name = f"{settings['NAME']}_crash"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
        cursor.execute(f'CREATE DATABASE "{name}"')
        place = f"{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT'] or 5432}"
        yield ["--database", f"postgresql://{place}/{name}"]
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_three_kills_lose_and_double_nothing(crash_database: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert crash.main(["--kills", "3", "--seed", "5", *crash_database]) == 0, capfd.readouterr()
    summary = capfd.readouterr().out.splitlines()[-1]
    assert summary.startswith("3 kills") and "each there once" in summary


def test_a_settlement_run_that_is_killed_comes_to_the_same(
    crash_database: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert settle_crash.main(["--kills", "3", "--seed", "5", *crash_database]) == 0, capfd.readouterr()
    assert capfd.readouterr().out.splitlines()[-1].startswith("3 kills in ")
