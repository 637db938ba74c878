"""Settlement that readings come too late for: estimated, corrected when they are there, and final in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from ledger import queries as ledger_queries
from ledger.core.encoding import decode
from ledger.core.rows import rows_root
from market.engine.commands import BUY, SELL, AdjustRow, Agree, Propose
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.replay import replay
from market.exchange import books, history, models, rebuild
from market.exchange import operations as exchange_operations
from market.exchange.concerns import concerns
from market.exchange.receipts import has_row
from market.metering import marks
from market.metering.estimation import Estimate
from market.metering.models import Mark, Reading
from market.metering.operations import InvalidReading, ReadingIn, record_readings
from market.settlement import operations, queries
from market.settlement.operations import FINAL_GRACE_MS, Corrections, adjust_due, finalise_due, settle_due, share_due
from market.settlement.waiting import DEADLINE_MS
from tests.factories import PARAMS, Market, running_exchange, running_market
from tests.integration.test_settlement_run import cash, deliver, meter, settle, trade_across_the_city

pytestmark = pytest.mark.django_db(transaction=True)
TOPUP, SPILL = 4_000, 800
YEAR_2100_MS = 4_102_444_800_000
NOTHING = Corrections(0, 0, 0, 0)


def correct(market: Market) -> Corrections:
    return adjust_due(exchange=market.exchange)


def net(market: Market) -> list[int]:
    """Return what every account has less what it owes."""
    return market.exchange.read(lambda engine: [account.net_e7 for account in engine.accounts])


def end(market: Market) -> int:
    return finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms)


def final_ms() -> int:
    return PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS


@pytest.fixture
def estimated() -> Iterator[tuple[Market, str]]:
    """Alice sold 1,000 Wh to Charlie; no meter has answered, and the deadline has settled them."""
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        market.clock.advance(ms=DEADLINE_MS)
        assert settle(market).estimated == 2
        yield market, contract


def test_a_late_reading_corrects_what_was_estimated(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    before = cash(market, market.alice)
    assert correct(market) == NOTHING
    assert queries.estimated([contract]) == {contract: 2}
    meter(market, contract, alice=(0, 900))
    assert correct(market) == Corrections(areas=1, accounts=1, unchanged=0, refused=0)
    assert queries.estimated([contract]) == {contract: 1}
    assert cash(market, market.alice) - before == -100 * TOPUP
    assert sum(net(market)) == 0
    assert correct(market) == NOTHING, "calling it again is harmless"
    (found,) = queries.adjustments(market.alice, contracts=[contract])
    assert (found.was.quality, found.row.quality, found.row.short_wh, found.n) == ("estimated", "measured", 100, 0)
    assert queries.line(market.alice, contract).row == found.was, "the line itself stays"
    assert queries.result(market.alice, start_ms=0, end_ms=YEAR_2100_MS).short_e7 == 100 * TOPUP


def test_the_ledger_names_what_was_corrected_and_commits_to_both_rows(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    settled = queries.line(market.alice, contract).seq
    for export_wh in (900, 950):
        meter(market, contract, alice=(0, export_wh))
        correct(market)
    first, second = queries.adjustments(market.alice, contracts=[contract])
    for found, corrects, short_e7 in ((first, settled, 100 * TOPUP), (second, first.seq, -50 * TOPUP)):
        entry = ledger_queries.entry(found.seq)
        assert (entry["type"], entry["contract"], entry["area"]) == ("adjust", contract, "LV1.1")
        assert (entry["corrects"], found.corrects, entry["short_e7"]) == (corrects, corrects, short_e7)
        rows = ledger_queries.rows(found.seq)
        assert rows_root(rows).hex() == entry["root"]
        told = decode(rows[0])
        assert {name: told[name] for name in found.row._fields} == found.row._asdict()
        assert [told[f"was_{name}"] for name in found.was._fields[1:]] == list(found.was[1:])
    assert second.was == first.row


def test_whose_correction_it_is(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    meter(market, contract, alice=(0, 900))
    correct(market)
    (found,) = queries.adjustments(market.alice, contracts=[contract])
    entry = ledger_queries.entry(found.seq)
    assert concerns(entry, [market.alice]) and not concerns(entry, [market.bob])
    assert has_row(found.seq, market.alice) and not has_row(found.seq, market.charlie)
    told = [event for event in history.events(account=market.alice) if event["type"] == "adjust"]
    assert [(event["seq"], event["short_wh"], event["was_short_wh"]) for event in told] == [(found.seq, 100, 0)]
    assert not [event for event in history.events(account=market.bob) if event["type"] == "adjust"]


def test_readings_that_change_nothing_make_no_entry(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    meter(market, contract, charlie=(1_000, 0))
    assert correct(market).areas == 1, "an estimate that was right is measured now"
    meter(market, contract, charlie=(1_000, 0))
    assert correct(market) == NOTHING
    meter(market, contract, charlie=(900, 0))
    meter(market, contract, charlie=(1_000, 0))
    before = market.exchange.status()["seq"]
    assert correct(market) == Corrections(0, 0, 1, 0)
    assert market.exchange.status()["seq"] == before
    assert not Mark.objects.exists()


def test_what_cannot_be_paid_is_owed_until_it_is(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    free = market.exchange.read(lambda engine: engine.accounts[market.alice].free_e7)
    exchange_operations.fund(market.exchange, account=market.alice, amount_e7=-free)
    meter(market, contract, alice=(0, 0))
    correct(market)
    balance = models.Balance.objects.get(account=market.alice)
    assert (balance.cash_e7, balance.arrears_e7) == (0, 1_000 * TOPUP)
    assert sum(net(market)) == 0
    outcome = market.place(market.alice, BUY, "0.1000", 10, contract=market.contract(2))
    assert outcome.refused is not None and outcome.refused.code == "in_arrears"
    outcome = exchange_operations.fund(market.exchange, account=market.alice, amount_e7=-1)
    assert outcome.refused is not None and outcome.refused.code == "in_arrears"
    exchange_operations.fund(market.exchange, account=market.alice, amount_e7=1_000 * TOPUP + 5)
    balance.refresh_from_db()
    assert (balance.cash_e7, balance.arrears_e7) == (5, 0)
    books.check()


def test_a_home_is_added_by_its_first_reading(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    assert queries.line(market.bob, contract) is None
    before = cash(market, market.bob)
    meter(market, contract, bob=(0, 100))
    correct(market)
    assert cash(market, market.bob) - before == 100 * SPILL
    (found,) = queries.adjustments(market.bob, contracts=[contract])
    assert found.was.quality == "none"


def test_one_area_is_corrected_while_another_still_waits() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, charlie=(1_000, 0))
        assert settle(market).areas == 1
        meter(market, contract, charlie=(900, 0), alice=(0, 1_000))
        assert correct(market) == Corrections(1, 1, 0, 0)
        assert queries.state(market.exchange, contract) == "open"
        assert [mark.area for mark in marks.marked()] == ["LV1.1"], "what is not settled keeps its mark"
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        assert queries.state(market.exchange, contract) == "provisional"
        assert correct(market) == NOTHING and not Mark.objects.exists()


def test_readings_are_taken_until_it_is_final_and_then_no_more(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    end_ms = market.exchange.read(lambda engine: engine.provisional[contract].final_ms)
    market.clock.at_ms = end_ms - 1
    market.member("LV1.2", deposit_e7=0)
    meter(market, contract, alice=(0, 900))
    market.clock.at_ms = end_ms
    market.member("LV1.2", deposit_e7=0)
    with pytest.raises(InvalidReading) as caught:
        meter(market, contract, alice=(0, 800))
    assert (caught.value.code, caught.value.field) == ("already_final", "contract")
    market.clock.at_ms = end_ms + FINAL_GRACE_MS
    assert end(market) == 0, "a reading that came in time is settled first"
    assert correct(market).areas == 1
    assert end(market) == 1
    assert end(market) == 0
    assert queries.state(market.exchange, contract) == "final"
    (final,) = models.Final.objects.all()
    entry = ledger_queries.entry(final.seq)
    assert (entry["type"], entry["contract"], final.contract) == ("final", contract, contract)
    assert models.Contract.objects.get(name=contract).state == "settled"


def test_all_of_it_is_recovered_followed_and_found_in_the_books(tmp_path: Path) -> None:
    with running_market(folder=tmp_path, snapshot_every=10**6) as market:
        contract = trade_across_the_city(market)
        deliver(market)
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        meter(market, contract, alice=(0, 900), bob=(40, 0), charlie=(1_100, 0))
        correct(market)
        market.clock.advance(ms=final_ms())
        market.member("LV1.2", deposit_e7=0)
        assert end(market) == 1
        meant = {event.seq: event for event in rebuild.events_between(0, market.exchange.status()["seq"])}
        balances = net(market)
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert exchange.read(lambda engine: [account.net_e7 for account in engine.accounts]) == balances
        assert exchange.read(lambda engine: dict(engine.provisional)) == {}
    models.Snapshot.objects.all().delete()
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):  # from the first entry
        assert exchange.read(lambda engine: [account.net_e7 for account in engine.accounts]) == balances
    replayed: dict[int, object] = {}
    leaves = list(ledger_queries.leaves(0, 10**6))
    replay(Engine(), leaves, ledger_queries.rows, lambda event: replayed.__setitem__(event.seq, event))
    kinds = {"Adjusted", "Finalized"}
    assert {type(event).__name__ for event in meant.values()} >= kinds
    for seq, event in meant.items():
        if type(event).__name__ in kinds:
            assert event == replayed[seq]
    call_command("verify_ledger")
    checked = books.check()
    assert checked.rows["exchange_adjustment"] == 3 and checked.rows["exchange_final"] == 1


@pytest.mark.parametrize(
    ("table", "column"),
    [("exchange_adjustment", "was_short_e7"), ("exchange_adjustment", "n"), ("exchange_final", "at_ms")],
)
def test_books_that_were_changed_are_found(estimated: tuple[Market, str], table: str, column: str) -> None:
    market, contract = estimated
    meter(market, contract, alice=(0, 900))
    correct(market)
    market.clock.advance(ms=final_ms())
    market.member("LV1.2", deposit_e7=0)
    assert end(market) == 1
    books.check()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = {column} + 1")
    with pytest.raises(books.Difference, match=f"^{table} .*{column}: expected"):
        books.check()


def test_estimates_are_on_the_ledger_before_anything_is_settled_by_them() -> None:
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, charlie=(1_000, 0))
        market.clock.advance(ms=DEADLINE_MS)
        asked: list[tuple[str, str, list[int]]] = []

        def estimate(name: str, area: str, accounts: list[int]) -> dict[int, Estimate]:
            asked.append((name, area, list(accounts)))
            return {market.alice: Estimate(0, 800, "same_time", 3)} if area == "LV1.1" else {}

        now_ms = market.clock.at_ms
        assert settle_due(exchange=market.exchange, now_ms=now_ms, estimate=estimate).estimated == 1
        assert asked == [(contract, "LV1.1", [market.alice, market.bob])]
        row = queries.line(market.alice, contract).row
        assert (row.export_wh, row.quality, row.short_wh) == (800, "estimated", 200)
        reading = Reading.objects.get(account=market.alice)
        assert (reading.quality, reading.reason) == ("estimated", "same_time")
        assert reading.seq < queries.line(market.alice, contract).seq
        assert queries.line(market.bob, contract) is None, "no estimate, no trade: no row"
        meter(market, contract, alice=(0, 950))
        assert correct(market).accounts == 1
        books.check()


def test_what_comes_in_while_an_area_is_settled_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading the meters and settling by them another reading is stored: its mark stays."""
    with running_market() as market:
        contract = trade_across_the_city(market)
        deliver(market)
        meter(market, contract, alice=(0, 1_000), bob=(0, 0), charlie=(1_000, 0))
        rows_of = operations.area_rows

        def late(due, area, readings, key):  # type: ignore[no-untyped-def]
            if area == "LV1.1":
                meter(market, contract, alice=(0, 700))
            return rows_of(due, area, readings, key)

        monkeypatch.setattr(operations, "area_rows", late)
        assert settle(market).areas == 2
        assert queries.line(market.alice, contract).row.export_wh == 1_000
        assert [mark.area for mark in marks.marked()] == ["LV1.1"]
        assert correct(market).accounts == 1


def test_marks_of_what_is_final_go(estimated: tuple[Market, str]) -> None:
    market, contract = estimated
    market.clock.advance(ms=final_ms())
    market.member("LV1.2", deposit_e7=0)
    assert end(market) == 1
    with connection.cursor() as cursor:
        for _ in range(2):
            marks.note(cursor, [(contract_start_ms(contract), "LV1.1")])
    assert [mark.count for mark in marks.marked()] == [2]
    assert correct(market) == NOTHING
    assert not Mark.objects.exists()


def test_the_side_that_sold_is_the_side_that_is_short() -> None:
    with running_market() as market:
        contract = market.contract()
        market.place(market.alice, SELL, "0.2000", 300, contract=contract)
        market.place(market.charlie, BUY, "0.3000", 300, contract=contract)
        deliver(market)
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        meter(market, contract, alice=(0, 100), charlie=(0, 0))
        correct(market)
        rows = queries.newest_rows(
            contract, market.exchange.read(lambda engine: operations._open(engine, contract).newest)
        )
        assert (rows["LV1.1"][market.alice].short_wh, rows["LV2.1"][market.charlie].spill_wh) == (200, 300)
        assert json.loads(json.dumps(rows["LV1.1"][market.alice]))[0] == market.alice


def test_what_is_left_over_is_shared_again_after_each_correction(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        call = market.exchange.call
        contract = market.contract()
        proposed = call(Propose(market.bob, market.bob, market.charlie, 1_000, contract), key="p")
        number = proposed.events[0].seq
        assert call(Agree(market.charlie, number), key="a").refused is None
        outcome = call(Agree(market.charlie, number), key="a")  # the same key gets the same answer
        assert outcome.refused is None and outcome.events[0].agreement == number
        deliver(market)
        meter(market, contract, alice=(0, 0), bob=(0, 900), charlie=(600, 0))
        assert settle(market).areas == 2
        bob = cash(market, market.bob)
        assert share_due(exchange=market.exchange) == 1
        assert cash(market, market.bob) - bob == 600 * (1_000 - SPILL)
        assert share_due(exchange=market.exchange) == 0
        meter(market, contract, charlie=(200, 0))
        correct(market)
        market.clock.advance(ms=final_ms())
        market.member("LV1.2", deposit_e7=0)
        assert end(market) == 0, "it is shared out first"
        assert share_due(exchange=market.exchange) == 1
        assert cash(market, market.bob) - bob == 200 * (1_000 - SPILL)
        assert end(market) == 1
        assert sum(net(market)) == 0
        lines = list(models.SharedLine.objects.order_by("seq").values_list("energy_wh", "was_wh"))
        assert lines == [(600, 0), (200, 600)]
        newest = models.SharedLine.objects.order_by("-seq")[0]
        entry = ledger_queries.entry(newest.seq)
        assert concerns(entry, [market.bob]) and concerns(entry, [market.charlie])
        assert not concerns(entry, [market.alice])
        assert has_row(newest.seq, market.charlie) and not has_row(newest.seq, market.alice)
        assert concerns(ledger_queries.entry(number + 1), [market.bob])
        told = [event["type"] for event in history.events(account=market.charlie, limit=1_000)]
        assert told.count("agreement") == 2 and told.count("shared") == 2
        meant = rebuild.events_between(0, market.exchange.status()["seq"])
        balances = net(market)
    replayed: dict[int, object] = {}
    leaves = list(ledger_queries.leaves(0, 10**6))
    replay(Engine(), leaves, ledger_queries.rows, lambda event: replayed.__setitem__(event.seq, event))
    for event in meant:
        if type(event).__name__ in ("AgreementProposed", "AgreementAccepted", "Shared"):
            assert event == replayed[event.seq]
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert exchange.read(lambda engine: [account.net_e7 for account in engine.accounts]) == balances
    checked = books.check()
    assert checked.rows["exchange_sharedline"] == checked.rows["exchange_agreementchange"] == 2
    call_command("verify_ledger")


def test_readings_of_an_area_where_nobody_lived_at_delivery_keep_nothing_from_being_final() -> None:
    with running_market() as market:
        contract = market.contract()
        deliver(market)
        newcomer = market.member("LV1.2", deposit_e7=0)
        record_readings(
            exchange=market.exchange,
            contract=contract,
            area="LV1.2",
            readings=[ReadingIn(newcomer, 100, 0)],
            now_ms=market.clock.at_ms,
        )
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        assert [mark.area for mark in marks.marked()] == ["LV1.2"]
        assert correct(market) == NOTHING
        assert not Mark.objects.exists()
        market.clock.advance(ms=final_ms())
        market.member("LV1.2", deposit_e7=0)
        assert end(market) == 1


def test_what_the_engine_refuses_holds_up_nobody_else(
    estimated: tuple[Market, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    market, contract = estimated
    changes = operations.rules.changes

    def wrong(*arguments: Any) -> tuple[AdjustRow, ...]:
        return tuple(
            change._replace(row=change.row._replace(spill_e7=change.row.spill_e7 + 1))
            if change.row.account == market.alice
            else change
            for change in changes(*arguments)
        )

    monkeypatch.setattr(operations.rules, "changes", wrong)
    meter(market, contract, alice=(0, 900), bob=(50, 0))
    assert correct(market) == Corrections(areas=1, accounts=1, unchanged=0, refused=1)
    assert queries.adjustments(market.bob, contracts=[contract])
    assert not queries.adjustments(market.alice, contracts=[contract])
    meter(market, contract, alice=(0, 800))
    assert correct(market) == Corrections(areas=0, accounts=0, unchanged=0, refused=1)
    assert correct(market) == NOTHING
    assert not Mark.objects.exists()
    market.clock.advance(ms=final_ms())
    market.member("LV1.2", deposit_e7=0)
    assert end(market) == 1
