"""The operator's settlement board: stages, missing and estimated meters, money outstanding, pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from market.engine.commands import BUY, SELL
from market.engine.contracts import contract_start_ms
from market.exchange import operations
from market.metering.operations import ReadingIn, record_batches
from market.settlement import board
from market.settlement.board import AreaMeters, Corrected, Interval, Wait
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due
from market.settlement.waiting import DEADLINE_MS, UNCORRECTED_DEADLINE_MS
from tests.factories import PARAMS, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def market() -> Iterator[Market]:
    """Alice has sold 1,000 Wh to Charlie across the city in the first interval and 500 to Bob in the second."""
    with running_market() as market:
        first, second = market.contract(), market.contract(2)
        market.place(market.alice, SELL, "0.2000", 1_000, contract=first)
        market.place(market.charlie, BUY, "0.3000", 1_000, contract=first)
        market.place(market.alice, SELL, "0.2000", 500, contract=second)
        market.place(market.bob, BUY, "0.2000", 500, contract=second)
        yield market


def move(market: Market, minutes: float) -> None:
    market.clock.advance(minutes=minutes)
    market.member("LV1.2", deposit_e7=0)


def meter(market: Market, contract: str, **nets: tuple[int, int]) -> None:
    batches: dict[str, list[ReadingIn]] = {}
    for name, (import_wh, export_wh) in nets.items():
        area = "LV2.1" if name == "charlie" else "LV1.1"
        batches.setdefault(area, []).append(ReadingIn(getattr(market, name), import_wh, export_wh))
    record_batches(exchange=market.exchange, contract=contract, batches=batches, now_ms=market.clock.at_ms)


def by_name(found: board.Page) -> dict[str, Interval]:
    return {one.contract: one for one in found.intervals}


def test_an_interval_goes_from_stage_to_stage(market: Market) -> None:
    first, second = market.contract(), market.contract(2)
    assert board.page(market.exchange).intervals == []
    move(market, 15)
    assert {name: one.stage for name, one in by_name(board.page(market.exchange)).items()} == {first: "closed"}
    move(market, 15)
    meter(market, first, alice=(0, 900), charlie=(950, 0))
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    found = by_name(board.page(market.exchange))
    assert found[second].stage == "closed"
    waiting = found[first]
    assert (waiting.state, waiting.stage, waiting.areas, waiting.settled_areas) == ("delivered", "waiting", 3, 1)
    # Bob's meter is silent in LV1.1; two newcomers of LV1.2 have none.
    assert waiting.waits == (Wait("LV1.1", 2, 1), Wait("LV1.2", 2, 2))
    assert (waiting.missing, waiting.accounts, waiting.estimated) == (3, 1, 0)
    # What clearing holds for Alice: her proceeds and her margin.
    assert waiting.outstanding_e7 == (2_000 + 2_000) * 1_000
    assert waiting.deadline_ms == contract_start_ms(first) + 15 * 60_000 + DEADLINE_MS
    market.clock.at_ms = waiting.deadline_ms
    move(market, 0)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    settled = by_name(board.page(market.exchange))[first]
    assert (settled.state, settled.stage, settled.waits, settled.outstanding_e7) == ("settled", "provisional", (), 0)
    assert (settled.accounts, settled.estimated, settled.settled_areas) == (2, 0, 3), "Bob had nothing to settle"


def test_silent_meters_are_counted_by_area(market: Market) -> None:
    first, second = market.contract(), market.contract(2)
    move(market, 45)
    meter(market, first, bob=(0, 0), charlie=(1_000, 0))
    found = board.page(market.exchange)
    assert found.areas == [AreaMeters("LV1.1", 0, 0, 3, 2), AreaMeters("LV2.1", 0, 0, 1, 2)], "the worst first"
    market.clock.advance(ms=DEADLINE_MS)
    move(market, 0)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    found = board.page(market.exchange, stage="provisional")
    estimates = {area.area: (area.settled, area.estimated, area.missing) for area in found.areas}
    # Who neither traded nor was metered has no row: Alice twice, Bob in the second interval.
    assert estimates == {"LV1.1": (4, 3, 0)}
    assert found.areas[0].estimated_permille == 750
    rows = list(board.export_rows(found))
    assert rows[0][2:] == ["area", "settled accounts", "estimated accounts", "missing meters", "corrected accounts"]
    assert [row[0] for row in rows[1:]] == sorted([row[0] for row in rows[1:]], reverse=True)
    assert sum(row[4] for row in rows[1:]) == 3
    assert [second, "provisional", "LV1.1", 2, 2, 0, 0] in rows


def test_money_outstanding(market: Market) -> None:
    before = board.outstanding()
    assert (before.clearing_e7, before.bill_e7, before.arrears, before.fees_e7) == (6_300_000, 0, 0, 0)
    first = market.contract()
    move(market, 30)
    meter(market, first, alice=(0, 1_000), bob=(300, 0), charlie=(1_000, 0))
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    after = board.outstanding()
    assert (after.clearing_e7, after.bill_e7, after.fees_e7) == (2_000_000, 300 * 4_000, 300_000)
    assert (after.arrears_e7, after.arrears) == (0, 0)


def test_pages_follow_each_other_and_stages_choose(market: Market) -> None:
    names = [market.contract(n) for n in range(1, 5)]
    move(market, 75)
    market.clock.advance(ms=DEADLINE_MS - 45 * 60_000)  # the deadline of the first two is over
    move(market, 0)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    seen: list[str] = []
    before = None
    for _ in range(20):
        found = board.page(market.exchange, before=before, limit=2)
        seen += [one.contract for one in found.intervals]
        before = found.next
        if before is None:
            break
    assert seen == sorted(set(seen), reverse=True)
    assert set(names) <= set(seen)
    for stage in board.STAGES:
        chosen = [one.contract for one in board.page(market.exchange, stage=stage).intervals]
        assert chosen == [one.contract for one in board.page(market.exchange, limit=96).intervals if one.stage == stage]
    assert names[0] in [one.contract for one in board.page(market.exchange, stage="provisional").intervals]
    assert board.page(market.exchange, stage="final").intervals == []
    for wrong, field in (({"stage": "done"}, "stage"), ({"before": "x"}, "before"), ({"limit": 0}, "limit"),
                         ({"limit": 97}, "limit")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{field}"):
            board.page(market.exchange, **wrong)


def late(market: Market) -> tuple[str, str]:
    """Settle both intervals on estimates, and correct the first: Alice delivered 900 of 1,000 Wh, Bob used 300."""
    first, second = market.contract(), market.contract(2)
    move(market, 45)
    market.clock.advance(ms=DEADLINE_MS)
    move(market, 0)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    meter(market, first, alice=(0, 900), bob=(300, 0))
    assert adjust_due(exchange=market.exchange).accounts == 2
    return first, second


def test_what_was_corrected_is_on_the_board(market: Market) -> None:
    first, second = late(market)
    found = board.page(market.exchange)
    rows = by_name(found)
    assert (rows[first].stage, rows[second].stage) == ("corrected", "provisional")
    assert rows[first].corrected == Corrected(
        entries=1, accounts=2, short_e7=100 * 4_000, topup_e7=300 * 4_000, spill_e7=0
    )
    assert rows[second].corrected is None
    # Charlie's is the only estimate left; Bob, who had no row, has one now.
    assert (rows[first].accounts, rows[first].estimated) == (3, 1)
    meter(market, first, alice=(0, 950), bob=(0, 50))
    adjust_due(exchange=market.exchange)
    again = by_name(board.page(market.exchange))[first].corrected
    assert again == Corrected(entries=2, accounts=2, short_e7=50 * 4_000, topup_e7=0, spill_e7=50 * 800)
    assert [one.contract for one in board.page(market.exchange, stage="corrected").intervals] == [first]
    assert first not in by_name(board.page(market.exchange, stage="provisional"))
    cells = {(row[0], row[2]): row[3:] for row in board.export_rows(board.page(market.exchange))}
    assert cells[first, "LV1.1"] == [2, 0, 0, 2]
    assert cells[second, "LV1.1"] == [2, 2, 0, 0]


def test_what_is_final_is_corrected_no_more(market: Market) -> None:
    first, second = late(market)
    market.clock.at_ms = contract_start_ms(first) + 15 * 60_000 + PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS
    move(market, 0)
    assert finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms) == 1
    rows = by_name(board.page(market.exchange, before=market.contract(), limit=96))
    while first not in rows:
        rows |= by_name(board.page(market.exchange, before=min(rows), limit=96))
    assert (rows[first].stage, rows[second].stage) == ("final", "provisional")
    assert rows[first].corrected is not None and rows[first].corrected.accounts == 2


def test_a_market_that_corrects_nothing_is_final_at_once(market: Market) -> None:
    assert market.exchange.call(PARAMS._replace(final_after_min=0, sharing_scope=0)).refused is None
    first = market.contract()
    move(market, 30)
    market.clock.advance(ms=UNCORRECTED_DEADLINE_MS)
    move(market, 0)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    assert by_name(board.page(market.exchange))[first].stage == "final"


def test_what_members_owe_is_outstanding(market: Market) -> None:
    """Alice has spent all she had when a correction takes it back."""
    first = market.contract()
    move(market, 30)
    meter(market, first, alice=(0, 1_400), bob=(0, 0), charlie=(1_000, 0))
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    free = market.exchange.read(lambda engine: engine.accounts[market.alice].free_e7)
    operations.fund(market.exchange, account=market.alice, amount_e7=-free)
    meter(market, first, alice=(0, 900))
    adjust_due(exchange=market.exchange)
    found = board.outstanding()
    assert (found.arrears_e7, found.arrears) == (400 * 800 + 100 * 4_000, 1)


def test_a_page_asks_as_often_however_many_areas_wait(market: Market) -> None:
    move(market, 30)
    with CaptureQueriesContext(connection) as captured:
        board.page(market.exchange)
    assert len(captured) <= 7
