"""A home's day by the hour, month by the day or year by the month, summed up by the database.

The sums are those of ``statements.interval_sums`` over settled intervals, term by term; a test compares the two. A statement
reads each interval, which is what it is for; a year of one home is 35,040 of them, and a page that is leafed through must not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Max, Min

from market.engine.contracts import contract_name, contract_start_ms
from market.exchange.models import Adjustment, Contract, Recall, SettlementLine, SharedLine, Trade
from market.metering.models import Reading
from market.settlement import statements
from market.settlement.distances import Amount
from market.settlement.periods import DAY, YEAR, Period, months, start_ms
from market.settlement.statement_queries import MAX_ACCOUNTS, levy_tables, market_zone
from market.settlement.statements import Sums, Total

HOUR_MS = 3_600_000
MAX_WAITING = 20_000  # contracts of a period that are not settled yet: half a year in which nothing was
MAX_PARTS = 400  # months of a year, split where a table of levies begins


class Part(NamedTuple):
    """An hour, day or month: from ``start_ms`` on, in the local day ``day``."""

    day: date
    start_ms: int
    sums: Sums


class History(NamedTuple):
    """A period in parts, those without anything included, and by the areas energy went to and came from."""

    period: Period
    parts: list[Part]
    total: Total
    sold: dict[str, Amount]
    bought: dict[str, Amount]


class _Bounds(NamedTuple):
    """The parts' starts with the end of the last, and the ledger sequences between which their contracts were settled."""

    starts_ms: list[int]
    first_seq: int
    last_seq: int
    waiting: list[str]  # contracts that are not settled, or not everywhere

    @property
    def names(self) -> list[str]:
        return [contract_name(at_ms) for at_ms in self.starts_ms]


def history(accounts: Collection[int], period: Period) -> History:
    """Return the history of a home with these account numbers (at most ``MAX_ACCOUNTS``) over a day, month or year.

    The number of queries depends on the number of accounts, not on the length of the period.
    """
    mine = sorted(set(accounts))
    if not 0 < len(mine) <= MAX_ACCOUNTS:
        raise ValueError(f"accounts: expected 1 to {MAX_ACCOUNTS}, was {len(mine)}")
    places = _places(period)
    zone = market_zone()
    bounds = _bounds([at_ms for _, at_ms in places] + [start_ms(period.end, zone)])
    found: list[dict[str, int]] = [{} for _ in places]
    sold: dict[str, Amount] = {}
    bought: dict[str, Amount] = {}
    if bounds is not None:
        for account in mine:
            waiting = _waiting(account, bounds)
            for part, columns in _all(account, bounds, waiting, sold, bought):
                into = found[part]
                for name, value in columns.items():
                    into[name] = into.get(name, 0) + value
    parts = [Part(day, at_ms, Sums(**columns)) for (day, at_ms), columns in zip(places, found, strict=True)]
    by_day: dict[date, list[Sums]] = {}
    for part in parts:
        by_day.setdefault(part.day, []).append(part.sums)
    # Charges are worked out by table, and no part reaches over the beginning of one.
    total = statements.total({day: statements.add(sums) for day, sums in by_day.items()}, levy_tables())
    return History(period, _joined(period, parts), total, sold, bought)


def _places(period: Period) -> list[tuple[date, int]]:
    """Return the local day and the start of each part: hours, days, or months cut where a table of levies begins."""
    zone = market_zone()
    if period.kind == DAY:
        first_ms, end_ms = start_ms(period.first, zone), start_ms(period.end, zone)
        return [(period.first, at_ms) for at_ms in range(first_ms, end_ms, HOUR_MS)]
    if period.kind != YEAR:
        return [(day, start_ms(day, zone)) for day in period.days()]
    days = {month.first for month in months(period)}
    days |= {table.valid_from for table in levy_tables() if period.first < table.valid_from < period.end}
    return [(day, start_ms(day, zone)) for day in sorted(days)[:MAX_PARTS]]


def _joined(period: Period, parts: list[Part]) -> list[Part]:
    """Return the parts of a year as months again."""
    if period.kind != YEAR:
        return parts
    by_month: dict[date, list[Part]] = {}
    for part in parts:
        by_month.setdefault(part.day.replace(day=1), []).append(part)
    return [Part(day, of[0].start_ms, statements.add(part.sums for part in of)) for day, of in by_month.items()]


def _bounds(starts_ms: list[int]) -> _Bounds | None:
    contracts = Contract.objects.filter(name__gte=contract_name(starts_ms[0]), name__lt=contract_name(starts_ms[-1]))
    seqs = contracts.aggregate(first=Min("opened_seq"), last=Max("changed_seq"))
    if seqs["first"] is None:
        return None
    waiting = contracts.exclude(state="settled").order_by("name").values_list("name", flat=True)[:MAX_WAITING]
    return _Bounds(starts_ms, seqs["first"], seqs["last"], list(waiting))


def _waiting(account: int, bounds: _Bounds) -> list[str]:
    """Return the contracts whose trades and readings don't count yet: those in which this account is not settled."""
    if not bounds.waiting:
        return []
    lines = SettlementLine.objects.filter(account=account, seq__gte=bounds.first_seq, contract__in=bounds.waiting)
    return sorted(set(bounds.waiting) - set(lines.values_list("contract", flat=True)))


# --- one account -----------------------------------------------------------------------------------------------------
def _all(
    account: int, bounds: _Bounds, waiting: list[str], sold: dict[str, Amount], bought: dict[str, Amount]
) -> Iterator[tuple[int, dict[str, int]]]:
    """Return what to add to the sums of which part; ``sold`` and ``bought`` take the areas."""
    yield from _settled(account, bounds)
    yield from _corrected(account, bounds)
    yield from _shared(account, bounds)
    yield from _own(account, bounds, waiting)
    for part, area, energy_wh, money_e7 in _traded(
        account, bounds, waiting, "seller", "buy_area", "t.sell_e4 * t.energy_wh"
    ):
        before = sold.get(area, Amount())
        sold[area] = Amount(before.energy_wh + energy_wh, before.money_e7 + money_e7)
        yield part, {"sold_wh": energy_wh, "sold_e7": money_e7}
    for part, area, energy_wh, money_e7, net_e7 in _traded(
        account, bounds, waiting, "buyer", "sell_area", "t.cost_e7", "t.sell_e4 * t.energy_wh"
    ):
        before = bought.get(area, Amount())
        bought[area] = Amount(before.energy_wh + energy_wh, before.money_e7 + money_e7)
        yield part, {"bought_wh": energy_wh, "bought_e7": money_e7, "fee_e7": money_e7 - net_e7}


def _table(model: Any) -> str:
    return f'"{model._meta.db_table}"'


def _rows(sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Run a query whose first column is a part; sums come as whole numbers whatever the database calls them."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        for row in cursor.fetchall():
            yield tuple(value if isinstance(value, str) else int(value or 0) for value in row)


def _part(column: str, bounds: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return an expression that numbers the parts by their inner bounds, and its values."""
    inner = list(bounds[1:-1])
    if not inner:
        return "0", []
    whens = " ".join(f"WHEN {column} < %s THEN {n}" for n in range(len(inner)))
    return f"CASE {whens} ELSE {len(inner)} END", inner


def _summed(
    tables: str, columns: Sequence[str], where: str, values: Sequence[Any], bounds: _Bounds, group: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Return sums of columns by part (and by ``group``) of rows ``t`` with a contract."""
    part, bound_values = _part("t.contract", bounds.names)
    sums = "".join(f", SUM({column})" for column in columns)
    shown, by = (f"{part}, {group}{sums}", f"1, {group}") if group else (f"{part}{sums}", "1")
    inside = f"{where} AND t.contract >= %s AND t.contract < %s"
    # All names are ours, all values are parameters.
    sql = f"SELECT {shown} FROM {tables} WHERE {inside} GROUP BY {by}"  # noqa: S608
    return _rows(sql, [*bound_values, *values, bounds.names[0], bounds.names[-1]])


SETTLED = ("import_wh", "export_wh", "short_wh", "short_e7", "topup_wh", "topup_e7", "spill_wh", "spill_e7")
PLAIN = ("plain_topup_e7", "plain_spill_e7")


def _with_contract(model: Any) -> str:
    return f"{_table(model)} t JOIN {_table(Contract)} c ON c.name = t.contract"


def _settled(account: int, bounds: _Bounds) -> Iterator[tuple[int, dict[str, int]]]:
    columns = ["1", *(f"t.{name}" for name in SETTLED), "t.import_wh * c.topup_e4", "t.export_wh * c.spill_e4"]
    where = "t.account = %s AND t.seq >= %s AND t.seq <= %s"
    values = [account, bounds.first_seq, _last(bounds)]
    for part, *sums in _summed(_with_contract(SettlementLine), columns, where, values, bounds):
        yield part, dict(zip(("intervals", *SETTLED, *PLAIN), sums, strict=True))


def _last(bounds: _Bounds) -> int:
    """Return the last sequence at which something can have been settled or traded: anything while contracts wait."""
    return 2**53 - 1 if bounds.waiting else bounds.last_seq


def _corrected(account: int, bounds: _Bounds) -> Iterator[tuple[int, dict[str, int]]]:
    changed = [f"t.{name} - t.was_{name}" for name in SETTLED]
    plain = ["(t.import_wh - t.was_import_wh) * c.topup_e4", "(t.export_wh - t.was_export_wh) * c.spill_e4"]
    where = "t.account = %s AND t.seq >= %s"
    for part, *sums in _summed(
        _with_contract(Adjustment), [*changed, *plain], where, [account, bounds.first_seq], bounds
    ):
        found = dict(zip((*SETTLED, *PLAIN), sums, strict=True))
        found["corrected_wallet_e7"] = found["spill_e7"] - found["short_e7"]
        found["corrected_bill_e7"] = -found["topup_e7"]
        yield part, found


def _shared(account: int, bounds: _Bounds) -> Iterator[tuple[int, dict[str, int]]]:
    wh = "(t.energy_wh - t.was_wh)"
    for side, tariff in (("giver", "spill_e4"), ("receiver", "topup_e4")):
        columns = [wh, f"{wh} * t.price_e4", f"{wh} * t.fee_e4", f"{wh} * c.{tariff}"]
        where = f"t.{side} = %s AND t.seq >= %s"
        rows = _summed(_with_contract(SharedLine), columns, where, [account, bounds.first_seq], bounds)
        for part, energy_wh, money_e7, fee_e7, instead_e7 in rows:
            if side == "giver":  # what is given leaves the supplier's share
                yield part, {
                    "given_wh": energy_wh, "given_e7": money_e7, "spill_wh": -energy_wh, "spill_e7": -instead_e7,
                }  # fmt: skip
            else:
                yield part, {
                    "received_wh": energy_wh, "received_e7": money_e7 + fee_e7, "shared_fee_e7": fee_e7,
                    "topup_wh": -energy_wh, "topup_e7": -instead_e7,
                }  # fmt: skip


def _traded(
    account: int, bounds: _Bounds, waiting: list[str], side: str, area: str, *money: str
) -> Iterator[tuple[Any, ...]]:
    """Return part, area of the other side, energy and money of the trades that stand, in contracts that count."""
    left_out = f" AND t.contract NOT IN ({', '.join(['%s'] * len(waiting))})" if waiting else ""
    stands = f"NOT EXISTS (SELECT 1 FROM {_table(Recall)} r WHERE r.trade = t.id)"  # noqa: S608 (our names)
    where = f"t.{side} = %s AND t.id >= %s AND t.id <= %s{left_out} AND {stands}"
    values = [account, bounds.first_seq, _last(bounds), *waiting]
    return _summed(f"{_table(Trade)} t", ["t.energy_wh", *money], where, values, bounds, f"t.{area}")


def _own(account: int, bounds: _Bounds, waiting: list[str]) -> Iterator[tuple[int, dict[str, int]]]:
    """Return what the home used of its own roof where the roof is metered; the newest version of a reading counts."""
    part, bound_values = _part("t.start_ms", bounds.starts_ms)
    reading = _table(Reading)
    left_out = f" AND t.start_ms NOT IN ({', '.join(['%s'] * len(waiting))})" if waiting else ""
    own_wh = "CASE WHEN t.produced_wh > t.export_wh THEN t.produced_wh - t.export_wh ELSE 0 END"
    newer = "n.account = t.account AND n.start_ms = t.start_ms AND n.version > t.version"
    where = f"t.account = %s AND t.start_ms >= %s AND t.start_ms < %s AND t.produced_wh IS NOT NULL{left_out}"
    newest = f"NOT EXISTS (SELECT 1 FROM {reading} n WHERE {newer})"  # noqa: S608 (our names)
    # All names are ours, all values are parameters.
    sql = f"SELECT {part}, COUNT(*), SUM({own_wh}) FROM {reading} t WHERE {where} AND {newest} GROUP BY 1"  # noqa: S608
    values = [*bound_values, account, bounds.starts_ms[0], bounds.starts_ms[-1], *map(contract_start_ms, waiting)]
    for number, known, used_wh in _rows(sql, values):
        yield number, {"own_known": known, "own_wh": used_wh}
