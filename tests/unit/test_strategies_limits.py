"""What a household allows its autopilot, in single cases; ``tests/properties/test_autopilot_limits.py`` has the rule."""

from __future__ import annotations

import pytest

from market.agents.battery import Battery, follow
from market.agents.strategies import limits, storage
from market.agents.strategies.household import Intent, View
from market.agents.strategies.limits import FREE, Limits, Purse, Room
from market.engine.commands import BUY, SELL

VIEW = View(500, 1_000, 0, 0, 100, False, topup_e4=3_000, spill_e4=800, tick_e4=10)


@pytest.mark.parametrize(
    ("side", "wanted_e4", "allowed", "expected_e4"),
    [
        (SELL, 1_000, FREE, 1_000),
        (SELL, 1_000, Limits(sell_from_e4=1_200), 1_200),  # it waits at the limit instead
        (SELL, 1_000, Limits(sell_from_e4=1_205), 1_210),  # the next step of the market's prices above it
        (SELL, 1_500, Limits(sell_from_e4=1_200), 1_500),
        (SELL, 1_000, Limits(sell_from_e4=3_000), 3_000),
        (SELL, 1_000, Limits(sell_from_e4=3_001), None),  # nobody pays more than the grid charges
        (SELL, 1_000, Limits(buy_to_e4=900), 1_000),
        (BUY, 2_000, Limits(buy_to_e4=1_200), 1_200),
        (BUY, 2_000, Limits(buy_to_e4=1_205), 1_200),
        (BUY, 1_000, Limits(buy_to_e4=1_200), 1_000),
        (BUY, 2_000, Limits(buy_to_e4=809), 800),
        (BUY, 2_000, Limits(buy_to_e4=799), None),  # nobody sells for less than the grid pays
        (BUY, 2_000, Limits(sell_from_e4=2_500), 2_000),
    ],
)
def test_a_price_moves_to_the_limit(side: str, wanted_e4: int, allowed: Limits, expected_e4: int | None) -> None:
    found = limits.within(Intent(side, wanted_e4, 100, "gtg"), VIEW, allowed)
    assert (None if found is None else found.price_e4) == expected_e4


def test_no_order_stays_none() -> None:
    assert limits.within(None, VIEW, Limits(1, 1, 0)) is None


BATTERY = Battery(capacity_wh=10_000, interval_wh=2_500)


def test_what_is_reserved_is_neither_sold_nor_used() -> None:
    kept = Limits(reserve_percent=30).kept(BATTERY)
    assert kept.reserve_wh == 3_000
    assert storage.given_wh(kept, 10_000) == 7_000 // storage.DISCHARGE_SLOTS
    assert storage.given_wh(kept, 3_000) == storage.given_wh(kept, 2_000) == 0
    assert follow(kept, 3_500, 0, 2_000) == (3_000, 1_500), "the rest of the need comes from the street"
    assert follow(kept, 2_000, 0, 500) == (2_000, 500), "below it nothing is given"
    assert follow(kept, 2_000, 900, 0) == (2_900, 900), "and it still fills"
    dark = VIEW._replace(last=True, urgency=1000, noise=0, need_wh=0)
    assert limits.decide(dark, Limits(reserve_percent=30), BATTERY, 10_000, 19).energy_wh == 291
    assert limits.decide(dark, Limits(reserve_percent=100), BATTERY, 10_000, 19) is None


def test_a_part_of_a_watt_hour_is_kept_too() -> None:
    assert Limits(reserve_percent=1).kept(Battery(150, 10)).reserve_wh == 2


@pytest.mark.parametrize(
    ("side", "energy_wh", "room", "expected_wh"),
    [
        (BUY, 100, Room(1_000, 0), 100),
        (BUY, 100, Room(60, 1_000), 60),
        (SELL, 100, Room(0, 60), 60),
        (SELL, 100, Room(1_000, -40), None),  # a connection that carries less than it did
        (SELL, 100, Room(1_000, 4), None),  # not worth an order
        (SELL, 3, Room(1_000, 3), 3),
        (BUY, 100, Room(1_000, 1_000, own_sells_wh=1), None),  # it would meet the member's own order
        (SELL, 100, Room(1_000, 1_000, own_buys_wh=1), None),
        (BUY, 100, Room(1_000, 1_000, own_buys_wh=70), 100),
    ],
)
def test_an_order_fits_the_connection_and_its_member_s_own(
    side: str, energy_wh: int, room: Room, expected_wh: int | None
) -> None:
    found = limits.fitting(Intent(side, 2_000, energy_wh, "gtg"), room)
    assert (None if found is None else found.energy_wh) == expected_wh
    assert limits.fitting(None, room) is None


TOPUP_E4 = 3_000


@pytest.mark.parametrize(
    ("intent", "purse", "kept_e7", "expected_wh", "left_e7"),
    [
        (Intent(BUY, 2_000, 100, "gtg"), Purse(500_000), 0, 100, 300_000),
        (Intent(BUY, 2_000, 100, "gtg"), Purse(150_000), 0, 75, 0),
        (
            Intent(BUY, 2_000, 100, "gtg"),
            Purse(150_000),
            60_000,
            100,
            10_000,
        ),  # it replaces an order with money of its own
        (Intent(BUY, 2_000, 100, "gtg"), Purse(9_999), 0, None, 9_999),  # 4 Wh are not worth an order
        (Intent(BUY, 2_000, 100, "gtg"), Purse(500_000, owes=True), 60_000, None, 560_000),
        (Intent(SELL, 2_000, 100, "gtg"), Purse(500_000, owes=True), 0, 100, 400_000),
        (Intent(SELL, 2_000, 100, "gtg"), Purse(60_000), 0, 60, 0),  # the seller's security is the rest up to 0.30
        (Intent(SELL, 3_000, 100, "gtg"), Purse(0), 0, 100, 0),  # none is needed at that price
        (None, Purse(10), 60_000, None, 60_010),  # what was set aside is free for the next
    ],
)
def test_an_order_is_no_larger_than_the_purse(
    intent: Intent | None, purse: Purse, kept_e7: int, expected_wh: int | None, left_e7: int
) -> None:
    found, left = limits.affordable(intent, purse, kept_e7, TOPUP_E4)
    assert (None if found is None else found.energy_wh, left.free_e7) == (expected_wh, left_e7)
