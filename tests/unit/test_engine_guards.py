"""What nobody should be able to do to the engine: odd values, borrowed groups, invented reasons, another recovery."""

from __future__ import annotations

import random
from typing import Any

import pytest

from market.engine import commands as c
from market.engine import engine as engine_module
from market.engine import events as ev
from market.engine.accounts import MAX_INT
from market.engine.engine import Engine, Level
from market.engine.entries import to_leaf
from market.engine.events import Refused
from market.engine.state import EXPIRIES_KEPT
from tests.unit.engine_cast import FEE_E4, LATER, NOON, Market

HASH = "0" * 64
ODD: tuple[Any, ...] = (
    None, "", -1, 0, 1, MAX_INT + 1, 2**63, 10**30, -(2**70), True, 1.5, "é", "x" * 300, "\n", '"', HASH, "LV1", "buy", "gtd",
)  # fmt: skip
SENSIBLE: tuple[Any, ...] = (
    c.Found("a", "EUR", 15, "k", 1, HASH), c.PublishRulebook(2, HASH), c.RegisterKey("add", "k", "cA==", "YQ=="),
    c.SetParams(40_000, 1, 10**6, 5, 180, 0, 1_000), c.SetArea("Q", "MV", "LV"), c.SetCapacity("LV1", 5, 5, "x"),
    c.SetFee("LV1", 3), c.SetTariff(5, 3), c.OpenAccount("ab" * 16, "LV1", "", "", ""), c.CloseAccount(4),
    c.Fund(4, 5, "deposit", ""), c.OpenContract("2026-06-06T23:00Z"), c.CloseContract(NOON), c.DeliverContract(NOON),
    c.SetHalt("market", "", 1, "x"), c.SetHalt("account", "4", 1, "x"), c.PlaceOrder(4, NOON, "buy", 2_000, 10, "gtg", 0),
    c.AmendOrder(4, 0, 2_001, 20), c.CancelOrder(4, 0, "owner"), c.CancelAll(4, NOON, "owner"),
    c.PlaceIceberg(4, NOON, "buy", 2_000, 10, "gtg", 0, 2), c.PlaceSweep(4, NOON, LATER, "buy", 2_000, 10),
    c.PlaceBlock(4, NOON, LATER, "buy", 2_000, 10, "gtg", 0), c.HibernateOrder(4, 0), c.RecallTrade(0, "x"),
    c.SetConnection(4, HASH, 5, 5), c.SetHalt("contract", NOON, 1, "x", 2**42, 1),
    c.SetParams(40_000, 1, 10**6, 5, 180, 0, 1_000, 100, 60, 60, 60, 10, 1, 5, 5),
    c.SetAccountKey(4, HASH), c.SignedOrder(4, c.PlaceOrder(4, NOON, "buy", 2_000, 10, "gtg", 0), HASH * 2, HASH, HASH),
    c.CommitReadings(NOON, "LV1", 1, 1, 1, HASH), c.Settle(NOON, "LV1", (), HASH), c.CommitSnapshot(HASH),
)  # fmt: skip


@pytest.mark.parametrize("sensible", SENSIBLE, ids=lambda command: type(command).__name__)
def test_odd_values_are_refused_or_fit_an_entry(sensible: Any) -> None:
    draw = random.Random(type(sensible).__name__)
    market = Market()
    resting = market.order(4, "sell", 2_500, 50)[0].seq
    if hasattr(sensible, "order") and not isinstance(sensible, c.SignedOrder):
        sensible = sensible._replace(order=resting)
    for name in sensible._fields:
        for value in ODD:
            engine = Engine.load(market.engine.dump())
            before = engine.state_hash()
            command = sensible._replace(**{name: value})
            if draw.random() < 0.2:
                command = command._replace(**{draw.choice(sensible._fields): draw.choice(ODD)})
            events = engine.apply(command, market.now_ms)
            if events and isinstance(events[0], Refused):
                assert engine.state_hash() == before, command
                continue
            for event in events:
                assert not isinstance(event, Refused)
                for field in to_leaf(event).values():
                    fits = abs(field) <= MAX_INT if type(field) is int else field.isascii() and field.isprintable()
                    assert type(field) in (int, str) and fits, command


@pytest.mark.parametrize("command", [c.CloseAccount(5), c.CancelAll(5, "", "owner")])
def test_a_recovered_engine_cancels_in_the_same_sequence(command: Any) -> None:
    market = Market()
    assert market.bob == command.account
    first = market.order(market.bob, "buy", 1_000, 100)[0].seq
    second = market.order(market.bob, "buy", 1_001, 100)[0].seq
    market.do(c.AmendOrder(market.bob, first, 1_002, -1))  # behind the second now
    recovered = Engine.load(market.engine.dump())
    events = market.do(command)
    assert recovered.apply(command, market.now_ms) == events
    assert [event.order for event in events if isinstance(event, ev.OrderCancelled)] == [first, second]


def test_nobody_names_himself_into_a_group_of_one() -> None:
    market = Market()
    assert market.refused(c.OpenAccount("a" * 32, "LV1", str(market.alice), "", "")) == ("invalid_value", "group")


@pytest.mark.parametrize(
    "reason", ["gate", "ioc", "expired", "self_trade", "account_closed", "", "Because", "a b", "é"]
)
def test_reasons_are_codes_and_not_the_rules_own(reason: str) -> None:
    market = Market()
    order = market.order(market.alice, "sell", 2_000, 10)[0].seq
    assert market.refused(c.CancelOrder(-1, order, reason)) == ("invalid_value", "reason")
    assert market.refused(c.CancelAll(market.alice, "", reason)) == ("invalid_value", "reason")
    event = market.do(c.CancelOrder(-1, order, "wash_trading"))[0]
    assert (event.account, event.reason) == (market.alice, "wash_trading")
    market.assert_replays()


def test_a_closed_account_can_be_paid_out() -> None:
    market = Market()
    market.do(c.CloseAccount(market.bob))
    cash_e7 = market.wallet(market.bob)[0]
    assert market.refused(c.Fund(market.bob, -cash_e7 - 1, "withdrawal", "")) == ("insufficient_funds", "amount")
    market.do(c.Fund(market.bob, -cash_e7, "withdrawal", ""))
    assert market.wallet(market.bob) == (0, 0)
    market.assert_replays()


def test_orders_cancelled_before_their_date_leave_nothing_behind() -> None:
    market = Market()
    for _ in range(2 * EXPIRIES_KEPT):
        order = market.order(market.alice, "sell", 2_000, 1, "gtd", expires=market.now_ms + 60_000)[0].seq
        market.do(c.CancelOrder(market.alice, order, "owner"))
    assert len(market.engine.expiries) <= EXPIRIES_KEPT + 1
    assert market.engine.due_ms() is None and not market.engine.expiries


def test_cancelled_orders_do_not_fill_a_book() -> None:
    market = Market()
    market.order(market.alice, "sell", 1_500, 1)
    for price_e4 in range(2_000, 3_000):
        market.do(c.CancelOrder(market.alice, market.order(market.alice, "sell", price_e4, 1)[0].seq, "owner"))
    book = market.engine.contracts[NOON].book
    assert book is not None
    assert max(len(heap) for heap in book.asks.heaps) < 100


def test_depth_adds_up_levels_over_areas_and_changes_nothing() -> None:
    market = Market()
    market.order(market.alice, "sell", 1_800, 30)
    market.order(market.bob, "sell", 2_000, 10)
    market.order(market.dora, "sell", 2_000, 5)
    book = market.engine.contracts[NOON].book
    assert book is not None
    heaps = [list(heap) for heap in book.asks.heaps]
    assert market.engine.depth("LV2", NOON, 10) == ([], [Level(2_000, 45, 30 * 2 * FEE_E4)])
    assert market.engine.depth("LV1", NOON, 1)[1] == [Level(1_800, 30, 0)]
    assert market.engine.depth("LV2", NOON, 10)[1][0].fee_e4 == 133  # energy-weighted, rounded down
    assert [list(heap) for heap in book.asks.heaps] == heaps


def test_a_view_that_is_cut_shows_no_price_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_DEPTH_FILLS", 3)
    market = Market()
    for price_e4 in (1_800, 1_800, 1_900, 1_900):
        market.order(market.alice, "sell", price_e4, 10)
    assert market.engine.depth("LV1", NOON, 10)[1] == [Level(1_800, 20, 0)]


def test_settlement_stays_within_what_a_browser_holds() -> None:
    market = Market()
    market.tick(market.engine.contracts[NOON].end_ms)
    huge_wh = MAX_INT // 3_000 + 1
    rows = (c.SettleRow(market.alice, huge_wh, 0, "measured", 0, 0, huge_wh, 0, 0, 0, 0, huge_wh * 3_000, 0),)
    assert market.refused(c.Settle(NOON, "LV1", rows, HASH)) == ("invalid_value", "rows")
