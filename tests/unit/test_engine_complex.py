"""Icebergs, sweeps, blocks, baskets, hibernation: one rule a test (docs/market-rules.md, 4.9 to 4.13)."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import commands as c
from market.engine import events as ev
from market.engine.engine import Engine
from market.engine.orders import Group
from tests.unit.engine_cast import FEE_E4, LATER, NOON, OPENING_MS, TOPUP_E4, Market

THIRD = "2026-06-06T12:30Z"


@pytest.fixture
def market() -> Market:
    made = Market(capacity_w=4_000_000)
    made.do(c.SetParams(40_000, 1, 1_000_000, 200, 180, 0, 1_000))
    return made


def iceberg(market: Market, account: int, side: str, price_e4: int, energy_wh: int, display_wh: int) -> list[Any]:
    return market.do(c.PlaceIceberg(account, NOON, side, price_e4, energy_wh, "gtg", 0, display_wh))


def block(market: Market, account: int, side: str, price_e4: int, energy_wh: int, tif: str = "gtg") -> list[Any]:
    return market.do(c.PlaceBlock(account, NOON, THIRD, side, price_e4, energy_wh, tif, 0))


def cancelled(events: list[Any]) -> list[tuple[int, int, str]]:
    return [(e.order, e.remaining_wh, e.reason) for e in events if isinstance(e, ev.OrderCancelled)]


# --- icebergs ----------------------------------------------------------------------------------------------------------
def test_an_iceberg_shows_a_clip_and_each_next_one_queues_behind(market: Market) -> None:
    iceberg(market, market.alice, "sell", 2_000, 250, 100)
    market.order(market.charlie, "sell", 2_000, 40)
    assert market.engine.depth("LV1", NOON, 5)[1][0].energy_wh == 140
    events = market.order(market.bob, "buy", 3_000, 180)
    assert [(e.seller, e.energy_wh) for e in events if isinstance(e, ev.Traded)] == [
        (market.alice, 100), (market.charlie, 40), (market.alice, 40),
    ]  # fmt: skip
    assert market.engine.depth("LV1", NOON, 5)[1][0].energy_wh == 60
    market.order(market.bob, "buy", 3_000, 110)
    assert not market.engine.orders
    market.assert_replays()


def test_an_arriving_iceberg_takes_with_all_it_has(market: Market) -> None:
    market.order(market.alice, "sell", 1_500, 180)
    events = iceberg(market, market.charlie, "buy", 2_000, 300, 50)
    assert market.trades(events) == [(market.alice, market.charlie, 180, 1_500, 1_500)]
    (order,) = market.engine.orders.values()
    assert (order.remaining_wh, order.left_wh, order.filled_wh) == (50, 120, 180)
    assert market.wallet(market.charlie)[1] == 120 * 2_000
    market.assert_replays()


def test_fill_or_kill_counts_what_is_hidden(market: Market) -> None:
    iceberg(market, market.alice, "sell", 2_000, 250, 100)
    assert market.refused(c.PlaceOrder(market.charlie, NOON, "buy", 2_000, 251, "fok", 0))[0] == "fill_or_kill_unfilled"
    assert sum(trade[2] for trade in market.trades(market.order(market.charlie, "buy", 2_000, 250, "fok"))) == 250


def test_an_iceberg_made_smaller_gives_up_what_is_hidden_first(market: Market) -> None:
    id = iceberg(market, market.alice, "sell", 2_000, 300, 100)[0].seq
    market.do(c.AmendOrder(market.alice, id, -1, 150))
    order = market.engine.orders[id]
    assert (order.remaining_wh, order.left_wh) == (100, 150)
    market.do(c.AmendOrder(market.alice, id, -1, 60))
    assert (order.remaining_wh, order.left_wh) == (60, 60)
    events = market.do(c.AmendOrder(market.alice, id, -1, 400))
    assert events[0].requeued and market.engine.orders[id].remaining_wh == 100
    market.assert_replays()


@pytest.mark.parametrize(("energy_wh", "display_wh"), [(100, 100), (100, 0), (100, 101), (10_001, 100)])
def test_a_clip_is_a_part_of_an_iceberg_and_not_too_small(market: Market, energy_wh: int, display_wh: int) -> None:
    command = c.PlaceIceberg(market.alice, NOON, "sell", 2_000, energy_wh, "gtg", 0, display_wh)
    assert market.refused(command) == ("display_out_of_range", "display_wh")


def test_icebergs_rest(market: Market) -> None:
    for tif in ("ioc", "fok"):
        command = c.PlaceIceberg(market.alice, NOON, "sell", 2_000, 100, tif, 0, 10)
        assert market.refused(command) == ("invalid_time_in_force", "time_in_force")


# --- hibernation -------------------------------------------------------------------------------------------------------
def test_a_hibernating_order_has_no_hold_and_comes_back_behind_the_others(market: Market) -> None:
    first = market.order(market.alice, "sell", 2_000, 100)[0].seq
    second = market.order(market.charlie, "sell", 2_000, 100)[0].seq
    market.do(c.HibernateOrder(market.alice, first))
    assert market.wallet(market.alice)[1] == 0
    assert market.engine.depth("LV1", NOON, 5)[1][0].energy_wh == 100
    assert market.refused(c.AmendOrder(market.alice, first, 2_100, -1)) == ("order_hibernated", "order")
    assert market.refused(c.HibernateOrder(market.alice, first)) == ("order_hibernated", "order")
    assert market.refused(c.ReactivateOrder(market.bob, first)) == ("not_your_order", "order")
    market.do(c.ReactivateOrder(market.alice, first))
    assert market.wallet(market.alice)[1] == (TOPUP_E4 - 2_000) * 100
    assert market.refused(c.ReactivateOrder(market.alice, first)) == ("not_hibernated", "order")
    trade = market.order(market.bob, "buy", 3_000, 50)[1]
    assert (trade.maker, trade.seller) == (second, market.charlie)
    market.assert_replays()


def test_a_reactivated_order_may_trade_at_once_as_a_taker(market: Market) -> None:
    asleep = market.order(market.alice, "sell", 1_500, 100)[0].seq
    market.do(c.HibernateOrder(market.alice, asleep))
    bid = market.order(market.charlie, "buy", 2_000, 60)[0].seq
    events = market.do(c.ReactivateOrder(market.alice, asleep))
    assert [(e.maker, e.taker, e.sell_e4) for e in events[1:]] == [(bid, asleep, 2_000)]
    market.assert_replays()


def test_coming_back_needs_money_again(market: Market) -> None:
    poor = market.member("LV1", money_e7=200_000)
    asleep = market.order(poor, "buy", 2_000, 100)[0].seq
    market.do(c.HibernateOrder(poor, asleep))
    market.order(poor, "buy", 1_000, 150)
    assert market.refused(c.ReactivateOrder(poor, asleep)) == ("insufficient_funds", "energy_wh")


def test_a_hibernating_order_sleeps_through_a_halt_and_ends_at_the_gate(market: Market) -> None:
    asleep = market.order(market.alice, "sell", 1_500, 100)[0].seq
    market.do(c.HibernateOrder(market.alice, asleep))
    market.do(c.SetHalt("account", str(market.alice), 1, "test"))
    market.do(c.SetHalt("account", str(market.alice), 0, "test"))
    assert not market.engine.orders[asleep].resting
    assert Engine.load(market.engine.dump()).state_hash() == market.engine.state_hash()
    market.tick(market.engine.contracts[NOON].gate_ms)
    assert (asleep, 100, "gate") in cancelled(market.log)
    market.assert_replays()


# --- sweeps ------------------------------------------------------------------------------------------------------------
def test_a_sweep_takes_the_best_price_in_any_contract(market: Market) -> None:
    market.order(market.charlie, "sell", 2_000, 100, contract=NOON)
    market.order(market.charlie, "sell", 1_500, 100, contract=LATER)
    market.order(market.alice, "sell", 1_500, 30, contract=THIRD)
    market.order(market.alice, "sell", 2_500, 100, contract=THIRD)
    events = market.do(c.PlaceSweep(market.alice, NOON, THIRD, "buy", 2_400, 300))
    trades = [(e.contract, e.energy_wh, e.buy_e4) for e in events if isinstance(e, ev.Traded)]
    assert trades == [(LATER, 100, 1_500), (NOON, 100, 2_000)]
    own = [e for e in events if isinstance(e, ev.OrderCancelled)]
    assert [(e.order == events[0].seq, e.remaining_wh, e.reason) for e in own] == [
        (False, 30, "self_trade"),
        (True, 100, "ioc"),
    ]
    assert market.wallet(market.alice)[1] == 500 * 100  # of the sell order that is still there
    market.assert_replays()


def test_a_sweep_prefers_the_earlier_contract_among_equals(market: Market) -> None:
    for name in (LATER, NOON):
        market.order(market.charlie, "sell", 2_000, 100, contract=name)
    events = market.do(c.PlaceSweep(market.bob, NOON, LATER, "buy", 2_000 + 2 * FEE_E4, 120))
    assert [(e.contract, e.energy_wh) for e in events[1:]] == [(NOON, 100), (LATER, 20)]


def test_a_sweep_respects_position_limits_contract_by_contract(market: Market) -> None:
    market.do(c.SetConnection(market.bob, "", 400, 0))  # 100 Wh an interval
    for name in (NOON, LATER):
        market.order(market.charlie, "sell", 2_000, 500, contract=name)
    events = market.do(c.PlaceSweep(market.bob, NOON, LATER, "buy", 3_000, 700))
    assert [(e.contract, e.energy_wh) for e in events[1:3]] == [(NOON, 100), (LATER, 100)]
    assert cancelled(events) == [(events[0].seq, 500, "ioc")]
    assert market.refused(c.PlaceSweep(market.bob, NOON, LATER, "buy", 3_000, 1)) == ("position_limit", "energy_wh")
    market.assert_replays()


def test_a_sweeps_span(market: Market) -> None:
    assert market.refused(c.PlaceSweep(4, LATER, NOON, "buy", 3_000, 1)) == ("invalid_span", "last")
    assert market.refused(c.PlaceSweep(4, NOON, "2026-07-06T12:00Z", "buy", 3_000, 1)) == ("unknown_contract", "last")
    for name in (NOON, LATER):
        market.do(c.SetHalt("contract", name, 1, "test"))
    assert market.refused(c.PlaceSweep(4, NOON, LATER, "buy", 3_000, 1)) == ("contract_halted", "contract")
    market.do(c.SetHalt("contract", LATER, 0, "test"))
    market.do(c.PlaceSweep(4, NOON, LATER, "buy", 3_000, 1))


# --- blocks ------------------------------------------------------------------------------------------------------------
def test_a_block_waits_outside_the_book_until_all_of_it_can_trade(market: Market) -> None:
    events = block(market, market.bob, "buy", 2_500, 100)
    assert [(e.contract, e.leg, e.legs, e.group) for e in events] == [
        (name, leg, 3, events[0].seq) for leg, name in enumerate((NOON, LATER, THIRD), 1)
    ]
    assert market.engine.depth("LV2", NOON, 5) == ([], [])
    assert market.wallet(market.bob)[1] == 3 * 2_500 * 100
    market.order(market.alice, "sell", 1_500, 100, contract=NOON)
    market.order(market.alice, "sell", 1_600, 100, contract=THIRD)
    assert not market.trades(market.log)
    assert market.engine.why_not(events[0].seq) == ("block", {"contract": LATER, "missing_wh": 100})
    events = market.order(market.alice, "sell", 2_300, 120, contract=LATER)
    assert [(e.contract, e.energy_wh, e.buy_e4) for e in events[1:]] == [
        (NOON, 100, 1_500 + 2 * FEE_E4), (LATER, 100, 2_300 + 2 * FEE_E4), (THIRD, 100, 1_600 + 2 * FEE_E4),
    ]  # fmt: skip
    assert market.wallet(market.bob)[1] == 0 and not market.engine.waiting
    market.assert_replays()


def test_a_recovered_block_watches_where_it_lacks_energy(market: Market) -> None:
    block(market, market.bob, "buy", 2_500, 100)
    market.order(market.alice, "sell", 1_500, 100, contract=NOON)
    market.order(market.alice, "sell", 1_600, 100, contract=LATER)
    recovered = Engine.load(market.engine.dump())
    last = c.PlaceOrder(market.alice, THIRD, "sell", 1_700, 100, "gtg", 0)
    events = market.do(last)
    assert len(market.trades(events)) == 3
    assert recovered.apply(last, market.now_ms) == events


def test_blocks_do_not_meet_blocks_and_the_older_one_goes_first(market: Market) -> None:
    first = block(market, market.bob, "buy", 2_500, 100)[0].seq
    block(market, market.dora, "buy", 2_600, 100)
    block(market, market.charlie, "sell", 1_000, 100)
    assert not market.trades(market.log)
    for name in (NOON, LATER, THIRD):
        market.order(market.alice, "sell", 1_500, 150, contract=name)
    assert {e.buyer for e in market.log if isinstance(e, ev.Traded)} == {market.bob}
    assert first not in market.engine.orders
    market.assert_replays()


def test_a_waiting_block_is_left_alone_until_enough_has_come(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    block(market, market.bob, "buy", 2_500, 100)
    looks: list[int] = []
    genuine = type(market.engine)._lacks
    monkeypatch.setattr(
        type(market.engine),
        "_lacks",
        lambda self, leg, arriving: looks.append(leg.id) or genuine(self, leg, arriving),
    )
    market.order(market.alice, "sell", 2_600, 500)  # too dear, whatever the fee
    market.order(market.dora, "buy", 1_000, 500)  # on its own side
    market.order(market.alice, "sell", 1_500, 99)  # not enough
    market.order(market.charlie, "sell", 1_500, 100, contract=LATER)  # not where it lacks energy
    assert not looks
    market.order(market.charlie, "sell", 1_500, 1)
    assert looks
    market.order(market.charlie, "sell", 1_500, 100, contract=THIRD)
    assert len(market.trades(market.log)) == 4


def test_one_block_can_let_the_next_one_trade(market: Market) -> None:
    """Netting: what the first sends up opens the way down for the second."""
    market.do(c.SetCapacity("LV2", 0, 0, "cut"))
    block(market, market.dora, "buy", 2_900, 50)
    for name in (NOON, LATER, THIRD):
        market.order(market.alice, "sell", 1_500, 60, contract=name)
        market.order(market.charlie, "buy", 2_000, 60, contract=name)  # takes alice's
        market.order(market.alice, "sell", 1_600, 60, contract=name)
    assert not [e for e in market.log if isinstance(e, ev.Traded) and e.buyer == market.dora]
    events = market.do(c.SetCapacity("LV2", 200, 0, "opened"))
    assert [(e.buyer, e.energy_wh) for e in events if isinstance(e, ev.Traded)] == [(market.dora, 50)] * 3
    market.assert_replays()


def test_cancelling_a_leg_cancels_its_block(market: Market) -> None:
    ids = [event.seq for event in block(market, market.bob, "buy", 2_500, 100)]
    assert market.refused(c.AmendOrder(market.bob, ids[1], 2_600, -1)) == ("linked_order", "order")
    assert market.refused(c.HibernateOrder(market.bob, ids[1])) == ("linked_order", "order")
    assert cancelled(market.do(c.CancelOrder(market.bob, ids[1], "owner"))) == [(id, 100, "owner") for id in ids]
    assert market.wallet(market.bob)[1] == 0 and not market.engine.orders
    market.assert_replays()


def test_a_block_ends_at_the_gate_of_its_first_contract(market: Market) -> None:
    ids = [event.seq for event in block(market, market.bob, "buy", 2_500, 100)]
    market.tick(market.engine.contracts[NOON].gate_ms)
    assert cancelled(market.log) == [(id, 100, "gate") for id in ids]
    market.assert_replays()


def test_a_block_ends_at_its_date(market: Market) -> None:
    command = c.PlaceBlock(market.bob, NOON, LATER, "buy", 2_500, 100, "gtd", OPENING_MS + 60_000)
    ids = [event.seq for event in market.do(command)]
    market.tick(OPENING_MS + 60_000)
    assert cancelled(market.log) == [(id, 100, "expired") for id in ids]
    market.assert_replays()


def test_a_block_is_filled_or_killed(market: Market) -> None:
    for name in (NOON, LATER):
        market.order(market.alice, "sell", 1_500, 100, contract=name)
    command = c.PlaceBlock(market.bob, NOON, THIRD, "buy", 2_500, 100, "fok", 0)
    assert market.refused(command) == ("fill_or_kill_unfilled", "energy_wh")
    market.order(market.alice, "sell", 1_500, 100, contract=THIRD)
    assert len(market.trades(market.do(command))) == 3
    assert not market.engine.orders and market.wallet(market.bob)[1] == 0
    market.assert_replays()


def test_own_offers_do_not_fill_a_block(market: Market) -> None:
    family = [market.member("LV1", "family"), market.member("LV2", "family")]
    for name in (NOON, LATER, THIRD):
        market.order(family[0], "sell", 1_500, 100, contract=name)
    id = block(market, family[1], "buy", 2_500, 100)[0].seq
    assert not market.trades(market.log)
    assert market.engine.why_not(id) == ("own_orders", {"contract": NOON, "missing_wh": 100})
    for name in (NOON, LATER, THIRD):
        market.order(market.alice, "sell", 1_600, 100, contract=name)
    assert {e.seller for e in market.log if isinstance(e, ev.Traded)} == {market.alice}
    assert len([e for e in market.log if isinstance(e, ev.OrderCancelled) and e.reason == "self_trade"]) == 3
    market.assert_replays()


def test_a_halted_contract_stops_a_block(market: Market) -> None:
    block(market, market.bob, "buy", 2_500, 100)
    market.do(c.SetHalt("contract", LATER, 1, "test"))
    for name in (NOON, THIRD):
        market.order(market.alice, "sell", 1_500, 100, contract=name)
    market.do(c.SetHalt("contract", LATER, 0, "test"))
    market.order(market.alice, "sell", 1_500, 100, contract=LATER)
    assert len(market.trades(market.log)) == 3


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"contract": THIRD, "last": NOON}, "invalid_span", "last"),
        ({"last": "2026-06-06T12:35Z"}, "unknown_contract", "last"),
        ({"time_in_force": "ioc"}, "invalid_time_in_force", "time_in_force"),
        ({"energy_wh": 0}, "energy_out_of_range", "energy_wh"),
        ({"price_e4": 0}, "price_out_of_range", "price"),
        ({"energy_wh": 200_000}, "insufficient_funds", "energy_wh"),
    ],
)
def test_bad_blocks(market: Market, change: dict[str, Any], code: str, field: str) -> None:
    good = c.PlaceBlock(market.bob, NOON, THIRD, "buy", 2_500, 100, "gtg", 0)
    assert market.refused(good._replace(**change)) == (code, field)


# --- baskets -----------------------------------------------------------------------------------------------------------
def legs(market: Market, *wanted: tuple[int, str, str, int, int]) -> c.PlaceBasket:
    return c.PlaceBasket(wanted[0][0], tuple(c.Leg(*leg) for leg in wanted))


def test_a_battery_buys_and_sells_both_or_neither(market: Market) -> None:
    basket = legs(market, (market.bob, NOON, "buy", 2_000, 100), (market.bob, THIRD, "sell", 2_500, 90))
    market.order(market.alice, "sell", 1_500, 100, contract=NOON)
    assert market.refused(basket) == ("fill_or_kill_unfilled", "legs")
    market.order(market.dora, "buy", 2_600, 100, contract=THIRD)
    events = market.do(basket)
    assert [(e.kind, e.leg, e.legs) for e in events[:2]] == [("basket", 1, 2), ("basket", 2, 2)]
    assert market.trades(events) == [
        (market.alice, market.bob, 100, 1_500, 1_700), (market.bob, market.dora, 90, 2_600, 2_600),
    ]  # fmt: skip
    assert market.wallet(market.bob)[1] == 0
    market.assert_replays()


def test_legs_of_one_contract_compete_for_the_same_energy(market: Market) -> None:
    market.order(market.alice, "sell", 1_500, 100)
    twice = legs(market, (market.bob, NOON, "buy", 2_000, 60), (market.bob, NOON, "buy", 2_000, 60))
    assert market.refused(twice) == ("fill_or_kill_unfilled", "legs")
    book = market.engine.contracts[NOON].book
    assert book is not None and not book.opened
    fits = legs(market, (market.bob, NOON, "buy", 2_000, 60), (market.bob, NOON, "buy", 2_000, 40))
    assert [trade[2] for trade in market.trades(market.do(fits))] == [60, 40]
    market.assert_replays()


def test_a_leg_may_use_what_netting_gives_back(market: Market) -> None:
    """The first leg sends energy up its street's edge, so that as much can come down for the second."""
    market.do(c.SetCapacity("LV2", 0, 400, "cut"))
    family = [market.member("LV2", "family"), market.member("LV2", "family")]
    market.order(market.alice, "sell", 1_500, 100)
    market.order(market.charlie, "buy", 1_400, 100)
    there_and_back = legs(market, (family[0], NOON, "sell", 1_000, 80), (family[1], NOON, "buy", 2_000, 80))
    assert market.refused(legs(market, *[tuple(leg) for leg in there_and_back.legs[::-1]])) == (
        "fill_or_kill_unfilled", "legs",
    )  # fmt: skip
    assert len(market.trades(market.do(there_and_back))) == 2
    market.assert_replays()


def test_a_basket_may_span_the_accounts_of_one_group(market: Market) -> None:
    family = [market.member("LV1", "family"), market.member("LV2", "family")]
    market.order(market.alice, "sell", 1_500, 100)
    both = legs(market, (family[0], NOON, "buy", 2_000, 50), (family[1], NOON, "buy", 2_000, 50))
    assert len(market.trades(market.do(both))) == 2
    stranger = legs(market, (family[0], NOON, "buy", 2_000, 50), (market.bob, NOON, "buy", 2_000, 50))
    assert market.refused(stranger) == ("not_your_account", "legs.2.account")
    market.assert_replays()


def test_a_refused_basket_leaves_icebergs_and_own_orders_as_they_were(market: Market) -> None:
    family = [market.member("LV1", "family"), market.member("LV2", "family")]
    market.order(family[1], "sell", 1_400, 70)
    iceberg(market, market.alice, "sell", 1_500, 300, 100)
    market.order(market.charlie, "sell", 1_500, 20)
    wanted = legs(market, (family[0], NOON, "buy", 2_000, 250), (family[0], NOON, "buy", 1_450, 1))
    assert market.refused(wanted) == ("fill_or_kill_unfilled", "legs")
    before = market.engine.depth("LV2", NOON, 10)
    again = Engine.load(market.engine.dump())
    assert again.depth("LV2", NOON, 10) == before
    events = market.do(wanted._replace(legs=(wanted.legs[0], wanted.legs[0]._replace(energy_wh=70))))
    assert sum(trade[2] for trade in market.trades(events)) == 320
    market.assert_replays()


def test_what_a_trial_showed_is_never_seen_again(market: Market) -> None:
    """Clips that show in a trial leave numbers in the heaps; the orders that come next must not be taken for them."""
    for account in (market.alice, market.charlie):
        iceberg(market, account, "sell", 1_500, 300, 100)
    wanted = legs(market, (market.bob, NOON, "buy", 2_000, 350), (market.bob, NOON, "buy", 1_450, 1))
    assert market.refused(wanted) == ("fill_or_kill_unfilled", "legs")
    for _ in range(8):
        market.order(market.charlie, "sell", 2_500, 10)
    assert market.engine.depth("LV1", NOON, 9)[1] == Engine.load(market.engine.dump()).depth("LV1", NOON, 9)[1]
    events = market.order(market.dora, "buy", 2_900, 680)
    assert {trade[3:] for trade in market.trades(events)} == {(1_500, 1_700), (2_500, 2_700)}
    market.assert_replays()


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"contract": "2026-06-06T12:01Z"}, "unknown_contract", "legs.2.contract"),
        ({"account": 99}, "unknown_account", "legs.2.account"),
        ({"side": "give"}, "invalid_side", "legs.2.side"),
        ({"price_e4": 0}, "price_out_of_range", "legs.2.price"),
        ({"energy_wh": -1}, "energy_out_of_range", "legs.2.energy_wh"),
        ({"energy_wh": 499_000}, "insufficient_funds", "legs.2.energy_wh"),
    ],
)
def test_bad_legs_are_named(market: Market, change: dict[str, Any], code: str, field: str) -> None:
    good = c.Leg(market.bob, NOON, "buy", 2_000, 2_000)
    assert market.refused(c.PlaceBasket(market.bob, (good, good._replace(**change)))) == (code, field)


def test_a_basket_has_two_to_a_hundred_legs(market: Market) -> None:
    leg = c.Leg(market.bob, NOON, "buy", 2_000, 1)
    for count in (0, 1, 101):
        assert market.refused(c.PlaceBasket(market.bob, (leg,) * count)) == ("invalid_legs", "legs")


def test_a_capacity_looks_at_every_waiting_block_without_searching_the_others_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market, asked = Market(), 0
    for _ in range(30):
        account = market.member("LV2")
        for _ in range(2):
            market.do(c.PlaceBlock(account, NOON, LATER, "buy", 1_000, 1, "gtg", 0))
    honest = Group.priority.fget
    assert honest is not None

    def counted(group: Group) -> int:
        nonlocal asked
        asked += 1
        return int(honest(group))

    monkeypatch.setattr(Group, "priority", property(counted))
    market.do(c.SetCapacity("LV2", 1_000, 1_000, "cut"))
    assert 60 <= asked <= 2 * 60, "with 20,000 blocks searching took half a minute"
