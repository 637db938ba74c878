"""Searching trades, orders and entries by anything: what is asked for becomes a range of the ledger and conditions on rows.

Instants rise with the ledger's sequence, so a time range is a range of entries, found by halving; so are a block and a hash.
Within it, rows come newest first by their primary key or an index (account, contract). A search that no index helps looks
through ``WINDOW`` entries a page, and says how far it got: a page takes bounded time whatever the ledger's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import Any, NamedTuple

from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum

from ledger import queries as ledger
from market.exchange import models, queries
from market.exchange.concerns import accounts_named
from market.exchange.orderviews import orders_of_many, trade_views
from market.exchange.units import parse_at
from market.exchange.views import OrderView, TradeView
from market.surveillance.entrysearch import TABLED, count_of_type, leaves_of_type, seqs_of_type, sources
from market.surveillance.filters import ENTRIES, ORDERS, TRADES, Filter

WINDOW = 1_000_000  # entries that a page, or its totals, looks through where no index helps
MAX_ROWS = 500  # of a page
MAX_COUNTED = 1_000_000  # rows that totals add up


class Span(NamedTuple):
    """Entries ``low`` to ``high``, half-open."""

    low: int
    high: int


class Totals(NamedTuple):
    """What all that was found adds up to, from entry ``since`` on; ``complete``: that is all of it.

    Prices are those of the side asked for, the sellers' by default; ``money_e7`` is their sum over the energy.
    """

    count: int
    energy_wh: int
    money_e7: int
    low_e4: int | None
    high_e4: int | None
    since: int
    complete: bool


class EntryView(NamedTuple):
    """An entry of the ledger."""

    seq: int
    fields: dict[str, Any]


class Page(NamedTuple):
    """A page of results, newest first. ``next`` is the cursor of the page after it, ``looked`` the oldest entry looked at."""

    rows: list[Any]  # TradeView, OrderView or EntryView, as the filter's kind says
    next: int | None
    looked: int


def find(wanted: Filter, *, before: int | None = None, limit: int = 100) -> Page:
    """Return a page of what is looked for, newest first; ``before`` is the cursor of the page before."""
    limit = max(1, min(limit, MAX_ROWS))
    whole = span(wanted)
    high = whole.high if before is None else min(whole.high, before)
    low = whole.low if indexed(wanted) else max(whole.low, high - WINDOW)
    if low >= high:
        return Page([], None, whole.low)
    rows = _ROWS[wanted.kind](wanted, Span(low, high), limit + 1)
    shown = rows[:limit]
    if len(rows) > limit:
        return Page(shown, _number(shown[-1]), _number(shown[-1]))
    return Page(shown, low if low > whole.low else None, low)


def totals(wanted: Filter) -> Totals:
    """Return what everything that is looked for adds up to, as far as it is looked through."""
    whole = span(wanted)
    low = whole.low if indexed(wanted) else max(whole.low, whole.high - WINDOW)
    if low >= whole.high:
        return Totals(0, 0, 0, None, None, whole.low, True)
    within = Span(low, whole.high)
    if wanted.kind == ENTRIES:
        counted, since = _entry_count(wanted, within)
        return Totals(counted, 0, 0, None, None, since, since == whole.low)
    if wanted.kind == TRADES:
        rows, price = trades_in(wanted, within), "buy_e4" if wanted.side == "buy" else "sell_e4"
    else:
        rows, price = orders_in(wanted, within), "price_e4"
    sums = rows.order_by("-id")[:MAX_COUNTED].aggregate(
        count=Count("id"), energy=Sum("energy_wh"), money=Sum(F(price) * F("energy_wh")), low=Min(price),
        high=Max(price), since=Min("id"),
    )  # fmt: skip
    complete = low == whole.low and sums["count"] < MAX_COUNTED
    since = low if sums["count"] < MAX_COUNTED else sums["since"]
    return Totals(
        sums["count"], int(sums["energy"] or 0), int(sums["money"] or 0), sums["low"], sums["high"], since, complete
    )


def accounts_of(rows: Iterable[Any]) -> set[int]:
    """Return the accounts that results name."""
    found: set[int] = set()
    entries = []
    for row in rows:
        if isinstance(row, TradeView):
            found.update((row.buyer, row.seller))
        elif isinstance(row, OrderView):
            found.add(row.account)
        else:
            entries.append(row.fields)
    return found | accounts_named(entries)


def indexed(wanted: Filter) -> bool:
    """Whether an index leads to what is looked for, so that it is looked for in the whole ledger at once."""
    if wanted.kind == ENTRIES and not _by_rows(wanted):
        return True  # by their numbers, or by the index of types
    if wanted.kind == ENTRIES and wanted.contract and wanted.account is None:
        return wanted.order is not None or wanted.trade is not None
    named = (wanted.account, wanted.order, wanted.trade, wanted.block)
    return bool(wanted.contract or wanted.hash) or any(one is not None for one in named)


# --- where to look ---------------------------------------------------------------------------------------------------
def span(wanted: Filter) -> Span:
    """Return the entries among which all that is looked for lies."""
    low, high = 0, ledger.size()
    if wanted.from_ms is not None:
        low = max(low, seq_at(wanted.from_ms))
    if wanted.until_ms is not None:
        high = min(high, seq_at(wanted.until_ms))
    if wanted.block is not None:
        try:
            block = ledger.block(wanted.block)
        except ledger.NotThere:
            return Span(0, 0)
        low, high = max(low, block.first), min(high, block.size)
    if wanted.hash:
        seq = ledger.seq_of_hash(wanted.hash)
        if seq is None:
            return Span(0, 0)
        low, high = max(low, seq), min(high, seq + 1)
    if wanted.contract:
        found = queries.contract(wanted.contract)
        if found is None:
            return Span(0, 0)
        low = max(low, found.opened_seq)
    return Span(low, high)


def seq_at(at_ms: int) -> int:
    """Return the first entry at or after an instant, the ledger's size when there is none: instants never go back."""
    low, high = 0, ledger.size()
    while low < high:
        middle = (low + high) // 2
        if parse_at(str(ledger.entry(middle)["at"])) < at_ms:
            low = middle + 1
        else:
            high = middle
    return low


# --- trades ----------------------------------------------------------------------------------------------------------
def trades_in(wanted: Filter, within: Span) -> QuerySet[models.Trade]:
    """Return the trades of entries ``within`` that a search wants."""
    rows = trade_rows(wanted, within)
    if wanted.account is None:
        return rows
    if wanted.side:
        return rows.filter(**{"buyer" if wanted.side == "buy" else "seller": wanted.account})
    return rows.filter(Q(buyer=wanted.account) | Q(seller=wanted.account))


def trade_rows(wanted: Filter, within: Span) -> QuerySet[models.Trade]:
    """Return the trades that fit, whoever's they are."""
    rows = models.Trade.objects.filter(id__gte=within.low, id__lt=within.high)
    if wanted.contract:
        rows = rows.filter(contract=wanted.contract)
    price = "buy_e4" if wanted.side == "buy" else "sell_e4"
    if wanted.area and wanted.side:
        rows = rows.filter(**{f"{wanted.side}_area": wanted.area})
    elif wanted.area:
        rows = rows.filter(Q(buy_area=wanted.area) | Q(sell_area=wanted.area))
    rows = _ranges(rows, wanted, price)
    if wanted.trade is not None:
        rows = rows.filter(id=wanted.trade)
    if wanted.order is not None:
        order = models.Order.objects.filter(id=wanted.order).values_list("account", flat=True).first()
        mine = Q(buyer=order, buy_order=wanted.order) | Q(seller=order, sell_order=wanted.order)
        rows = rows.filter(mine) if order is not None else rows.none()
    if wanted.kind == TRADES and wanted.type:
        recalled = models.Recall.objects.values("trade")
        rows = rows.filter(id__in=recalled) if wanted.type == "recalled" else rows.exclude(id__in=recalled)
    return rows


def _find_trades(wanted: Filter, within: Span, limit: int) -> list[TradeView]:
    if wanted.account is None or wanted.side:
        return trade_views(trades_in(wanted, within).order_by("-id")[:limit])
    # Side by side: asked for "buyer or seller" in order, a database walks through everybody's trades.
    rows = trade_rows(wanted, within).order_by("-id")
    found = {row for name in ("buyer", "seller") for row in trade_views(rows.filter(**{name: wanted.account})[:limit])}
    return sorted(found, reverse=True)[:limit]


# --- orders ----------------------------------------------------------------------------------------------------------
def orders_in(wanted: Filter, within: Span) -> QuerySet[models.Order]:
    """Return the orders placed by entries ``within`` that a search wants."""
    rows = models.Order.objects.filter(id__gte=within.low, id__lt=within.high)
    if wanted.account is not None:
        rows = rows.filter(account=wanted.account)
    if wanted.contract:
        rows = rows.filter(contract=wanted.contract)
    if wanted.area:
        rows = rows.filter(area=wanted.area)
    if wanted.side:
        rows = rows.filter(side=wanted.side)
    rows = _ranges(rows, wanted, "price_e4")
    if wanted.order is not None:
        rows = rows.filter(id=wanted.order)
    if wanted.trade is not None:
        pair = models.Trade.objects.filter(id=wanted.trade).values_list("buy_order", "sell_order").first()
        rows = rows.filter(id__in=pair or ())
    if wanted.kind == ORDERS and wanted.type == "limit":
        rows = rows.exclude(id__in=models.OrderDetail.objects.values("order"))
    elif wanted.kind == ORDERS and wanted.type:
        rows = rows.filter(id__in=models.OrderDetail.objects.filter(kind=wanted.type).values("order"))
    return rows


def _find_orders(wanted: Filter, within: Span, limit: int) -> list[OrderView]:
    rows = orders_in(wanted, within).order_by("-id")[:limit]
    return sorted(orders_of_many(rows), key=lambda view: -view.id)


def _ranges(rows: QuerySet[Any], wanted: Filter, price: str) -> QuerySet[Any]:
    ends = {
        f"{price}__gte": wanted.price_from_e4,
        f"{price}__lte": wanted.price_to_e4,
        "energy_wh__gte": wanted.wh_from,
        "energy_wh__lte": wanted.wh_to,
    }
    return rows.filter(**{name: value for name, value in ends.items() if value is not None})


# --- entries ---------------------------------------------------------------------------------------------------------
def _by_rows(wanted: Filter) -> bool:
    """Whether entries are looked for by the rows that stand for them."""
    named = (
        wanted.account, wanted.order, wanted.trade, wanted.price_from_e4, wanted.price_to_e4, wanted.wh_from, wanted.wh_to,
    )  # fmt: skip
    named_by_text = wanted.area or wanted.contract or wanted.side or wanted.type in TABLED
    return bool(named_by_text) or any(one is not None for one in named)


def _find_entries(wanted: Filter, within: Span, limit: int) -> list[EntryView]:
    if not _by_rows(wanted):
        return [EntryView(int(fields["seq"]), fields) for fields in leaves_of_type(wanted.type, *within, limit)]
    seqs: set[int] = set()
    for rows, number, divisor in _sources(wanted, within):
        seqs.update(value // divisor for value in rows.order_by("-" + number).values_list(number, flat=True)[:limit])
    chosen = sorted(seqs, reverse=True)[:limit]
    return [EntryView(seq, ledger.entry(seq)) for seq in chosen]


def _entry_count(wanted: Filter, within: Span) -> tuple[int, int]:
    """Return how many entries ``within`` a search wants, and from which entry on."""
    if not _by_rows(wanted):
        return count_of_type(wanted.type, *within, MAX_COUNTED)
    count = 0
    for rows, number, divisor in _sources(wanted, within):
        counted = rows.annotate(entry=F(number) / divisor).values("entry").distinct() if divisor > 1 else rows
        count += counted.count() if divisor > 1 else rows.values(number).distinct().count()
    return count, within.low


def entry_seqs(wanted: Filter, within: Span) -> Iterator[int]:
    """Yield the entries ``within`` that a search wants, oldest first; at most ``MAX_COUNTED`` of each kind of row."""
    if not _by_rows(wanted):
        yield from seqs_of_type(wanted.type, *within)
        return
    runs = [
        rows.order_by(number).values_list(number, flat=True)[:MAX_COUNTED].iterator()
        for rows, number, divisor in _sources(wanted, within)
        if divisor == 1
    ]
    funds = [
        (value // divisor for value in rows.order_by(number).values_list(number, flat=True)[:MAX_COUNTED])
        for rows, number, divisor in _sources(wanted, within)
        if divisor > 1
    ]
    last = -1
    for seq in merge(*runs, *funds):
        if seq != last:
            yield seq
        last = seq


def _sources(wanted: Filter, within: Span) -> list[tuple[QuerySet[Any], str, int]]:
    return sources(wanted, within.low, within.high, orders_in(wanted, within), trades_in(wanted, within))


def _number(row: Any) -> int:
    return int(row[0])  # the sequence is the first field of each


_ROWS: dict[str, Callable[[Filter, Span, int], list[Any]]] = {
    TRADES: _find_trades,
    ORDERS: _find_orders,
    ENTRIES: _find_entries,
}
