"""Capacities, netting, uncrossing, halts, gates (docs/market-rules.md, chapters 2, 3, 5.7 and 6)."""

from __future__ import annotations

import pytest

from market.engine import commands as c
from market.engine import events as ev
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.grid import EdgeFlow
from tests.unit.engine_cast import FEE_E4, LATER, MONEY_E7, NOON, OPENING_MS, Market

MINUTE_MS = 60_000


def test_an_edge_carries_its_capacity_and_no_more() -> None:
    market = Market(capacity_w=400)  # 100 Wh in a quarter of an hour
    market.order(market.alice, "sell", 1_000, 150)
    events = market.order(market.bob, "buy", 2_000, 150)
    assert market.trades(events) == [(market.alice, market.bob, 100, 1_000, 1_200)]
    assert set(market.engine.orders) == {event.seq for event in market.log if isinstance(event, ev.OrderPlaced)}
    assert market.engine.flows(NOON)["LV1"] == EdgeFlow(0, 100, 100, 100, 200, 0)
    assert market.engine.best("LV2", NOON) == (2_000, None)
    market.assert_replays()


def test_energy_the_other_way_gives_capacity_back_and_resting_orders_meet() -> None:
    market = Market(capacity_w=400)
    first = market.order(market.alice, "sell", 1_000, 150)[0].seq
    second = market.order(market.bob, "buy", 2_000, 150)[0].seq
    # charlie takes the rest of alice's energy, then dora sells into that street: the edges net, and bob gets more of alice
    market.order(market.charlie, "buy", 1_000, 50)
    third = market.order(market.alice, "sell", 1_100, 40)[0].seq
    market.order(market.charlie, "buy", 3_000, 30, contract=LATER)
    assert market.engine.orders[second].remaining_wh == 50 and third in market.engine.orders
    market.do(c.CancelOrder(market.alice, third, "owner"))
    market.order(market.charlie, "buy", 3_000, 30)
    events = market.order(market.dora, "sell", 1_950, 30)
    assert market.trades(events) == [(market.dora, market.charlie, 30, 3_000 - 2 * FEE_E4, 3_000)]
    events = market.order(market.alice, "sell", 1_000, 40)
    assert market.trades(events) == [(market.alice, market.bob, 30, 2_000 - 2 * FEE_E4, 2_000)]
    assert first not in market.engine.orders


@pytest.mark.parametrize(("netting", "residual_wh"), [(0, 100), (500, 150), (1_000, 200)])
def test_netting_factor(netting: int, residual_wh: int) -> None:
    market = Market(capacity_w=400, netting_permille=netting)
    market.order(market.alice, "sell", 1_000, 100)
    market.order(market.bob, "buy", 2_000, 100)
    assert market.engine.flows(NOON)["LV1"].import_residual_wh == residual_wh


def test_a_cut_blocks_trades_stand_and_opening_uncrosses() -> None:
    market = Market()
    market.order(market.alice, "sell", 1_000, 300)
    market.order(market.bob, "buy", 2_000, 100)
    market.do(c.SetCapacity("LV2", 0, 0, "maintenance"))
    assert market.engine.flows(NOON)["LV2"].import_residual_wh == -100
    assert market.engine.best("LV2", NOON) == (None, None)
    assert market.trades(market.order(market.bob, "buy", 1_900, 50)) == []
    events = market.do(c.SetCapacity("LV2", 40_000, 40_000, "restored"))
    assert market.trades(events) == [(market.alice, market.bob, 50, 1_000, 1_200)]
    market.assert_replays()


def test_fees_are_frozen_when_a_contract_opens() -> None:
    market = Market()
    market.do(c.SetFee("LV2", 500))
    market.order(market.alice, "sell", 1_000, 10)
    assert market.trades(market.order(market.bob, "buy", 2_000, 10))[0][4] == 1_000 + 2 * FEE_E4
    market.tick(contract_start_ms("2026-06-06T10:16Z"))
    fresh = contract_name(market.engine.last_opened_ms)
    market.order(market.alice, "sell", 1_000, 10, contract=fresh)
    assert market.trades(market.order(market.bob, "buy", 2_000, 10, contract=fresh))[0][4] == 1_000 + FEE_E4 + 500
    market.assert_replays()
    loaded = type(market.engine).load(market.engine.dump())
    assert loaded.dump() == market.engine.dump()
    assert loaded.contracts[NOON].book.topology.fees_e4 != loaded.contracts[fresh].book.topology.fees_e4


@pytest.mark.parametrize(
    ("scope", "target", "code"),
    [
        ("market", "", "market_halted"), ("contract", NOON, "contract_halted"), ("area", "LV2", "area_halted"),
        ("area", "MV", "area_halted"), ("account", "bob", "account_halted"),
    ],
)  # fmt: skip
def test_halts_stop_their_scope_and_its_end_lets_orders_meet(scope: str, target: str, code: str) -> None:
    market = Market()
    target = str(market.bob) if target == "bob" else target
    resting = market.order(market.bob, "buy", 2_000, 10)[0].seq
    market.do(c.SetHalt(scope, target, 1, "test"))
    assert market.refused(c.PlaceOrder(market.bob, NOON, "buy", 2_000, 1, "gtg", 0))[0] == code
    assert market.refused(c.AmendOrder(market.bob, resting, 1_999, -1))[0] == code
    if scope in ("area", "account") and target != "MV":
        assert market.trades(market.order(market.alice, "sell", 1_000, 10)) == []
        expected = [(market.alice, market.bob, 10, 2_000 - 2 * FEE_E4, 2_000)]
    else:
        assert market.refused(c.PlaceOrder(market.alice, NOON, "sell", 1_000, 10, "gtg", 0))[0] == code
        expected = []
    events = market.do(c.SetHalt(scope, target, 0, "test"))
    assert market.trades(events) == expected
    market.assert_replays()


def test_an_edge_that_opens_during_a_halt_uncrosses_at_its_end() -> None:
    market = Market(capacity_w=0)
    market.order(market.alice, "sell", 1_000, 10)
    market.order(market.bob, "buy", 2_000, 10)
    market.do(c.SetHalt("market", "", 1, "test"))
    for area in ("LV1", "LV2"):
        assert market.trades(market.do(c.SetCapacity(area, 4_000, 4_000, "restored"))) == []
    events = market.do(c.SetHalt("market", "", 0, "test"))
    assert market.trades(events) == [(market.alice, market.bob, 10, 1_000, 1_200)]
    market.assert_replays()


def test_orders_of_a_halted_account_can_be_cancelled_and_die_at_the_gate() -> None:
    market = Market()
    one = market.order(market.bob, "buy", 2_000, 10)[0].seq
    two = market.order(market.bob, "buy", 2_000, 10)[0].seq
    market.do(c.SetHalt("account", str(market.bob), 1, "test"))
    market.do(c.CancelOrder(market.bob, one, "owner"))
    market.tick(contract_start_ms(NOON))
    assert two not in market.engine.orders and market.wallet(market.bob) == (MONEY_E7, 0)
    market.assert_replays()


def test_nothing_lives_after_the_gate() -> None:
    market = Market()
    gone = market.order(market.alice, "sell", 1_000, 10)[0].seq
    kept = market.order(market.alice, "sell", 1_000, 10, contract=LATER)[0].seq
    market.now_ms = contract_start_ms(NOON)
    assert market.refused(c.PlaceOrder(market.bob, NOON, "buy", 2_000, 1, "gtg", 0)) == ("gate_closed", "contract")
    assert market.refused(c.AmendOrder(market.alice, gone, 900, -1)) == ("gate_closed", "contract")
    market.tick(market.now_ms)
    assert set(market.engine.orders) == {kept}
    assert [e.reason for e in market.log if isinstance(e, ev.OrderCancelled)] == ["gate"]
    assert market.refused(c.DeliverContract(NOON)) == ("contract_state", "contract")
    assert market.refused(c.CloseContract(NOON)) == ("contract_state", "contract")


def test_the_schedule_opens_the_horizon_and_catches_up_after_a_pause() -> None:
    market = Market()
    assert next(iter(market.engine.contracts)) == "2026-06-06T10:15Z"
    assert len(market.engine.contracts) == 12  # three hours of quarter-hours
    assert market.engine.schedule(OPENING_MS + MINUTE_MS) == []
    market.tick(OPENING_MS + 24 * 60 * MINUTE_MS)
    states = [contract.state for contract in market.engine.contracts.values()]
    assert states.count("delivered") == 12 and states.count("open") == 12
    assert list(market.engine.contracts)[-12] == "2026-06-07T10:15Z"
    market.assert_replays()


@pytest.mark.parametrize(
    ("command", "code", "field"),
    [
        (c.Found("a", "EUR", 15, "v", 1, "0" * 64), "already_founded", ""),
        (c.SetArea("LV1", "MV", "LV"), "duplicate_area", "area"),
        (c.SetArea("X", "nowhere", "LV"), "unknown_area", "parent"),
        (c.SetArea("X", "", "LV"), "unknown_area", "parent"),
        (c.SetArea("X", "MV", "XV"), "invalid_value", "level"),
        (c.SetArea('"', "MV", "LV"), "invalid_value", "area"),
        (c.SetCapacity("nowhere", 1, 1, "x"), "unknown_area", "area"),
        (c.SetCapacity("LV1", -1, 1, "x"), "invalid_value", "import_w"),
        (c.SetCapacity("LV1", 1, 10**13, "x"), "invalid_value", "export_w"),
        (c.SetCapacity("LV1", 1, 1, ""), "invalid_value", "reason"),
        (c.SetFee("LV1", -1), "invalid_value", "fee"),
        (c.SetTariff(40_001, 0), "invalid_value", "topup"),
        (c.SetTariff(100, 101), "invalid_value", "spill"),
        (c.SetParams(0, 1, 1, 1, 60, 0, 1_000), "invalid_value", "max_price_e4"),
        (c.SetParams(40_000, 1, 1, 1, 60, 0, 1_001), "invalid_value", "netting_permille"),
        (c.SetParams(2_000, 1, 1, 1, 60, 0, 1_000), "invalid_value", "max_price_e4"),
        (c.OpenAccount("0" * 31, "LV1", "", "", ""), "invalid_value", "account_id"),
        (c.OpenAccount(f"{4:032x}", "LV1", "", "", ""), "invalid_value", "account_id"),
        (c.OpenAccount("a" * 32, "nowhere", "", "", ""), "unknown_area", "area"),
        (c.Fund(4, -MONEY_E7 - 1, "withdrawal", ""), "insufficient_funds", "amount"),
        (c.Fund(4, 0, "deposit", ""), "invalid_value", "amount"),
        (c.Fund(4, 2**53, "deposit", ""), "invalid_value", "amount"),
        (c.Fund(0, 5, "deposit", ""), "unknown_account", "account"),
        (c.OpenContract(NOON), "contract_exists", "contract"),
        (c.OpenContract("2026-06-06T23:01Z"), "gate_closed", "contract"),
        (c.OpenContract("2026-6-6T23:00Z"), "invalid_value", "contract"),
        (c.SetHalt("market", "x", 1, "x"), "invalid_value", "target"),
        (c.SetHalt("galaxy", "", 1, "x"), "invalid_value", "scope"),
        (c.SetHalt("area", "nowhere", 1, "x"), "unknown_area", "target"),
        (c.SetHalt("account", "00", 1, "x"), "unknown_account", "target"),
        (c.SetHalt("market", "", 2, "x"), "invalid_value", "on"),
        (c.PublishRulebook(1, "zz"), "invalid_value", "sha256"),
        (c.RegisterKey("lose", "v"), "invalid_value", "action"),
        (c.RegisterKey("add", "v", "", "YQ=="), "invalid_value", "possession"),
        (c.RegisterKey("add", "v", "cA==", ""), "invalid_value", "approval"),
        (c.RegisterKey("revoke", "v", "cA==", ""), "invalid_value", "possession"),
        (c.CommitSnapshot(""), "invalid_value", "sha256"),
    ],
)
def test_bad_decisions_are_refused_without_a_trace(command: object, code: str, field: str) -> None:
    assert Market().refused(command) == (code, field)


def test_a_closed_account_is_out() -> None:
    market = Market()
    market.order(market.bob, "buy", 2_000, 10)
    events = market.do(c.CloseAccount(market.bob))
    assert [type(event) for event in events] == [ev.AccountClosed, ev.OrderCancelled]
    assert market.refused(c.PlaceOrder(market.bob, NOON, "buy", 1, 1, "gtg", 0)) == ("account_closed", "account")
    assert market.refused(c.Fund(market.bob, 1, "deposit", "")) == ("account_closed", "account")
    market.assert_replays()
