"""Readings come in: what is right is committed and kept once, what is wrong changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger import queries as ledger_queries
from ledger.core.encoding import decode, encode
from market.exchange.outcomes import Outcome, Overloaded
from market.metering import news, queries
from market.metering.models import Reading
from market.metering.operations import (
    MAX_READING_WH,
    InvalidReading,
    ReadingIn,
    note_power,
    record_batches,
    record_own,
    record_readings,
)
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
AREA = "LV1.1"


def counts(contract: str) -> dict[str, int]:
    return {area: len(accounts) for area, accounts in queries.answered(contract).items()}


class Delivered:
    """A market whose first contract has been delivered."""

    def __init__(self, market: Market):
        self.market = market
        self.exchange = market.exchange
        self.contract = market.contract()
        market.clock.advance(minutes=30)
        market.member(deposit_e7=0)  # any command lets the market's timetable catch up

    def record(self, *readings: ReadingIn, area: str = AREA):
        return record_readings(
            exchange=self.exchange,
            contract=self.contract,
            area=area,
            readings=readings,
            now_ms=self.exchange.now_ms(),
        )

    def seq(self) -> int:
        return self.exchange.read(lambda engine: engine.seq)


@pytest.fixture
def delivered() -> Iterator[Delivered]:
    with running_market(seal_every_s=3_600) as market:
        yield Delivered(market)


def test_a_batch_is_committed_and_kept(delivered: Delivered) -> None:
    alice, bob = delivered.market.alice, delivered.market.bob
    recorded = delivered.record(ReadingIn(alice, 0, 750, 900, 150), ReadingIn(bob, 420, 0))
    assert (recorded.accepted, recorded.corrected, recorded.duplicates) == (2, 0, 0)

    entry = ledger_queries.entry(recorded.seq)
    assert entry["type"] == "readings"
    assert (entry["contract"], entry["area"], entry["count"]) == (delivered.contract, AREA, 2)
    assert (entry["import_wh"], entry["export_wh"]) == (420, 750)
    rows = ledger_queries.rows(recorded.seq)
    assert [encode(decode(row)) for row in rows] == rows, "canonical bytes"
    fields = decode(rows[0])
    assert len(fields.pop("salt")) == 32
    assert fields == {
        "account": alice,
        "contract": delivered.contract,
        "import_wh": 0,
        "export_wh": 750,
        "quality": "measured",
    }
    line = queries.latest(alice)
    assert (line.contract, line.export_wh, line.produced_wh, line.used_wh) == (delivered.contract, 750, 900, 150)
    assert (line.seq, line.n, line.version) == (recorded.seq, 0, 0)
    assert queries.latest(bob).produced_wh is None
    assert queries.readings_for(delivered.contract, AREA) == {alice: (0, 750, "measured"), bob: (420, 0, "measured")}
    assert counts(delivered.contract) == {AREA: 2}
    assert queries.latest(delivered.market.charlie) is None


def test_screens_are_told_of_readings_that_are_in_the_table(
    delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = delivered.market.alice, delivered.market.bob
    told: list[tuple[dict[int, int], list[int]]] = []

    def hear(found: news.News) -> None:
        known = [account for account in found.readings if queries.latest(account) is not None]
        told.append((dict(found.readings), known))

    monkeypatch.setattr(news, "_listeners", [hear])
    recorded = delivered.record(ReadingIn(alice, 0, 750), ReadingIn(bob, 420, 0))
    assert recorded.seq is not None
    assert told == [({alice: recorded.seq, bob: recorded.seq}, [alice, bob])]
    delivered.record(ReadingIn(alice, 0, 750))
    assert len(told) == 1, "a duplicate is no news"
    corrected = delivered.record(ReadingIn(alice, 0, 700))
    assert told[1:] == [({alice: corrected.seq}, [alice])]


def test_duplicates_are_harmless(delivered: Delivered) -> None:
    alice, bob = delivered.market.alice, delivered.market.bob
    delivered.record(ReadingIn(alice, 0, 750))
    seq = delivered.seq()
    again = delivered.record(ReadingIn(alice, 0, 750))
    assert (again.accepted, again.duplicates, again.seq) == (0, 1, None)
    assert delivered.seq() == seq, "nothing new on the ledger"
    mixed = delivered.record(ReadingIn(alice, 0, 750), ReadingIn(bob, 5, 0))
    assert (mixed.accepted, mixed.duplicates) == (1, 1)
    assert Reading.objects.count() == 2


def test_a_correction_is_a_new_version(delivered: Delivered) -> None:
    alice = delivered.market.alice
    delivered.record(ReadingIn(alice, 0, 750))
    recorded = delivered.record(ReadingIn(alice, 0, 700))
    assert (recorded.accepted, recorded.corrected) == (1, 1)
    line = queries.latest(alice)
    assert (line.export_wh, line.version, line.quality) == (700, 1, "corrected")
    assert Reading.objects.count() == 2, "what was reported first is still there"
    assert queries.readings_for(delivered.contract, AREA) == {alice: (0, 700, "measured")}
    assert counts(delivered.contract) == {AREA: 1}
    start = line.start_ms
    assert [reading.export_wh for reading in queries.day(alice, start_ms=start, end_ms=start + 1)] == [700]
    assert queries.day(alice, start_ms=start + 1, end_ms=start + 2) == []


def test_a_batch_that_was_never_answered_can_be_sent_again(delivered: Delivered, monkeypatch) -> None:
    """The process dies between the ledger and the table: the ledger has the entry once, the table gets it later."""
    alice = delivered.market.alice
    monkeypatch.setattr("market.metering.storage.insert", lambda rows: None)
    lost = delivered.record(ReadingIn(alice, 0, 750))
    monkeypatch.undo()
    assert not Reading.objects.exists()
    seq = delivered.seq()
    found = delivered.record(ReadingIn(alice, 0, 750))
    assert found.seq == lost.seq
    assert delivered.seq() == seq
    assert queries.latest(alice).seq == lost.seq


def test_what_was_committed_before_an_overload_is_kept(delivered: Delivered, monkeypatch) -> None:
    alice, charlie = delivered.market.alice, delivered.market.charlie
    submit = delivered.exchange.submit

    def busy(command, **kwargs) -> Outcome:
        if command.area != AREA:
            raise Overloaded(1)
        return submit(command, **kwargs)

    monkeypatch.setattr(delivered.exchange, "submit", busy)
    batches = {AREA: [ReadingIn(alice, 0, 750)], "LV2.1": [ReadingIn(charlie, 90, 0)]}
    arguments = {"exchange": delivered.exchange, "contract": delivered.contract, "batches": batches}
    with pytest.raises(Overloaded):
        record_batches(**arguments, now_ms=1)
    assert counts(delivered.contract) == {AREA: 1}, "kept, because the ledger has it"
    monkeypatch.undo()
    recorded = record_batches(**arguments, now_ms=1)
    assert (recorded.accepted, recorded.duplicates) == (1, 1)
    assert counts(delivered.contract) == {AREA: 1, "LV2.1": 1}


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"import_wh": -1}, "energy_out_of_range", "import_wh"),
        ({"export_wh": MAX_READING_WH + 1}, "energy_out_of_range", "export_wh"),
        ({"import_wh": 1.5}, "energy_out_of_range", "import_wh"),
        ({"import_wh": "7"}, "energy_out_of_range", "import_wh"),
        ({"import_wh": True}, "energy_out_of_range", "import_wh"),
        ({"produced_wh": -5}, "energy_out_of_range", "produced_wh"),
        ({"used_wh": 2**60}, "energy_out_of_range", "used_wh"),
        ({"quality": "guessed"}, "invalid_value", "quality"),
        ({"account": -1}, "unknown_account", "account"),
        ({"account": 0}, "unknown_account", "account"),  # a system account has no meter
        ({"account": 10_000}, "unknown_account", "account"),
        ({"account": None}, "unknown_account", "account"),
    ],
)
def test_a_wrong_reading_spoils_its_batch_and_nothing_else(
    delivered: Delivered, change: dict, code: str, field: str
) -> None:
    good, bad = ReadingIn(delivered.market.alice, 0, 1), ReadingIn(delivered.market.bob, 0, 1)._replace(**change)
    seq = delivered.seq()
    with pytest.raises(InvalidReading) as caught:
        delivered.record(good, bad)
    assert (caught.value.code, caught.value.field, caught.value.item) == (code, field, 1)
    assert delivered.seq() == seq
    assert not Reading.objects.exists()


def test_a_wrong_batch_is_refused(delivered: Delivered) -> None:
    alice, charlie = delivered.market.alice, delivered.market.charlie
    for readings, code, field in [
        ([ReadingIn(alice, 0, 1), ReadingIn(alice, 0, 2)], "duplicate_reading", "account"),
        ([ReadingIn(charlie, 0, 1)], "unknown_account", "area"),
        ([ReadingIn(alice, 0, 1)] * 10_001, "too_many_readings", "readings"),
    ]:
        with pytest.raises(InvalidReading) as caught:
            delivered.record(*readings)
        assert (caught.value.code, caught.value.field) == (code, field)
    assert not Reading.objects.exists()


@pytest.mark.parametrize(
    ("ahead", "code"),
    [(1, "contract_state"), (0, "contract_state"), (999, "unknown_contract"), (None, "unknown_contract")],
)
def test_only_what_was_delivered_is_metered(delivered: Delivered, ahead: int | None, code: str) -> None:
    delivered.contract = "2026-06-06T10:07" if ahead is None else delivered.market.contract(ahead)
    with pytest.raises(InvalidReading) as caught:
        delivered.record(ReadingIn(delivered.market.alice, 0, 1))
    assert (caught.value.code, caught.value.field) == (code, "contract")


def test_a_household_reports_its_own_meter_only(delivered: Delivered) -> None:
    alice, bob = delivered.market.alice, delivered.market.bob

    def report(account: int, readings: dict[str, ReadingIn]):
        return record_own(exchange=delivered.exchange, account=account, readings=readings, now_ms=1)

    assert report(alice, {delivered.contract: ReadingIn(alice, 10, 0)}).accepted == 1
    for readings, code, item in [
        ({delivered.contract: ReadingIn(bob, 10, 0)}, "unknown_account", 0),
        (
            {delivered.contract: ReadingIn(alice, 11, 0), "2030-01-01T00:00Z": ReadingIn(alice, 1, 0)},
            "unknown_contract",
            1,
        ),
        ({delivered.contract: ReadingIn(alice, 11, 0), "x": ReadingIn(alice, -1, 0)}, "energy_out_of_range", 1),
    ]:
        with pytest.raises(InvalidReading) as caught:
            report(alice, readings)
        assert (caught.value.code, caught.value.item) == (code, item)
    with pytest.raises(InvalidReading):
        report(2, {delivered.contract: ReadingIn(2, 10, 0)})
    assert queries.latest(alice).import_wh == 10


def test_power_is_a_gauge() -> None:
    assert queries.power_now(7) is None
    note_power(powers={7: queries.Power(1_000, 3_200, 450, -100)})
    assert queries.power_now(7) == queries.Power(1_000, 3_200, 450, -100)
