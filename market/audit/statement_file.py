"""A statement that a household downloaded (CSV), held line by line against what the ledger says. Pure.

Everything in the file is compared as text: a statement has one way to write each number. ``docs/statements.md`` has the
columns. What a home used of its own roof (``own``) is on no ledger: such a line must move no money, its energy is taken as
told.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from market.audit.statements import BOUGHT, CORRECTED, NOTHING, SOLD, DaySums, Interval, Line, Statements, add
from market.settlement.levies import E11, Charged, Table, charged, commercial, e11_text, table_at
from market.settlement.periods import DAY, MONTH, YEAR, Period, period_of
from market.settlement.rules import short_of_sales

MAX_BYTES = 64 << 20  # a year with 50,000 trades has some 10 MiB
# Trades of a side that a statement lists one by one. Of an interval that is settled the others are one line; of one that still
# waits, and is not counted, they are left out.
MAX_LISTED = 10_000
OWN = "own"
CENT_E11 = 10**9
WAITING, SETTLED = "waiting", "settled"
STAGES = ("provisional", "corrected", "final")  # of what is settled
(
    START, ACCOUNT, STATE, QUALITY, LINE, ENERGY, PRICE, FEE, ENTRY, AMOUNT, CONTAINED, STAGE, SHORT, AGREEMENT,
) = range(14)  # fmt: skip
FIRST_COLUMNS = STAGE  # of statements of before there were corrections: the others came later
_NAME = re.compile(r"([0-9]{4})(-[0-9]{2})?(-[0-9]{2})?\.csv", re.ASCII)

Place = tuple[str, int]  # an interval of an account
Row = tuple[int, list[str]]  # line of the file, from 1, and its fields


class Unreadable(ValueError):
    """The file is no statement."""


class Differs(Exception):
    """A line or sum of the file does not follow from the ledger. ``place`` names it, ``what`` says how."""

    def __init__(self, place: str, what: str):
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


class Checked(NamedTuple):
    """A statement that follows from the ledger."""

    period: str
    lines: int  # that are on the ledger
    own: int  # lines of own use, which are not
    total: str  # as the file says


def columns(currency: str) -> list[str]:
    """Return the header."""
    return [
        "interval start [UTC]", "account", "state", "quality", "line", "energy [Wh]", f"price [{currency}/kWh]",
        f"grid fee [{currency}]", "ledger entry", f"amount [{currency}]", f"contained [{currency}]", "stage",
        "not delivered [Wh]", "agreement",
    ]  # fmt: skip


def period_named(name: str) -> Period:
    """Return the period that a downloaded file's name ends in, as ``statement-2026-06.csv``; raise ``Unreadable``."""
    found = re.search(_NAME.pattern + "$", name, re.ASCII)
    if found is None:
        raise Unreadable(f"{name}: expected a name that ends in its period, as in statement-2026-06.csv")
    year, month, day = found.groups()
    kind = DAY if day else MONTH if month else YEAR
    try:
        return period_of(kind, date(int(year), int((month or "-1")[1:]), int((day or "-1")[1:])))
    except ValueError as error:
        raise Unreadable(f"{name}: {error}") from None


def decimal(value: int, digits: int) -> str:
    """Return a whole number of the smallest unit as decimal text: 4275000 of 7 digits -> "0.4275000"."""
    whole, rest = divmod(abs(value), 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{digits}d}"


def start_text(contract: str) -> str:
    """Return what the file calls an interval: "2026-06-06T12:15Z" -> "2026-06-06T12:15:00.000Z"."""
    return f"{contract[:16]}:00.000Z"


def check(name: str, data: bytes, found: Statements, tables: tuple[Table, ...], currency: str) -> Checked:
    """Return what a file comes to that follows from the ledger; raise ``Differs`` or ``Unreadable``.

    ``found`` has replayed the whole log with the statement's accounts asked for. ``tables``: taxes and levies, which are not on
    the ledger.
    """
    return _File(name, data, found, currency).check(tables)


class _File:
    def __init__(self, name: str, data: bytes, found: Statements, currency: str):
        self.name, self.found = name, found
        self.period = period_named(name)
        self.header = columns(currency)
        self.lines = self.own = 0
        self.full = False
        try:
            text = data.decode()
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise Unreadable(f"{name}: expected CSV: {error}") from None
        if not rows or rows[0] not in (self.header, self.header[:FIRST_COLUMNS]):
            raise Unreadable(f"{name}: expected the header {','.join(self.header)}")
        self.header = rows[0]
        self.rows: list[Row] = list(enumerate(rows[1:], 2))

    def check(self, tables: tuple[Table, ...]) -> Checked:
        at = next((at for at, (_, row) in enumerate(self.rows) if not row or not row[0]), len(self.rows))
        # Only where so many are listed a statement may leave some out.
        self.full = sum(row[LINE] in (BOUGHT, SOLD) for _, row in self.rows[:at] if len(row) > LINE) >= MAX_LISTED
        expected = self._expected()
        for place, rows in self._grouped(self.rows[:at]):
            self._pass_over(expected, place, rows[0][0])
            interval = expected.pop(place, None)
            if interval is None:
                raise Differs(
                    self._line(rows[0]), "expected an interval that the ledger has in this period, was another"
                )
            self._interval(place, interval, rows)
        self._pass_over(expected, None, 0)
        total = self._end(self.rows[at:], tables)
        return Checked(self.period.name, self.lines, self.own, total)

    # --- intervals --------------------------------------------------------------------------------------------------

    def _expected(self) -> dict[Place, Interval]:
        found = self.found
        first, end = self.period.first, self.period.end
        return {
            place: interval
            for place, interval in sorted(found.intervals.items())
            if (interval.deals or interval.seq) and first <= found.day_of(place[0]) < end
        }

    def _grouped(self, rows: Sequence[Row]) -> Iterator[tuple[Place, list[Row]]]:
        """Return the file's intervals, each once and in order of time and account."""
        group: list[Row] = []
        last: Place = ("", -1)
        for row in rows:
            place = self._place(row)
            if group and place != last:
                yield last, group
                group = []
            if place < last:
                raise Differs(self._line(row), "expected intervals in the order of their time and account, each once")
            last = place
            group.append(row)
        if group:
            yield last, group

    def _place(self, row: Row) -> Place:
        _, fields = row
        if len(fields) != len(self.header):
            raise Differs(self._line(row), f"expected {len(self.header)} columns, was {len(fields)}")
        start, account = fields[START], fields[ACCOUNT]
        if account not in map(str, self.found.asked):
            known = ", ".join(map(str, sorted(self.found.asked)))
            raise Differs(self._line(row), f"account: expected {known} (--account), was {account:.40}")
        contract = f"{start[:16]}Z"
        if start != start_text(contract):
            raise Differs(self._line(row), f"{self.header[START]}: expected an instant, was {start:.40}")
        return contract, int(account)

    def _pass_over(self, expected: dict[Place, Interval], place: Place | None, number: int) -> None:
        """Leave behind intervals that have no lines to list; raise ``Differs`` for one that has, before ``place``."""
        for one in list(expected):
            if place is not None and one >= place:
                return
            interval = expected.pop(one)
            lines = [*interval.deals, *interval.lines]
            if lines and not self._may_lack(interval):
                where = f"{self.name} before line {number}" if number else f"{self.name} before its closing lines"
                raise Differs(where, f"expected the interval {one[0]} of account {one[1]} ({told(lines[0])}), was none")

    def _interval(self, place: Place, interval: Interval, rows: list[Row]) -> None:
        left: dict[tuple[str, str], list[Line]] = {}
        for line in (*interval.deals, *interval.lines):
            left.setdefault((line.kind, str(line.seq)), []).append(line)
        rests: list[Row] = []
        state = SETTLED if interval.seq else WAITING
        quality = ("estimated" if interval.estimated else "measured") if interval.seq else ""
        stage = stage_of(interval)
        short = short_of_sales(
            [(deal.seq, deal.energy_wh) for deal in interval.deals if deal.kind == SOLD], interval.short_wh
        )  # fmt: skip
        for row in rows:
            for column, expected in ((STATE, state), (QUALITY, quality), (CONTAINED, ""), (STAGE, stage)):
                self._same(row, column, expected)
            kind, entry = row[1][LINE], row[1][ENTRY]
            if kind == OWN:
                self._own(row, interval)
                continue
            lines = left.get((kind, entry))
            if not lines:
                if kind in (BOUGHT, SOLD) and entry == str(interval.seq):
                    rests.append(row)
                    continue
                raise Differs(self._line(row), "expected a line that the ledger has in this interval, was another")
            line = lines.pop(0)
            self._compare(row, line, interval, short.get(line.seq, 0) if line.kind == SOLD else 0)
        for row in rests:
            self._rest(row, left, interval, short)
        for line in (line for lines in left.values() for line in lines if not self._may_lack(interval)):
            where = f"{self.name} after line {rows[-1][0]}"
            raise Differs(where, f"expected the line {told(line)} in {place[0]}, was none")

    def _may_lack(self, interval: Interval) -> bool:
        """Return whether trades of an interval may be left out."""
        return self.full and not interval.seq

    def _own(self, row: Row, interval: Interval) -> None:
        self._same(row, PRICE, "")
        self._same(row, FEE, decimal(0, 7))
        self._same(row, ENTRY, str(interval.seq))
        self._same(row, AMOUNT, decimal(0, 7))
        self._same(row, SHORT, "")
        self._same(row, AGREEMENT, "")
        self.own += 1

    def _rest(
        self, row: Row, left: dict[tuple[str, str], list[Line]], interval: Interval, short: Mapping[int, int]
    ) -> None:
        """Hold the one line of all trades beyond those that are listed against them."""
        kind = row[1][LINE]
        lines = [line for lines in left.values() for line in lines if line.kind == kind]
        fee_e7, money_e7 = sum(line.fee_e7 for line in lines), sum(line.money_e7 for line in lines)
        whole = Line(kind, sum(line.energy_wh for line in lines), None, fee_e7, money_e7, interval.seq)
        self._compare(row, whole, interval, sum(short.get(line.seq, 0) for line in lines) if kind == SOLD else 0)
        for place in left:
            if place[0] == kind:
                left[place] = []

    def _compare(self, row: Row, line: Line, interval: Interval, short_wh: int) -> None:
        self._same(row, ENERGY, str(line.energy_wh))
        self._same(row, PRICE, "" if line.price_e4 is None else decimal(line.price_e4, 4))
        self._same(row, FEE, decimal(line.fee_e7, 7))
        self._same(row, AMOUNT, decimal(line.money_e7, 7) if interval.seq else "")
        self._same(row, SHORT, str(short_wh or ""))
        self._same(row, AGREEMENT, str(line.agreement or ""))
        self.lines += 1

    # --- closing lines ----------------------------------------------------------------------------------------------

    def _end(self, rows: list[Row], tables: tuple[Table, ...]) -> str:
        sums = {
            day: add(by_account.values())
            for day, by_account in self.found.days.items()
            if self.period.first <= day < self.period.end
        }
        expected = list(closing(sums, tables))
        for row, (kind, amount, contained) in zip(rows, expected, strict=False):
            if len(row[1]) != len(self.header):
                raise Differs(self._line(row), f"expected {len(self.header)} columns, was {len(row[1])}")
            for column in (START, ACCOUNT, STATE, QUALITY, ENERGY, PRICE, FEE, ENTRY, STAGE, SHORT, AGREEMENT):
                self._same(row, column, "")
            self._same(row, LINE, kind)
            self._same(row, AMOUNT, amount)
            self._same(row, CONTAINED, contained)
        if len(rows) < len(expected):
            raise Differs(f"{self.name} at its end", f"expected the line {expected[len(rows)][0]}, was none")
        if len(rows) > len(expected):
            raise Differs(self._line(rows[len(expected)]), "expected nothing after the total, was another line")
        return expected[-1][1]

    # --- words ------------------------------------------------------------------------------------------------------

    def _line(self, row: Row) -> str:
        number, fields = row
        if len(fields) <= ENTRY or not fields[LINE]:
            return f"{self.name} line {number}"
        entry = f", entry {fields[ENTRY]}" if fields[ENTRY] else ""
        return f"{self.name} line {number} ({fields[LINE]:.60}{entry:.30})"

    def _same(self, row: Row, column: int, expected: str) -> None:
        was = row[1][column] if column < len(self.header) else expected
        if was != expected:
            raise Differs(self._line(row), f"{self.header[column]}: expected {expected or 'nothing'}, was {was:.60}")


def stage_of(interval: Interval) -> str:
    """Return how far the settlement of an interval has come."""
    if not interval.seq:
        return WAITING
    provisional, corrected, final = STAGES
    if interval.final:
        return final
    return corrected if any(line.kind == CORRECTED for line in interval.lines) else provisional


def told(line: Line) -> str:
    """Return a line in few words."""
    return f"{line.kind}, entry {line.seq}, {line.energy_wh} Wh, {decimal(line.money_e7, 7)}"


def closing(days: Mapping[date, DaySums], tables: tuple[Table, ...]) -> Iterator[tuple[str, str, str]]:
    """Return the lines after the intervals: charges, rounding, total; each with its amount and what is contained."""
    by_table: dict[Table, list[DaySums]] = {}
    for day, sums in sorted(days.items()):
        by_table.setdefault(table_at(tables, day), []).append(sums)
    net_e11 = add(days.values()).net_e7 * E11 if days else NOTHING.net_e7
    charges: list[Charged] = []
    for table, parts in by_table.items():
        charges += charged(table, add(parts).by_base())
    for one in charges:
        amount = e11_text(one.amount_e11)
        if one.charge.included:
            yield f"included:{one.charge.code}", "", amount
        else:
            net_e11 += one.amount_e11
            yield f"charge:{one.charge.code}", amount, ""
    cents = commercial(net_e11, CENT_E11)
    yield "rounding", e11_text(cents * CENT_E11 - net_e11), ""
    yield "total", decimal(cents, 2), ""
