"""What a household allows its autopilot, and the one decision that keeps to it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from market.agents.battery import Battery
from market.agents.strategies import household, storage
from market.agents.strategies.household import MIN_WH, Intent, View
from market.engine.commands import BUY, SELL

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


class Purse(NamedTuple):
    """What a member has for new orders, e7. ``owes``: then nothing can be bought (rulebook, section 8)."""

    free_e7: int
    owes: bool = False


class Room(NamedTuple):
    """What a contract leaves a member's autopilot, Wh: what the connection still carries beside the member's own open orders,
    which want ``own_buys_wh`` and ``own_sells_wh``.
    """

    buy_wh: int
    sell_wh: int
    own_buys_wh: int = 0
    own_sells_wh: int = 0


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


def fitting(intent: Intent | None, room: Room) -> Intent | None:
    """Return the order as far as there is room for it, or None.

    It never stands against the member's own orders: where the two met, the rules would cancel the older one.
    """
    if intent is None or (room.own_sells_wh if intent.side == BUY else room.own_buys_wh):
        return None
    energy_wh = min(intent.energy_wh, room.buy_wh if intent.side == BUY else room.sell_wh)
    return None if energy_wh < min(MIN_WH, intent.energy_wh) else intent._replace(energy_wh=energy_wh)


def set_aside_e4(side: str, price_e4: int, topup_e4: int) -> int:
    """Return what an order sets aside per kWh: a buyer its limit, a seller what not delivering can cost at most."""
    return price_e4 if side == BUY else max(0, topup_e4 - price_e4)


def affordable(intent: Intent | None, purse: Purse, kept_e7: int, topup_e4: int) -> tuple[Intent | None, Purse]:
    """Return the order as far as the money goes, and what is left for the next: asking for more would only be refused.

    ``kept_e7``: what the order that it replaces has set aside.
    """
    room_e7 = purse.free_e7 + kept_e7
    if intent is None or (purse.owes and intent.side == BUY):
        return None, purse._replace(free_e7=room_e7)
    each_e4 = set_aside_e4(intent.side, intent.price_e4, topup_e4)
    energy_wh = min(intent.energy_wh, room_e7 // each_e4) if each_e4 else intent.energy_wh
    if energy_wh < min(MIN_WH, intent.energy_wh):
        return None, purse._replace(free_e7=room_e7)
    return intent._replace(energy_wh=energy_wh), purse._replace(free_e7=room_e7 - each_e4 * energy_wh)
