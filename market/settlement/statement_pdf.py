"""A statement as a PDF file: what it comes to first, then a table by interval (day), day (month) or month and day (year).

Made by fpdf2 with a font that is kept here (``fonts``), because none of the fonts every PDF reader has knows Chinese: what
a page uses of it goes into the file, so that it looks and can be searched and copied the same anywhere, in ten years too.
Numbers are the exact decimal texts of the REST API, not rounded ones; only the total is in cents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from django.utils.translation import get_language, gettext, ngettext
from fpdf import FPDF
from fpdf.enums import XPos, YPos

from market.exchange.units import at_text, kwh_text, money_text
from market.settlement import statements
from market.settlement.levies import commercial, e11_text
from market.settlement.periods import DAY, MONTH, YEAR
from market.settlement.statement_csv import cents_text
from market.settlement.statement_queries import Statement, local_clock
from market.settlement.statements import CENT_E11, Interval, Sums

MEDIA_TYPE = "application/pdf"
FONT = Path(__file__).parent / "fonts" / "NotoSansSC-statement.otf"
NAME = "Statement"  # of the font in the file
MAX_ROWS = 420  # 366 days and 12 months, or two days of quarter hours
SHOWN_ENTRIES = 3  # of an interval; the CSV file has all of them
MARGIN_MM, ROW_MM = 12.0, 4.6
BIG, PLAIN, SMALL = 20, 9.5, 7.5
BOLD_MM = 0.12  # the one weight of the font, drawn with an outline
SUN, RULE, MUTED, INK = (247, 183, 24), (211, 220, 211), (75, 95, 85), (18, 38, 30)
# Widths in mm of the first and last columns; the others share what is left.
FIRST_MM, LAST_MM = 25.0, 36.0


class Row(NamedTuple):
    """A row of the table. ``heading`` rows are sums of the rows below them."""

    label: str
    sums: Sums
    entries: str
    heading: bool = False


class Sheet(FPDF):
    """Pages with our font, a foot with the page's number and a table's head that comes again on every page."""

    def __init__(self, foot: str):
        super().__init__(orientation="landscape", format="A4")
        self._foot = foot
        self.head: list[tuple[str, float]] = []
        self.set_margin(MARGIN_MM)
        self.set_auto_page_break(True, MARGIN_MM + ROW_MM)
        self.add_font(NAME, fname=FONT)
        self.set_font(NAME, size=PLAIN)
        self.set_draw_color(*RULE)

    def header(self) -> None:
        """Repeat the table's head."""
        if self.head:
            self.table_head()

    def footer(self) -> None:
        """Write the foot of the page."""
        self.set_y(-MARGIN_MM)
        self.ink(MUTED, SMALL)
        self.cell(w=self.epw * 0.85, text=self._foot)
        self.cell(w=self.epw * 0.15, text=f"{self.page_no()} / {{nb}}", align="R")

    def ink(self, colour: tuple[int, int, int] = INK, size: float = PLAIN) -> None:
        """Take a colour and a size."""
        self.set_text_color(*colour)
        self.set_font(NAME, size=size)

    def bold(self, text: str, *, size: float = PLAIN, w: float = 0, h: float | None = None, align: str = "L") -> None:
        """Write a cell in bold and stay on its line."""
        self.ink(INK, size)
        with self.local_context(text_mode="FILL_STROKE", line_width=BOLD_MM, draw_color=INK):
            self.cell(w=w or None, h=h, text=text, align=align)

    def line_break(self, h: float) -> None:
        """Go to the left margin, ``h`` mm down."""
        self.set_xy(self.l_margin, self.get_y() + h)

    def table_head(self) -> None:
        """Write the head of the table."""
        self.ink(MUTED, SMALL)
        for n, (text, w) in enumerate(self.head):
            last = n == len(self.head) - 1
            self.cell(
                w=w, h=ROW_MM, text=text, border="B", align="L" if n == 0 or last else "R",
                new_x=XPos.LMARGIN if last else XPos.RIGHT, new_y=YPos.NEXT if last else YPos.TOP,
            )  # fmt: skip


def render(found: Statement, intervals: Sequence[Interval], *, currency: str, origin: str, now_ms: int) -> bytes:
    """Return the file, in the language that is active. ``intervals``: of a day, else not looked at."""
    foot = gettext("%(origin)s · made at %(at)s · amounts in %(currency)s, energy in kWh") % {
        "origin": origin, "at": at_text(now_ms), "currency": currency,
    }  # fmt: skip
    sheet = Sheet(foot)
    language = get_language() or "en"
    title = gettext("Statement %(period)s") % {"period": found.period.name}
    sheet.set_title(title)
    sheet.set_lang("zh-Hans" if language.startswith("zh") else "en")
    sheet.set_creator("Sunledger")
    sheet.add_page()
    sheet.bold(title, size=BIG, h=10)
    sheet.line_break(10)
    sheet.ink(MUTED)
    numbers = ", ".join(map(str, found.accounts))
    sheet.cell(text=gettext("Account %(numbers)s") % {"numbers": numbers}, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    _summary(sheet, found, currency, language)
    _table(sheet, rows_of(found, intervals))
    return bytes(sheet.output())


def _summary(sheet: Sheet, found: Statement, currency: str, language: str) -> None:
    total = found.total
    sums = total.sums
    sheet.line_break(2)
    sheet.set_fill_color(*SUN)
    sheet.rect(sheet.l_margin, sheet.get_y(), 1.2, 12, style="F")
    sheet.set_x(sheet.l_margin + 3)
    owed = gettext("You pay %(amount)s") if total.cents < 0 else gettext("You get %(amount)s")
    sheet.bold(owed % {"amount": f"{cents_text(abs(total.cents))} {currency}"}, size=16, h=7)
    sheet.line_break(7)
    sheet.set_x(sheet.l_margin + 3)
    sheet.ink(MUTED)
    better = gettext("Better by %(amount)s than without the market, with all from and to the grid.")
    worse = gettext("Worse by %(amount)s than without the market, with all from and to the grid.")
    gain = f"{cents_text(abs(commercial(total.gain_e11, CENT_E11)))} {currency}"
    sheet.cell(h=5, text=(worse if total.gain_e11 < 0 else better) % {"amount": gain})
    sheet.line_break(8)
    pairs = [
        (gettext("Earned"), money_text(sums.earned_e7)),
        (gettext("Paid for energy and grid"), money_text(-sums.paid_e7)),
    ]
    pairs += [
        (_charge(one.charge.name(language), one.charge.percent_bp, one.charge.price_e4), _exact(one.amount_e11))
        for one in total.charges
        if not one.charge.included
    ]
    pairs += [
        (gettext("Rounding to cents"), _exact(total.rounding_e11)),
        (gettext("Total"), cents_text(total.cents)),
        (gettext("of it through the wallet"), money_text(sums.wallet_e7)),
        (gettext("of it on the supply bill"), _exact(total.bill_e11)),
    ]
    if sums.corrected:
        pairs.append((gettext("of it by corrections"), money_text(sums.corrected_e7)))
    if sums.given_wh or sums.received_wh:
        pairs.append((gettext("of it by private agreements"), money_text(sums.given_e7 - sums.received_e7)))
    pairs += [
        (
            gettext("%(charge)s, contained in the prices")
            % {"charge": _charge(one.charge.name(language), one.charge.percent_bp, one.charge.price_e4)},
            _exact(one.amount_e11),
        )
        for one in total.charges
        if one.charge.included
    ]
    for label, amount in pairs:
        strong = label == gettext("Total")
        write = sheet.bold if strong else _plain(sheet)
        write(label, w=110, h=ROW_MM + 0.4)
        write(amount, w=40, h=ROW_MM + 0.4, align="R")
        sheet.line_break(ROW_MM + 0.4)
    notes = [text % {"count": count} for text, count in _notes(found) if count]
    for note in notes:
        sheet.ink(MUTED)
        sheet.cell(h=ROW_MM, text=note, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    sheet.line_break(3)


def _plain(sheet: Sheet):  # type: ignore[no-untyped-def]
    def write(text: str, *, w: float, h: float, align: str = "L") -> None:
        sheet.ink()
        sheet.cell(w=w, h=h, text=text, align=align)

    return write


def _exact(amount_e11: int) -> str:
    """Return an amount with all the digits it has, at least seven."""
    text = e11_text(amount_e11)
    return text[:-4] + text[-4:].rstrip("0")


def _charge(name: str, percent_bp: int, price_e4: int) -> str:
    """Return a charge with its rate."""
    if percent_bp:
        return f"{name} {percent_bp // 100}.{percent_bp % 100:02d} %"
    return f"{name} {price_e4 // 10_000}.{price_e4 % 10_000:04d}/kWh"


def _notes(found: Statement) -> list[tuple[str, int]]:
    """Return what is to be said of how many intervals."""
    waiting, sums = found.waiting, found.total.sums
    return [
        (
            ngettext(
                "Not settled yet and not counted: %(count)s interval.",
                "Not settled yet and not counted: %(count)s intervals.",
                waiting,
            ),
            waiting,
        ),
        (
            ngettext(
                "Settled on an estimate: %(count)s interval.",
                "Settled on an estimate: %(count)s intervals.",
                sums.estimated,
            ),
            sums.estimated,
        ),
        (
            ngettext(
                "Corrected since it was settled: %(count)s interval.",
                "Corrected since they were settled: %(count)s intervals.",
                sums.corrected,
            ),
            sums.corrected,
        ),
        (
            ngettext(
                "Provisional, later readings may correct it: %(count)s interval.",
                "Provisional, later readings may correct them: %(count)s intervals.",
                sums.provisional,
            ),
            sums.provisional,
        ),
    ]


def rows_of(found: Statement, intervals: Sequence[Interval]) -> list[Row]:
    """Return the rows of a statement's table: intervals of a day, days of a month, months of a year with their days."""
    if found.period.kind == DAY:
        return [_interval_row(interval) for interval in intervals][:MAX_ROWS]
    if found.period.kind == MONTH:
        return [Row(day.isoformat(), sums, "") for day, sums in found.days.items()]
    assert found.period.kind == YEAR
    rows: list[Row] = []
    for name, sums in found.months():
        rows.append(Row(name, sums, "", heading=True))
        rows += [Row(day.isoformat(), part, "") for day, part in found.days.items() if day.isoformat()[:7] == name]
    return rows[:MAX_ROWS]


def _interval_row(interval: Interval) -> Row:
    seqs = sorted({line.seq for line in interval.lines if line.seq is not None})
    more = f" +{len(seqs) - SHOWN_ENTRIES}" if len(seqs) > SHOWN_ENTRIES else ""
    # The newest entries: the settlement is the last of them and commits to all the others.
    entries = ", ".join(map(str, seqs[-SHOWN_ENTRIES:])) + more
    sums = interval.sums
    marks = ((sums.estimated, "*"), (sums.corrected, "c"), (sums.provisional, "p"))
    mark = "".join(f" {letter}" for count, letter in marks if count)
    if interval.state == statements.WAITING:
        return Row(local_clock(interval.contract), sums, gettext("not settled yet"))
    return Row(local_clock(interval.contract) + mark, sums, entries)


def _table(sheet: Sheet, rows: Sequence[Row]) -> None:
    names = [
        gettext("Own use"), gettext("Bought"), gettext("Cost"), gettext("Grid fee in it"), gettext("Top-up"),
        gettext("Cost"), gettext("Sold"), gettext("Proceeds"), gettext("Short"), gettext("Spilled"),
        gettext("Proceeds"), gettext("Sum"),
    ]  # fmt: skip
    shared = any(row.sums.given_wh or row.sums.received_wh for row in rows)
    corrected = any(row.sums.corrected for row in rows)
    if shared:
        names.insert(-1, gettext("Shared"))
    if corrected:
        names.append(gettext("of it corrected"))
    entries = any(row.entries for row in rows)
    last = LAST_MM if entries else 0.0
    width = (sheet.epw - FIRST_MM - last) / len(names)
    sheet.head = [(gettext("Interval") if entries else gettext("Day"), FIRST_MM), *[(name, width) for name in names]]
    if entries:
        sheet.head.append(("  " + gettext("Ledger entries"), last))
    sheet.table_head()
    for row in rows:
        _row(sheet, row, width, last, shared, corrected)
    sheet.head = []
    legend = [
        (" *", gettext("* settled on an estimate")),
        (" c", gettext("c corrected since")),
        (" p", gettext("p provisional: later readings may correct it")),
    ]
    for mark, text in legend:
        if any(mark in row.label for row in rows):
            sheet.ink(MUTED, SMALL)
            sheet.cell(h=ROW_MM, text=text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _row(sheet: Sheet, row: Row, width: float, last: float, shared: bool, corrected: bool) -> None:
    sums = row.sums
    values = [
        kwh_text(sums.own_wh) if sums.own_known else "–",
        kwh_text(sums.bought_wh), money_text(-sums.bought_e7), money_text(-sums.fee_e7),
        kwh_text(sums.topup_wh), money_text(-sums.topup_e7), kwh_text(sums.sold_wh), money_text(sums.sold_e7),
        money_text(-sums.short_e7), kwh_text(sums.spill_wh), money_text(sums.spill_e7), money_text(sums.net_e7),
    ]  # fmt: skip
    if shared:
        values.insert(-1, money_text(sums.given_e7 - sums.received_e7))
    if corrected:
        values.append(money_text(sums.corrected_e7))
    zeros = {"0.000", "0.0000000"}
    if sheet.will_page_break(ROW_MM):
        sheet.add_page()
    sheet.ink(INK, SMALL)
    if row.heading:
        sheet.bold(row.label, size=SMALL, w=FIRST_MM, h=ROW_MM)
        for value in values:
            sheet.bold("" if value in zeros else value, size=SMALL, w=width, h=ROW_MM, align="R")
    else:
        sheet.cell(w=FIRST_MM, h=ROW_MM, text=row.label)
        for value in values:
            sheet.cell(w=width, h=ROW_MM, text="" if value in zeros else value, align="R")
    if last:
        sheet.cell(w=last, h=ROW_MM, text="  " + row.entries)
    sheet.line_break(ROW_MM)
