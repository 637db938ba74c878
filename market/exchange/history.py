"""What happened over time: candles, and events by ledger sequence. Part of ``queries``, where callers find it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
from django.db.models import F, Max, Min, Q, Sum

from ledger import queries as ledger_queries
from market.exchange import models
from market.exchange.units import parse_at

MAX_LIMIT = 1_000  # rows of one answer
DETAIL = ("kind", "last", "display_wh", "group", "leg", "legs")  # of ``models.OrderDetail``
_CHANGES = {"sleep": "hibernate", "wake": "reactivate"}


class Candle(NamedTuple):
    """Prices of the trades in ``start_ms <= at < start_ms + length``: what sellers got, grid fees left out."""

    start_ms: int
    open_e4: int
    high_e4: int
    low_e4: int
    close_e4: int
    volume_wh: int


def seq_before(at_ms: int) -> int:
    """Return a ledger sequence at or before the instant, close to it: where a search by time may begin."""
    rows = models.Contract.objects.filter(opened_at_ms__lt=at_ms).order_by("-name")
    return rows.values_list("opened_seq", flat=True).first() or 0


def candles(
    *,
    contract: str | None = None,
    area: str | None = None,
    length_ms: int,
    since_ms: int,
    until_ms: int,
    limit: int = 500,
) -> list[Candle]:
    """Return the candles that have trades, oldest first, with ``since_ms <= at < until_ms``; the newest ``limit`` of
    them. Trades that were taken back do not count.

    ``area``: only trades in which one side is there. ``ValueError`` on a length below a second.
    """
    if length_ms < 1_000:
        raise ValueError(f"expected candles of at least 1000 ms, was {length_ms}")
    rows = models.Trade.objects.filter(id__gt=seq_before(since_ms), at_ms__gte=since_ms, at_ms__lt=until_ms)
    if contract is not None:
        rows = rows.filter(contract=contract)
    if area is not None:
        rows = rows.filter(Q(buy_area=area) | Q(sell_area=area))
    rows = rows.exclude(id__in=models.Recall.objects.values("trade"))
    grouped = (
        rows.annotate(start=F("at_ms") - F("at_ms") % length_ms)
        .values("start")
        .annotate(first=Min("id"), last=Max("id"), high=Max("sell_e4"), low=Min("sell_e4"), volume=Sum("energy_wh"))
        .order_by("-start")[: max(1, min(limit, MAX_LIMIT))]
    )
    found = list(grouped)[::-1]
    ends = {row["first"] for row in found} | {row["last"] for row in found}
    price = dict(models.Trade.objects.filter(id__in=ends).values_list("id", "sell_e4"))
    return [
        Candle(row["start"], price[row["first"]], row["high"], row["low"], price[row["last"]], int(row["volume"]))
        for row in found
    ]


def events(*, after: int = -1, limit: int = 100, account: int | None = None) -> list[dict[str, Any]]:
    """Return what happened after a ledger sequence, oldest first, as flat objects with ``seq``, ``type`` and ``at_ms``.

    Without an account: every ledger entry with its own fields (for those who may see all; ``salt`` is left out). With
    one: what concerns it, a trade seen from its side (``side``, ``order``, ``price_e4``, ``amount_e7``).
    """
    limit = max(1, min(limit, MAX_LIMIT))
    if account is None:
        return [_plain(leaf) for leaf in ledger_queries.leaves(after + 1, limit)]
    rows: list[dict[str, Any]] = []
    for source in (_orders, _changes, _trades, _recalls, _funds, _lines, _adjustments, _agreements, _shared):
        rows += source(account, after, limit)
    rows.sort(key=lambda row: row["seq"])
    # Each source was cut to ``limit`` by itself, so the first ``limit`` of all are complete.
    return rows[:limit]


def _plain(leaf: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = orjson.loads(leaf)
    del entry["salt"], entry["v"]
    entry["at_ms"] = parse_at(entry.pop("at"))
    return entry


def _orders(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    names = ("at_ms", "contract", "area", "side", "price_e4", "energy_wh", "time_in_force", "expires_at_ms")
    rows = list(models.Order.objects.filter(account=account, id__gt=after).order_by("id")[:limit].values("id", *names))
    details = models.OrderDetail.objects.in_bulk([row["id"] for row in rows])
    for row in rows:
        detail = details.get(row["id"])
        more = {} if detail is None else {name: getattr(detail, name) for name in DETAIL if getattr(detail, name)}
        yield {"seq": row["id"], "type": "order", "order": row.pop("id"), **row, **more}


def _changes(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    rows = models.OrderChange.objects.filter(account=account, seq__gt=after).order_by("seq")[:limit]
    for row in rows:
        common = {"seq": row.seq, "type": row.kind, "at_ms": row.at_ms, "order": row.order, "contract": row.contract}
        if row.kind == "amend":
            yield {**common, "price_e4": row.price_e4, "energy_wh": row.energy_wh, "requeued": row.requeued}
        elif row.kind != "cancel":
            yield {**common, "type": _CHANGES[row.kind], "remaining_wh": row.remaining_wh}
        else:
            yield {**common, "remaining_wh": row.remaining_wh, "reason": row.reason}


def _trades(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    for side in ("buy", "sell"):
        mine = {"buyer": account} if side == "buy" else {"seller": account}
        for row in models.Trade.objects.filter(id__gt=after, **mine).order_by("id")[:limit]:
            price_e4 = row.buy_e4 if side == "buy" else row.sell_e4
            yield {
                "seq": row.id, "type": "trade", "at_ms": row.at_ms, "contract": row.contract, "side": side,
                "order": row.buy_order if side == "buy" else row.sell_order, "price_e4": price_e4,
                "energy_wh": row.energy_wh, "amount_e7": price_e4 * row.energy_wh,
            }  # fmt: skip


def _recalls(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    for side in ("buy", "sell"):
        mine = {"buyer": account} if side == "buy" else {"seller": account}
        for row in models.Recall.objects.filter(seq__gt=after, **mine).order_by("seq")[:limit]:
            yield {
                "seq": row.seq, "type": "recall", "at_ms": row.at_ms, "trade": row.trade, "contract": row.contract,
                "side": side, "energy_wh": row.energy_wh, "returned_e7": row.cost_e7 if side == "buy" else row.margin_e7,
                "reason": row.reason,
            }  # fmt: skip


def _funds(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    first = (after + 1) * models.TRANSFERS_AN_ENTRY
    for side in ("debit", "credit"):
        rows = models.Transfer.objects.filter(**{side: account}, kind="fund", id__gte=first)
        for row in rows.order_by("id")[:limit]:
            amount_e7 = row.amount if side == "credit" else -row.amount
            seq = row.id // models.TRANSFERS_AN_ENTRY
            yield {"seq": seq, "type": "fund", "at_ms": row.at_ms, "amount_e7": amount_e7}


def _lines(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    for row in models.SettlementLine.objects.filter(account=account, seq__gt=after).order_by("seq")[:limit].values():
        del row["account"]
        yield {"type": "settle", **row}


def _adjustments(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    for row in models.Adjustment.objects.filter(account=account, seq__gt=after).order_by("seq")[:limit].values():
        del row["account"]
        yield {"type": "adjust", **row}


def _agreements(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    mine = Q(giver=account) | Q(receiver=account)
    for row in models.AgreementChange.objects.filter(mine, seq__gt=after).order_by("seq")[:limit]:
        told: dict[str, Any] = {"seq": row.seq, "type": "agreement", "at_ms": row.at_ms, "agreement": row.agreement}
        told |= {"action": row.action, "side": "give" if row.giver == account else "receive"}
        if row.action == "proposed":
            told |= {"price_e4": row.price_e4, "fee_e4": row.fee_e4, "start": row.start}
        yield told | {"by_me": int(row.account == account)}


def _shared(account: int, after: int, limit: int) -> Iterator[dict[str, Any]]:
    mine = Q(giver=account) | Q(receiver=account)
    for row in models.SharedLine.objects.filter(mine, seq__gt=after).order_by("seq", "n")[:limit]:
        yield {
            "seq": row.seq, "type": "shared", "at_ms": row.at_ms, "contract": row.contract, "agreement": row.agreement,
            "side": "give" if row.giver == account else "receive", "energy_wh": row.energy_wh, "was_wh": row.was_wh,
            "price_e4": row.price_e4, "fee_e4": row.fee_e4,
        }  # fmt: skip
