"""The ledger and the table of readings say the same, whatever happens between the two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from ledger import queries as ledger_queries
from ledger.core.encoding import decode
from ledger.exports import export
from market.audit.__main__ import main
from market.engine.commands import Command
from market.engine.contracts import contract_start_ms
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome, Overloaded
from market.metering import operations, recovery, storage
from market.metering.models import Mark, Reading
from market.metering.operations import InvalidReading, ReadingIn, Recorded, record_own, record_readings
from market.settlement.operations import settle_due
from market.settlement.queries import line
from market.settlement.waiting import DEADLINE_MS
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
AREA = "LV1.1"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def market() -> Iterator[Market]:
    with running_market(seal_every_s=3_600) as running:
        yield running


@pytest.fixture
def contract(market: Market) -> str:
    name = market.contract()
    market.clock.advance(minutes=30)
    market.member("LV1.2", deposit_e7=0)
    return name


def record(market: Market, contract: str, *readings: ReadingIn) -> Recorded:
    return record_readings(
        exchange=market.exchange, contract=contract, area=AREA, readings=readings, now_ms=market.exchange.now_ms()
    )


def killed(market: Market, contract: str, *readings: ReadingIn) -> None:
    """Record readings, and die before they are in the table."""

    def die(_rows: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "insert", die)
        with pytest.raises(Killed):
            record(market, contract, *readings)


def kept(account: int) -> list[tuple[int, int, int, int]]:
    rows = Reading.objects.filter(account=account).order_by("version")
    return list(rows.values_list("version", "import_wh", "export_wh", "seq"))


def both_say(contract: str) -> None:
    """Hold the newest row of each account on the ledger against the table."""
    told = {}
    for seq in ledger_queries.seqs_with_rows(0):
        if ledger_queries.entry(seq)["type"] == "readings":
            for data in ledger_queries.rows(seq):
                row = decode(data)
                told[row["account"]] = seq, row["import_wh"], row["export_wh"]
    found = {}
    rows = Reading.objects.filter(start_ms=contract_start_ms(contract)).order_by("version")
    for account, *values in rows.values_list("account", "seq", "import_wh", "export_wh"):
        found[account] = tuple(values)
    assert found == told
    assert told


def test_settlement_and_audit_see_what_only_the_ledger_has(
    market: Market, contract: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(market, contract, ReadingIn(market.alice, 0, 900))
    assert not Reading.objects.exists()
    market.clock.advance(ms=DEADLINE_MS)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    settled = line(market.alice, contract)
    assert settled is not None
    assert (settled.row.quality, settled.row.spill_wh) == ("measured", 900)
    both_say(contract)
    market.exchange.stop()
    export(tmp_path / "log")
    assert main([str(tmp_path / "log")]) == 0, capsys.readouterr()


def test_after_a_restart_the_table_catches_up_once(market: Market, contract: str) -> None:
    record(market, contract, ReadingIn(market.alice, 0, 700), ReadingIn(market.bob, 5, 0))
    killed(market, contract, ReadingIn(market.alice, 0, 900))
    market.exchange.stop()
    again = Exchange(market.clock, seal_every_s=3_600)
    again.start()
    try:
        Mark.objects.all().delete()
        assert recovery.catch_up(exchange=again) == 1
        assert recovery.catch_up(exchange=again) == 0
        assert [row[:3] for row in kept(market.alice)] == [(0, 0, 700), (1, 0, 900)]
        assert Mark.objects.filter(area=AREA).exists(), "settlement is told"
        both_say(contract)
    finally:
        again.stop()


def test_what_is_sent_next_comes_after_what_was_lost(market: Market, contract: str) -> None:
    killed(market, contract, ReadingIn(market.alice, 0, 900))
    assert record(market, contract, ReadingIn(market.alice, 0, 900)).duplicates == 1
    killed(market, contract, ReadingIn(market.alice, 0, 800))
    assert record(market, contract, ReadingIn(market.alice, 0, 600)).corrected == 1
    assert [row[:3] for row in kept(market.alice)] == [(0, 0, 900), (1, 0, 800), (2, 0, 600)]
    both_say(contract)


def test_two_reports_of_one_home_at_once_are_versions(
    market: Market, contract: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, errors = operations._commit, []
    inside, others = threading.Event(), []

    def report(export_wh: int) -> None:
        try:
            record_own(
                exchange=market.exchange,
                account=market.alice,
                readings={contract: ReadingIn(market.alice, 0, export_wh)},
                now_ms=market.clock.at_ms,
            )
        except Exception as error:
            errors.append(error)

    def slow(*arguments):  # type: ignore[no-untyped-def]
        if not others:
            others.append(threading.Thread(target=report, args=(500,)))
            others[0].start()
            inside.wait(0.5)  # time for the other to go on, where it may
        return commit(*arguments)

    monkeypatch.setattr(operations, "_commit", slow)
    report(900)
    others[0].join(30)
    assert not errors
    assert [row[:3] for row in kept(market.alice)] == [(0, 0, 900), (1, 0, 500)]
    both_say(contract)


def test_what_was_answered_too_late_is_in_the_table_all_the_same(
    market: Market, contract: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, late = market.exchange.submit, Future[Outcome]()
    waiting = []

    def slow(command: Command, **options: Any) -> Future[Outcome]:
        waiting.append((command, options))
        return late

    monkeypatch.setattr(operations, "COMMIT_TIMEOUT_S", 0.01)
    monkeypatch.setattr(market.exchange, "submit", slow)
    with pytest.raises(TimeoutError):
        record(market, contract, ReadingIn(market.alice, 0, 900))
    monkeypatch.undo()
    monkeypatch.setattr(recovery, "LATE_TIMEOUT_S", 0.01)
    with pytest.raises(TimeoutError):
        recovery.catch_up(exchange=market.exchange)
    [(command, options)] = waiting
    late.set_result(submit(command, **options).result(30))
    assert recovery.catch_up(exchange=market.exchange) == 1
    both_say(contract)


def test_who_waits_too_long_is_told_to_come_back(
    market: Market, contract: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(market, contract, ReadingIn(market.alice, 0, 900))
    monkeypatch.setattr(recovery, "LOCK_TIMEOUT_S", 0.01)
    with recovery._one_at_a_time, pytest.raises(Overloaded):
        record(market, contract, ReadingIn(market.alice, 0, 800))


def test_a_home_corrects_so_often_and_no_more(market: Market, contract: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operations.MAX_VERSIONS <= 32_767, "what the column takes"
    monkeypatch.setattr(operations, "MAX_VERSIONS", 3)
    for export_wh in range(3):
        record(market, contract, ReadingIn(market.alice, 0, export_wh))
    assert record(market, contract, ReadingIn(market.alice, 0, 2)).duplicates == 1
    with pytest.raises(InvalidReading) as caught:
        record(market, contract, ReadingIn(market.bob, 0, 1), ReadingIn(market.alice, 0, 3))
    assert (caught.value.code, caught.value.field, caught.value.item) == ("too_many_versions", "account", 1)
    assert len(kept(market.alice)) == 3
    assert not kept(market.bob)


def test_why_and_which_revision_are_recovered_too(market: Market, contract: str) -> None:
    killed(
        market, contract, ReadingIn(market.alice, 0, 900, revision=2), ReadingIn(market.bob, 70, 0, reason="decided")
    )
    # An older correction that comes later replaces nothing, and no device what was decided.
    later = record(market, contract, ReadingIn(market.alice, 0, 800, revision=1), ReadingIn(market.bob, 90, 0))
    assert (later.accepted, later.duplicates) == (0, 2)
    fields = ("account", "version", "import_wh", "export_wh", "quality", "reason", "revision")
    assert list(Reading.objects.order_by("account").values_list(*fields)) == [
        (market.alice, 0, 0, 900, "corrected", "", 2),
        (market.bob, 0, 70, 0, "measured", "decided", 0),
    ]
    both_say(contract)
