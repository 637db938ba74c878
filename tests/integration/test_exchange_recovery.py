"""Start-up is recovery, and what does not add up does not open."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from ledger import queries as ledger_queries
from ledger.models import Entry
from market.engine.commands import BUY, SELL
from market.engine.engine import Engine
from market.engine.replay import replay
from market.exchange import idempotency, models, queries, stores
from market.exchange.exchange import Exchange
from market.exchange.outcomes import AlreadyRunning, CommitFailed, NotRunning, Overloaded, RecoveryFailed
from tests.factories import Clock, Market, running_exchange, running_market
from tests.integration.guarded import unguarded

pytestmark = pytest.mark.django_db(transaction=True)


def trade(market: Market, rounds: int = 5) -> None:
    """Put some orders, trades, refusals and cancellations on the ledger."""
    for number in range(rounds):
        market.place(market.alice, SELL, "0.1500", 100 + number)
        market.place(market.bob, BUY, "0.2000", 90 + number)
        market.place(market.bob, BUY, "0.2000", 0)
        market.place(market.charlie, BUY, "0.1000", 500, time_in_force="ioc")


def state(exchange: Exchange) -> tuple[int, str]:
    """Return the engine's sequence and state hash."""
    return exchange.read(lambda engine: (engine.seq, engine.state_hash()))


def crash(exchange: Exchange) -> None:
    """End an exchange as a kill would: no snapshot, no seal, the connection and its lock gone."""
    writer = exchange._writer
    assert writer is not None
    writer._close_books = lambda: None  # type: ignore[method-assign]
    exchange.stop()


def replayed(seq: int) -> str:
    """Return the state hash of a full replay of the first ``seq`` entries."""
    engine = Engine()
    replay(engine, (ledger_queries.leaf(n) for n in range(seq)), ledger_queries.rows)
    return engine.state_hash()


def crashed_market(folder: Path, **options: Any) -> tuple[Market, tuple[int, str]]:
    """Run a market for a while, crash it, and return it with its last state."""
    with running_market(folder=folder, **options) as market:
        trade(market)
        last = state(market.exchange)
        crash(market.exchange)
    return market, last


def test_a_crash_loses_nothing(tmp_path: Path) -> None:
    market, last = crashed_market(tmp_path)
    assert not models.Snapshot.objects.exists()
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert state(exchange) == last
        assert replayed(last[0]) == last[1]


def test_entries_after_the_last_seal_are_kept_and_sealed_later(tmp_path: Path) -> None:
    market, (seq, _) = crashed_market(tmp_path, seal_every_s=3600)
    assert ledger_queries.sealed_size() == 0 < seq
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert state(exchange)[0] == seq
    assert ledger_queries.sealed_size() == ledger_queries.size() > seq


def test_recovery_starts_at_the_newest_snapshot(tmp_path: Path) -> None:
    market, last = crashed_market(tmp_path, snapshot_every=20, seal_every_s=0.0)
    snapshots = list(models.Snapshot.objects.order_by("seq").values_list("seq", flat=True))
    assert len(snapshots) == 3  # older ones are dropped
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert exchange._writer is not None and exchange._writer._snapshot_seq == snapshots[-1]
        assert state(exchange) == last


def test_a_snapshot_waits_for_a_block_to_end(tmp_path: Path) -> None:
    _, (size, _) = crashed_market(tmp_path, snapshot_every=20, seal_every_s=3600)
    # no block ends in this life: only the founding batch, with which the first one begins, may bring a snapshot
    (taken,) = models.Snapshot.objects.values_list("seq", flat=True)
    assert 20 <= taken < size - 20


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    market, last = crashed_market(tmp_path, snapshot_every=20, seal_every_s=0.0)
    newest = models.Snapshot.objects.order_by("-seq")[0]
    data = bytes(newest.data).replace(b'"cash', b'"dash').replace(b"0", b"1", 1)
    models.Snapshot.objects.filter(seq=newest.seq).update(data=data)
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert exchange._writer is not None and exchange._writer._snapshot_seq < newest.seq
        assert state(exchange) == last


def test_a_clean_stop_leaves_nothing_to_replay(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        trade(market)
    size = ledger_queries.size()
    assert ledger_queries.sealed_size() == size
    assert models.Snapshot.objects.latest("seq").seq == size - 2  # the snapshot's entry and the seal come after it
    with running_exchange(market.clock, folder=tmp_path):
        pass
    assert ledger_queries.size() == size  # an untouched market is not sealed again


def test_a_changed_leaf_stops_the_start(tmp_path: Path) -> None:
    market, (seq, _) = crashed_market(tmp_path, seal_every_s=3600)
    trade_seq = models.Trade.objects.order_by("-id")[0].id
    row = Entry.objects.get(seq=trade_seq)
    leaf = bytes(row.leaf)
    Entry.objects.filter(seq=trade_seq).update(leaf=leaf.replace(b'"energy_wh":', b'"energy_wh":1'))
    with pytest.raises(RecoveryFailed, match=f"entry {trade_seq}"):
        Exchange(market.clock, published_file=tmp_path / "published_checkpoint").start()
    assert ledger_queries.size() == seq


def test_a_sealed_leaf_that_was_changed_stops_the_start(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        trade(market)
    row = Entry.objects.order_by("-seq")[1]
    Entry.objects.filter(seq=row.seq).update(leaf=bytes(row.leaf).replace(b'"v":1', b'"v":2'))
    with pytest.raises(RecoveryFailed):
        Exchange(market.clock, published_file=tmp_path / "published_checkpoint").start()


def test_a_changed_balance_stops_the_start(tmp_path: Path) -> None:
    market, _ = crashed_market(tmp_path)
    with unguarded():
        models.Balance.objects.filter(account=market.alice).update(cash_e7=10**12)
    with pytest.raises(RecoveryFailed, match=f"account {market.alice}"):
        Exchange(market.clock, published_file=tmp_path / "published_checkpoint").start()


def test_a_database_older_than_the_published_log_is_refused(tmp_path: Path) -> None:
    newer, older = tmp_path / "newer", tmp_path / "older"
    newer.mkdir(), older.mkdir()
    with running_market(folder=newer) as market:
        trade(market)
    size = ledger_queries.size()
    for model in (Entry, models.Order, models.Trade):
        model.objects.all().delete()
    # What was published is ahead of any other history, an empty one too.
    with connection.cursor() as cursor:
        for table in (
            "ledger_checkpoint",
            "ledger_hashtile",
            "ledger_keyentry",
            "exchange_snapshot",
            "exchange_balance",
        ):
            cursor.execute(f'DELETE FROM "{table}"')
    with pytest.raises(RecoveryFailed, match=f"older than the published log.*{size}"):
        Exchange(market.clock, published_file=newer / "published_checkpoint").start()


def test_another_history_than_the_published_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    with running_market(folder=folder) as market:
        pass
    shutil.copy(folder / "published_checkpoint", tmp_path / "kept")
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith(("exchange_", "ledger_")):
                cursor.execute(f'DELETE FROM "{table}"')
    with running_market(Clock("2026-06-06T10:00:01Z"), folder=tmp_path) as market:
        trade(market, 20)
    with pytest.raises(RecoveryFailed, match="another history"):
        Exchange(market.clock, published_file=tmp_path / "kept").start()


def test_an_unreadable_published_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "published_checkpoint").write_text("sunledger.example/city\n1\n")
    with pytest.raises(RecoveryFailed, match="checkpoint"):
        Exchange(Clock(), published_file=tmp_path / "published_checkpoint").start()


def test_one_writer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOCK_WAIT_S", 0.3)
    with running_market(folder=tmp_path) as market:
        second = Exchange(market.clock, published_file=tmp_path / "published_checkpoint")
        with pytest.raises(AlreadyRunning, match="only one may"):
            second.start()
        assert market.place(market.alice, SELL).events
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert exchange.status()["state"] == "running"


def test_a_restart_waits_for_the_one_before_to_end(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        second = Exchange(market.clock, published_file=tmp_path / "published_checkpoint")

        def start() -> None:
            second.start()
            connections.close_all()

        starting = threading.Thread(target=start)
        starting.start()
        starting.join(0.5)
        assert starting.is_alive() and second.status()["state"] == "recovering"
        last = market.place(market.alice, SELL).events[0].seq
        market.exchange.stop()
    starting.join(20)
    assert second.read(lambda engine: engine.orders[last].account) == market.alice
    second.stop()


def test_a_failed_commit_stops_the_exchange_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_market(folder=tmp_path) as market:
        durable = state(market.exchange)
        writer = market.exchange._writer
        assert writer is not None

        def fail(*_: object) -> None:
            raise OSError("disk full")

        writer._store.write = fail  # type: ignore[method-assign, assignment]
        with pytest.raises(CommitFailed, match="disk full"):
            market.place(market.alice, SELL)
        with pytest.raises(NotRunning, match="disk full"):
            market.exchange.read(lambda engine: engine.seq)
        writer._thread.join(10)
        with pytest.raises(NotRunning, match="disk full"):
            market.place(market.alice, SELL)
        status = market.exchange.status()
        assert (status["state"], status["error"]) == ("failed", "disk full")
        assert "THE EXCHANGE HAS STOPPED" in caplog.text
    assert ledger_queries.size() == durable[0]
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert state(exchange) == durable


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    with running_market() as market:
        market.exchange._inbox.bound = 3
        release = threading.Event()
        blocker = threading.Thread(target=lambda: market.exchange.read(lambda engine: release.wait(10)))
        blocker.start()
        futures = []
        with pytest.raises(Overloaded) as refused:
            for _ in range(5):
                futures.append(market.exchange.submit(order_of(market)))
        assert refused.value.retry_after_s >= 1
        assert market.exchange.status()["queue"] == len(futures) == 3
        release.set()
        blocker.join()
        assert all(future.result(10).events for future in futures)


def order_of(market: Market) -> Any:
    """Return an order of Alice's."""
    from market.engine.commands import PlaceOrder

    return PlaceOrder(market.alice, market.contract(), SELL, 1_500, 10, "gtg", 0)


def test_keys_survive_a_crash(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        market.place(market.alice, SELL, "0.1500", 100)
        first = market.place(market.bob, BUY, "0.2000", 150, key="k")
        refused = market.place(market.bob, BUY, "0.2000", 0, key="r")
        again = market.place(market.bob, BUY, "0.2000", 150, key="k")
        assert (again.events, again.repeated) == (first.events, True)
        crash(market.exchange)
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        market.exchange = exchange
        again = market.place(market.bob, BUY, "0.2000", 150, key="k")
        assert (again.events, again.repeated) == (first.events, True)
        again = market.place(market.bob, BUY, "0.2000", 0, key="r")
        assert (again.refused, again.repeated) == (refused.refused, True)
        conflict = market.place(market.bob, BUY, "0.2001", 150, key="k")
        assert (conflict.conflict, conflict.events) == ("price", ())
        other_account = market.place(market.charlie, BUY, "0.2001", 150, key="k")
        assert other_account.events and not other_account.repeated
        fresh = market.place(market.bob, BUY, "0.2000", 150)
        assert fresh.events and not fresh.repeated
    assert len(queries.orders(account=market.bob)) == 2


def test_keys_that_left_memory_are_found_in_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "IN_MEMORY", 4)
    with running_market() as market:
        first = [market.place(market.alice, SELL, "0.3000", 10 + n, key=f"k{n}") for n in range(10)]
        again = [market.place(market.alice, SELL, "0.3000", 10 + n, key=f"k{n}") for n in range(10)]
    assert [outcome.events for outcome in again] == [outcome.events for outcome in first]
    assert all(outcome.repeated for outcome in again)
    assert models.Order.objects.count() == 10


def test_keys_are_forgotten_after_48_hours_of_market_time() -> None:
    with running_market() as market:
        market.place(market.alice, SELL, key="old")
        market.clock.advance(minutes=47 * 60)
        assert market.place(market.alice, SELL, key="old", contract="2026-06-06T10:15Z").repeated
        market.clock.advance(minutes=61)
        fresh = market.place(market.alice, SELL, key="old")
        assert fresh.events and not fresh.repeated
        assert list(models.IdempotencyKey.objects.values_list("first_seq", flat=True)) == [fresh.events[0].seq]


def test_the_published_checkpoint_is_the_newest_seal(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        trade(market)
    published = (tmp_path / "published_checkpoint").read_text()
    assert published == ledger_queries.checkpoint()
    assert [path.name for path in tmp_path.iterdir()] == ["published_checkpoint"]  # no draft is left behind


def test_keys_that_only_the_database_has_survive_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "IN_MEMORY", 4)
    monkeypatch.setattr(idempotency, "LOADED_AT_ONCE", 3)
    with running_market(folder=tmp_path) as market:
        first = [market.place(market.alice, SELL, "0.3000", 10 + n, key=f"k{n}") for n in range(10)]
        crash(market.exchange)
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        market.exchange = exchange
        again = [market.place(market.alice, SELL, "0.3000", 10 + n, key=f"k{n}") for n in range(10)]
        assert [outcome.events for outcome in again] == [outcome.events for outcome in first]
        assert market.place(market.alice, SELL, "0.3000", 10, key="new").repeated is False
        # that one pushed out those that were read back: they are looked up once more
        later = [market.place(market.alice, SELL, "0.3000", 10 + n, key=f"k{n}") for n in range(10)]
        assert [outcome.events for outcome in later] == [outcome.events for outcome in first]
    assert models.Order.objects.count() == 11
