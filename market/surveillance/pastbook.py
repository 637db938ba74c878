"""A book taken from an engine, and the difference between two of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from market.engine.engine import Engine
from market.engine.orders import Order
from market.surveillance.pastviews import GONE, LESS, MORE, NEW, Moment, PastLevel, PastOrder, UnknownArea

LEVELS = 50  # a side
ORDERS = 100  # a side, best first


class View(NamedTuple):
    """What was seen at one time: levels by price, orders by id."""

    at_ms: int = 0
    state: str = ""
    halted: bool = False
    bids: Mapping[int, tuple[int, int]] = {}  # price: energy, fee
    asks: Mapping[int, tuple[int, int]] = {}
    orders: Mapping[int, PastOrder] = {}
    resting: Mapping[
        int, tuple[int, int]
    ] = {}  # energy left and limit of all orders, those that are not listed included
    known: bool = False  # the area


def view_of(engine: Engine, contract: str, area: str) -> View:
    """Return what an area sees of a contract's book now, and which orders rest in it."""
    known = area in engine.areas
    held = engine.contracts.get(contract)
    halted = held is not None and bool(held.halted or engine.halted or (known and _stopped(engine, area)))
    if held is None or held.book is None or not known:
        return View(engine.at_ms, "" if held is None else held.state, halted, known=known)
    bids, asks = (
        {level.price_e4: (level.energy_wh, level.fee_wh_e4 // level.energy_wh) for level in side}
        for side in engine.depth(area, contract, LEVELS)
    )
    resting = list(held.book.orders.values())
    best: list[Order] = []
    for buying in (True, False):
        best += sorted((one for one in resting if one.is_buy is buying), key=lambda one: one.key)[:ORDERS]
    names = engine.areas.areas
    orders = {
        one.id: PastOrder(
            one.id, one.account, names[one.node].name, "buy" if one.is_buy else "sell", one.price_e4, one.remaining_wh,
            one.left_wh, one.left_wh, "",
        )
        for one in best
    }  # fmt: skip
    left = {one.id: (one.left_wh, one.price_e4) for one in resting}
    return View(engine.at_ms, held.state, halted, bids, asks, orders, left, True)


def _stopped(engine: Engine, area: str) -> bool:
    """Whether an area, or one above it, is halted."""
    return engine.areas.areas[engine.areas.index[area]].halted_above


def marked(
    before: View, after: View, *, contract: str, area: str, seq: int, first: int, last: int,
    entries: tuple[dict[str, Any], ...],
) -> Moment:  # fmt: skip
    """Return the later view with what changed since the earlier one marked; what is gone is still listed, with nothing."""
    if not after.known:
        raise UnknownArea
    orders = _orders(before, after)
    return Moment(
        contract, area, seq, first, last, after.at_ms, after.state, after.halted, _levels(before.bids, after.bids, True),
        _levels(before.asks, after.asks, False), orders, len(after.resting) - len(after.orders), entries,
    )  # fmt: skip


def _mark(was_wh: int, is_wh: int) -> str:
    if was_wh == is_wh:
        return ""
    if not was_wh or not is_wh:
        return NEW if is_wh else GONE
    return MORE if is_wh > was_wh else LESS


def _levels(
    before: Mapping[int, tuple[int, int]], after: Mapping[int, tuple[int, int]], falling: bool
) -> tuple[PastLevel, ...]:
    found = []
    for price_e4 in sorted({*before, *after}, reverse=falling):
        if _beyond(after, price_e4, falling):
            continue  # better prices pushed it out of what is shown: it is not gone
        is_wh, fee_e4 = after.get(price_e4, (0, before.get(price_e4, (0, 0))[1]))
        # What has moved up into what is shown was not new: how much was there is not known, and taken for the same.
        was_wh = is_wh if _beyond(before, price_e4, falling) else before.get(price_e4, (0, 0))[0]
        found.append(PastLevel(price_e4, is_wh, fee_e4, was_wh, _mark(was_wh, is_wh)))
    return tuple(found)


def _beyond(side: Mapping[int, tuple[int, int]], price_e4: int, falling: bool) -> bool:
    """Whether a price lies behind the last of as many as are shown."""
    return len(side) >= LEVELS and (price_e4 < min(side) if falling else price_e4 > max(side))


def _orders(before: View, after: View) -> tuple[PastOrder, ...]:
    found = []
    for id_, order in {**before.orders, **after.orders}.items():
        now = after.orders.get(id_)
        if now is None and id_ in after.resting:
            continue  # better ones pushed it out of what is listed: it still rests
        was_wh, was_e4 = before.resting.get(id_, (0, order.price_e4))
        if now is None:
            found.append(order._replace(shown_wh=0, left_wh=0, was_wh=was_wh, mark=GONE))
        elif was_wh == now.left_wh and was_e4 != now.price_e4:
            found.append(now._replace(was_wh=was_wh, mark=MORE if now.price_e4 > was_e4 else LESS))
        else:
            found.append(now._replace(was_wh=was_wh, mark=_mark(was_wh, now.left_wh)))
    # As a ladder: sells from the dearest down to the best, then buys from the best down; by time within a price.
    return tuple(sorted(found, key=lambda one: (one.side == "buy", -one.price_e4, one.id)))
