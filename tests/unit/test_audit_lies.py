"""Lies of an operator who has the log's key: changed, hashed and signed anew. Each is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.core.accounts import AccountVector, account_leaf
from ledger.core.encoding import decode, encode
from ledger.core.findings import Bad, Bundle
from ledger.core.note import parse_vkey
from ledger.core.rows import rows_root
from ledger.core.verify import verify_log
from market.audit.judge import Judge, Wrong
from market.audit.meters import GRACE_BLOCKS
from market.engine import commands as c
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.settlement.rules import Metered
from tests.market_log import SIGNER, Fields, lie
from tests.unit.audit_market import FIRST, LATER, MINUTE_MS, NOON, OPENING_MS, Town, a_day, audited, day, of_type, place
from tests.unit.ledger_logs import source

Rows = dict[int, list[bytes]]


def named(change: Callable[[list[Fields], Rows], object]) -> Wrong:
    """Return what the audit says of the day after a change; the verifier itself finds nothing wrong with it."""
    files = lie(day(), change)
    verify_log(source(files), [parse_vkey(SIGNER.vkey)])
    with pytest.raises(Wrong) as caught:
        audited(files)
    return caught.value


def test_an_honest_day_passes() -> None:
    town = day()
    report, figures = audited(town.files(), town.files()["checkpoint"])
    assert figures.entries == report.size == len(town.entries)
    assert figures.types["trade"] == 9
    assert (figures.accounts, figures.settled_rows, figures.readings, figures.currency) == (4, 3, 3, "EUR")
    trades = [entry for entry in town.entries if entry["type"] == "trade"]
    assert figures.energy_wh == sum(trade["energy_wh"] for trade in trades)
    assert figures.paid_e7 == sum(trade["energy_wh"] * trade["buy_e4"] for trade in trades)
    assert figures.fee_e7 == sum(trade["energy_wh"] * (trade["buy_e4"] - trade["sell_e4"]) for trade in trades)


# --- consequences that were not redone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "by"), [("energy_wh", 1), ("energy_wh", -1), ("buy_e4", -1), ("sell_e4", 1), ("maker", 1), ("taker", -1)]
)
@pytest.mark.parametrize("number", range(9))
def test_a_changed_trade_is_named(field: str, by: int, number: int) -> None:
    trade = of_type(day().entries, "trade", number)

    def change(entries: list[Fields], rows: Rows) -> None:
        entries[trade["seq"]][field] += by

    wrong = named(change)
    assert (wrong.place, wrong.what) == (
        place(trade), f"{field}: expected {trade[field]}, was {trade[field] + by}",
    )  # fmt: skip


def test_a_changed_fee_is_named_by_the_first_trade_that_paid_it() -> None:
    def change(entries: list[Fields], rows: Rows) -> None:
        of_type(entries, "fee")["fee_e4"] -= 10

    trade = of_type(day().entries, "trade")
    wrong = named(change)
    assert wrong.place == place(trade)
    assert wrong.what == f"buy_e4: expected {trade['buy_e4'] - 10}, was {trade['buy_e4']}"


def test_a_changed_hold_is_named_by_the_seal_that_misstates_it() -> None:
    """The root over the accounts as they would be with a smaller hold of charlie's."""
    town = a_day(settled=False)
    vector = AccountVector()
    for account in town.engine.accounts:
        held_e7 = account.held_e7 - (account.index == town.charlie)
        leaf = account_leaf(account.index, account.id, account.cash_e7, held_e7, account.arrears_e7)
        vector.set(account.index, leaf)
    assert town.engine.accounts[town.charlie].held_e7 > 0
    honest = town.entries[-1]["state"]
    town.entries[-1]["state"] = vector.root().hex()
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert caught.value.place == place(town.entries[-1])
    assert caught.value.what == f"state: expected {honest}, was {vector.root().hex()}"


def test_a_changed_limit_of_a_resting_order_is_named_by_the_seal_for_its_hold() -> None:
    town = day()
    order = of_type(town.entries, "order", account=town.alice, contract=LATER)
    wrong = named(lambda entries, rows: entries[order["seq"]].update(price_e4=1_701))
    assert wrong.place == place(next(e for e in town.entries[order["seq"] :] if e["type"] == "seal"))
    assert wrong.what.startswith("state: expected ")


@pytest.mark.parametrize("field", ["payout_e7", "fee_e7", "short_e7", "topup_e7", "spill_e7"])
def test_a_changed_sum_of_a_settlement_is_named(field: str) -> None:
    settle = of_type(day().entries, "settle")
    wrong = named(lambda entries, rows: entries[settle["seq"]].update({field: settle[field] + 1}))
    assert (wrong.place, wrong.what) == (
        place(settle), f"{field}: expected {settle[field]}, was {settle[field] + 1}",
    )  # fmt: skip


def test_a_row_that_is_left_out_of_a_settlement_is_named() -> None:
    settle = of_type(day().entries, "settle")

    def change(entries: list[Fields], rows: Rows) -> None:
        del rows[settle["seq"]][0]
        recommit(entries, rows, settle["seq"])

    wrong = named(change)
    assert wrong.place == place(settle)
    assert wrong.what.startswith("expected a refusal (conservation, account), was settle ")


def test_a_changed_deposit_is_named_by_the_next_seal() -> None:
    town = day()
    fund = of_type(town.entries, "fund", account=town.alice)
    wrong = named(lambda entries, rows: entries[fund["seq"]].update(amount_e7=fund["amount_e7"] + 1))
    assert wrong.place == place(next(e for e in town.entries[fund["seq"] :] if e["type"] == "seal"))
    assert wrong.what.startswith("state: expected ")


def recommit(entries: list[Fields], rows: Rows, seq: int) -> None:
    """Commit to the rows as they are now."""
    entries[seq] |= {"root": rows_root(rows[seq]).hex(), "count": len(rows[seq])}


@pytest.mark.parametrize("field", ["payout_e7", "fee_e7", "spill_wh", "position_wh", "topup_e7", "short_wh"])
def test_a_changed_row_of_a_settlement_is_named(field: str) -> None:
    settle = of_type(day().entries, "settle")

    def change(entries: list[Fields], rows: Rows) -> None:
        row = decode(rows[settle["seq"]][0])
        row[field] = int(row[field]) + 1
        rows[settle["seq"]][0] = encode(row)
        recommit(entries, rows, settle["seq"])
        if field in settle:
            entries[settle["seq"]][field] += 1

    wrong = named(change)
    assert wrong.place == place(settle)
    assert wrong.what.startswith(f"row 0 (account {day().alice}): {field}: expected ")


def test_a_settlement_by_another_reading_than_the_ledgers_is_named() -> None:
    """Row, sums and balances all agree with each other; only the reading behind them is not the one that was committed."""
    town = a_day(settled=False)
    town.due(contract_start_ms(FIRST) + 16 * MINUTE_MS)
    town.readings(FIRST, "LV1", {town.alice: (0, 900), town.charlie: (50, 200)})
    seq = town.settle(
        FIRST, "LV1", {town.alice: Metered(0, 950, "measured"), town.charlie: Metered(50, 200, "measured")}
    )
    town.seal()
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert caught.value.place == place(town.entries[seq])
    assert caught.value.what == f"row 0 (account {town.alice}): export_wh: expected 900, was 950"


@pytest.mark.parametrize("blocks", [0, GRACE_BLOCKS, GRACE_BLOCKS + 1])
@pytest.mark.parametrize("left_out", [False, True])
def test_a_reading_is_passed_over_only_when_it_had_just_come_in(blocks: int, left_out: bool) -> None:
    town = a_day(settled=False)
    town.due(contract_start_ms(FIRST) + 16 * MINUTE_MS)
    town.readings(FIRST, "LV2", {town.dora if left_out else town.bob: (1_250, 0)})
    for _ in range(blocks):
        town.seal()
    seq = town.settle(FIRST, "LV2", {})
    town.seal()
    if blocks <= GRACE_BLOCKS:
        assert audited(town.files())[1].passed_over == 1
        return
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert caught.value.place == place(town.entries[seq])
    if left_out:
        assert caught.value.what == f"rows: expected one of account {town.dora}, which has a reading, was none"
    else:
        assert caught.value.what == f"row 0 (account {town.bob}): import_wh: expected 1250, was 1200"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: row.update(import_wh=1), "import_wh: expected 51 (the sum of its rows), was 50"),
        (lambda row: row.update(account=2**40), "account: expected a member once"),
        (lambda row: row.update(account=day().bob), "account: expected a member in LV1"),
        (lambda row: row.update(account=0), "account: expected a member in LV1"),
        (lambda row: row.update(contract=NOON), f"contract: expected {FIRST}, was {NOON}"),
        (lambda row: row.update(quality="guessed"), "quality: expected one of"),
        (lambda row: row.update(export_wh=-900), "export_wh: expected Wh, was -900"),
        (lambda row: row.update(name="x"), "expected the fields"),
        (lambda row: row.update(reason="Because I say so"), "reason: expected a code"),
        (lambda row: row.update(revision=0), "revision: expected a number from 1"),
    ],
)
def test_readings_that_are_not_what_their_entry_says_are_named(change: Callable[[Any], None], what: str) -> None:
    readings = of_type(day().entries, "readings")

    def changed(entries: list[Fields], rows: Rows) -> None:
        row = decode(rows[readings["seq"]][0])
        change(row)
        rows[readings["seq"]][0] = encode(row)
        recommit(entries, rows, readings["seq"])

    wrong = named(changed)
    assert wrong.place == place(readings)
    assert what in wrong.what


def test_rows_of_a_settlement_that_are_held_back_are_named() -> None:
    settle = of_type(day().entries, "settle")
    wrong = named(lambda entries, rows: rows.pop(settle["seq"]))
    assert (wrong.place, wrong.what) == (f"rows/{settle['seq']}", "expected the rows that were settled, was missing")


def test_readings_that_are_held_back_are_named() -> None:
    readings = of_type(day().entries, "readings")
    wrong = named(lambda entries, rows: rows.pop(readings["seq"]))
    what = "expected the readings that are settled by, was missing"
    assert (wrong.place, wrong.what) == (f"rows/{readings['seq']}", what)


def held_back(metered: Metered) -> dict[str, bytes]:
    """Return a log whose readings of one street are held back; the other street's bob is settled by this."""
    town = a_day(settled=False)
    alice, bob = town.alice, town.bob
    town.due(contract_start_ms(FIRST) + 16 * MINUTE_MS)
    gone = town.readings(FIRST, "LV1", {alice: (0, 900)})
    town.readings(FIRST, "LV2", {bob: (1_250, 0)})
    for _ in range(GRACE_BLOCKS + 1):
        town.seal()
    town.settle(FIRST, "LV1", {alice: Metered(0, 77, "measured")})
    town.settle(FIRST, "LV2", {bob: metered})
    town.seal()
    del town.rows[gone]
    return town.files()


def test_where_missing_readings_are_allowed_every_other_street_is_settled_again() -> None:
    """One street's gap does not switch off the check of the others, nor does an audit that was stopped in between."""
    honest = held_back(Metered(1_250, 0, "measured"))
    _, figures = audited(honest, allow_missing_rows=True)
    assert (figures.readings, figures.readings_missing) == (1, 1)
    with pytest.raises(Wrong, match=r"row \d+ \(account \d+\): import_wh: expected 1250, was 0"):
        audited(held_back(Metered(0, 900_000, "measured")), allow_missing_rows=True)


def test_an_audit_that_was_stopped_remembers_which_readings_were_held_back() -> None:
    town = a_day(settled=False)
    town.due(contract_start_ms(FIRST) + 16 * MINUTE_MS)
    gone = [town.readings(FIRST, area, {account: (0, 9)}) for area, account in (("LV1", town.alice), ("LV2", town.bob))]
    town.seal()
    del town.rows[gone[0]]
    judge = Judge()
    judge.allow_missing_rows = True
    size, settled = len(town.entries), town.settle(FIRST, "LV1", {town.alice: Metered(0, 77, "measured")})
    wrong = town.settle(FIRST, "LV2", {town.bob: Metered(0, 77, "measured")})
    town.seal()
    judge.take(Bundle(0, [], town.entries[:size], town.rows, len(town.entries), None))
    judge = Judge.restore(Engine.load(judge.engine.dump()), json.loads(json.dumps(judge.values())))
    judge.take(Bundle(size, [], town.entries[size:], town.rows, len(town.entries), None))
    assert judge.wrong is not None
    assert judge.wrong.place == place(town.entries[wrong]) != place(town.entries[settled])


def test_an_order_that_came_later_and_traded_first_is_named() -> None:
    """Alice's and charlie's asks have one price; the trade is said to have met charlie's, which is younger."""
    town = day()
    trade = of_type(town.entries, "trade")
    younger = of_type(town.entries, "order", account=town.charlie)
    wrong = named(lambda entries, rows: entries[trade["seq"]].update(maker=younger["seq"]))
    assert (wrong.place, wrong.what) == (place(trade), f"maker: expected {trade['maker']}, was {younger['seq']}")


def test_two_orders_that_changed_places_are_named() -> None:
    """Charlie's ask is put before alice's: by the rules the trades then are charlie's first."""
    town = day()
    first, second = (of_type(town.entries, "order", account=account) for account in (town.alice, town.charlie))

    def change(entries: list[Fields], rows: Rows) -> None:
        entries[first["seq"]]["account"], entries[second["seq"]]["account"] = town.charlie, town.alice

    wrong = named(change)
    assert wrong.place == place(next(e for e in town.entries[first["seq"] :] if e["type"] == "seal"))
    assert wrong.what.startswith("state: expected ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("state", "0" * 64), ("totals", "EUR:0"), ("totals", "EUR:0,Wh:0,XYZ:0")],
)
@pytest.mark.parametrize("number", range(7))
def test_a_changed_seal_is_named(field: str, value: str, number: int) -> None:
    seal = of_type(day().entries, "seal", number)
    wrong = named(lambda entries, rows: entries[seal["seq"]].update({field: value}))
    assert (wrong.place, wrong.what) == (place(seal), f"{field}: expected {seal[field]}, was {value}")


@pytest.mark.parametrize(
    ("field", "value"), [("height", 2), ("count", 1), ("first", 1), ("rules", "0" * 64), ("totals", "EUR:1,Wh:0")]
)
def test_a_seal_out_of_its_chain_is_named(field: str, value: Any) -> None:
    town = day()
    seal = of_type(town.entries, "seal", 2)
    with pytest.raises(Bad) as caught:
        audited(lie(town, lambda entries, rows: entries[seal["seq"]].update({field: value})))
    assert caught.value.place == f"entry {seal['seq']}"
    assert caught.value.what.startswith(f"{field}: expected ")


def test_a_changed_snapshot_is_named() -> None:
    snapshot = of_type(day().entries, "snapshot")
    wrong = named(lambda entries, rows: entries[snapshot["seq"]].update(sha256="0" * 64))
    assert wrong.place == place(snapshot)
    assert wrong.what == f"sha256: expected {snapshot['sha256']} (of the state here), was {'0' * 64}"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("trade", ""),
        ("cancel", "ioc"),
        ("cancel", "owner"),
        ("order", ""),
        ("fund", ""),
        ("account", ""),
        ("amend", ""),
    ],
)
def test_an_entry_that_is_left_out_is_named_where_it_was_or_where_it_lacks(kind: str, reason: str) -> None:
    town = day()
    gone = of_type(town.entries, kind, **({"reason": reason} if reason and kind == "cancel" else {}))

    def change(entries: list[Fields], rows: Rows) -> None:
        del entries[gone["seq"]]
        first = 0
        for seq, entry in enumerate(entries):
            entry["seq"] = seq
            if entry["type"] == "seal":
                entry |= {"first": first, "count": seq + 1 - first}
                first = seq + 1
        for seq in list(rows):
            rows[seq - 1] = rows.pop(seq)

    wrong = named(change)
    assert int(wrong.place.split()[1]) >= gone["seq"]
    assert (kind, reason) not in (("trade", ""), ("cancel", "ioc")) or int(wrong.place.split()[1]) == gone["seq"]


@pytest.mark.parametrize(
    "kind", ["order", "trade", "cancel", "fund", "contract", "seal", "amend", "snapshot", "settle"]
)
def test_a_field_that_the_rules_do_not_know_is_named(kind: str) -> None:
    for number, entry in enumerate(found for found in day().entries if found["type"] == kind):
        wrong = named(lambda entries, rows, seq=entry["seq"]: entries[seq].update(note="x"))
        assert (wrong.place, wrong.what) == (place(entry), "note: expected nothing, was x"), number


@pytest.mark.parametrize("kind", ["order", "trade", "cancel", "seal", "fund", "capacity"])
def test_a_field_that_lacks_is_named(kind: str) -> None:
    entry = of_type(day().entries, kind)
    for field in entry.keys() - {"v", "seq", "type", "at", "salt", "prev", "root_before"} - {
        "height", "first", "count", "rules", "totals", "state",
    }:  # fmt: skip
        wrong = named(lambda entries, rows, field=field: entries[entry["seq"]].pop(field))
        assert wrong.place.startswith(f"entry {entry['seq']}"), field


def test_a_made_up_entry_does_not_stop_the_audit_with_an_error() -> None:
    town = day()
    seq = of_type(town.entries, "order")["seq"]
    for values in (
        {"contract": 5}, {"account": "7"}, {"side": 1}, {"type": "final"}, {"type": "agreement"},
        {"type": "adjust", "count": 0, "root": "x"}, {"type": "adjust", "count": 0, "root": "x", "area": 1, "corrects": "x"},
        {"kind": "block", "legs": 2, "leg": 1, "group": seq}, {"kind": "basket", "legs": 100}, {"legs": -1}, {"legs": "x"},
        {"type": "settle", "count": 0, "root": "x"}, {"type": "trade"}, {"type": "snapshot"}, {"type": "contract"},
        {"type": "readings", "count": 0, "root": "x"}, {"type": "halt", "on": "x"}, {"type": "account", "action": "x"},
        {"type": "cancel", "order": "x", "reason": "owner"}, {"type": "cancel", "order": 0, "reason": "expired"},
    ):  # fmt: skip
        wrong = named(lambda entries, rows, values=values: entries[seq].update(values))
        at = seq + 3 if values.get("legs") == 100 else seq  # three orders later comes a trade, which is no leg
        assert wrong.place.startswith(f"entry {at} "), (values, str(wrong))


# --- what the clock owes ----------------------------------------------------------------------------------------------


def test_an_order_that_trades_after_its_time_is_named() -> None:
    town = Town()
    town.order(town.alice, c.SELL, 1_500, 1_000, time_in_force="gtd", expires_at_ms=OPENING_MS + MINUTE_MS)
    town.at_ms = OPENING_MS + 2 * MINUTE_MS
    seq = town.order(town.bob, c.BUY, 2_000, 1_000)
    town.seal()
    with pytest.raises(Wrong) as caught:
        audited(town.files())
    assert caught.value.place == place(town.entries[seq])
    assert caught.value.what.startswith("expected orders whose time has come to be cancelled first, was order ")


def test_a_gate_that_closes_early_is_named() -> None:
    town = Town()
    (event, *_) = town.do(c.CloseContract(NOON))
    town.seal()
    with pytest.raises(Wrong, match="expected a gate that closes at its time") as caught:
        audited(town.files())
    assert caught.value.place == place(town.entries[event.seq])


def test_a_contract_that_opens_early_is_named() -> None:
    town = Town()
    (event,) = town.do(c.OpenContract("2026-06-06T18:00Z"))
    town.seal()
    with pytest.raises(Wrong, match="expected a contract within 180 minutes") as caught:
        audited(town.files())
    assert caught.value.place == place(town.entries[event.seq])
