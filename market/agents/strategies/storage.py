"""A home with a battery: buys under the sun, lives on it and sells in the evening. Pure."""

from __future__ import annotations

from market.agents.battery import Battery
from market.agents.strategies.household import Intent, View, target, towards

CHARGE_SUN = 500  # permille of the best sun from which on it charges
DARK_SUN = 50  # below it, the evening has begun
EVENING = (17, 23)  # local hours, half-open
CHARGE_CAP = 560  # the most it pays for energy it only stores, permille between spill and top-up
DISCHARGE_FLOOR = 420  # the least it takes for stored energy
CHARGE_SLOTS = 12  # intervals over which it spreads charging: half a sunny day
DISCHARGE_SLOTS = 24  # all quarters of an hour of the evening: together they never give more than there is


def decide(view: View, battery: Battery, charge_wh: int, hour: int) -> Intent | None:
    """Return what a home with a battery wants in a contract of this local hour, with ``charge_wh`` in it now."""
    if view.sun >= CHARGE_SUN:
        room = max(0, battery.capacity_wh - charge_wh)
        extra = min(battery.interval_wh, -(-room // CHARGE_SLOTS))
        return towards(view, target(view) + extra, bid_cap=CHARGE_CAP)
    if view.sun < DARK_SUN and EVENING[0] <= hour < EVENING[1]:
        return towards(view, target(view) - given_wh(battery, charge_wh), ask_floor=DISCHARGE_FLOOR)
    # At other times the battery covers what the home lacks; it neither stores nor sells.
    return towards(view, target(view))


def given_wh(battery: Battery, charge_wh: int) -> int:
    """Return what it plans to give in one interval of the evening; the intervals of an evening leave the reserve alone."""
    return min(battery.interval_wh, max(0, charge_wh - battery.reserve_wh) // DISCHARGE_SLOTS)
