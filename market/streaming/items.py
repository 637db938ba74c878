"""Ledger events as the streams show them: pure functions from an event to plain JSON values.

Public items name nobody. An account's own items name that account's orders only, never the other side of a trade; they
read as ``GET /api/v1/events`` tells them, so a client mends a gap from there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

import orjson

from ledger.queries import Block
from market.engine.commands import BUY, SELL, SettleRow
from market.engine.events import (
    AccountClosed,
    AccountOpened,
    Adjusted,
    AgreementAccepted,
    AgreementProposed,
    AgreementRevoked,
    ComplexOrderPlaced,
    ConnectionSet,
    Event,
    Funded,
    OrderAmended,
    OrderCancelled,
    OrderHibernated,
    OrderPlaced,
    OrderReactivated,
    Settled,
    Shared,
    Traded,
    TradeRecalled,
)
from market.exchange.alerts import with_area
from market.exchange.outcomes import SealInfo
from market.exchange.queries import DETAIL, AlertView, TradeView
from market.exchange.units import at_text, money_text, price_text

Item = dict[str, Any]


def trade_item(event: Traded | TradeView | TradeRecalled) -> Item:
    """A trade for everybody, or that one was taken back. ``price`` is the maker's all-in price, which stood in the book."""
    if isinstance(event, TradeRecalled):
        head = {"seq": event.seq, "at": at_text(event.at_ms), "contract": event.contract}
        return head | {"energy_wh": event.energy_wh, "recalled_trade": event.trade, "reason": event.reason}
    buy, sell = price_text(event.buy_e4), price_text(event.sell_e4)
    item: Item = {
        "seq": event.seq,
        "at": at_text(event.at_ms),
        "contract": event.contract,
        "price": sell if event.taker_side == BUY else buy,
        "energy_wh": event.energy_wh,
        "buy_price": buy,
        "sell_price": sell,
    }
    if isinstance(event, TradeView) and event.recalled_seq:
        item["recalled"] = True
    return item


def alert_item(alert: AlertView) -> Item:
    """Something the grid operator must look at, as ``GET /api/v1/operator/alerts`` tells it when nobody has seen it."""
    detail = orjson.loads(alert.detail)
    return {
        "seq": alert.seq,
        "at": at_text(alert.at_ms),
        "id": alert.seq,
        "kind": alert.kind,
        "reason": detail["reason"],
        "area": alert.area or None,
        "contract": alert.contract or None,
        "until": detail.get("until"),
        "contracts": with_area(detail.get("contracts", []), alert.area),
        "witnesses": list(detail.get("witnesses", ())),
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


def _order(event: OrderPlaced | ComplexOrderPlaced, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
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
    if isinstance(event, ComplexOrderPlaced):
        item |= {name: value for name in DETAIL if (value := getattr(event, name))}
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


def _asleep(event: OrderHibernated, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "hibernate") | _left(event)


def _awake(event: OrderReactivated, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "reactivate") | _left(event)


def _left(event: OrderHibernated | OrderReactivated) -> Item:
    return {"order": event.order, "contract": event.contract, "remaining_wh": event.remaining_wh}


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


def _recall(event: TradeRecalled, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    common = _head(event, "recall") | {"trade": event.trade, "contract": event.contract}
    for account, side, returned_e7 in ((event.buyer, BUY, event.cost_e7), (event.seller, SELL, event.margin_e7)):
        more = {"side": side, "energy_wh": event.energy_wh, "returned": money_text(returned_e7), "reason": event.reason}
        yield account, common | more


def _fund(event: Funded, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "fund") | {"amount": money_text(event.amount_e7), "reason": event.reason}


def _settle(event: Settled, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    for row in event.rows:
        if row.account not in accounts:
            continue  # an area has hundreds of homes, few of them look
        head = _head(event, "settle") | {"contract": event.contract, "area": event.area}
        yield row.account, head | _settled(row)


def _settled(row: SettleRow) -> Item:
    """Return the fields of a settlement row: energies in Wh, money as text."""
    return {
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
    }


def _adjust(event: Adjusted, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    for row, was in event.rows:
        if row.account not in accounts:
            continue
        head = _head(event, "adjust") | {"contract": event.contract, "area": event.area, "corrects": event.corrects}
        yield row.account, head | _settled(row) | {f"was_{name}": value for name, value in _settled(was).items()}


def _agreement(
    event: AgreementProposed | AgreementAccepted | AgreementRevoked, accounts: Container[int]
) -> Iterator[tuple[int, Item]]:
    proposed = isinstance(event, AgreementProposed)
    action = "proposed" if proposed else "accepted" if isinstance(event, AgreementAccepted) else "revoked"
    terms: Item = {}
    if isinstance(event, AgreementProposed):
        terms = {"price": price_text(event.price_e4), "fee": price_text(event.fee_e4), "start": event.start}
    number = event.seq if isinstance(event, AgreementProposed) else event.agreement
    for account, side in ((event.giver, "give"), (event.receiver, "receive")):
        head = _head(event, "agreement") | {"agreement": number, "action": action, "side": side}
        yield account, head | terms | {"by_me": int(event.account == account)}


def _share(event: Shared, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    for row, (giver, receiver, price_e4, fee_e4) in zip(event.rows, event.parties, strict=True):
        head = _head(event, "shared") | {"contract": event.contract, "agreement": row.agreement}
        told = {
            "energy_wh": row.energy_wh,
            "was_wh": row.was_wh,
            "price": price_text(price_e4),
            "fee": price_text(fee_e4),
        }
        for account, side in ((giver, "give"), (receiver, "receive")):
            yield account, head | {"side": side} | told


def _opened(event: AccountOpened, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "account") | {"action": "opened", "area": event.area}


def _closed(event: AccountClosed, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    yield event.account, _head(event, "account") | {"action": "closed"}


def _connection(event: ConnectionSet, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    limits = {"import_w": event.import_w, "export_w": event.export_w}
    yield event.account, _head(event, "account") | {"action": "connection"} | limits


_OWN: dict[type, Callable[[Any, Container[int]], Iterator[tuple[int, Item]]]] = {
    OrderPlaced: _order,
    ComplexOrderPlaced: _order,
    OrderAmended: _amend,
    OrderHibernated: _asleep,
    OrderReactivated: _awake,
    OrderCancelled: _cancel,
    Traded: _trade,
    TradeRecalled: _recall,
    Funded: _fund,
    Settled: _settle,
    Adjusted: _adjust,
    AgreementProposed: _agreement,
    AgreementAccepted: _agreement,
    AgreementRevoked: _agreement,
    Shared: _share,
    AccountOpened: _opened,
    AccountClosed: _closed,
    ConnectionSet: _connection,
}


_OF_ONE = frozenset(_OWN) - {
    Traded,
    TradeRecalled,
    Settled,
    Adjusted,
    AgreementProposed,
    AgreementAccepted,
    AgreementRevoked,
    Shared,
}


def own_items(event: Event, accounts: Container[int]) -> Iterator[tuple[int, Item]]:
    """Yield (account, item) for each of ``accounts`` that the event concerns."""
    kind = type(event)
    # Nearly all events concern nobody who looks: making their items first would cost more than placing the order did.
    if kind is Traded or kind is TradeRecalled:
        if event.buyer not in accounts and event.seller not in accounts:  # type: ignore[union-attr]
            return
    elif kind in _OF_ONE and event.account not in accounts:  # type: ignore[union-attr]
        return
    make = _OWN.get(kind)
    if make is not None:
        for account, item in make(event, accounts):
            if account in accounts:
                yield account, item
