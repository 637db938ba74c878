"""Ledger events as the streams show them: pure functions from an event to plain JSON values.

Public items name nobody. An account's own items name that account's orders only, never the other side of a trade; they
read as ``GET /api/v1/events`` tells them, so a client mends a gap from there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

from ledger.queries import Block
from market.engine.commands import BUY, SELL
from market.engine.events import (
    AccountClosed,
    AccountOpened,
    Event,
    Funded,
    OrderAmended,
    OrderCancelled,
    OrderPlaced,
    Settled,
    Traded,
)
from market.exchange.outcomes import SealInfo
from market.exchange.queries import TradeView
from market.exchange.units import at_text, money_text, price_text

Item = dict[str, Any]


def trade_item(event: Traded | TradeView) -> Item:
    """A trade for everybody. ``price`` is the maker's all-in price, the one that stood in the book."""
    buy, sell = price_text(event.buy_e4), price_text(event.sell_e4)
    return {
        "seq": event.seq,
        "at": at_text(event.at_ms),
        "contract": event.contract,
        "price": sell if event.taker_side == BUY else buy,
        "energy_wh": event.energy_wh,
        "buy_price": buy,
        "sell_price": sell,
    }


def block_item(sealed: SealInfo | Block) -> Item:
    """A sealed block; ``seq`` is that of its seal entry."""
    return {
        "seq": sealed.first + sealed.count - 1,
        "at": at_text(sealed.at_ms),
        "height": sealed.height,
        "size": sealed.size,
        "root": sealed.root,
        "first": sealed.first,
        "count": sealed.count,
    }


def _head(event: Any, kind: str) -> Item:
    return {"seq": event.seq, "at": at_text(event.at_ms), "type": kind}


def _order(event: OrderPlaced, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    item = _head(event, "order") | {
        "order": event.seq,
        "contract": event.contract,
        "area": event.area,
        "side": event.side,
        "price": price_text(event.price_e4),
        "energy_wh": event.energy_wh,
        "time_in_force": event.time_in_force,
    }
    if event.expires_at_ms:
        item["expires_at"] = at_text(event.expires_at_ms)
    yield event.account, item


def _amend(event: OrderAmended, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield (
        event.account,
        _head(event, "amend")
        | {
            "order": event.order,
            "contract": event.contract,
            "price": price_text(event.price_e4),
            "energy_wh": event.energy_wh,
            "requeued": bool(event.requeued),
        },
    )


def _cancel(event: OrderCancelled, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield (
        event.account,
        _head(event, "cancel")
        | {
            "order": event.order,
            "contract": event.contract,
            "remaining_wh": event.remaining_wh,
            "reason": event.reason,
        },
    )


def _trade(event: Traded, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    common = _head(event, "trade") | {"contract": event.contract, "energy_wh": event.energy_wh}
    for account, side, order, price_e4 in (
        (event.buyer, BUY, event.buy_order, event.buy_e4),
        (event.seller, SELL, event.sell_order, event.sell_e4),
    ):
        yield (
            account,
            common
            | {
                "side": side,
                "order": order,
                "price": price_text(price_e4),
                "amount": money_text(price_e4 * event.energy_wh),
                "maker": order == event.maker,
            },
        )


def _fund(event: Funded, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "fund") | {"amount": money_text(event.amount_e7), "reason": event.reason}


def _settle(event: Settled, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    for row in event.rows:
        if row.account not in accounts:
            continue  # an area has hundreds of homes, few of them look
        yield (
            row.account,
            _head(event, "settle")
            | {
                "contract": event.contract,
                "area": event.area,
                "import_wh": row.import_wh,
                "export_wh": row.export_wh,
                "quality": row.quality,
                "position_wh": row.position_wh,
                "short_wh": row.short_wh,
                "topup_wh": row.topup_wh,
                "spill_wh": row.spill_wh,
                "payout": money_text(row.payout_e7),
                "fee": money_text(row.fee_e7),
                "short": money_text(row.short_e7),
                "topup": money_text(row.topup_e7),
                "spill": money_text(row.spill_e7),
            },
        )


def _opened(event: AccountOpened, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "account") | {"action": "opened", "area": event.area}


def _closed(event: AccountClosed, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "account") | {"action": "closed"}


_OWN: dict[type, Callable[[Any, Container[int]], Iterator[tuple[int, Item]]]] = {
    OrderPlaced: _order,
    OrderAmended: _amend,
    OrderCancelled: _cancel,
    Traded: _trade,
    Funded: _fund,
    Settled: _settle,
    AccountOpened: _opened,
    AccountClosed: _closed,
}


_OF_ONE = frozenset({OrderPlaced, OrderAmended, OrderCancelled, Funded, AccountOpened, AccountClosed})


def own_items(event: Event, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    """Yield (account, item) for each of ``accounts`` that the event concerns."""
    kind = type(event)
    # Nearly all events concern nobody who looks: making their items first would cost more than placing the order did.
    if kind is Traded:
        if event.buyer not in accounts and event.seller not in accounts:  # type: ignore[union-attr]
            return
    elif kind in _OF_ONE and event.account not in accounts:  # type: ignore[union-attr]
        return
    make = _OWN.get(kind)
    if make is not None:
        for account, item in make(event, accounts):
            if account in accounts:
                yield account, item
