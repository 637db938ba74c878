"""The simple household: sells what its roof will have left and buys what it will need, in no hurry at first. Pure.

A seller begins near the top-up price and comes down towards the spill price, which it would get anyway; a buyer begins
low and goes up towards the top-up price, which it would pay anyway. Far from the gate the two leave a spread, near it
they meet. Half of the homes are patient: until their last look they improve the best price instead of taking it. A few
are early birds, who want certainty long before the gate; that is why something is traded at night.
"""

from __future__ import annotations

from typing import NamedTuple

from market.engine.commands import BUY, GOOD_TILL_GATE, IMMEDIATE_OR_CANCEL, SELL

# Where prices stand between spill (0) and top-up (1000), far from the gate and at the gate, in permille.
ASK_FAR, ASK_NEAR = 800, 120
BID_FAR, BID_NEAR = 180, 830
SUN_DISCOUNT = 160  # under a full sun everybody expects cheap energy
NOISE_WIDTH = 70
SHARE_FAR = 400  # of the forecast that is traded far from the gate, permille; the rest waits for a better forecast
EARLY_NOISE = 700  # above it (three homes of twenty) an early bird
EARLY_URGENCY = 700
PATIENT_STEP_E4 = 15  # how far a patient home stays from the other side's best price
MIN_WH = 5  # smaller corrections aren't worth an order
MIN_SHARE = 20  # permille of the forecast, likewise


class View(NamedTuple):
    """What a home knows when it looks at one contract."""

    urgency: int  # 0 = first look, 1000 = the gate closes
    need_wh: int  # forecast of use minus production; negative = surplus
    position_wh: int  # bought minus sold so far
    sun: int  # how sunny the interval is expected to be, permille of the best
    noise: int  # -1000..1000, the home's own temper in this contract
    last: bool  # no further look before the gate
    topup_e4: int
    spill_e4: int
    tick_e4: int
    bid_e4: int = 0  # best all-in prices at the home's meter, 0 = none
    ask_e4: int = 0
    error: int = 0  # -1000..1000: how wrong the forecast is made, in tenths of a permille; for homes that nobody owns


class Intent(NamedTuple):
    """The one order a home wants to have in a contract."""

    side: str
    price_e4: int
    energy_wh: int  # still to be traded
    time_in_force: str


def decide(view: View) -> Intent | None:
    """Return what a household wants in a contract, or None when it has what it needs."""
    return towards(view, target(view))


def target(view: View) -> int:
    """Return the position a household wants by now: a growing share of the forecast."""
    share = SHARE_FAR + (1000 - SHARE_FAR) * view.urgency // 1000
    expected = view.need_wh * (10_000 + view.error) // 10_000
    return expected * (1000 if view.last else share) // 1000


def towards(view: View, position_wh: int, *, ask_floor: int = 0, bid_cap: int = 1000) -> Intent | None:
    """Return the order that leads to a position, at the price the urgency asks for.

    ``ask_floor``/``bid_cap`` (permille between spill and top-up) keep a strategy from giving away or overpaying.
    """
    missing = position_wh - view.position_wh
    if abs(missing) < max(MIN_WH, abs(view.need_wh) * MIN_SHARE // 1000):
        return None
    # A third of those who look for the last time take what is there; the others leave their order to be taken.
    in_force = IMMEDIATE_OR_CANCEL if view.last and view.noise % 3 == 0 else GOOD_TILL_GATE
    mood = NOISE_WIDTH * view.noise // 1000 - SUN_DISCOUNT * view.sun // 1000
    urgency = max(view.urgency, EARLY_URGENCY) if view.noise > EARLY_NOISE else view.urgency
    patient = view.noise % 2 == 0 and not view.last
    if missing > 0:
        level = min(bid_cap, BID_FAR + (BID_NEAR - BID_FAR) * urgency // 1000 + mood)
        price = _price(view, level, up=False)
        if patient and view.ask_e4:
            price = max(view.tick_e4, min(price, _on_tick(view.ask_e4 - PATIENT_STEP_E4, view.tick_e4)))
        return Intent(BUY, price, missing, in_force)
    level = max(ask_floor, ASK_FAR + (ASK_NEAR - ASK_FAR) * urgency // 1000 + mood)
    price = _price(view, level, up=True)
    if patient and view.bid_e4:
        price = max(price, _on_tick(view.bid_e4 + PATIENT_STEP_E4, view.tick_e4))
    return Intent(SELL, price, -missing, in_force)


def _price(view: View, level: int, *, up: bool) -> int:
    """Return a level as a price on the tick, never worse than what the supplier would pay or charge."""
    level = min(1000, max(0, level))
    price = view.spill_e4 + (view.topup_e4 - view.spill_e4) * level // 1000
    tick = view.tick_e4
    return max(tick, -_on_tick(-price, tick) if up else _on_tick(price, tick))


def _on_tick(price_e4: int, tick_e4: int) -> int:
    return price_e4 // tick_e4 * tick_e4
