"""Guard rails: collar, throttle, position limits, kill switch, timed halts, recall (docs/market-rules.md, 4.14, 4.15, 6)."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import commands as c
from market.engine import events as ev
from market.engine.accounts import params_problem
from market.engine.engine import Engine
from tests.unit.engine_cast import FEE_E4, LATER, NOON, SPILL_E4, TOPUP_E4, Market

MINUTE_MS = 60_000
REFERENCE_E4 = (TOPUP_E4 + SPILL_E4) // 2


def limits(**changes: int) -> c.SetParams:
    return c.SetParams(40_000, 1, 1_000_000, 200, 180, 0, 1_000)._replace(**changes)


def collared(**changes: int) -> Market:
    market = Market()
    market.do(limits(collar_e4=500, collar_period_s=60, collar_halt_s=30, **changes))
    return market


def halts(events: list[Any]) -> list[tuple[str, int, str, int]]:
    return [(e.target, e.on, e.reason, e.until_ms) for e in events if isinstance(e, ev.HaltSet)]


# --- price collar ------------------------------------------------------------------------------------------------------
def test_a_price_far_from_the_reference_halts_the_contract_for_a_while() -> None:
    market = collared()
    market.order(market.alice, "sell", REFERENCE_E4 + 500, 50)
    market.order(market.alice, "sell", REFERENCE_E4 + 501, 50)
    events = market.order(market.bob, "buy", 3_500, 100)
    assert [trade[2:4] for trade in market.trades(events)] == [(50, REFERENCE_E4 + 500)]
    until_ms = market.now_ms + 30_000
    assert halts(events) == [(NOON, 1, "collar", until_ms)]
    assert market.refused(c.PlaceOrder(market.dora, NOON, "buy", 3_500, 1, "gtg", 0)) == ("contract_halted", "contract")
    assert Engine.load(market.engine.dump()).state_hash() == market.engine.state_hash()
    market.tick(until_ms - 1)
    assert market.engine.contracts[NOON].halted
    market.tick(until_ms)
    assert halts(market.log)[-1] == (NOON, 0, "over", 0)
    assert market.trades(market.log)[-1][2:4] == (50, REFERENCE_E4 + 501)  # the time to think it over has passed
    market.assert_replays()


def test_the_reference_follows_the_last_price_after_a_period() -> None:
    market = collared()

    def trade(price_e4: int) -> list[Any]:
        market.order(market.alice, "sell", price_e4, 10)
        return halts(market.order(market.charlie, "buy", 3_900, 10))

    assert not trade(REFERENCE_E4 + 400)
    assert not trade(REFERENCE_E4 + 450)  # within 500 of the reference, which has stayed
    market.tick(market.now_ms + MINUTE_MS)
    assert not trade(REFERENCE_E4 + 900)
    assert trade(REFERENCE_E4 + 1_300)  # the reference is + 450 for a minute
    market.assert_replays()


def test_a_collar_kills_what_would_trade_outside_of_it() -> None:
    market = collared()
    market.order(market.alice, "sell", 2_000, 50)
    market.order(market.alice, "sell", 2_600, 50)
    for kind in ("fok", "basket", "block"):
        command: Any = {
            "fok": c.PlaceOrder(market.bob, NOON, "buy", 3_500, 100, "fok", 0),
            "basket": c.PlaceBasket(market.bob, (c.Leg(market.bob, NOON, "buy", 3_500, 60),) * 2),
            "block": c.PlaceBlock(market.bob, NOON, NOON, "buy", 3_500, 100, "fok", 0),
        }[kind]
        assert market.refused(command)[0] == "fill_or_kill_unfilled"
    assert not market.engine.contracts[NOON].halted
    waiting = market.do(c.PlaceBlock(market.bob, NOON, NOON, "buy", 3_500, 60, "gtg", 0))
    assert not market.trades(waiting) and not halts(waiting)
    market.order(market.alice, "sell", 2_100, 10)
    assert len(market.trades(market.log)) == 2
    market.assert_replays()


def test_an_order_that_may_not_rest_is_cancelled_when_the_collar_halts() -> None:
    market = collared()
    market.order(market.alice, "sell", 2_600, 50)
    events = market.order(market.bob, "buy", 3_500, 100, "ioc")
    assert [type(event).__name__ for event in events] == ["OrderPlaced", "HaltSet", "OrderCancelled"]
    assert market.wallet(market.bob)[1] == 0
    market.assert_replays()


def test_a_sweep_goes_on_where_no_collar_stops_it() -> None:
    market = collared()
    market.order(market.alice, "sell", 1_300, 50, contract=NOON)
    market.order(market.alice, "sell", 1_600, 50, contract=LATER)
    events = market.do(c.PlaceSweep(market.bob, NOON, LATER, "buy", 3_000, 100))
    assert [(e.contract, e.energy_wh) for e in events if isinstance(e, ev.Traded)] == [(LATER, 50)]
    assert [halt[0] for halt in halts(events)] == [NOON]
    market.assert_replays()


def test_a_sweep_that_moves_a_collar_wakes_the_blocks_it_held_back() -> None:
    market = collared()
    for price_e4 in (REFERENCE_E4 + 450,):
        market.order(market.alice, "sell", price_e4, 10, contract=LATER)
        market.order(market.charlie, "buy", 3_900, 10, contract=LATER)
    market.order(market.alice, "sell", REFERENCE_E4 + 900, 50, contract=LATER)
    market.order(market.alice, "sell", REFERENCE_E4, 50, contract=NOON)
    block = market.do(c.PlaceBlock(market.bob, NOON, LATER, "buy", 3_900, 50, "gtg", 0))
    assert market.engine.why_not(block[0].seq) == ("collar", {"contract": LATER})
    market.now_ms += MINUTE_MS
    loaded = Engine.load(market.engine.dump())
    sweep = c.PlaceSweep(market.dora, NOON, LATER, "buy", 1, 10)  # trades nothing, but the reference is looked up
    events = market.do(sweep)
    assert [trade[3] for trade in market.trades(events)] == [REFERENCE_E4, REFERENCE_E4 + 900]
    assert loaded.apply(sweep, market.now_ms) == events
    market.assert_replays()


def test_depth_ends_where_the_collar_would_halt() -> None:
    market = collared()
    market.order(market.alice, "sell", REFERENCE_E4 + 500, 50)
    market.order(market.alice, "sell", REFERENCE_E4 + 501, 50)
    assert [level.energy_wh for level in market.engine.depth("LV2", NOON, 10)[1]] == [50]
    assert market.engine.best("LV2", NOON) == (None, REFERENCE_E4 + 500 + 2 * FEE_E4)
    market.order(market.bob, "buy", 3_500, 50)
    assert market.engine.depth("LV2", NOON, 10)[1] == [] and market.engine.best("LV2", NOON) == (None, None)
    market.order(market.charlie, "buy", REFERENCE_E4 - 501, 50)
    assert market.engine.best("LV1", NOON) == (None, None)


def test_an_edge_that_opens_may_meet_a_collar_too() -> None:
    market = collared()
    market.do(c.SetCapacity("LV2", 0, 0, "cut"))
    market.order(market.alice, "sell", 1_300, 50)
    market.order(market.bob, "buy", 3_000, 50)
    assert halts(market.do(c.SetCapacity("LV2", 4_000, 4_000, "opened")))[0][:3] == (NOON, 1, "collar")
    market.tick(market.now_ms + 30_000)
    assert market.trades(market.log) == [(market.alice, market.bob, 50, 1_300, 1_300 + 2 * FEE_E4)]
    market.assert_replays()


# --- halts and kill switch ---------------------------------------------------------------------------------------------
def test_a_halt_may_have_an_end_and_an_operators_halt_outlives_a_collars() -> None:
    market = collared()
    market.do(c.SetHalt("contract", NOON, 1, "maintenance", market.now_ms + MINUTE_MS))
    market.tick(market.now_ms + MINUTE_MS)
    assert not market.engine.contracts[NOON].halted
    market.order(market.alice, "sell", 2_600, 50)
    market.order(market.bob, "buy", 3_500, 50)
    market.do(c.SetHalt("contract", NOON, 1, "suspicion"))
    market.tick(market.now_ms + 30 * MINUTE_MS)
    assert market.engine.contracts[NOON].halted
    market.assert_replays()


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (c.SetHalt("market", "", 1, "x", 2**43), "until"),
        (c.SetHalt("contract", NOON, 1, "x", 5), "until"),
        (c.SetHalt("contract", NOON, 0, "x", 2**43), "until"),
        (c.SetHalt("contract", NOON, 0, "x", 0, 1), "cancel"),
        (c.SetHalt("contract", NOON, 1, "x", 0, 2), "cancel"),
        (c.SetHalt("contract", NOON, 1, "collar"), "reason"),
    ],
)
def test_bad_halts(command: Any, field: str) -> None:
    assert Market().refused(command) == ("invalid_value", field)


@pytest.mark.parametrize(
    ("scope", "target", "gone"),
    [
        ("market", "", {"a", "b", "c", "later", "block"}), ("contract", NOON, {"a", "b", "c", "block"}),
        ("area", "LV1", {"a", "c", "later"}), ("area", "MV", {"a", "b", "c", "later", "block"}),
        ("account", "4", {"a", "later"}),
    ],
)  # fmt: skip
def test_the_kill_switch_takes_back_all_in_its_scope(scope: str, target: str, gone: set[str]) -> None:
    market = Market()
    market.do(limits())
    assert market.alice == 4
    ids = {
        market.order(market.alice, "sell", 2_900, 10)[0].seq: "a",
        market.order(market.bob, "buy", 1_000, 10)[0].seq: "b",
        market.order(market.charlie, "buy", 1_000, 10)[0].seq: "c",
        market.order(market.alice, "sell", 2_900, 10, contract=LATER)[0].seq: "later",
    }
    for event in market.do(c.PlaceBlock(market.dora, NOON, LATER, "buy", 1_000, 10, "gtg", 0)):
        ids[event.seq] = "block"
    events = market.do(c.SetHalt(scope, target, 1, "emergency", 0, 1))
    cancelled = [event for event in events if isinstance(event, ev.OrderCancelled)]
    assert {ids[event.order] for event in cancelled} == gone and {event.reason for event in cancelled} == {"kill"}
    assert {ids[id] for id in market.engine.orders} == set(ids.values()) - gone
    market.do(c.SetHalt(scope, target, 0, "over"))
    market.assert_replays()


# --- throttle ----------------------------------------------------------------------------------------------------------
def test_orders_cost_tokens_that_come_in_again() -> None:
    market = Market()
    market.do(limits(throttle_per_min=60, throttle_burst=3))
    first = market.order(market.alice, "sell", 2_900, 10)[0].seq
    market.order(market.alice, "sell", 2_900, 10)
    market.do(c.AmendOrder(market.alice, first, 2_800, -1))
    refused = market.apply(c.PlaceOrder(market.alice, NOON, "sell", 2_900, 10, "gtg", 0))[0]
    assert (refused.code, refused.field, refused.detail) == ("throttled", "account", (("retry_after_ms", 1_000),))
    assert market.refused(c.AmendOrder(market.alice, first, 2_900, -1))[0] == "throttled"
    market.do(c.HibernateOrder(market.alice, first))
    assert market.refused(c.ReactivateOrder(market.alice, first))[0] == "throttled"
    market.do(c.CancelOrder(market.alice, first, "owner"))  # always possible
    market.order(market.bob, "buy", 1_000, 10)  # another account's tokens
    market.now_ms += 999
    assert market.refused(c.PlaceOrder(market.alice, NOON, "sell", 2_900, 10, "gtg", 0))[0] == "throttled"
    market.now_ms += 1
    market.order(market.alice, "sell", 2_900, 10)
    market.assert_replays()


def test_a_trade_gives_tokens_back_and_every_leg_costs_one() -> None:
    market = Market()
    market.do(limits(throttle_per_min=1, throttle_burst=2, throttle_credit=2))
    assert market.refused(c.PlaceBlock(market.bob, NOON, "2026-06-06T12:30Z", "buy", 1, 1, "gtg", 0))[0] == "throttled"
    market.do(c.PlaceBlock(market.bob, NOON, LATER, "buy", 1_000, 1, "gtg", 0))
    assert market.refused(c.PlaceOrder(market.bob, NOON, "buy", 900, 10, "gtg", 0))[0] == "throttled"
    for _ in range(5):
        market.order(market.alice, "sell", 1_000, 10)
        market.order(market.charlie, "buy", 1_000, 10)
    market.assert_replays()


# --- position limits ---------------------------------------------------------------------------------------------------
def test_position_and_open_orders_stay_within_the_connection() -> None:
    market = Market()
    market.do(limits(connection_import_w=4_000, connection_export_w=2_000))  # 1,000 and 500 Wh an interval
    sell = c.PlaceOrder(market.alice, NOON, "sell", 2_000, 500, "gtg", 0)
    first = market.do(sell)[0].seq
    assert market.refused(sell._replace(energy_wh=1)) == ("position_limit", "energy_wh")
    market.do(sell._replace(contract=LATER))
    assert market.refused(c.AmendOrder(market.alice, first, -1, 501)) == ("position_limit", "energy_wh")
    market.order(market.bob, "buy", 2_500, 300)
    assert market.refused(sell._replace(energy_wh=1))[0] == "position_limit"  # 300 sold, 200 open
    market.do(c.CancelOrder(market.alice, first, "owner"))
    assert market.refused(sell._replace(energy_wh=201))[0] == "position_limit"
    market.do(sell._replace(energy_wh=200, price_e4=2_900))
    # Having sold 300 it may buy 1,300; having bought 300 bob may sell 800.
    assert market.refused(c.PlaceOrder(market.alice, NOON, "buy", 1, 1_301, "gtg", 0))[0] == "position_limit"
    market.do(c.PlaceOrder(market.alice, NOON, "buy", 1, 1_300, "gtg", 0))
    assert market.refused(c.PlaceOrder(market.bob, NOON, "sell", 3_000, 801, "gtg", 0))[0] == "position_limit"
    market.do(c.PlaceOrder(market.bob, NOON, "sell", 3_000, 800, "gtg", 0))
    loaded = Engine.load(market.engine.dump())
    exposures = [
        {slot: (found.buy_wh, found.sell_wh) for slot, found in engine.contracts[NOON].exposures.items()}
        for engine in (market.engine, loaded)
    ]
    assert exposures[0] == exposures[1] == {market.alice: (1_000, 500), market.bob: (300, 500)}
    market.assert_replays()


def test_accounts_of_one_connection_share_its_limits() -> None:
    market = Market()
    market.do(limits(connection_import_w=4_000))
    shared = "ab" * 32
    first = market.do(c.OpenAccount("1" * 32, "LV1", "", shared, ""))[0].account
    second = market.do(c.OpenAccount("2" * 32, "LV1", "", shared, ""))[0].account
    for account in (first, second):
        market.do(c.Fund(account, 10**9, "opening", ""))
    market.order(first, "buy", 1_000, 600)
    assert market.refused(c.PlaceOrder(second, NOON, "buy", 1_000, 401, "gtg", 0)) == ("position_limit", "energy_wh")
    market.order(market.alice, "buy", 1_000, 900)
    assert market.refused(c.SetConnection(market.alice, "zz", 0, 0)) == ("invalid_value", "connection")
    market.do(c.SetConnection(market.alice, shared, 8_000, 0))  # 2,000 Wh for all three, 1,500 of it taken
    assert market.refused(c.PlaceOrder(second, NOON, "buy", 1_000, 501, "gtg", 0))[0] == "position_limit"
    market.order(second, "buy", 1_000, 500)
    market.do(c.SetConnection(second, "cd" * 32, 0, 0))
    market.order(first, "buy", 1_000, 500)
    assert market.refused(c.PlaceOrder(second, NOON, "buy", 1_000, 501, "gtg", 0))[0] == "position_limit"
    market.assert_replays()


def test_a_recall_that_exceeds_a_limit_blocks_new_orders_only() -> None:
    market = Market()
    market.do(limits())
    market.do(c.SetConnection(market.charlie, "", 4_000, 0))
    market.order(market.alice, "sell", 2_000, 1_000)
    market.order(market.charlie, "buy", 2_000, 1_000)
    market.order(market.charlie, "sell", 1_900, 500)
    trade = next(e for e in market.order(market.bob, "buy", 2_500, 500) if isinstance(e, ev.Traded))
    market.order(market.charlie, "buy", 1_500, 500)
    market.do(c.RecallTrade(trade.seq, "error"))
    assert market.refused(c.PlaceOrder(market.charlie, NOON, "buy", 1_000, 1, "gtg", 0))[0] == "position_limit"
    market.order(market.charlie, "sell", 2_500, 10)
    market.assert_replays()


# --- recall ------------------------------------------------------------------------------------------------------------
def test_a_recall_takes_back_money_position_and_capacity() -> None:
    market = Market(capacity_w=400)  # 100 Wh
    market.order(market.alice, "sell", 2_000, 150)
    before = [market.wallet(account) for account in (market.alice, market.bob)]
    trade = next(e for e in market.order(market.bob, "buy", 2_200, 100) if isinstance(e, ev.Traded))
    rest = market.order(market.dora, "buy", 2_250, 30)[0].seq  # behind the full edge
    assert market.engine.why_not(rest) == ("capacity", {"area": "LV1", "direction": "export", "best_e4": 2_200})
    contract = market.engine.contracts[NOON]
    events = market.do(c.RecallTrade(trade.seq, "error"))
    assert events[0][2:] == (trade.seq, NOON, "error", 100, market.bob, market.alice, 220_000, 100_000, "")
    assert market.trades(events) == [(market.alice, market.dora, 30, 2_000, 2_200)]  # the edge is open again
    assert contract.volume_wh == 30 and contract.tallies[market.bob].values() == [0] * 6
    assert market.wallet(market.bob) == before[1]
    assert market.wallet(market.alice)[0] == before[0][0] - 30 * (TOPUP_E4 - 2_000)
    assert market.engine.flows(NOON)["LV2"].import_wh == 30
    assert market.refused(c.RecallTrade(trade.seq, "error")) == ("already_recalled", "trade")
    assert market.refused(c.RecallTrade(trade.seq + 1, "error")) == ("unknown_trade", "trade")
    assert market.refused(c.RecallTrade(events[1].seq, "Not a code")) == ("invalid_value", "reason")
    assert sum(account.cash_e7 for account in market.engine.accounts) == 0
    market.assert_replays()


def test_a_trade_can_be_recalled_until_delivery() -> None:
    market = Market()
    market.order(market.alice, "sell", 2_000, 150)
    trade = market.order(market.charlie, "buy", 2_200, 100)[1]
    late = market.order(market.charlie, "buy", 2_200, 50)[1]
    contract = market.engine.contracts[NOON]
    market.tick(contract.gate_ms)
    market.do(c.RecallTrade(trade.seq, "error"))
    market.tick(contract.end_ms)
    assert market.refused(c.RecallTrade(late.seq, "error")) == ("contract_state", "contract")
    market.assert_replays()


# --- parameters --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"collar_e4": 1}, "collar_period_s"),
        ({"collar_e4": 1, "collar_period_s": 1}, "collar_halt_s"),
        ({"throttle_per_min": 1}, "throttle_burst"),
        ({"collar_e4": -1}, "collar_e4"),
        ({"connection_import_w": 10**10}, "connection_import_w"),
    ],
)
def test_parameters_are_checked(changes: dict[str, int], problem: str) -> None:
    market = Market()
    assert params_problem(market.engine.params._replace(**changes)) == problem
    assert market.refused(limits(**changes)) == ("invalid_value", problem)


# --- why not -----------------------------------------------------------------------------------------------------------
def test_an_order_that_only_its_own_group_could_fill_says_so() -> None:
    market = Market()
    family = [market.member("LV1", "family"), market.member("LV2", "family")]
    market.do(c.SetCapacity("LV2", 0, 0, "cut"))
    market.order(family[0], "sell", 1_000, 10)
    bid = market.order(family[1], "buy", 2_000, 10)[0].seq
    assert market.engine.why_not(bid) == ("own_orders", {})
    market.order(market.alice, "sell", 1_500, 10)
    assert market.engine.why_not(bid)[0] == "capacity"  # behind the family's in the same area


def test_an_order_says_why_it_has_not_traded() -> None:
    market = Market()
    why = market.engine.why_not
    bid = market.order(market.bob, "buy", 2_000, 10)[0].seq
    assert why(bid) == ("no_offers", {})
    market.order(market.alice, "sell", 1_900, 10)
    assert why(bid) == ("price", {"best_e4": 1_900 + 2 * FEE_E4})
    market.do(c.SetCapacity("LV2", 0, 0, "cut"))
    market.order(market.charlie, "sell", 1_700, 10)
    assert why(bid) == ("capacity", {"area": "LV2", "direction": "import", "best_e4": 1_900})
    for scope, target, code in (
        ("market", "", "market_halted"), ("contract", NOON, "contract_halted"), ("area", "LV2", "area_halted"),
        ("account", str(market.bob), "account_halted"),
    ):  # fmt: skip
        market.do(c.SetHalt(scope, target, 1, "test"))
        assert why(bid) == (code, {})
        market.do(c.SetHalt(scope, target, 0, "test"))
    market.do(c.HibernateOrder(market.bob, bid))
    assert why(bid) == ("hibernated", {})
    market.do(c.CancelOrder(market.bob, bid, "owner"))
    assert why(bid) is None
