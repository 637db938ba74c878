"""No order of an autopilot is ever outside its limits, and no plan takes a battery below its reserve."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from market.agents.battery import Battery, follow
from market.agents.strategies import limits, storage
from market.agents.strategies.household import Intent, View
from market.agents.strategies.limits import Limits, Purse, Room
from market.engine.commands import BUY, SELL

MAX_PRICE_E4 = 10_000
CASES = 400


@st.composite
def views(draw: st.DrawFn) -> View:
    """Return what a home may meet: any tariff, any tick, any book, any need."""
    spill_e4, topup_e4 = sorted(draw(st.lists(st.integers(0, MAX_PRICE_E4), min_size=2, max_size=2)))
    return View(
        urgency=draw(st.integers(0, 1000)),
        need_wh=draw(st.integers(-20_000, 20_000)),
        position_wh=draw(st.integers(-20_000, 20_000)),
        sun=draw(st.integers(0, 1000)),
        noise=draw(st.integers(-1000, 1000)),
        last=draw(st.booleans()),
        topup_e4=topup_e4,
        spill_e4=spill_e4,
        tick_e4=draw(st.sampled_from([1, 5, 10, 100])),
        bid_e4=draw(st.integers(0, MAX_PRICE_E4)),
        ask_e4=draw(st.integers(0, MAX_PRICE_E4)),
    )


prices = st.none() | st.integers(1, MAX_PRICE_E4)
bounds = st.builds(Limits, prices, prices, st.integers(0, 100))
batteries = st.builds(Battery, st.integers(1, 30_000), st.integers(1, 5_000), st.just(0))


@settings(max_examples=CASES, deadline=None)
@given(
    view=views(), allowed=bounds, battery=st.none() | batteries, permille=st.integers(0, 1000), hour=st.integers(0, 23)
)
def test_no_order_is_outside_the_limits(
    view: View, allowed: Limits, battery: Battery | None, permille: int, hour: int
) -> None:
    charge_wh = 0 if battery is None else battery.capacity_wh * permille // 1000
    intent = limits.decide(view, allowed, battery, charge_wh, hour)
    if intent is None:
        return
    assert allowed.allow(intent.side, intent.price_e4)
    assert intent.energy_wh > 0
    assert intent.price_e4 % view.tick_e4 == 0
    if intent.side == SELL and allowed.sell_from_e4 is not None:
        assert intent.price_e4 >= allowed.sell_from_e4
    if intent.side == BUY and allowed.buy_to_e4 is not None:
        assert intent.price_e4 <= allowed.buy_to_e4


@settings(max_examples=CASES, deadline=None)
@given(view=views(), battery=st.none() | batteries, permille=st.integers(0, 1000), hour=st.integers(0, 23))
def test_without_limits_nothing_changes(view: View, battery: Battery | None, permille: int, hour: int) -> None:
    charge_wh = 0 if battery is None else battery.capacity_wh * permille // 1000
    bare = limits.household.decide(view) if battery is None else storage.decide(view, battery, charge_wh, hour)
    assert limits.decide(view, limits.FREE, battery, charge_wh, hour) == bare


@settings(max_examples=CASES, deadline=None)
@given(
    battery=batteries,
    percent=st.integers(0, 100),
    permille=st.integers(0, 1000),
    evening=st.lists(st.tuples(st.integers(-3_000, 3_000), st.integers(-3_000, 3_000)), max_size=24),
)
def test_no_evening_takes_a_battery_below_its_reserve(
    battery: Battery, percent: int, permille: int, evening: list[tuple[int, int]]
) -> None:
    """Whatever was traded and needed, what is reserved stays; a charge below it only grows."""
    kept = Limits(None, None, percent).kept(battery)
    assert kept.reserve_wh * 100 >= battery.capacity_wh * percent
    charge_wh = battery.capacity_wh * permille // 1000
    least_wh = min(charge_wh, kept.reserve_wh)
    # All intervals of an evening may be planned at the same moment, by the same charge.
    slots = (storage.EVENING[1] - storage.EVENING[0]) * 4
    assert charge_wh - slots * storage.given_wh(kept, charge_wh) >= least_wh
    for position_wh, demand_wh in evening:
        planned = charge_wh - storage.given_wh(kept, charge_wh)
        assert planned >= least_wh
        charge_wh = follow(kept, charge_wh, position_wh, demand_wh).charge_wh
        assert least_wh <= charge_wh <= battery.capacity_wh


@settings(max_examples=CASES, deadline=None)
@given(view=views(), allowed=bounds)
def test_it_never_sells_more_than_the_home_is_expected_to_have(view: View, allowed: Limits) -> None:
    """Whatever was traded so far, an order that is taken as a whole leads towards the forecast and not beyond."""
    intent = limits.decide(view, allowed, None, 0, 12)
    if intent is None:
        return
    assert (intent.side, intent.energy_wh > 0) == (BUY if _step(view, intent) > 0 else SELL, True)
    after_wh = view.position_wh + _step(view, intent)
    expected_wh = view.need_wh * (10_000 + view.error) // 10_000
    assert min(0, expected_wh) <= after_wh <= max(0, expected_wh)


def _step(view: View, intent: Intent) -> int:
    return intent.energy_wh if intent.side == BUY else -intent.energy_wh


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    """Return what a connection may leave, over-used ones among them."""
    return Room(
        draw(st.integers(-5_000, 30_000)),
        draw(st.integers(-5_000, 30_000)),
        draw(st.sampled_from([0, 0, 1, 500])),
        draw(st.sampled_from([0, 0, 1, 500])),
    )


@settings(max_examples=CASES, deadline=None)
@given(
    view=views(), allowed=bounds, room=rooms(), free_e7=st.integers(0, 10**9), kept_e7=st.integers(0, 10**9),
    owes=st.booleans(),
)  # fmt: skip
def test_no_order_asks_for_more_than_connection_and_purse_have(
    view: View, allowed: Limits, room: Room, free_e7: int, kept_e7: int, owes: bool
) -> None:
    wanted = limits.decide(view, allowed, None, 0, 12)
    purse = Purse(free_e7, owes)
    intent, left = limits.affordable(limits.fitting(wanted, room), purse, kept_e7, view.topup_e4)
    assert left.free_e7 >= 0
    if intent is None:
        assert left.free_e7 == free_e7 + kept_e7
        return
    assert wanted is not None and intent.side == wanted.side and allowed.allow(intent.side, intent.price_e4)
    assert 0 < intent.energy_wh <= min(wanted.energy_wh, room.buy_wh if intent.side == BUY else room.sell_wh)
    assert not (owes and intent.side == BUY)
    assert not (room.own_sells_wh if intent.side == BUY else room.own_buys_wh), "never against the member's own"
    taken_e7 = limits.set_aside_e4(intent.side, intent.price_e4, view.topup_e4) * intent.energy_wh
    assert left.free_e7 == free_e7 + kept_e7 - taken_e7
