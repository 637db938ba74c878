"""What every statement comes to, worked out by the audit: against wallets and supply bills, by hand, day by day."""

from __future__ import annotations

from datetime import date
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from ledger.core.note import parse_vkey
from ledger.core.verify import verify_log
from market.audit.statements import DaySums, Line, Statements, add, values_of
from market.audit.stating import judge_of
from market.engine import commands as c
from market.engine.accounts import BILLING_INDEX
from market.engine.contracts import DELIVERED, contract_start_ms
from market.settlement.rules import Metered
from tests.market_log import SIGNER
from tests.unit.audit_market import FEE_E4, FINAL_MIN, FIRST, LATER, MINUTE_MS, NOON, Town, of_type
from tests.unit.ledger_logs import source

# 10:15 UTC is the evening of the sixth there, 12:00 and 12:15 the morning of the seventh.
ZONE = ZoneInfo("Pacific/Auckland")
SIXTH, SEVENTH = date(2026, 6, 6), date(2026, 6, 7)
TOPUP, SPILL, GIFT = 3_000, 800, 1_000
FUNDED_E7 = 1_000_000_000


def measured(import_wh: int, export_wh: int) -> Metered:
    return Metered(import_wh, export_wh, "measured")


def meter(town: Town, contract: str, **found: tuple[int, int]) -> dict[str, dict[int, Metered]]:
    """Commit readings and return them by area."""
    homes = {getattr(town, name): (name, values) for name, values in found.items()}
    by_area: dict[str, dict[int, Metered]] = {"LV1": {}, "LV2": {}}
    for account, (_, values) in homes.items():
        by_area[town.engine.accounts[account].area][account] = measured(*values)
    for area, metered in by_area.items():
        if metered:
            town.readings(contract, area, {account: one[:2] for account, one in metered.items()})
    return by_area


def settle(town: Town, contract: str, **found: tuple[int, int]) -> None:
    for area, metered in meter(town, contract, **found).items():
        town.settle(contract, area, metered)
    town.seal()


def correct(town: Town, contract: str, **found: tuple[int, int]) -> None:
    for area, metered in meter(town, contract, **found).items():
        if metered:
            town.adjust(contract, area, metered)
    town.seal()


def two_days(*, final: bool = True) -> Town:
    """Return a town's two days: trades, one taken back, short, spill, top-up, an estimate, corrections, sharing twice."""
    town = Town()
    alice, bob, charlie, dora = town.alice, town.bob, town.charlie, town.dora
    agreement = town.do(c.Propose(charlie, charlie, dora, GIFT, FIRST))[0].seq
    town.do(c.Agree(dora, agreement))
    town.order(alice, c.SELL, 1_500, 1_000)
    town.order(bob, c.BUY, 2_000, 800)
    town.order(alice, c.SELL, 1_600, 500)
    town.order(bob, c.BUY, 2_000, 300)
    taken_back = of_type(town.entries, "trade", -1)
    town.do(c.RecallTrade(taken_back["seq"], "error"))
    town.order(charlie, c.SELL, 1_400, 200, NOON)
    town.order(bob, c.BUY, 2_000, 200, NOON)
    town.seal()
    town.due(contract_start_ms(FIRST) + 16 * MINUTE_MS)
    # Alice sold 1,000 and delivers 600; Bob, who bought them, uses 700; Charlie's roof gives 900; Dora needs 400.
    settle(town, FIRST, alice=(0, 600), bob=(700, 0), charlie=(0, 900), dora=(400, 0))
    town.share(FIRST)
    town.seal()
    correct(town, FIRST, dora=(250, 0), charlie=(20, 900), bob=(800, 0))
    town.share(FIRST)
    town.seal()
    town.due(contract_start_ms(NOON) + 16 * MINUTE_MS)
    settle(town, NOON, charlie=(0, 200))  # Bob's meter is silent
    correct(town, NOON, bob=(150, 0), alice=(70, 0))  # and alice had no row
    town.due(contract_start_ms(LATER) + 16 * MINUTE_MS)
    settle(town, LATER, dora=(0, 40))
    for contract in sorted(name for name, one in town.engine.contracts.items() if one.state == DELIVERED):
        for area in ("LV1", "LV2"):
            town.settle(contract, area, {})  # nobody traded in it, no meter was read
    town.seal()
    if final:
        town.due(contract_start_ms(LATER) + (15 + FINAL_MIN) * MINUTE_MS)
        for contract in sorted(town.engine.provisional):
            if town.engine.share_is_due(contract):
                town.share(contract)
            town.do(c.Final(contract))
        town.seal()
    return town


@cache
def town() -> Town:
    """Return those days, made once: nobody changes them."""
    return two_days()


def recomputed(log: Town, *asked: int) -> tuple[Statements, list[tuple[date, int, DaySums]]]:
    """Audit a log and return what it works out, and what it has handed on in that order."""
    statements = Statements(ZONE, asked)
    found: list[tuple[date, int, DaySums]] = []
    statements.write = lambda day, account, sums: found.append((day, account, sums))
    judge = judge_of(statements)
    report = verify_log(source(log.files()), [parse_vkey(SIGNER.vkey)], each=judge.take)
    judge.end(report.size)
    return statements, found


@pytest.mark.parametrize("final", [True, False])
def test_statements_are_what_wallets_and_supply_bills_moved(final: bool) -> None:
    log = two_days(final=final)
    _, found = recomputed(log)
    accounts = log.engine.accounts
    for account in (log.alice, log.bob, log.charlie, log.dora):
        sums = add(one for _, number, one in found if number == account)
        assert accounts[account].net_e7 == FUNDED_E7 + sums.wallet_e7, account
        assert sums.wallet_e7 or account == log.dora
    assert accounts[BILLING_INDEX].cash_e7 == sum(sums.bill_e7 for _, _, sums in found) < 0


def test_days_come_in_order_and_each_account_once() -> None:
    log = town()
    statements, found = recomputed(log)
    alice, bob, charlie, dora = log.alice, log.bob, log.charlie, log.dora
    places = [(day, account) for day, account, _ in found]
    assert places == [(SIXTH, n) for n in (alice, bob, charlie, dora)] + [
        (SEVENTH, n) for n in (alice, bob, charlie, dora)
    ]
    assert statements.count == len(found) == 8


def test_a_home_that_sold_too_much() -> None:
    log = town()
    _, found = recomputed(log)
    (alice,) = [sums for day, account, sums in found if (day, account) == (SIXTH, log.alice)]
    sold = 800 * 1_500 + 200 * 1_500  # the newest order is sold to first; the trade at 1,600 was taken back
    trades = [e for e in log.entries if e["type"] == "trade" and e["contract"] == FIRST]
    taken_back = of_type(log.entries, "recall")["trade"]
    stand = [e for e in trades if e["seq"] != taken_back]
    sold_wh = sum(e["energy_wh"] for e in stand)
    assert len(trades) > len(stand)
    assert (alice.sold_wh, alice.sold_e7) == (sold_wh, sum(e["energy_wh"] * e["sell_e4"] for e in stand))
    assert alice.short_wh == sold_wh - 600 and alice.short_e7 == alice.short_wh * TOPUP
    assert (alice.spill_wh, alice.topup_wh, alice.without_e7) == (0, 0, 600 * SPILL)
    assert sold_wh <= 1_000 and alice.sold_e7 <= sold


def test_corrections_and_sharing_are_in_the_sums() -> None:
    log = town()
    _, found = recomputed(log)
    at = {(day, account): sums for day, account, sums in found}
    charlie, dora, bob = at[SIXTH, log.charlie], at[SIXTH, log.dora], at[SIXTH, log.bob]
    # Dora needs 250 in the end, all of it from Charlie, across two streets.
    agreement = of_type(log.entries, "agreement")
    assert agreement["fee_e4"] == 2 * FEE_E4
    assert (dora.import_wh, dora.topup_wh, dora.topup_e7) == (250, 0, 0)
    assert (dora.received_wh, dora.received_e7, dora.shared_fee_e7) == (250, 250 * (GIFT + 200), 250 * 200)
    assert (charlie.given_wh, charlie.given_e7) == (250, 250 * GIFT)
    assert (charlie.spill_wh, charlie.spill_e7) == (880 - 250, (880 - 250) * SPILL)
    assert (charlie.corrected_wallet_e7, dora.corrected_bill_e7) == (-20 * SPILL, 150 * TOPUP)
    assert bob.import_wh == 800 and bob.bought_e7 - bob.fee_e7 == at[SIXTH, log.alice].sold_e7
    # On the seventh Bob was estimated first; Alice had no row.
    assert (at[SEVENTH, log.bob].estimated, at[SEVENTH, log.bob].import_wh, at[SEVENTH, log.bob].spill_wh) == (
        0,
        150,
        50,
    )
    alice = at[SEVENTH, log.alice]
    assert (alice.intervals, alice.import_wh, alice.topup_e7, alice.net_e7) == (1, 70, 70 * TOPUP, -70 * TOPUP)


def test_lines_of_who_is_asked_for_add_up_to_the_day() -> None:
    log = town()
    homes = (log.alice, log.bob, log.charlie, log.dora)
    statements, found = recomputed(log, *homes)
    for day, account, sums in found:
        assert statements.days[day][account] == sums
        intervals = [
            one
            for (contract, number), one in statements.intervals.items()
            if number == account and statements.day_of(contract) == day
        ]
        lines = [line for one in intervals for line in (*one.deals, *one.lines)]
        assert sum(line.money_e7 for line in lines) == sums.net_e7, (day, account)
        assert sum(one.estimated for one in intervals) == sums.estimated
        for line in lines:
            entry = log.entries[line.seq]
            assert entry["type"] == {"bought": "trade", "sold": "trade", "corrected": "adjust"}.get(
                line.kind, entry["type"]
            )
    assert not recomputed(log)[0].intervals, "nothing is kept by interval of who is not asked for"
    agreement = of_type(log.entries, "agreement")["seq"]
    shares = [e["seq"] for e in log.entries if e.get("action") == "shared"]
    lines = statements.intervals[FIRST, log.dora].lines
    assert [line for line in lines if line.kind == "received"] == [
        Line("received", 400, GIFT + 200, 400 * 200, -400 * (GIFT + 200), shares[0], agreement),
        Line("received", -150, GIFT + 200, -150 * 200, 150 * (GIFT + 200), shares[1], agreement),
    ]


def test_a_day_is_handed_on_as_soon_as_nothing_of_it_can_move() -> None:
    """Memory is of the days that are not over: the sixth is gone when the last contract of it is final."""
    log = town()
    statements = Statements(ZONE)
    judge = judge_of(statements)
    handed: dict[date, set[int]] = {}
    statements.write = lambda day, account, sums: handed.setdefault(day, set()).add(judge.engine.seq)
    report = verify_log(source(log.files()), [parse_vkey(SIGNER.vkey)], each=judge.take)
    assert list(handed) == [SIXTH], "the seventh may go on"
    finals = [entry["seq"] for entry in log.entries if entry["type"] == "final" and entry["contract"] < NOON]
    assert handed[SIXTH] == {finals[-1] + 1}
    judge.end(report.size)
    assert list(handed) == [SIXTH, SEVENTH]


def test_a_program_reads_integers_with_their_units() -> None:
    log = town()
    _, found = recomputed(log)
    values = values_of(*found[0])
    assert list(values)[:4] == ["day", "account", "intervals", "estimated"]
    assert values["day"] == "2026-06-06" and all(type(value) is int for name, value in values.items() if name != "day")
    assert values["net_e7"] == values["wallet_e7"] + values["bill_e7"]
    assert all(name.endswith(("_wh", "_e7")) for name in list(values)[4:])
