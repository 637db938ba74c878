"""Statements out of the database: what ``statements`` needs of a home's accounts in a period, and what came of it.

A home may have had several account numbers (ADR 11); its statement covers those it is asked for. Intervals are found by
their names, which sort by time; ledger sequences bound every scan, so that a day costs a day and not the account's past.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import F, Max, Min, Q, QuerySet, Sum

from market.engine.contracts import contract_name, contract_start_ms
from market.exchange import gateway
from market.exchange.models import Adjustment, Contract, Final, Recall, SettlementLine, SharedLine, Trade
from market.exchange.outcomes import NotRunning
from market.exchange.views import LineView
from market.households import queries as households
from market.households.models import User
from market.metering.models import Reading
from market.settlement import levies, statements
from market.settlement.periods import MAX_DAYS, Period, months, start_ms
from market.settlement.rules import Tariff
from market.settlement.statements import Correction, Deal, Interval, Later, Shared, Sums, Total, Traded

MAX_ACCOUNTS = 20  # numbers of one home; a new one is given every four weeks at most, and statements go back years
MAX_INTERVALS = MAX_DAYS * 100 * 2  # rows of one statement: a year of quarter hours, twice, for days with two numbers
# Trades listed one by one, bought and sold apart; what is beyond is summed up by interval (``statements.settled_interval``).
# A home has some hundreds a day at most; a program that trades by the thousand reads ``/api/v1/events``.
MAX_DEALS = 10_000  # of one day or month
MAX_ALL_DEALS = 50_000  # of one year
DEFAULT_LEVIES = Path(__file__).with_name("default_levies.json")

Place = tuple[str, int]  # an interval of an account
_CHANGED = Correction._fields[4:]  # what a correction changes, by the names of the settlement row


class Statement(NamedTuple):
    """A home's period: sums by day (days without any are left out) and in total, and what still waits."""

    period: Period
    accounts: tuple[int, ...]
    days: dict[date, Sums]
    total: Total
    waiting: int  # intervals with trades that are not settled yet
    waiting_trades: Traded  # sums of those trades

    def months(self) -> list[tuple[str, Sums]]:
        """Return its months ("2026-06") with their sums."""
        by_month: dict[str, list[Sums]] = {}
        for day, sums in self.days.items():
            by_month.setdefault(day.isoformat()[:7], []).append(sums)
        return [(name, statements.add(parts)) for name, parts in by_month.items()]


class _Span(NamedTuple):
    """The contracts of some days, and the ledger sequences in which they can have been traded and settled."""

    tariffs: dict[str, Tariff]
    names: tuple[str, str]  # first <= name < end
    first_seq: int
    last_seq: int | None  # None: not all of them are settled
    finals: frozenset[str]  # contracts that nothing corrects any more
    final_seq: int | None  # no later entry changes any of them; None: some are not final


def market_zone() -> ZoneInfo:
    """Return the time zone of the market's days."""
    return ZoneInfo(settings.MARKET_TIME_ZONE)


def market_now_ms() -> int:
    """Return market time; the machine's while no exchange runs here, since statements can be read all the same."""
    try:
        return gateway.current().now_ms()
    except NotRunning:
        return round(datetime.now(UTC).timestamp() * 1000)


def local_day(at_ms: int) -> date:
    """Return the market-local day of an instant."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(market_zone()).date()


def numbers_of(user: User, account: int) -> list[int]:
    """Return the account numbers a person's statement covers: the present one and those that preceded it."""
    earlier = [info.index for info in households.earlier_accounts(user) if info.index != account]
    return [account, *earlier][:MAX_ACCOUNTS]


def local_clock(contract: str) -> str:
    """Return the market-local hours of a contract, "12:15–12:30"."""
    zone, length = market_zone(), timedelta(minutes=settings.MARKET_INTERVAL_MIN)
    start = datetime.fromtimestamp(contract_start_ms(contract) / 1000, UTC)
    return f"{start.astimezone(zone):%H:%M}–{(start + length).astimezone(zone):%H:%M}"


def levy_tables() -> tuple[levies.Table, ...]:
    """Return the tables of taxes and levies that ``settings.LEVIES_FILE`` holds; raise ``ValueError``, ``OSError``."""
    path = Path(settings.LEVIES_FILE) if settings.LEVIES_FILE else DEFAULT_LEVIES
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _parsed(path: Path, changed_ns: int) -> tuple[levies.Table, ...]:
    with path.open("rb") as file:
        return levies.parse(file.read(levies.MAX_BYTES + 1))


def statement(accounts: Collection[int], period: Period) -> Statement:
    """Return the statement of a home with these account numbers (at most ``MAX_ACCOUNTS``) over a period."""
    mine = _checked(accounts)
    span = _span(period)
    traded = _traded(mine, span)
    own = _own(mine, period)
    later = _later(mine, span)
    zone = market_zone()
    days = period.days()
    starts = [contract_name(start_ms(day, zone)) for day in days]  # names sort by time: nothing is parsed
    by_day: list[list[Sums]] = [[] for _ in days]
    settled: set[Place] = set()
    for row in _all_rows(mine, span, later):
        place = (row.contract, row.account)
        settled.add(place)
        sums = statements.interval_sums(
            row,
            traded.get(place, statements.NO_TRADES),
            span.tariffs[row.contract],
            own.get(place),
            _later_of(place, later, span),
        )
        by_day[bisect_right(starts, row.contract) - 1].append(sums)
    found = {day: statements.add(parts) for day, parts in zip(days, by_day, strict=True) if parts}
    waiting = [one for place, one in traded.items() if place not in settled]
    sum_of_them = Traded(*map(sum, zip(*waiting, strict=True))) if waiting else statements.NO_TRADES
    return Statement(period, mine, found, statements.total(found, levy_tables()), len(waiting), sum_of_them)


def intervals(accounts: Collection[int], period: Period, *, max_deals: int = MAX_DEALS) -> list[Interval]:
    """Return the intervals of a day or month, oldest first, each with its lines; those that wait for settlement among
    them.
    """
    mine = _checked(accounts)
    span = _span(period)
    traded = _traded(mine, span)
    own = _own(mine, period)
    later = _later(mine, span)
    deals: dict[Place, list[Deal]] = {}
    for deal in _deals(mine, span, max_deals):
        deals.setdefault((deal.contract, deal.account), []).append(deal)
    found = []
    for row in _all_rows(mine, span, later):
        place = (row.contract, row.account)
        found.append(
            statements.settled_interval(
                row,
                deals.get(place, ()),
                traded.pop(place, statements.NO_TRADES),
                span.tariffs[row.contract],
                own.get(place),
                _later_of(place, later, span),
            )
        )
    found += [statements.waiting_interval(*place, deals.get(place, ())) for place in traded]
    return sorted(found, key=lambda interval: (interval.contract, interval.account))


def all_intervals(accounts: Collection[int], period: Period) -> Iterator[Interval]:
    """Return the intervals of a period, oldest first, month after month: a year never lies in memory as a whole."""
    left = MAX_ALL_DEALS
    for part in months(period):
        found = intervals(accounts, part, max_deals=min(MAX_DEALS, left))
        left -= sum(line.kind in statements.DEALS for interval in found for line in interval.lines)
        left = max(0, left)
        yield from found


def _checked(accounts: Collection[int]) -> tuple[int, ...]:
    mine = tuple(sorted(set(accounts)))
    if not 0 < len(mine) <= MAX_ACCOUNTS:
        raise ValueError(f"accounts: expected 1 to {MAX_ACCOUNTS}, was {len(mine)}")
    return mine


def _span(period: Period) -> _Span:
    zone = market_zone()
    names = contract_name(start_ms(period.first, zone)), contract_name(start_ms(period.end, zone))
    contracts = Contract.objects.filter(name__gte=names[0], name__lt=names[1])
    bounds = contracts.aggregate(first=Min("opened_seq"), last=Max("changed_seq"))
    unsettled = contracts.exclude(state="settled").exists()
    tariffs = {
        name: Tariff(topup_e4, spill_e4)
        for name, topup_e4, spill_e4 in contracts.values_list("name", "topup_e4", "spill_e4")[:MAX_INTERVALS]
    }
    finals = dict(Final.objects.filter(contract__gte=names[0], contract__lt=names[1]).values_list("contract", "seq"))
    closed = max(finals.values()) if finals and finals.keys() >= tariffs.keys() else None
    return _Span(
        tariffs, names, bounds["first"] or 0, None if unsettled else bounds["last"] or 0,
        _settled_for_good(tariffs, finals), closed,
    )  # fmt: skip


def _settled_for_good(names: Collection[str], finals: Collection[str]) -> frozenset[str]:
    """Return those of the contracts that nothing corrects any more.

    A market that corrects nothing writes no ``final`` entries: what is settled there is final at once. Only the engine knows;
    while none runs here, entries alone count.
    """
    try:
        exchange = gateway.current()
    except NotRunning:
        return frozenset(finals)
    # A contract is out of ``provisional`` only when it is final or has nothing that is settled.
    return frozenset(finals) | exchange.read(
        lambda engine: frozenset(name for name in names if name not in engine.provisional)
    )


def _bounded(rows: Any, span: _Span, seq: str) -> Any:
    wanted = rows.filter(contract__gte=span.names[0], contract__lt=span.names[1], **{f"{seq}__gte": span.first_seq})
    return wanted if span.last_seq is None else wanted.filter(**{f"{seq}__lte": span.last_seq})


def _rows(accounts: tuple[int, ...], span: _Span) -> Iterator[LineView]:
    rows: QuerySet[SettlementLine] = _bounded(SettlementLine.objects.filter(account__in=accounts), span, "seq")
    listed = rows.order_by("contract", "account").values_list(*LineView._fields)[:MAX_INTERVALS]
    return (LineView(*row) for row in listed.iterator(chunk_size=5_000))


def _trades(accounts: tuple[int, ...], span: _Span, side: str) -> Any:
    rows = _bounded(Trade.objects.filter(**{f"{side}__in": accounts}), span, "id")
    return rows.exclude(id__in=Recall.objects.values("trade"))


def _traded(accounts: tuple[int, ...], span: _Span) -> dict[Place, Traded]:
    """Return sums of the trades that stand, by interval and account."""
    proceeds = Sum(F("sell_e4") * F("energy_wh"))
    found: dict[Place, Traded] = {}
    bought = _trades(accounts, span, "buyer").values("contract", "buyer")
    for row in bought.annotate(wh=Sum("energy_wh"), cost=Sum("cost_e7"), net=proceeds).order_by()[:MAX_INTERVALS]:
        cost_e7 = int(row["cost"])
        place = (row["contract"], row["buyer"])
        found[place] = Traded(int(row["wh"]), cost_e7, cost_e7 - int(row["net"]))
    sold = _trades(accounts, span, "seller").values("contract", "seller")
    for row in sold.annotate(wh=Sum("energy_wh"), net=proceeds).order_by()[:MAX_INTERVALS]:
        place = (row["contract"], row["seller"])
        found[place] = found.get(place, statements.NO_TRADES)._replace(sold_wh=int(row["wh"]), sold_e7=int(row["net"]))
    return found


def _deals(accounts: tuple[int, ...], span: _Span, limit: int) -> list[Deal]:
    """Return the trades that stand, oldest first; of each side at most ``limit``."""
    names = ("id", "contract", "energy_wh", "buy_e4", "sell_e4")
    found = []
    for side in ("buyer", "seller"):
        bought = side == "buyer"
        rows = _trades(accounts, span, side).order_by("id").values_list(*names, side)[:limit]
        for seq, contract, energy_wh, buy_e4, sell_e4, account in rows:
            price_e4 = buy_e4 if bought else sell_e4
            fee_e4 = buy_e4 - sell_e4 if bought else 0
            found.append(Deal(seq, contract, account, bought, energy_wh, price_e4, fee_e4))
    return sorted(found)


def _own(accounts: tuple[int, ...], period: Period) -> dict[Place, int]:
    """Return what homes used of their own roofs, where the roof is metered; the newest version of a reading counts."""
    zone = market_zone()
    bounds = Q(start_ms__gte=start_ms(period.first, zone), start_ms__lt=start_ms(period.end, zone))
    rows = Reading.objects.filter(bounds, account__in=accounts).order_by("account", "start_ms", "version")
    found: dict[Place, int] = {}
    names = ("account", "start_ms", "produced_wh", "export_wh")
    for account, at_ms, produced_wh, export_wh in rows.values_list(*names)[: 4 * MAX_INTERVALS].iterator():
        place = (contract_name(at_ms), account)
        if produced_wh is None:
            found.pop(place, None)
        else:
            found[place] = statements.own_use_wh(produced_wh, export_wh)
    return found


def _all_rows(accounts: tuple[int, ...], span: _Span, later: dict[Place, Later]) -> Iterator[LineView]:
    """Return the settlement rows, and rows of nothing where an account got its first one by a correction."""
    there = set()
    for row in _rows(accounts, span):
        there.add((row.contract, row.account))
        yield row
    for place, found in later.items():
        if place not in there and found.corrections:
            yield statements.nothing_settled(found.corrections[0])


def _later_of(place: Place, later: dict[Place, Later], span: _Span) -> Later:
    return later.get(place, statements.NOTHING_LATER)._replace(final=place[0] in span.finals)


def _later(accounts: tuple[int, ...], span: _Span) -> dict[Place, Later]:
    """Return what later ledger entries changed in settled intervals, by interval and account."""
    found: dict[Place, Later] = {}
    for correction in _corrections(accounts, span):
        place = (correction.contract, correction.account)
        before = found.get(place, statements.NOTHING_LATER)
        found[place] = before._replace(corrections=(*before.corrections, correction))
    for one in _shared(accounts, span):
        place = (one.contract, one.account)
        before = found.get(place, statements.NOTHING_LATER)
        found[place] = before._replace(shared=(*before.shared, one))
    return found


def _after_settlement(rows: Any, span: _Span) -> Any:
    """Bound rows that come later than the settlement: until the contracts are final, which ``last_seq`` is not."""
    return _bounded(rows, span._replace(last_seq=span.final_seq), "seq").order_by("seq")


def _corrections(accounts: tuple[int, ...], span: _Span) -> Iterator[Correction]:
    """Return the differences that corrections made, oldest first."""
    rows = _after_settlement(Adjustment.objects.filter(account__in=accounts), span)
    values = rows.values_list("seq", "contract", "account", "quality", *_CHANGED, *[f"was_{name}" for name in _CHANGED])
    for seq, contract, account, quality, *both in values[:MAX_INTERVALS].iterator(chunk_size=5_000):
        now, was = both[: len(_CHANGED)], both[len(_CHANGED) :]
        yield Correction(seq, contract, account, quality, *(new - old for new, old in zip(now, was, strict=True)))


def _shared(accounts: tuple[int, ...], span: _Span) -> Iterator[Shared]:
    """Return what agreements moved, oldest first; the entries in which nothing changed for the accounts are left out."""
    mine = Q(giver__in=accounts) | Q(receiver__in=accounts)
    rows = _after_settlement(SharedLine.objects.filter(mine).exclude(energy_wh=F("was_wh")), span).order_by("seq", "n")
    names = ("seq", "contract", "agreement", "giver", "receiver", "energy_wh", "was_wh", "price_e4", "fee_e4")
    for seq, contract, agreement, giver, receiver, energy_wh, was_wh, price_e4, fee_e4 in rows.values_list(*names)[
        :MAX_INTERVALS
    ].iterator(chunk_size=5_000):
        for account, gives in ((giver, True), (receiver, False)):
            if account in accounts:
                yield Shared(seq, contract, account, agreement, gives, energy_wh - was_wh, price_e4, fee_e4)
