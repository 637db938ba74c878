"""From the outcome of a command to the JSON a client gets. Integers become the texts of DESIGN section 3."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from market.engine.commands import BUY
from market.engine.events import SWEEP, ComplexOrderPlaced, OrderCancelled, OrderPlaced, Traded
from market.exchange.outcomes import Outcome
from market.exchange.queries import OrderView, TradeView
from market.exchange.units import at_text, money_text, price_text

EXPIRED = "expired"
_DETAIL = ("kind", "last", "display_wh", "group", "leg", "legs")

# All orders of one batch of the exchange have one instant, so the text is nearly always known.
_at = lru_cache(maxsize=4_096)(at_text)


def placed(outcome: Outcome) -> dict[str, Any]:
    """Return the answer to an accepted order: the order as it stands now, its trades, the last entry's sequence."""
    events = outcome.events
    if type(events[0]) is not OrderPlaced:
        return _placed_complex(outcome)
    first: OrderPlaced = events[0]
    order_id = first.seq
    remaining_wh = first.energy_wh
    status = "open"
    reason = None
    changed_seq = order_id
    trades = []
    for event in events[1:]:
        kind = type(event)
        if kind is Traded:
            if event.taker == order_id or event.maker == order_id:  # type: ignore[union-attr]
                remaining_wh -= event.energy_wh  # type: ignore[union-attr]
                trades.append(_own_trade(event, order_id))
                changed_seq = event.seq  # type: ignore[union-attr]
        elif kind is OrderCancelled and event.order == order_id:  # type: ignore[union-attr]
            status = "cancelled"
            reason = event.reason  # type: ignore[union-attr]
            changed_seq = event.seq  # type: ignore[union-attr]
    filled_wh = first.energy_wh - remaining_wh
    if status == "cancelled":
        remaining_wh = 0
    elif remaining_wh == 0:
        status = "filled"
    return {
        "order": {
            "id": order_id,
            "contract": first.contract,
            "area": first.area,
            "side": first.side,
            "price": price_text(first.price_e4),
            "energy_wh": first.energy_wh,
            "filled_wh": filled_wh,
            "remaining_wh": remaining_wh,
            "status": status,
            "reason": reason,
            "time_in_force": first.time_in_force,
            "expires_at": _at(first.expires_at_ms) if first.expires_at_ms else None,
            "created_at": _at(first.at_ms),
            "changed_seq": changed_seq,
        },
        "trades": trades,
        "seq": events[-1].seq,  # type: ignore[union-attr]
    }


def _placed_complex(outcome: Outcome) -> dict[str, Any]:
    """Return the answer to an accepted iceberg or sweep (``order``), block or basket (``orders``)."""
    events = outcome.events
    first: ComplexOrderPlaced = events[0]  # type: ignore[assignment]
    legs: dict[int, Any] = {leg.seq: leg for leg in events[: first.legs or 1]}  # type: ignore[union-attr]
    left_wh = {order_id: leg.energy_wh for order_id, leg in legs.items()}
    changed = {order_id: order_id for order_id in legs}
    cancelled: dict[int, str] = {}
    trades = []
    for event in events[len(legs) :]:
        if type(event) is Traded:
            for order_id in (event.maker, event.taker):
                if order_id in legs:
                    left_wh[order_id] -= event.energy_wh
                    changed[order_id] = event.seq
                    trades.append(_own_trade(event, order_id) | _place_of(event, legs[order_id]))
        elif type(event) is OrderCancelled and event.order in legs:
            cancelled[event.order] = event.reason
            changed[event.order] = event.seq
    orders = [
        order_out(
            OrderView(
                *leg[:7],
                energy_wh=leg.energy_wh,
                filled_wh=leg.energy_wh - left_wh[order_id],
                remaining_wh=0 if order_id in cancelled else left_wh[order_id],
                status="cancelled" if order_id in cancelled else "open" if left_wh[order_id] else "filled",
                reason=cancelled.get(order_id, ""),
                time_in_force=leg.time_in_force,
                expires_at_ms=leg.expires_at_ms,
                changed_seq=changed[order_id],
                **{name: getattr(leg, name) for name in _DETAIL},
            )
        )
        for order_id, leg in legs.items()
    ]
    answer: dict[str, Any] = {"orders": orders} if first.legs else {"order": orders[0]}
    return {**answer, "trades": trades, "seq": events[-1].seq}  # type: ignore[union-attr]


def _place_of(trade: Any, order: Any) -> dict[str, Any]:
    """Return where a trade belongs, as far as that is not clear from the order it is shown with."""
    if order.kind == SWEEP:
        return {"contract": trade.contract}
    return {"order": order.seq} if order.legs else {}


def _own_trade(trade: Any, order_id: int) -> dict[str, Any]:
    price_e4 = trade.buy_e4 if trade.buy_order == order_id else trade.sell_e4
    return {
        "seq": trade.seq,
        "at": _at(trade.at_ms),
        "price": price_text(price_e4),
        "energy_wh": trade.energy_wh,
        "amount": money_text(price_e4 * trade.energy_wh),
    }


def order_out(view: OrderView) -> dict[str, Any]:
    """Return an order as it stands."""
    out = {
        "id": view.id,
        "contract": view.contract,
        "area": view.area,
        "side": view.side,
        "price": price_text(view.price_e4),
        "energy_wh": view.energy_wh,
        "filled_wh": view.filled_wh,
        "remaining_wh": view.remaining_wh,
        "status": EXPIRED if view.reason == EXPIRED else view.status,
        "reason": view.reason or None,
        "time_in_force": view.time_in_force,
        "expires_at": _at(view.expires_at_ms) if view.expires_at_ms else None,
        "created_at": _at(view.at_ms),
        "changed_seq": view.changed_seq,
    }
    if view.kind:
        out |= {name: value for name in _DETAIL if (value := getattr(view, name))}
    return out


def trade_of(view: TradeView, order: OrderView) -> dict[str, Any]:
    """Return a trade as the owner of one of its orders sees it: what that side pays or gets, not who the other is."""
    out = _own_trade(view, order.id)
    if order.kind == SWEEP:
        out["contract"] = view.contract
    if view.recalled_seq:
        out["recalled"] = True
    return out


def public_trade(view: TradeView) -> dict[str, Any]:
    """Return a trade for everybody. ``price`` is the maker's, the one that stood in the book."""
    buy, sell = price_text(view.buy_e4), price_text(view.sell_e4)
    out = {
        "seq": view.seq,
        "at": _at(view.at_ms),
        "contract": view.contract,
        "price": sell if view.taker_side == BUY else buy,
        "energy_wh": view.energy_wh,
        "buy_price": buy,
        "sell_price": sell,
    }
    if view.recalled_seq:
        out["recalled"] = True
    return out
