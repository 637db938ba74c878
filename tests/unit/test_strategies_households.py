"""What homes want: prices that approach each other towards the gate, energy that approaches the need."""

from __future__ import annotations

import pytest

from market.agents.battery import Battery, follow
from market.agents.strategies import household, storage
from market.agents.strategies.household import Intent, View
from market.engine.commands import BUY, GOOD_TILL_GATE, IMMEDIATE_OR_CANCEL, SELL

TOPUP, SPILL = 3_000, 800


def view(**changes) -> View:
    base = View(
        urgency=500,
        need_wh=1_000,
        position_wh=0,
        sun=0,
        noise=100,
        last=False,
        topup_e4=TOPUP,
        spill_e4=SPILL,
        tick_e4=1,
    )
    return base._replace(**changes)


def test_sellers_come_down_and_buyers_go_up() -> None:
    bids = [household.decide(view(urgency=urgency)).price_e4 for urgency in range(0, 1001, 50)]
    asks = [household.decide(view(urgency=urgency, need_wh=-1_000)).price_e4 for urgency in range(0, 1001, 50)]
    assert bids == sorted(bids)
    assert asks == sorted(asks, reverse=True)
    assert bids[0] < asks[0] - 1_000, "far from the gate there is a spread"
    assert bids[-1] > asks[-1] + 1_000, "at the gate they meet, grid fees included"


@pytest.mark.parametrize("noise", [-1000, -1, 0, 1000])
@pytest.mark.parametrize("urgency", [0, 500, 1000])
@pytest.mark.parametrize("sun", [0, 1000])
def test_nobody_is_worse_off_than_with_the_supplier(noise: int, urgency: int, sun: int) -> None:
    for need in (1_000, -1_000):
        intent = household.decide(view(noise=noise, urgency=urgency, sun=sun, need_wh=need, tick_e4=10))
        assert SPILL <= intent.price_e4 <= TOPUP
        assert intent.price_e4 % 10 == 0
        assert intent.side == (BUY if need > 0 else SELL)


def test_patient_homes_improve_the_best_price_until_their_last_look() -> None:
    patient, eager = 100, 101
    seller = {"need_wh": -1_000, "urgency": 900, "bid_e4": 2_500}
    assert household.decide(view(noise=patient, **seller)).price_e4 > 2_500
    assert household.decide(view(noise=eager, **seller)).price_e4 < 2_500
    assert household.decide(view(noise=patient, last=True, **seller)).price_e4 < 2_500
    buyer = {"urgency": 900, "ask_e4": 1_200}
    assert household.decide(view(noise=patient, **buyer)).price_e4 < 1_200
    assert household.decide(view(noise=eager, **buyer)).price_e4 > 1_200
    assert household.decide(view(noise=patient, last=True, **buyer)).price_e4 > 1_200
    assert household.decide(view(noise=patient, urgency=900, ask_e4=3)).price_e4 == 1, "never below the tick"


def test_early_birds_meet_long_before_the_gate() -> None:
    asks = {noise: household.decide(view(noise=noise, urgency=0, need_wh=-1_000)).price_e4 for noise in (700, 701)}
    bids = {noise: household.decide(view(noise=noise, urgency=0)).price_e4 for noise in (700, 701)}
    assert bids[700] < asks[700]
    assert bids[701] > asks[701]


def test_sun_makes_cheap() -> None:
    for need in (1_000, -1_000):
        dull, bright = (household.decide(view(sun=sun, need_wh=need)).price_e4 for sun in (0, 1000))
        assert bright < dull


def test_energy_grows_to_the_need() -> None:
    shares = [household.decide(view(urgency=urgency, noise=0)).energy_wh for urgency in (0, 500, 1000)]
    assert shares == [400, 700, 1000]
    assert household.decide(view(urgency=0, noise=0, last=True)).energy_wh == 1_000


@pytest.mark.parametrize(
    ("need", "position", "expected"),
    [
        (1_000, 400, (BUY, 600)),
        (1_000, 1_000, None),
        (1_000, 990, None),  # not worth an order
        (1_000, 1_300, (SELL, 300)),  # bought too much: the forecast has changed
        (-1_000, -400, (SELL, 600)),
        (-1_000, -1_300, (BUY, 300)),
        (0, 0, None),
        (3, 0, None),
    ],
)
def test_what_is_missing(need: int, position: int, expected: tuple[str, int] | None) -> None:
    intent = household.decide(view(need_wh=need, position_wh=position, last=True, noise=0))
    assert (None if intent is None else (intent.side, intent.energy_wh)) == expected


def test_some_take_at_the_end_and_none_before() -> None:
    last = [household.decide(view(last=True, noise=noise)).time_in_force for noise in range(9)]
    assert last.count(IMMEDIATE_OR_CANCEL) == 3
    assert {household.decide(view(noise=noise)).time_in_force for noise in range(9)} == {GOOD_TILL_GATE}


BATTERY = Battery(capacity_wh=12_000, interval_wh=2_500)


def test_a_battery_buys_under_the_sun_but_not_at_any_price() -> None:
    bare = household.decide(view(sun=800, last=True, urgency=1000, noise=1))
    stored = storage.decide(view(sun=800, last=True, urgency=1000, noise=1), BATTERY, 0, 12)
    assert stored.side == BUY
    assert stored.energy_wh == bare.energy_wh + 1_000
    assert stored.price_e4 <= SPILL + (TOPUP - SPILL) * storage.CHARGE_CAP // 1000
    full = storage.decide(view(sun=800, last=True, urgency=1000, noise=1), BATTERY, 12_000, 12)
    assert full.energy_wh == bare.energy_wh


def test_a_battery_sells_in_the_evening_what_it_has() -> None:
    dark = view(sun=0, need_wh=200, last=True, urgency=1000, noise=0)
    assert storage.decide(dark, BATTERY, 12_000, 19) == Intent(SELL, 1_724, 300, IMMEDIATE_OR_CANCEL)
    assert storage.decide(dark, BATTERY, 0, 19).side == BUY
    assert storage.decide(dark, BATTERY, 12_000, 3).side == BUY, "at night it is kept for the own need"


@pytest.mark.parametrize(
    ("charge", "position", "demand", "expected"),
    [
        (0, 0, 500, (0, 500)),  # empty: what was not bought is imported
        (5_000, 0, 500, (4_500, 0)),  # it covers what was not bought
        (5_000, 500, 500, (5_000, 500)),  # bought what is needed: nothing to do
        (5_000, 1_500, 500, (6_000, 1_500)),  # what was bought beyond is stored
        (5_000, 5_000, 500, (7_500, 3_000)),  # as far as its power goes
        (11_800, 1_500, 500, (12_000, 700)),  # as far as there is room
        (5_000, -1_000, 500, (3_500, -1_000)),  # it delivers what was sold
        (800, -1_000, 500, (0, -300)),  # as far as the charge goes
        (0, 0, -900, (900, 0)),  # surplus that nobody bought
        (12_000, 0, -900, (12_000, -900)),
    ],
)
def test_a_battery_keeps_the_home_to_its_position(
    charge: int, position: int, demand: int, expected: tuple[int, int]
) -> None:
    assert follow(BATTERY, charge, position, demand) == expected
