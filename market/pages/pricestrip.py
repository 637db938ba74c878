"""The price strip: the hours ahead, what neighbours pay and ask in each, and which are the best. Pure.

An hour has the best price any of its intervals has: what a household can get or has to pay there at the moment. Where
nobody offers anything yet, the price of the day before at the same hour says what to expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

HOURS = 24
MIN_WORTH_WH = 50  # an hour with less expected surplus is no time to sell


class Moment(NamedTuple):
    """An interval that can be traded, as seen from this home. Prices e4, None where there is none."""

    contract: str
    start_ms: int
    bid_e4: int | None  # what a neighbour pays
    ask_e4: int | None  # what a neighbour asks
    topup_e4: int  # what the grid charges
    spill_e4: int  # what the grid pays
    usual_e4: int | None  # what was paid in the same interval of the day before
    net_wh: int | None  # what the home will probably have left; negative: lack; None: nobody knows
    halted: bool


class Slot(NamedTuple):
    """An hour of the strip."""

    start_ms: int  # the full hour, although its first intervals may be over
    end_ms: int
    contracts: tuple[str, ...]
    bid_e4: int | None
    ask_e4: int | None
    topup_e4: int
    spill_e4: int
    usual_e4: int | None
    net_wh: int | None
    halted: bool  # all of it
    bid_ms: int | None = None  # the start of its interval with that bid, the earliest of equals
    ask_ms: int | None = None  # and with that ask

    def place(self, price_e4: int) -> int:
        """Return where a price lies between what the grid pays and what it charges, permille."""
        span = max(1, self.topup_e4 - self.spill_e4)
        return min(1000, max(0, (price_e4 - self.spill_e4) * 1000 // span))

    @property
    def bid_place(self) -> int:
        """Where the neighbours' price to sell at stands, permille."""
        return 0 if self.bid_e4 is None else self.place(self.bid_e4)

    @property
    def ask_place(self) -> int:
        """Where the neighbours' price to buy at stands, permille."""
        return 1000 if self.ask_e4 is None else self.place(self.ask_e4)

    @property
    def usual_place(self) -> int:
        """Where the price of the day before stands, permille."""
        return 0 if self.usual_e4 is None else self.place(self.usual_e4)

    @property
    def quiet(self) -> bool:
        """Whether nobody pays or asks anything yet."""
        return self.bid_e4 is None and self.ask_e4 is None


def slots(moments: Iterable[Moment], hour_of: Callable[[int], int]) -> list[Slot]:
    """Return the hours of some intervals, in their order; ``hour_of`` tells the start of an instant's local hour, ms."""
    hours: dict[int, list[Moment]] = {}
    for moment in moments:
        hours.setdefault(hour_of(moment.start_ms), []).append(moment)
    return [_slot(start_ms, hours[start_ms]) for start_ms in sorted(hours)[:HOURS]]


def _slot(start_ms: int, moments: list[Moment]) -> Slot:
    open_ones = [moment for moment in moments if not moment.halted]
    bids = [(moment.bid_e4, -moment.start_ms) for moment in open_ones if moment.bid_e4 is not None]
    asks = [(moment.ask_e4, moment.start_ms) for moment in open_ones if moment.ask_e4 is not None]
    bid, ask = max(bids, default=None), min(asks, default=None)
    usual = [moment.usual_e4 for moment in moments if moment.usual_e4 is not None]
    nets = [moment.net_wh for moment in moments if moment.net_wh is not None]
    return Slot(
        start_ms=start_ms,
        end_ms=start_ms + 3_600_000,
        contracts=tuple(moment.contract for moment in moments),
        bid_e4=None if bid is None else bid[0],
        ask_e4=None if ask is None else ask[0],
        topup_e4=moments[0].topup_e4,
        spill_e4=moments[0].spill_e4,
        usual_e4=sum(usual) // len(usual) if usual else None,
        net_wh=sum(nets) if nets else None,
        halted=not open_ones,
        bid_ms=None if bid is None else -bid[1],
        ask_ms=None if ask is None else ask[1],
    )


def best_to_sell(found: Iterable[Slot]) -> Slot | None:
    """Return the hour with surplus in which selling brings most, the earliest of equals; None without any.

    Where nobody knows what the home will have left, every hour counts. Prices on offer come before what was usual.
    """
    sunny = [slot for slot in found if not slot.halted and (slot.net_wh is None or slot.net_wh >= MIN_WORTH_WH)]
    offered = [slot for slot in sunny if slot.bid_e4 is not None and slot.bid_e4 > slot.spill_e4]
    if offered:
        return max(offered, key=lambda slot: (slot.bid_e4 or 0, -slot.start_ms))
    usual = [slot for slot in sunny if slot.usual_e4 is not None and slot.usual_e4 > slot.spill_e4]
    return max(usual, key=lambda slot: (slot.usual_e4 or 0, -slot.start_ms)) if usual else None


def best_to_buy(found: Iterable[Slot]) -> Slot | None:
    """Return the hour in which energy is cheapest, the earliest of equals; None where nothing is cheaper than the grid."""
    open_ones = [slot for slot in found if not slot.halted]
    asked = [slot for slot in open_ones if slot.ask_e4 is not None and slot.ask_e4 < slot.topup_e4]
    if asked:
        return min(asked, key=lambda slot: (slot.ask_e4 or 0, slot.start_ms))
    usual = [slot for slot in open_ones if slot.usual_e4 is not None and slot.usual_e4 < slot.topup_e4]
    return min(usual, key=lambda slot: (slot.usual_e4 or 0, slot.start_ms)) if usual else None
