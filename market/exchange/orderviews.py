"""What became of orders: derived from their rows, trades and changes. Part of ``queries``, where callers find it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Q

from market.exchange import models
from market.exchange.history import DETAIL, MAX_LIMIT
from market.exchange.views import ChangeView, OrderView, TradeView

HIBERNATED = "hibernated"
SWEEP = "sweep"
SELF_TRADE = "self_trade"
LOOKED_AT_ONCE = 100  # changes of one fetch
_TRADE_COLUMNS = ("id", *TradeView._fields[1:-1])


def limited(limit: int) -> int:
    """Return how many rows an answer may have."""
    return max(1, min(limit, MAX_LIMIT))


def trade_views(rows: Any) -> list[TradeView]:
    """Return the trades of a query set, each with the entry that took it back."""
    found = list(rows.values_list(*_TRADE_COLUMNS))
    taken_back = dict(
        models.Recall.objects.filter(trade__in=[row[0] for row in found]).values_list("trade", "seq") if found else ()
    )
    return [TradeView(*row, taken_back.get(row[0], 0)) for row in found]


def order(order_id: int) -> OrderView | None:
    """Return an order with its state, or None."""
    found = _with_state(models.Order.objects.filter(id=order_id))
    return found[0] if found else None


def orders(
    *, account: int, contract: str | None = None, before: int | None = None, after: int | None = None, limit: int = 100
) -> list[OrderView]:
    """Return an account's orders, newest first; ``before`` and ``after`` are order ids that are left out themselves."""
    rows = models.Order.objects.filter(account=account)
    if contract is not None:
        rows = rows.filter(contract=contract)
    if before is not None:
        rows = rows.filter(id__lt=before)
    if after is not None:
        rows = rows.filter(id__gt=after)
    return _with_state(rows.order_by("-id")[: limited(limit)])


def orders_by_id(account: int, ids: Iterable[int]) -> list[OrderView]:
    """Return those of these orders (at most ``MAX_LIMIT``, else ``ValueError``) that are the account's, newest first."""
    wanted = list(ids)
    if len(wanted) > MAX_LIMIT:
        raise ValueError(f"expected at most {MAX_LIMIT} orders, was {len(wanted)}")
    return _with_state(models.Order.objects.filter(id__in=wanted, account=account).order_by("-id")) if wanted else []


def search_orders(
    *, account: int | None = None, contract: str | None = None, before: int | None = None, limit: int = 100
) -> list[OrderView]:
    """Return orders of all accounts, newest first, for the regulator; ``before`` (an id) is left out."""
    rows = models.Order.objects.all()
    if account is not None:
        rows = rows.filter(account=account)
    if contract is not None:
        rows = rows.filter(contract=contract)
    if before is not None:
        rows = rows.filter(id__lt=before)
    return sorted(orders_of_many(rows.order_by("-id")[: limited(limit)]), key=lambda view: -view.id)


def orders_of_many(rows: Iterable[models.Order]) -> list[OrderView]:
    """Return orders of several accounts with their state, in no order."""
    by_account: dict[int, list[models.Order]] = {}
    for row in rows:
        by_account.setdefault(row.account, []).append(row)
    return [view for mine in by_account.values() for view in _with_state(mine)]


def _with_state(rows: Iterable[models.Order]) -> list[OrderView]:
    """Derive what became of these orders (of one account) from its trades and changes."""
    found = list(rows)
    if not found:
        return []
    ids = {row.id for row in found}
    details = {
        order_id: detail
        for order_id, *detail in models.OrderDetail.objects.filter(order__in=ids).values_list("order", *DETAIL)
    }
    sweeps = {order_id for order_id, detail in details.items() if detail[0] == SWEEP}
    account, first = found[0].account, min(ids)
    filled: dict[int, int] = dict.fromkeys(ids, 0)
    changed = {row.id: row.id for row in found}
    # By account, not by order: an index for each side's order would cost two more insertions a trade, and an order's
    # trades lie between its own entry and its gate, in its contract; those of a sweep are of its own instant.
    theirs = Q(contract__in={row.contract for row in found if row.id not in sweeps})
    if sweeps:
        theirs |= Q(at_ms__in={row.at_ms for row in found if row.id in sweeps})
    trades = models.Trade.objects.filter(Q(buyer=account) | Q(seller=account), theirs, id__gt=first)
    for seq, buy_order, sell_order, energy_wh in trades.values_list("id", "buy_order", "sell_order", "energy_wh"):
        for order_id in (buy_order, sell_order):
            if order_id in ids:
                filled[order_id] += energy_wh
                changed[order_id] = max(changed[order_id], seq)
    latest: dict[int, tuple[int, int]] = {}
    cancelled: dict[int, str] = {}
    asleep: set[int] = set()
    changes = models.OrderChange.objects.filter(account=account, seq__gt=first, order__in=ids).order_by("seq")
    for change in changes:
        changed[change.order] = max(changed[change.order], change.seq)
        if change.kind == "amend":
            latest[change.order] = (change.price_e4, change.energy_wh)
        elif change.kind == "cancel":
            cancelled[change.order] = change.reason
        elif change.kind == "sleep":
            asleep.add(change.order)
        else:
            asleep.discard(change.order)
    views = []
    for row in found:
        price_e4, energy_wh = latest.get(row.id, (row.price_e4, row.energy_wh))
        remaining_wh = energy_wh - filled[row.id]
        reason, status = "", "open"
        if row.id in cancelled:
            reason, remaining_wh, status = cancelled[row.id], 0, "cancelled"
        elif remaining_wh <= 0:
            status = "filled"
        elif row.id in asleep:
            status = HIBERNATED
        views.append(
            OrderView(
                id=row.id,
                at_ms=row.at_ms,
                account=row.account,
                area=row.area,
                contract=row.contract,
                side=row.side,
                price_e4=price_e4,
                energy_wh=energy_wh,
                filled_wh=filled[row.id],
                remaining_wh=remaining_wh,
                status=status,
                reason=reason,
                time_in_force=row.time_in_force,
                expires_at_ms=row.expires_at_ms,
                changed_seq=changed[row.id],
                **dict(zip(DETAIL, details.get(row.id, ()), strict=False)),
            )
        )
    return views


def trades_of_order(order: OrderView) -> list[TradeView]:
    """Return the trades of one order, oldest first."""
    mine = Q(buyer=order.account, buy_order=order.id) | Q(seller=order.account, sell_order=order.id)
    rows = models.Trade.objects.filter(mine, id__gt=order.id).order_by("id")[:MAX_LIMIT]
    return trade_views(rows)


def recalled_at(trade: int) -> int | None:
    """Return when a trade was taken back, None when it stands."""
    return models.Recall.objects.filter(trade=trade).values_list("at_ms", flat=True).first()


def changes_of_order(order: OrderView) -> list[ChangeView]:
    """Return what an order's owner, or the market, did to it, oldest first."""
    rows = models.OrderChange.objects.filter(account=order.account, order=order.id, seq__gt=order.id).order_by("seq")
    return [ChangeView(*row) for row in rows.values_list(*ChangeView._fields)[:MAX_LIMIT]]


def only_self_trades(first: int, end: int) -> bool:
    """Return whether every entry from ``first`` to ``end`` (half-open) takes back an order that would have met its own group's.

    Ends at the first that does not: a long time between is no long look.
    """
    expected = first
    while expected < end:
        changes = models.OrderChange.objects.filter(seq__gte=expected, seq__lt=end).order_by("seq")
        rows = list(changes.values_list("seq", "reason")[:LOOKED_AT_ONCE])
        if not rows or rows != [(expected + place, SELF_TRADE) for place in range(len(rows))]:
            return False
        expected += len(rows)
    return True


def legs(group: int) -> list[OrderView]:
    """Return the legs of a block or basket, first to last; [] when there is no such group."""
    count = models.OrderDetail.objects.filter(order=group, group=group).values_list("legs", flat=True).first()
    if count is None:
        return []
    return sorted(
        orders_of_many(models.Order.objects.filter(id__gte=group, id__lt=group + count)), key=lambda view: view.id
    )
