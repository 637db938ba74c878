"""What the clock owes: an operator who lets it stand still and redoes every consequence is named, or the delay is counted."""

from __future__ import annotations

import json

import pytest

from ledger.core.findings import Bundle
from market.audit.clock import OPENING_BLOCKS, SETTLED_WITHIN_MS
from market.audit.judge import Judge, Wrong
from market.engine import commands as c
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.settlement.waiting import UNCORRECTED_DEADLINE_MS
from tests.unit.audit_market import FIRST, LATER, MINUTE_MS, NOON, Town, a_day, audited, day, of_type, place

HOUR_MS = 60 * MINUTE_MS


def judged(town: Town, *, resumed: bool = False) -> Judge:
    """Return the judge of a log, stopped and resumed behind each seal or not."""
    judge, first = Judge(), 0
    for entry in town.entries:
        if entry["type"] == "seal":
            end = entry["seq"] + 1
            judge.take(Bundle(first, [], town.entries[first:end], town.rows, len(town.entries), None))
            if resumed and judge.wrong is None:
                judge = Judge.restore(Engine.load(judge.engine.dump()), json.loads(json.dumps(judge.values())))
            first = end
    return judge


def wrong_of(town: Town) -> Wrong:
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    return caught.value


def test_an_honest_day_is_in_time() -> None:
    lateness = audited(day().files())[1].lateness
    assert (lateness.settled_late, lateness.unsettled, lateness.delivery_late_ms) == (0, [], MINUTE_MS)
    assert lateness.gate_late_ms == 16 * MINUTE_MS, "the town sleeps through the first gate, between two blocks"
    seals = [entry for entry in day().entries if entry["type"] == "seal"]
    assert lateness.longest_gap_ms > 0 and len(seals) > 5


@pytest.mark.parametrize(
    ("late_ms", "due"),
    [(HOUR_MS, f"CloseContract {FIRST}"), (24 * HOUR_MS, f"CloseContract {FIRST}")],
)
def test_a_gate_that_is_not_closed_is_named_at_the_seal(late_ms: int, due: str) -> None:
    town = Town()
    town.order(town.alice, c.SELL, 1_500, 1_000)
    town.at_ms = contract_start_ms(FIRST) + late_ms
    town.seal()
    wrong = wrong_of(town)
    assert wrong.place == place(town.entries[-1])
    assert wrong.what == f"expected nothing that is due and not done, was {due}"


def test_a_market_that_was_down_does_first_what_it_owes_and_the_delay_is_counted() -> None:
    town = Town()
    town.due(contract_start_ms(FIRST) + 6 * HOUR_MS)
    town.seal()
    lateness = audited(town.files())[1].lateness
    assert lateness.gate_late_ms == 6 * HOUR_MS
    assert lateness.delivery_late_ms == 6 * HOUR_MS - 15 * MINUTE_MS
    assert lateness.longest_gap_ms == 6 * HOUR_MS + 10 * MINUTE_MS


def test_an_interval_that_is_not_ended_is_named() -> None:
    town = Town()
    town.due(contract_start_ms(FIRST))
    town.at_ms = contract_start_ms(FIRST) + 15 * MINUTE_MS
    while closing := [
        one for one in town.engine.schedule(town.at_ms) if isinstance(one, c.CloseContract | c.OpenContract)
    ]:
        for command in closing:
            town.do(command)
    town.seal()
    assert wrong_of(town).what == f"expected nothing that is due and not done, was DeliverContract {FIRST}"


def test_a_halt_that_does_not_end_at_its_time_is_named() -> None:
    town = Town()
    town.do(c.SetHalt("contract", NOON, 1, "grid", town.at_ms + MINUTE_MS))
    town.seal()
    town.at_ms += MINUTE_MS
    town.order(town.alice, c.SELL, 1_500, 10, LATER)
    town.seal()
    assert wrong_of(town).what == f"expected nothing that is due and not done, was SetHalt contract {NOON} over"


@pytest.mark.parametrize("resumed", [False, True])
def test_contracts_that_a_command_makes_due_are_waited_for_and_then_missed(resumed: bool) -> None:
    town = Town()
    town.do(c.SetParams(40_000, 1, 1_000_000, 50, 240, 0, 1_000))
    for _ in range(OPENING_BLOCKS):
        town.seal()
    assert judged(town, resumed=resumed).wrong is None
    town.seal()
    late = judged(town, resumed=resumed).wrong
    assert late is not None
    assert (late.place, late.what.split()[-2]) == (place(town.entries[-1]), "OpenContract")
    in_time = Town()
    in_time.do(c.SetParams(40_000, 1, 1_000_000, 50, 240, 0, 1_000))
    for _ in range(OPENING_BLOCKS):
        in_time.seal()
    in_time.due(in_time.at_ms)
    in_time.seal()
    assert judged(in_time, resumed=resumed).wrong is None


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_settled_late_or_never_is_counted(resumed: bool) -> None:
    assert SETTLED_WITHIN_MS == 2 * UNCORRECTED_DEADLINE_MS, "the audit must not import what knows the database"
    town = a_day(settled=False)
    end_ms = contract_start_ms(FIRST) + 15 * MINUTE_MS
    town.due(end_ms + SETTLED_WITHIN_MS)
    town.settle(FIRST, "LV1", {})
    town.seal()
    judge = judged(town, resumed=resumed)
    lateness = judge.end(len(town.entries)).lateness
    assert (lateness.settled_late, lateness.unsettled) == (0, [])
    town.due(town.at_ms + 1)
    town.seal()
    assert judged(town, resumed=resumed).end(len(town.entries)).lateness.unsettled == [FIRST]
    town.settle(FIRST, "LV2", {})
    town.seal()
    lateness = judged(town, resumed=resumed).end(len(town.entries)).lateness
    assert (lateness.settled_late, lateness.unsettled) == (1, [])
    assert of_type(town.entries, "settle", 1)["area"] == "LV2"
