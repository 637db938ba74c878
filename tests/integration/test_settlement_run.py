"""From trades and readings to money on the ledger: who gets and pays what, and that nobody waits for a silent meter."""

from __future__ import annotations

import threading
import time

import pytest

from ledger import queries as ledger_queries
from ledger.core.encoding import decode
from ledger.core.rows import rows_root
from market.engine.commands import BUY, SELL, SettleRow
from market.exchange.units import parse_at
from market.metering.operations import ReadingIn, record_batches
from market.settlement import queries
from market.settlement.operations import Settlement, settle_due
from market.settlement.service import SettlementService
from market.settlement.waiting import DEADLINE_MS
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

TOPUP, SPILL = 4_000, 800


def cash(market: Market, account: int) -> int:
    return market.exchange.read(lambda engine: engine.accounts[account].cash_e7)


def by_kind(market: Market) -> dict[str, int]:
    def sums(engine) -> dict[str, int]:
        found: dict[str, int] = {}
        for account in engine.accounts:
            found[account.kind] = found.get(account.kind, 0) + account.cash_e7
        return found

    return market.exchange.read(sums)


def deliver(market: Market, minutes: float = 30) -> None:
    """Move on and wait until the market's timetable has followed."""
    market.clock.advance(minutes=minutes)
    market.member("LV1.2", deposit_e7=0)


def meter(market: Market, contract: str, **nets: tuple[int, int]) -> None:
    batches: dict[str, list[ReadingIn]] = {}
    for name, (import_wh, export_wh) in nets.items():
        area = "LV2.1" if name == "charlie" else "LV1.1"
        batches.setdefault(area, []).append(ReadingIn(getattr(market, name), import_wh, export_wh))
    record_batches(exchange=market.exchange, contract=contract, batches=batches, now_ms=market.clock.at_ms)


def settle(market: Market) -> Settlement:
    return settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)


def trade_across_the_city(market: Market) -> str:
    """Alice sells 1,000 Wh at 0.20 to Charlie; the path LV1.1-MV1-CITY-MV2-LV2.1 costs 0.03."""
    contract = market.contract()
    market.place(market.alice, SELL, "0.2000", 1_000, contract=contract)
    outcome = market.place(market.charlie, BUY, "0.3000", 1_000, contract=contract)
    assert len(outcome.events) == 2, "the order and its trade"
    return contract


def test_everybody_is_paid_and_clearing_is_empty() -> None:
    with running_market() as market:
        before = by_kind(market)
        start = {name: cash(market, getattr(market, name)) for name in ("alice", "bob", "charlie")}
        contract = trade_across_the_city(market)
        assert cash(market, market.alice) == start["alice"] - 2_000 * 1_000, "the margin"
        assert cash(market, market.charlie) == start["charlie"] - 2_300 * 1_000
        deliver(market)
        # Alice delivers 900 of 1,000, Bob uses 300 without having bought, Charlie uses 950 of 1,000.
        meter(market, contract, alice=(0, 900), bob=(300, 0), charlie=(950, 0))
        assert settle(market) == Settlement(areas=2, accounts=3, estimated=0, waiting=0, refused=0)

        assert cash(market, market.alice) - start["alice"] == 2_000 * 1_000 - TOPUP * 100
        assert cash(market, market.bob) == start["bob"], "its consumption is on the supply bill"
        assert cash(market, market.charlie) - start["charlie"] == -2_300 * 1_000 + SPILL * 50
        after = by_kind(market)
        assert after["clearing"] == 0
        assert after["operator"] - before["operator"] == 300 * 1_000
        assert after["billing"] - before["billing"] == -TOPUP * 300
        assert after["supplier"] - before["supplier"] == TOPUP * 400 - SPILL * 50
        assert sum(after.values()) == 0


def test_the_ledger_carries_the_sums_and_commits_to_the_rows() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, alice=(0, 900), bob=(300, 0), charlie=(950, 0))
        settle(market)
        line = queries.line(market.alice, contract)
        entry = ledger_queries.entry(line.seq)
        assert (entry["type"], entry["contract"], entry["area"], entry["count"]) == ("settle", contract, "LV1.1", 2)
        assert (entry["payout_e7"], entry["short_e7"]) == (3_600_000, 400_000)
        rows = ledger_queries.rows(line.seq)
        assert rows_root(rows).hex() == entry["root"]
        told = [{name: value for name, value in decode(row).items() if name != "salt"} for row in rows]
        assert told[0] == line.row._asdict()
        assert SettleRow(**told[0]) == SettleRow(
            market.alice, 0, 900, "measured", -1_000, 100, 0, 0, 3_600_000, 0, 400_000, 0, 0
        )


def test_settling_again_changes_nothing() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, alice=(0, 900), bob=(300, 0), charlie=(950, 0))
        settle(market)
        balances = [cash(market, account) for account in (market.alice, market.bob, market.charlie)]
        again = settle(market)
        assert (again.areas, again.refused) == (0, 0)
        assert balances == [cash(market, account) for account in (market.alice, market.bob, market.charlie)]


def test_one_area_does_not_wait_for_another() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, charlie=(1_000, 0))
        assert settle(market).areas == 1
        assert queries.line(market.charlie, contract) is not None
        assert queries.line(market.alice, contract) is None
        state = next(state for state in queries.board(market.exchange) if state.contract == contract)
        assert (state.state, state.settled_areas) == ("delivered", 1)
        areas = {area.area: area for area in state.areas}
        assert (areas["LV2.1"].settled, areas["LV2.1"].readings) == (True, 1)
        assert (areas["LV1.1"].settled, areas["LV1.1"].homes, areas["LV1.1"].readings) == (False, 2, 0)


def test_the_board_shows_what_is_closed_delivered_and_settled() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        following = market.contract(2)
        market.clock.advance(minutes=15)
        market.member("LV1.2", deposit_e7=0)
        assert [(state.contract, state.state) for state in queries.board(market.exchange)] == [(contract, "closed")]
        deliver(market, minutes=15)
        meter(market, contract, alice=(0, 900), bob=(300, 0), charlie=(950, 0))
        before = {state.contract: state for state in queries.board(market.exchange)}
        assert (before[contract].state, before[contract].missing_readings) == ("delivered", 2), "both of LV1.2"
        assert before[following].state == "closed"
        assert [area.area for area in before[contract].areas] == ["LV1.1", "LV1.2", "LV2.1"]
        settle(market)
        market.clock.advance(minutes=DEADLINE_MS / 60_000)
        settle(market)
        after = {state.contract: state for state in queries.board(market.exchange)}
        assert (after[contract].state, after[contract].settled_areas, after[contract].areas) == ("settled", 3, [])
        assert len(queries.board(market.exchange, 1)) == 1


def test_a_silent_meter_is_estimated_after_the_deadline() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, bob=(300, 0), charlie=(1_000, 0))
        assert settle(market).areas == 1, "LV1.1 waits for Alice"
        end_ms = parse_at(contract.replace("Z", ":00Z")) + 15 * 60_000
        market.clock.at_ms = end_ms + DEADLINE_MS - 1
        assert settle(market).areas == 0
        market.clock.at_ms = end_ms + DEADLINE_MS
        settled = settle(market)
        assert settled.estimated >= 1
        alice, bob = queries.line(market.alice, contract), queries.line(market.bob, contract)
        assert (alice.row.quality, alice.row.export_wh, alice.row.payout_e7) == ("estimated", 1_000, 4_000_000)
        assert (alice.row.short_wh, alice.row.topup_wh, alice.row.spill_wh) == (0, 0, 0)
        assert (bob.row.quality, bob.row.topup_wh) == ("measured", 300)


def test_a_contract_nobody_traded_is_settled_too() -> None:
    with running_market() as market:
        contract = market.contract()
        deliver(market)
        meter(market, contract, alice=(0, 500), bob=(300, 0), charlie=(0, 0))
        settle(market)
        assert queries.line(market.alice, contract).row.spill_e7 == SPILL * 500
        assert queries.result(market.alice, start_ms=0, end_ms=market.clock.at_ms).earned_e7 == SPILL * 500


def test_a_result_adds_up_to_the_wallet() -> None:
    with running_market() as market:
        start = {name: cash(market, getattr(market, name)) for name in ("alice", "charlie")}
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, alice=(0, 900), bob=(300, 0), charlie=(1_200, 0))
        settle(market)
        span = {"start_ms": 0, "end_ms": market.clock.at_ms}
        alice = queries.result(market.alice, **span)
        assert (alice.lines, alice.sales_e7, alice.short_e7) == (1, 2_000_000, 400_000)
        assert alice.earned_e7 == cash(market, market.alice) - start["alice"]
        charlie = queries.result(market.charlie, **span)
        assert charlie.purchases_e7 == start["charlie"] - cash(market, market.charlie)
        assert (charlie.topup_e7, charlie.earned_e7) == (TOPUP * 200, 0)
        assert [line.contract for line in queries.lines(market.alice)] == [contract]
        assert queries.lines(market.alice, before=queries.lines(market.alice)[0].seq) == []


def test_the_service_settles_by_itself() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        service = SettlementService(every_s=0.02)
        service.start()
        try:
            meter(market, contract, alice=(0, 900), bob=(300, 0), charlie=(950, 0))
            deadline_s = time.monotonic() + 20
            while queries.line(market.charlie, contract) is None or queries.line(market.alice, contract) is None:
                assert time.monotonic() < deadline_s, "nothing was settled"
                time.sleep(0.02)
        finally:
            service.stop()
        assert not [thread for thread in threading.enumerate() if thread.name == "settlement"]
