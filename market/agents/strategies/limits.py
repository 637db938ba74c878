"""What a household allows its autopilot, and the one decision that keeps to it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from market.agents.battery import Battery
from market.agents.strategies import household, storage
from market.agents.strategies.household import Intent, View
from market.engine.commands import SELL

FULL_PERCENT = 100


class Limits(NamedTuple):
    """The bounds of every order. None: no bound beyond the supplier's prices; prices are all-in at the home's meter."""

    sell_from_e4: int | None = None  # it never sells for less
    buy_to_e4: int | None = None  # it never buys for more
    reserve_percent: int = 0  # of the battery's capacity that stays in it

    def allow(self, side: str, price_e4: int) -> bool:
        """Whether an order at this limit price keeps to the bounds."""
        if side == SELL:
            return self.sell_from_e4 is None or price_e4 >= self.sell_from_e4
        return self.buy_to_e4 is None or price_e4 <= self.buy_to_e4

    def kept(self, battery: Battery) -> Battery:
        """Return the battery as its home may use it: what is reserved stays in it."""
        # Rounded up: a reserve of one percent of 150 Wh keeps 2 Wh.
        return battery._replace(reserve_wh=-(-battery.capacity_wh * self.reserve_percent // FULL_PERCENT))


FREE = Limits()


def decide(view: View, limits: Limits, battery: Battery | None, charge_wh: int, hour: int) -> Intent | None:
    """Return what a home wants in a contract of this local hour as far as its limits allow; None: no order.

    ``charge_wh``: what is in the battery now.
    """
    if battery is None:
        intent = household.decide(view)
    else:
        intent = storage.decide(view, limits.kept(battery), charge_wh, hour)
    return within(intent, view, limits)


def within(intent: Intent | None, view: View, limits: Limits) -> Intent | None:
    """Return the order moved to the limit's side of the price, or None where nobody would ever take it there.

    Nobody pays more than the supplier charges, nobody sells for less than it pays: an order beyond would only wait.
    """
    if intent is None:
        return None
    tick = view.tick_e4
    if intent.side == SELL:
        if limits.sell_from_e4 is None:
            return intent
        floor_e4 = -(-limits.sell_from_e4 // tick) * tick
        if floor_e4 > view.topup_e4:
            return None
        return intent._replace(price_e4=max(intent.price_e4, floor_e4))
    if limits.buy_to_e4 is None:
        return intent
    cap_e4 = limits.buy_to_e4 // tick * tick
    if cap_e4 < max(tick, view.spill_e4):
        return None
    return intent._replace(price_e4=min(intent.price_e4, cap_e4))
