"""Corrections of settlements judged: an honest one passes, each lie about one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from ledger.core.encoding import decode, encode
from ledger.core.findings import Bundle
from ledger.core.rows import rows_root
from market.audit.judge import Judge, Wrong
from market.audit.meters import GRACE_BLOCKS, Meters
from market.engine import commands as c
from market.engine.commands import AdjustRow
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.replay import Replayer, replay
from market.settlement import rules
from market.settlement.rules import Metered
from tests.market_log import RULES, Fields, lie
from tests.unit.audit_market import FINAL_MIN, FIRST, MINUTE_MS, Town, a_day, audited, place

Rows = dict[int, list[bytes]]
END_MS = contract_start_ms(FIRST) + 15 * MINUTE_MS
TARIFF = rules.Tariff(3_000, 800)


def measured(import_wh: int, export_wh: int) -> Metered:
    return Metered(import_wh, export_wh, "measured")


def corrected(*, poor: bool = False, final: bool = True) -> Town:
    """Return a day that is settled, corrected three times and then final; ``poor``: alice has spent her money."""
    town = a_day()
    if poor:
        for order in list(town.engine.accounts[town.alice].open_ids):
            if order in town.engine.orders:
                town.do(c.CancelOrder(town.alice, order, "owner"))
        town.do(c.Fund(town.alice, -town.engine.accounts[town.alice].free_e7, "withdrawal", ""))
    town.readings(FIRST, "LV1", {town.alice: (0, 700)})  # less than she sold
    town.adjust(FIRST, "LV1", {town.alice: measured(0, 700)})
    town.seal()
    town.readings(FIRST, "LV1", {town.alice: (0, 750), town.charlie: (80, 200)})
    town.adjust(FIRST, "LV1", {town.alice: measured(0, 750), town.charlie: measured(80, 200)})
    town.readings(FIRST, "LV2", {town.dora: (40, 0)})  # she had no row
    town.adjust(FIRST, "LV2", {town.dora: measured(40, 0)})
    town.seal()
    if final:
        town.due(END_MS + FINAL_MIN * MINUTE_MS)
        town.do(c.Final(FIRST))
        town.seal()
    return town


@cache
def honest() -> Town:
    """Return that day, made once."""
    return corrected()


def adjusts(entries: list[Fields]) -> list[Fields]:
    return [entry for entry in entries if entry["type"] == "adjust"]


def named(change: Callable[[list[Fields], Rows], object]) -> Wrong:
    with pytest.raises(Wrong) as caught:
        audited(lie(honest(), change))
    return caught.value


def wrong_of(town: Town) -> Wrong:
    town.seal()
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    return caught.value


@pytest.mark.parametrize("poor", [False, True])
def test_an_honest_correction_passes(poor: bool) -> None:
    town = corrected(poor=poor)
    assert (town.engine.accounts[town.alice].arrears_e7 > 0) == poor
    _, figures = audited(town.files())
    assert (figures.types["adjust"], figures.types["final"], figures.corrected_rows) == (3, 1, 4)
    assert figures.passed_over == 0


@pytest.mark.parametrize("field", ["short_e7", "topup_e7", "spill_e7", "arrears_e7"])
@pytest.mark.parametrize("poor", [False, True])
def test_a_changed_sum_of_a_correction_is_named(field: str, poor: bool) -> None:
    town = corrected(poor=poor)
    entry = adjusts(town.entries)[0]
    expected = entry[field]
    entry[field] += 1
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert (caught.value.place, caught.value.what) == (
        place(entry), f"{field}: expected {expected}, was {expected + 1}",
    )  # fmt: skip


def change_row(number: int, **values: Any) -> Callable[[list[Fields], Rows], None]:
    """Change fields of the first row of a correction, and commit to it anew."""

    def change(entries: list[Fields], rows: Rows) -> None:
        seq = adjusts(entries)[number]["seq"]
        row = decode(rows[seq][0])
        rows[seq][0] = encode({**row, **{name: value(row[name]) for name, value in values.items()}})
        entries[seq]["root"] = rows_root(rows[seq]).hex()

    return change


@pytest.mark.parametrize(
    "field",
    ["payout_e7", "short_e7", "short_wh", "topup_e7", "topup_wh", "spill_e7", "spill_wh", "position_wh", "fee_e7"],
)
def test_a_changed_difference_is_named(field: str) -> None:
    wrong = named(change_row(0, **{field: lambda value: value + 1}))
    assert wrong.place == place(adjusts(honest().entries)[0])
    assert wrong.what.startswith(f"row 0 (account {honest().alice}): {field}: expected ")


@pytest.mark.parametrize("field", ["was_payout_e7", "was_export_wh", "was_short_wh", "was_fee_e7", "was_position_wh"])
@pytest.mark.parametrize("number", [0, 1])
def test_another_old_row_is_named(number: int, field: str) -> None:
    wrong = named(change_row(number, **{field: lambda value: value + 1}))
    assert wrong.place == place(adjusts(honest().entries)[number])
    assert wrong.what == f"row 0 (account {honest().alice}): expected the account's newest row in was_…, was another"


def test_an_old_row_that_was_corrected_already_is_named() -> None:
    """It would take the same money twice: all figures agree with each other, only the row is not the newest."""
    town = a_day()
    first = town.settled[FIRST, "LV1"][town.alice]
    town.readings(FIRST, "LV1", {town.alice: (0, 700)})
    town.adjust(FIRST, "LV1", {town.alice: measured(0, 700)})
    town.readings(FIRST, "LV1", {town.alice: (0, 600)})
    seq = town.adjust_rows(FIRST, "LV1", (AdjustRow(rules.corrected(first, measured(0, 600), TARIFF), first),))
    wrong = wrong_of(town)
    assert (wrong.place, wrong.what) == (
        place(town.entries[seq]),
        f"row 0 (account {town.alice}): expected the account's newest row in was_…, was another",
    )


def test_a_row_that_is_denied_is_named() -> None:
    """As if alice had not been settled at all: what she was charged would be charged again."""
    town = a_day()
    town.readings(FIRST, "LV1", {town.alice: (300, 0)})
    nothing = rules.nothing_settled(town.alice)
    row = rules.corrected(nothing, measured(300, 0), TARIFF)
    seq = town.adjust_rows(FIRST, "LV1", (AdjustRow(row, nothing),))
    wrong = wrong_of(town)
    assert (wrong.place, wrong.what) == (
        place(town.entries[seq]),
        f"row 0 (account {town.alice}): expected the account's newest row in was_…, was another",
    )


def test_a_row_that_never_was_is_named() -> None:
    town = a_day()
    was = rules.settle_account(town.dora, None, measured(0, 500), TARIFF)
    town.readings(FIRST, "LV2", {town.dora: (40, 0)})
    seq = town.adjust_rows(FIRST, "LV2", (AdjustRow(rules.corrected(was, measured(40, 0), TARIFF), was),))
    wrong = wrong_of(town)
    assert wrong.place == place(town.entries[seq])
    assert wrong.what == f"row 0 (account {town.dora}): was_quality: expected none (it has no row), was measured"


def test_a_correction_without_a_later_reading_is_named() -> None:
    town = a_day()
    seq = town.adjust(FIRST, "LV1", {town.alice: measured(0, 700)})
    wrong = wrong_of(town)
    assert (wrong.place, wrong.what) == (
        place(town.entries[seq]), f"row 0 (account {town.alice}): expected a reading that came in later, was none",
    )  # fmt: skip


def test_a_reading_corrects_once() -> None:
    town = corrected(final=False)
    seq = town.adjust(FIRST, "LV1", {town.alice: measured(0, 700)})  # back to the reading before
    wrong = wrong_of(town)
    assert wrong.place == place(town.entries[seq])
    assert wrong.what.endswith("expected a reading that came in later, was none")


@pytest.mark.parametrize("blocks", [0, GRACE_BLOCKS + 1])
def test_a_correction_by_another_reading_than_the_newest_is_named(blocks: int) -> None:
    town = a_day()
    town.readings(FIRST, "LV1", {town.alice: (0, 700)})
    town.readings(FIRST, "LV1", {town.alice: (0, 650)})
    for _ in range(blocks):
        town.seal()
    seq = town.adjust(FIRST, "LV1", {town.alice: measured(0, 700)})
    if not blocks:  # the second one had only just come in
        town.seal()
        assert audited(town.files())[1].passed_over == 1
        return
    wrong = wrong_of(town)
    assert wrong.place == place(town.entries[seq])
    assert wrong.what == f"row 0 (account {town.alice}): export_wh: expected 650, was 700"


def test_a_correction_of_a_correction_that_is_passed_over_is_named() -> None:
    seq = adjusts(honest().entries)[1]["seq"]
    before = honest().entries[seq]["corrects"]
    wrong = named(lambda entries, rows: entries[seq].update(corrects=before - 1))
    assert wrong.place == place(honest().entries[seq])
    assert wrong.what.startswith("expected a refusal (not_newest, corrects), was adjust ")


def test_an_end_before_its_time_is_named() -> None:
    """The operator ends the corrections where one was due."""

    def change(entries: list[Fields], rows: Rows) -> None:
        entry = adjusts(entries)[2]
        seq = entry["seq"]
        last = next(other for other in entries if other["type"] == "final")
        entries[seq] = {**last, "seq": seq, "at": entry["at"], "salt": entry["salt"]}
        rows.pop(seq)

    seq = adjusts(honest().entries)[2]["seq"]
    wrong = named(change)
    assert wrong.place.startswith(f"entry {seq} (final, ")
    assert wrong.what.startswith("expected a refusal (contract_state, contract), was final ")


def test_a_correction_after_the_end_is_named() -> None:
    """An entry after the final one becomes a correction: all of the log agrees with it but the rules."""
    town = corrected()
    town.do(c.Fund(town.bob, 1, "deposit", ""))
    last, seq = adjusts(town.entries)[1], len(town.entries) - 1
    town.seal()
    late = {**last, "seq": seq, "at": town.entries[seq]["at"], "salt": town.entries[seq]["salt"]}

    def change(entries: list[Fields], rows: Rows) -> None:
        entries[seq] = late
        rows[seq] = rows[last["seq"]]

    with pytest.raises(Wrong) as caught:
        audited(lie(town, change))
    assert caught.value.place == place(late)
    assert caught.value.what.startswith("expected a refusal (already_final, contract), was adjust ")


def test_rows_of_a_correction_that_are_held_back_are_named() -> None:
    seq = adjusts(honest().entries)[0]["seq"]
    wrong = named(lambda entries, rows: rows.pop(seq))
    assert (wrong.place, wrong.what) == (f"rows/{seq}", "expected the rows that were settled, was missing")


def test_a_reading_that_is_never_settled_is_counted_when_it_is_final() -> None:
    town = corrected(final=False)
    town.readings(FIRST, "LV1", {town.alice: (0, 10)})
    town.due(END_MS + FINAL_MIN * MINUTE_MS)
    town.do(c.Final(FIRST))
    town.seal()
    assert audited(town.files())[1].passed_over == 1


def test_what_the_judge_knows_of_settlements_can_be_stored() -> None:
    town = a_day()
    engine = Engine()
    meters = Meters()

    def before(seq: int) -> list[Fields]:
        entry = town.entries[seq]
        rows = [decode(row) for row in town.rows.get(seq, [])]
        if entry["type"] in ("readings", "settle"):
            assert getattr(meters, {"readings": "take", "settle": "settle"}[entry["type"]])(entry, rows, engine) == ""
        return rows

    replayer = Replayer(engine, before)
    for entry in town.entries:
        if entry["type"] == "readings":
            before(entry["seq"])
        replayer.take([entry])
    again = Meters.restore(json.loads(json.dumps(meters.values())))
    assert again.values() == meters.values()
    good = town.settled[FIRST, "LV1"][town.alice]
    bad = good._replace(import_wh=good.import_wh + 1)
    for was, problem in ((good, "expected a reading that came in later"), (bad, "newest row in was_")):
        row = {**good._asdict(), **{f"was_{k}": v for k, v in was._asdict().items() if k != "account"}, "salt": ""}
        assert problem in again.adjust({"contract": FIRST, "area": "LV1"}, [row], engine)


# --- sharing ----------------------------------------------------------------------------------------------------------


def sharing() -> Town:
    """Return a town in which dora gets what alice has left over: settled, shared out, corrected, shared out again, final."""
    town = Town()
    seq = town.do(c.Propose(town.alice, town.alice, town.dora, 500, FIRST))[0].seq
    town.do(c.Agree(town.dora, seq))
    town.due(END_MS + MINUTE_MS)
    town.readings(FIRST, "LV1", {town.alice: (0, 900)})
    town.readings(FIRST, "LV2", {town.dora: (600, 0)})
    town.settle(FIRST, "LV1", {town.alice: measured(0, 900)})
    town.settle(FIRST, "LV2", {town.dora: measured(600, 0)})
    town.share(FIRST)
    town.seal()
    town.readings(FIRST, "LV1", {town.alice: (0, 400)})
    town.adjust(FIRST, "LV1", {town.alice: measured(0, 400)})
    town.share(FIRST)
    town.seal()
    town.due(END_MS + FINAL_MIN * MINUTE_MS)
    town.do(c.Final(FIRST))
    town.seal()
    return town


def shares(entries: list[Fields]) -> list[Fields]:
    return [entry for entry in adjusts(entries) if entry.get("action") == "shared"]


def test_honest_sharing_passes() -> None:
    town = sharing()
    assert [entry["energy_wh"] for entry in shares(town.entries)] == [600, -200]
    _, figures = audited(town.files())
    assert (figures.types["agreement"], figures.types["adjust"]) == (2, 3)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("field", ["energy_wh", "price_e7", "fee_e7", "topup_e7", "spill_e7", "arrears_e7"])
def test_a_changed_sum_of_a_share_is_named(field: str, number: int) -> None:
    town = sharing()
    entry = shares(town.entries)[number]
    expected = entry[field]
    entry[field] += 1
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert (caught.value.place, caught.value.what) == (
        place(entry), f"{field}: expected {expected}, was {expected + 1}",
    )  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("field", "by"), [("left_wh", 1), ("left_wh", -1), ("missing_wh", 1), ("was_wh", 1)])
def test_other_figures_than_those_of_the_newest_rows_are_named(field: str, by: int, number: int) -> None:
    town = sharing()
    entry = shares(town.entries)[number]
    row = decode(town.rows[entry["seq"]][0])
    town.rows[entry["seq"]][0] = encode({**row, field: row[field] + by})
    entry["root"] = rows_root(town.rows[entry["seq"]]).hex()
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert caught.value.place == place(entry)
    what = f"row 0 (agreement {row['agreement']}): {field}: expected {row[field]}, was {row[field] + by}"
    assert caught.value.what == what


def test_a_share_by_a_row_that_was_corrected_is_named() -> None:
    """Alice's first reading would have given dora more; everything but that agrees."""
    town = sharing()
    entry = shares(town.entries)[1]
    row = decode(town.rows[entry["seq"]][0])
    town.rows[entry["seq"]][0] = encode({**row, "left_wh": 900, "energy_wh": 600})
    entry["root"] = rows_root(town.rows[entry["seq"]]).hex()
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert caught.value.what == f"row 0 (agreement {row['agreement']}): left_wh: expected 400, was 900"


def test_a_consent_that_was_never_given_is_named() -> None:
    town = sharing()
    accepted = next(entry for entry in town.entries if entry.get("action") == "accepted")
    wrong_account = {"account": town.alice}
    with pytest.raises(Wrong) as caught:
        audited(lie(town, lambda entries, rows: entries[accepted["seq"]].update(wrong_account)))
    assert caught.value.place == place(accepted)
    assert caught.value.what.startswith("expected a refusal (nothing_to_change, agreement), was agreement ")


def test_a_share_that_is_left_out_is_named_by_the_end() -> None:
    town = sharing()
    last = shares(town.entries)[1]

    def change(entries: list[Fields], rows: Rows) -> None:
        final = next(entry for entry in entries if entry["type"] == "final")
        seq = last["seq"]
        entries[seq] = {**final, "seq": seq, "at": last["at"], "salt": last["salt"]}
        rows.pop(seq)

    with pytest.raises(Wrong) as caught:
        audited(lie(town, change))
    assert caught.value.place.startswith(f"entry {last['seq']} (final, ")
    assert "expected a refusal (not_shared, contract)" in caught.value.what


@pytest.mark.parametrize("settled", ["LV1", "LV1 LV2"])
def test_a_judge_that_begins_among_settlements_goes_on(settled: str) -> None:
    """It does not know the rows of what was settled before; what is settled after it looks at as ever."""
    town = sharing_until(settled.split())
    town.snapshot()
    town.seal()
    begun = len(town.entries)
    engine = Engine.load(town.engine.dump())
    before = [
        (entry, town.rows[entry["seq"]])
        for entry in town.entries
        if entry["type"] == "readings" and entry["contract"] in engine.contracts
    ]
    judge = Judge.begin(engine, "EUR", [RULES], before)
    sharing_after(town, "LV2" not in settled)
    entries = [dict(entry) for entry in town.entries[begun:]]
    judge.take(Bundle(begun, [], entries, dict(town.rows), len(town.entries), None))
    assert judge.wrong is None, judge.wrong
    if settled == "LV1":  # of a home that was settled since, its readings are known
        judge = Judge.begin(Engine.load(engine_at(town, begun)), "EUR", [RULES], before)
        lied = [dict(entry) for entry in town.entries[begun:]]
        rows = {seq: list(found) for seq, found in town.rows.items()}
        adjust = next(e for e in lied if e["type"] == "adjust" and e.get("area") == "LV2")
        row = decode(rows[adjust["seq"]][0])
        rows[adjust["seq"]][0] = encode({**row, "import_wh": row["import_wh"] + 1})
        adjust["root"] = rows_root(rows[adjust["seq"]]).hex()
        judge.take(Bundle(begun, [], lied, rows, len(lied), None))
        assert judge.wrong is not None and judge.wrong.place == place(adjust)


def sharing_until(settled: list[str]) -> Town:
    """Return the town of ``sharing`` with these areas settled and nothing shared out yet."""
    town = Town()
    seq = town.do(c.Propose(town.alice, town.alice, town.dora, 500, FIRST))[0].seq
    town.do(c.Agree(town.dora, seq))
    town.due(END_MS + MINUTE_MS)
    town.readings(FIRST, "LV1", {town.alice: (0, 900)})
    town.readings(FIRST, "LV2", {town.dora: (600, 0)})
    town.settle(FIRST, "LV1", {town.alice: measured(0, 900)})
    if "LV2" in settled:
        town.settle(FIRST, "LV2", {town.dora: measured(600, 0)})
    return town


def sharing_after(town: Town, settle: bool) -> None:
    """Go on from there to the end."""
    if settle:
        town.settle(FIRST, "LV2", {town.dora: measured(600, 0)})
    town.share(FIRST)
    town.readings(FIRST, "LV1", {town.alice: (0, 400)})
    town.readings(FIRST, "LV2", {town.dora: (500, 0)})
    town.adjust(FIRST, "LV1", {town.alice: measured(0, 400)})
    town.adjust(FIRST, "LV2", {town.dora: measured(500, 0)})
    town.share(FIRST)
    town.seal()


def engine_at(town: Town, size: int) -> bytes:
    """Return the state after so many entries."""
    engine = Engine()
    replay(engine, town.entries[:size], lambda seq: town.decoded(seq))
    return engine.dump()
