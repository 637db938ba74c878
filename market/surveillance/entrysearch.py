"""Searching entries: by the rows that stand for them, or through their bytes.

What accounts, areas and contracts an entry concerns is in the tables derived from it, and so are orders and trades; the
other types have an index over the entries' bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from django.db import connection
from django.db.models import Q, QuerySet

from market.exchange import models
from market.exchange.models import TRANSFERS_AN_ENTRY
from market.surveillance.filters import Filter

CHANGE_KINDS = {"amend": ("amend", "sleep", "wake"), "cancel": ("cancel",)}  # entry type: kinds of changes
TABLED = ("order", "trade")  # types whose entries are the rows of a table
AT_ONCE = 100_000  # entries of one query
Source = tuple[QuerySet[Any], str, int]  # rows, the column that numbers them, how many numbers an entry has


def sources(
    wanted: Filter, low: int, high: int, orders: QuerySet[models.Order], trades: QuerySet[models.Trade]
) -> list[Source]:
    """Return the rows, of entries ``low`` to ``high`` (half-open), whose entries a search by account, area and so on wants."""
    measured = (wanted.price_from_e4, wanted.price_to_e4, wanted.wh_from, wanted.wh_to)
    plain = not wanted.side and all(one is None for one in measured)
    found: list[Source] = []
    kind = wanted.type
    if kind in ("", "order"):
        found.append((orders, "id", 1))
    if kind in ("", "trade"):
        found.append((trades, "id", 1))
    if kind in ("", "amend", "cancel") and all(one is None for one in measured):
        found.append((_changes(wanted, low, high), "seq", 1))
    if kind in ("", "recall"):
        found.append((_recalls(wanted, low, high, trades), "seq", 1))
    if plain and wanted.order is None and wanted.trade is None:
        if kind in ("", "settle"):
            found.append((_lines(models.SettlementLine, wanted, low, high), "seq", 1))
        if kind in ("", "adjust"):
            found.append((_lines(models.Adjustment, wanted, low, high), "seq", 1))
        if kind in ("", "fund") and wanted.account is not None and not wanted.area and not wanted.contract:
            mine = Q(debit=wanted.account) | Q(credit=wanted.account)
            ends = {"id__gte": low * TRANSFERS_AN_ENTRY, "id__lt": high * TRANSFERS_AN_ENTRY}
            found.append((models.Transfer.objects.filter(mine, kind="fund", **ends), "id", TRANSFERS_AN_ENTRY))
    return found


def _changes(wanted: Filter, low: int, high: int) -> QuerySet[Any]:
    rows = models.OrderChange.objects.filter(seq__gte=low, seq__lt=high)
    if wanted.type:
        rows = rows.filter(kind__in=CHANGE_KINDS[wanted.type])
    if wanted.account is not None:
        rows = rows.filter(account=wanted.account)
    if wanted.contract:
        rows = rows.filter(contract=wanted.contract)
    if wanted.order is not None:
        owner = models.Order.objects.filter(id=wanted.order).values_list("account", flat=True).first()
        rows = rows.filter(order=wanted.order, account=-1 if owner is None else owner)
    if wanted.trade is not None:
        rows = rows.none()
    if wanted.area or wanted.side:
        theirs = {name: value for name, value in (("area", wanted.area), ("side", wanted.side)) if value}
        rows = rows.filter(order__in=models.Order.objects.filter(**theirs).values("id"))
    return rows


def _recalls(wanted: Filter, low: int, high: int, trades: QuerySet[models.Trade]) -> QuerySet[Any]:
    # A recall fits when its trade does; the trade may lie before the entries that are looked through.
    rows = models.Recall.objects.filter(seq__gte=low, seq__lt=high)
    if wanted.contract:
        rows = rows.filter(contract=wanted.contract)
    if wanted.trade is not None:
        rows = rows.filter(trade=wanted.trade)
    if wanted.account is not None:
        rows = rows.filter(Q(buyer=wanted.account) | Q(seller=wanted.account))
    if wanted.area or wanted.side or wanted.order is not None or _measures(wanted):
        rows = rows.filter(trade__in=trades.values("id"))
    return rows


def _measures(wanted: Filter) -> bool:
    ends = (wanted.price_from_e4, wanted.price_to_e4, wanted.wh_from, wanted.wh_to)
    return any(one is not None for one in ends)


def _lines(model: Any, wanted: Filter, low: int, high: int) -> QuerySet[Any]:
    rows = model.objects.filter(seq__gte=low, seq__lt=high)
    if wanted.account is not None:
        rows = rows.filter(account=wanted.account)
    if wanted.contract:
        rows = rows.filter(contract=wanted.contract)
    if wanted.area:
        rows = rows.filter(area=wanted.area)
    result: QuerySet[Any] = rows.values("seq").distinct()
    return result


# --- bytes -----------------------------------------------------------------------------------------------------------
def leaves_of_type(kind: str, low: int, high: int, limit: int) -> list[dict[str, Any]]:
    """Return the newest entries of a type ("" = any; none of ``TABLED``) from ``low`` to ``high`` (half-open), newest first."""
    sql, values = _of_type("SELECT leaf FROM ledger_entry", kind, low, high)
    with connection.cursor() as cursor:
        cursor.execute(sql + " ORDER BY seq DESC LIMIT %s", [*values, limit])
        return [orjson.loads(bytes(leaf)) for (leaf,) in cursor.fetchall()]


def seqs_of_type(kind: str, low: int, high: int) -> Iterator[int]:
    """Yield the entries of a type ("" = any; none of ``TABLED``) from ``low`` to ``high`` (half-open), oldest first."""
    if not kind:
        yield from range(low, high)
        return
    while True:
        sql, values = _of_type("SELECT seq FROM ledger_entry", kind, low, high)
        with connection.cursor() as cursor:
            cursor.execute(sql + " ORDER BY seq LIMIT %s", [*values, AT_ONCE])
            found = [seq for (seq,) in cursor.fetchall()]
        yield from found
        if len(found) < AT_ONCE:
            return
        low = found[-1] + 1


def count_of_type(kind: str, low: int, high: int, most: int) -> tuple[int, int]:
    """Return how many entries of a type ("" = any; none of ``TABLED``) there are from ``low`` to ``high`` (half-open).

    Only the newest ``most`` are counted; the second number is the entry from which on that is all.
    """
    if not kind:
        return max(0, high - low), low
    sql, values = _of_type("SELECT seq FROM ledger_entry", kind, low, high)
    with connection.cursor() as cursor:
        counted = f"SELECT count(*), min(seq) FROM ({sql} ORDER BY seq DESC LIMIT %s) AS newest"  # noqa: S608 (own words)
        cursor.execute(counted, [*values, most])
        count, since = cursor.fetchone()
    return int(count), low if count < most else int(since)


def _of_type(select: str, kind: str, low: int, high: int) -> tuple[str, list[Any]]:
    sql, values = f"{select} WHERE seq >= %s AND seq < %s", [low, high]
    if kind:
        assert kind not in TABLED, kind
        type_is, others, as_value = _BY_TYPE[connection.vendor]
        sql += f" AND {others} AND {type_is} = %s"
        values.append(as_value(kind))
    return sql, values


# The index ``ledger_entry_type`` in its own words (migration 0002): what it is by, which entries it has, how a type is given.
# In canonical JSON, "type":" is the field and nothing else: a quote inside of a text is escaped.
_BY_TYPE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "sqlite": (
        (
            "substr(substr(leaf, instr(leaf, X'2274797065223A22') + 8, 24), 1,"
            " instr(substr(leaf, instr(leaf, X'2274797065223A22') + 8, 24), X'22') - 1)"
        ),
        "instr(leaf, X'2274797065223A226F7264657222') = 0 AND instr(leaf, X'2274797065223A22747261646522') = 0",
        str.encode,
    ),
    "postgresql": (
        "split_part(encode(substring(leaf from position('\"type\":\"'::bytea in leaf) + 8 for 24), 'escape'), '\"', 1)",
        'position(\'"type":"order"\'::bytea in leaf) = 0 AND position(\'"type":"trade"\'::bytea in leaf) = 0',
        str,
    ),
}
