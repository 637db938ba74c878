"""What one press of "Sell my surplus" or "Buy cheap" would send, interval by interval, and what that brings. Pure.

A forecast is not a promise: the farther ahead, the smaller the part of it that is traded, because energy that was sold
and is not there is charged at the grid's price, and energy that was bought and is not needed goes out at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BUY, SELL = "buy", "sell"
STEP_WH = 10  # an order is rounded down to this: nobody forecasts single watt-hours
MIN_OFFER_WH = 50  # less is not worth a person's tap
WINDOW_MS = 3 * 3_600_000  # how much time one press covers: about as long as today's weather says anything
NEAR_MS, NEAR_SHARE = 3_600_000, 900  # permille of the forecast that is traded, by how far ahead delivery begins
SOON_MS, SOON_SHARE = 3 * 3_600_000, 750
FAR_SHARE = 500
WORTH = (
    200  # permille of the way from the grid's price to its other one: for less a household rather waits for a neighbour
)

Levels = Sequence[tuple[int, int]]  # price e4 and energy Wh, best first


class Line(NamedTuple):
    """An interval as this home may trade it now."""

    contract: str
    start_ms: int
    topup_e4: int
    spill_e4: int
    last_e4: int  # the last trade, 0 = none
    halted: bool
    net_wh: int | None  # expected to be left over; negative: expected to lack; None: nobody knows
    sold_wh: int  # sold minus bought so far
    selling_wh: int  # waits for a buyer
    buying_wh: int  # waits for a seller
    sell_room_wh: int  # what the connection may still give
    buy_room_wh: int  # and take
    most_wh: int  # in one order

    def placed_wh(self, side: str) -> int:
        """What is traded or on offer on one side."""
        if side == SELL:
            return max(0, self.sold_wh) + self.selling_wh
        return max(0, -self.sold_wh) + self.buying_wh

    def expected_wh(self, side: str) -> int:
        """What the home will probably have left (sell) or lack (buy)."""
        net_wh = self.net_wh or 0
        return max(0, net_wh if side == SELL else -net_wh)

    def wanted_wh(self, side: str, now_ms: int) -> int:
        """What is still to be traded: the cautious part of the forecast less what is placed, in whole steps."""
        free_wh = self.expected_wh(side) * share(self.start_ms - now_ms) // 1000 - self.placed_wh(side)
        room_wh = self.sell_room_wh if side == SELL else self.buy_room_wh
        return max(0, min(free_wh, room_wh, self.most_wh)) // STEP_WH * STEP_WH


class Leg(NamedTuple):
    """One order: a limit for one interval, and how much of it trades at once."""

    contract: str
    start_ms: int
    energy_wh: int
    price_e4: int  # the limit
    now_wh: int
    now_e7: int
    grid_e7: int  # what the grid pays or charges for all of it
    hold_e7: int  # set aside until it is delivered

    @property
    def total_e7(self) -> int:
        """Money if all of it trades, the waiting part at its limit."""
        return self.now_e7 + (self.energy_wh - self.now_wh) * self.price_e4


class Plan(NamedTuple):
    """What one press would send. Without legs ``blocked`` or ``why`` says the reason."""

    side: str
    legs: tuple[Leg, ...]
    interval_ms: int
    expected_wh: int = 0  # of the intervals of the legs; without any, of the hours looked at
    placed_wh: int = 0  # in the hours looked at
    waiting_e4: int = 0  # the limit the waiting part is offered at: the lowest (sell) or highest (buy) of them
    blocked: str = ""  # a code of the market: nothing may be traded
    why: str = ""  # "placed", "little" (too little for an order), "none", "unknown"
    guessed: bool = False  # no forecast: as it is now

    @property
    def energy_wh(self) -> int:
        """All of it."""
        return sum(leg.energy_wh for leg in self.legs)

    @property
    def now_wh(self) -> int:
        """What trades at once."""
        return sum(leg.now_wh for leg in self.legs)

    @property
    def now_e7(self) -> int:
        """Money of what trades at once."""
        return sum(leg.now_e7 for leg in self.legs)

    @property
    def later_wh(self) -> int:
        """What waits for a neighbour."""
        return self.energy_wh - self.now_wh

    @property
    def total_e7(self) -> int:
        """Money if all of it trades."""
        return sum(leg.total_e7 for leg in self.legs)

    @property
    def grid_e7(self) -> int:
        """What the grid would pay or charge."""
        return sum(leg.grid_e7 for leg in self.legs)

    @property
    def hold_e7(self) -> int:
        """What is set aside."""
        return sum(leg.hold_e7 for leg in self.legs)

    @property
    def start_ms(self) -> int:
        """When the first delivery begins."""
        return self.legs[0].start_ms

    @property
    def end_ms(self) -> int:
        """When the last delivery ends."""
        return self.legs[-1].start_ms + self.interval_ms


def share(ahead_ms: int) -> int:
    """Return the part of a forecast that is traded so far ahead of delivery, permille."""
    if ahead_ms <= NEAR_MS:
        return NEAR_SHARE
    return SOON_SHARE if ahead_ms <= SOON_MS else FAR_SHARE


def choose(lines: Sequence[Line], side: str, now_ms: int, within: frozenset[str] | None = None) -> list[Line]:
    """Return the intervals one press would trade: those of the chosen hour (``within``) or of the first three hours in which
    there is something to trade; halted ones among them.
    """
    wanted = [line for line in lines if line.wanted_wh(side, now_ms) and (within is None or line.contract in within)]
    if within is None and wanted:
        last_ms = wanted[0].start_ms + WINDOW_MS
        wanted = [line for line in wanted if line.start_ms < last_ms]
    return wanted


def leg(line: Line, side: str, energy_wh: int, levels: Levels, tick_e4: int) -> Leg:
    """Return the order for one interval: it takes what is clearly better than the grid, and the rest waits at the limit.

    ``levels`` are the bids for a sale, the asks for a purchase.
    """
    grid_e4 = line.spill_e4 if side == SELL else line.topup_e4
    worth_e4 = (line.topup_e4 - line.spill_e4) * WORTH // 1000
    now_wh = now_e7 = limit_e4 = 0
    for price_e4, there_wh in levels:
        better = price_e4 > grid_e4 + worth_e4 if side == SELL else price_e4 < grid_e4 - worth_e4
        if not better or now_wh == energy_wh:
            break
        taken = min(there_wh, energy_wh - now_wh)
        now_wh += taken
        now_e7 += taken * price_e4
        limit_e4 = price_e4
    if not limit_e4:
        middle_e4 = (line.spill_e4 + line.topup_e4) // 2
        limit_e4 = line.last_e4 if line.spill_e4 < line.last_e4 < line.topup_e4 else middle_e4
        limit_e4 = max(tick_e4, limit_e4 // tick_e4 * tick_e4)
    hold_e4 = max(0, line.topup_e4 - limit_e4) if side == SELL else limit_e4
    return Leg(
        line.contract, line.start_ms, energy_wh, limit_e4, now_wh, now_e7, energy_wh * grid_e4, hold_e4 * energy_wh
    )


def plan(
    side: str,
    chosen: Sequence[Line],
    books: dict[str, Levels],
    *,
    now_ms: int,
    interval_ms: int,
    tick_e4: int,
    nearby: Sequence[Line],
    guessed: bool = False,
) -> Plan:
    """Return what one press would do with the ``chosen`` intervals; ``nearby`` are the hours a person looks at."""
    open_ones = [line for line in chosen if not line.halted]
    placed_wh = sum(line.placed_wh(side) for line in nearby)
    legs = tuple(
        leg(line, side, line.wanted_wh(side, now_ms), books.get(line.contract, ()), tick_e4) for line in open_ones
    )
    if sum(found.energy_wh for found in legs) < MIN_OFFER_WH:
        halted = [line for line in (chosen or nearby) if line.halted]
        if halted and len(halted) == len(chosen or nearby):
            return Plan(side, (), interval_ms, placed_wh=placed_wh, blocked="contract_halted")
        known = any(line.net_wh is not None for line in nearby)
        expected_wh = sum(line.expected_wh(side) for line in nearby)
        why = "placed" if placed_wh else "little" if expected_wh else "none" if known else "unknown"
        return Plan(side, (), interval_ms, expected_wh=expected_wh, placed_wh=placed_wh, why=why, guessed=guessed)
    waiting = [found.price_e4 for found in legs if found.now_wh < found.energy_wh]
    pick = min if side == SELL else max
    return Plan(
        side,
        legs,
        interval_ms,
        expected_wh=sum(line.expected_wh(side) for line in open_ones),
        placed_wh=placed_wh,
        waiting_e4=pick(waiting) if waiting else 0,
        guessed=guessed,
    )
