"""A household's statement: a day, month or year with its lines, and every movement of its money.

Each line and each movement leads to the ledger entry that proves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.engine.contracts import contract_start_ms
from market.exchange import queries as exchange
from market.exchange.queries import LineView, TransferView
from market.households import queries as households
from market.households.models import Role
from market.pages.roles import only_for
from market.settlement import queries as settlement
from market.settlement import statement_files, statement_queries, statements
from market.settlement.levies import commercial
from market.settlement.periods import DAY, KINDS, MONTH, YEAR, Period, parse_day, period_of, start_ms
from market.settlement.periods import after as after_period
from market.settlement.periods import before as before_period
from market.settlement.statement_queries import Statement
from market.settlement.statements import CENT_E11, Interval, Sums

PAGE_ENTRIES = 40
MOVES_AN_ENTRY = 5  # of one account in one entry: two of a trade, up to five of a settlement
MONEY = "e7"
SHOWN_LINES = 12  # of one interval, trades among them; the file has all of them
MAX_SHOWN_LINES = 40  # of an interval that was corrected again and again
MAX_ROWS = 1_000  # intervals of one day, every number a home has had included


@dataclass(frozen=True)
class Line:
    """What one ledger entry did to an account's wallet.

    ``kind``: bought, sold, recalled, settled, corrected, shared, fund.
    """

    seq: int
    at_ms: int
    kind: str
    contract: str
    energy_wh: int
    amount_e7: int  # into the wallet; negative: out of it
    settled: LineView | None

    @property
    def size_e7(self) -> int:
        """The amount without its sign."""
        return abs(self.amount_e7)


def _line(account: int, moves: list[TransferView], settled: LineView | None, later: settlement.Moved | None) -> Line:
    amount_e7 = energy_wh = 0
    contract, kind = "", "fund" if settled is None else "settled"
    for move in moves:
        into = move.credit == account
        if move.kind == "recall":
            kind = "recalled"
        if move.asset == MONEY:
            amount_e7 += move.amount if into else -move.amount
        elif kind == "recalled":
            contract, energy_wh = move.asset.partition(":")[2], move.amount
        elif settled is None:
            contract, energy_wh = move.asset.partition(":")[2], move.amount
            kind = "bought" if into else "sold"
    if settled is not None:
        contract, energy_wh = settled.contract, abs(settled.position_wh)
    if later is not None:
        kind = "shared" if later.shared else "corrected"
        contract, energy_wh = later.contract, later.energy_wh
    return Line(moves[0].seq, moves[0].at_ms, kind, contract, energy_wh, amount_e7, settled)


def lines(account: int, before: int | None) -> tuple[list[Line], int | None]:
    """Return a page of lines, newest first, and the entry before which the next page begins (None = that was all)."""
    limit = PAGE_ENTRIES * MOVES_AN_ENTRY
    moves = exchange.transfers(account=account, before=before, limit=limit)
    settled = {row.seq: row for row in exchange.settlement_lines(account=account, before=before, limit=limit)}
    by_entry: dict[int, list[TransferView]] = {}
    for move in moves:
        by_entry.setdefault(move.seq, []).append(move)
    entries = list(by_entry)
    more = len(moves) == limit or len(entries) > PAGE_ENTRIES
    if len(moves) == limit and len(entries) > 1:
        entries.pop()  # the last one may be cut in the middle
    entries = entries[:PAGE_ENTRIES]
    later = settlement.moved(account, seqs=entries)
    found = [_line(account, by_entry[seq], settled.get(seq), later.get(seq)) for seq in entries]
    # Energy that comes back to where it came from at settlement moves no money; it would be a line about nothing.
    shown = [line for line in found if line.amount_e7 or line.kind != "settled"]
    return shown, entries[-1] if more and entries else None


@require_safe
@only_for(Role.HOUSEHOLD)
def movements(request: HttpRequest) -> HttpResponse:
    """Show the movements of a household's money."""
    account = households.account_of(request.user)
    if account is None:
        return redirect("home")
    text = request.GET.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
    found, older = lines(account.index, before)
    context = {
        "lines": found,
        "older": older,
        "balance": exchange.balance(account.index),
        "security_e7": exchange.security(account.index),
        "newest": before is None,
        "tab": "movements",
    }
    return render(request, "home/movements.html", context)


# --- a day, a month, a year -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """A row of the table: an interval with its lines, or a day or month that leads to its own statement.

    ``interval`` is None in the latter, ``link`` "" in the former.
    """

    name: str
    start_ms: int
    sums: Sums
    interval: Interval | None
    link: str

    @property
    def listed(self) -> tuple[statements.Line, ...]:
        """Return the lines to show."""
        if self.interval is None:
            return ()
        # Trades are left out first: what was settled, corrected and shared has no other place on the page.
        others = sum(line.kind not in statements.DEALS for line in self.interval.lines)
        room = max(0, SHOWN_LINES - others)
        found: list[statements.Line] = []
        for line in self.interval.lines:
            if line.kind in statements.DEALS:
                room -= 1
                if room < 0:
                    continue
            found.append(line)
        return tuple(found[:MAX_SHOWN_LINES])

    @property
    def left_out(self) -> int:
        """Return how many lines only the file has."""
        return 0 if self.interval is None else len(self.interval.lines) - len(self.listed)


def _period(request: HttpRequest) -> Period:
    """Return the period that is asked for; today's where it makes no sense."""
    today = statement_queries.local_day(statement_queries.market_now_ms())
    kind = request.GET.get("period", DAY)
    kind = kind if kind in KINDS else DAY
    try:
        return period_of(kind, parse_day(request.GET["date"])) if "date" in request.GET else period_of(kind, today)
    except ValueError:
        return period_of(kind, today)


def _rows(found: Statement) -> list[Row]:
    zone = statement_queries.market_zone()
    kind = found.period.kind
    if kind == DAY:
        intervals = statement_queries.intervals(found.accounts, found.period)
        return [Row(one.contract, contract_start_ms(one.contract), one.sums, one, "") for one in intervals[:MAX_ROWS]]
    days = [(f"{day.isoformat()}", day, sums) for day, sums in found.days.items()]
    if kind == YEAR:
        days = [(name, date.fromisoformat(f"{name}-01"), sums) for name, sums in found.months()]
    below = DAY if kind == MONTH else MONTH
    return [Row(name, start_ms(day, zone), sums, None, _link(period_of(below, day))) for name, day, sums in days]


def _link(period: Period | None) -> str:
    return "" if period is None else f"?period={period.kind}&date={period.first.isoformat()}"


@never_cache
@require_safe
@only_for(Role.HOUSEHOLD)
def statement(request: HttpRequest) -> HttpResponse:
    """Show a household its day, month or year: what it earned and paid, and every line with its receipt."""
    account = households.account_of(request.user)
    if account is None:
        return redirect("home")
    if "before" in request.GET:  # a page of movements, where they used to be
        return redirect(f"{reverse('movements')}?{urlencode({'before': request.GET['before']})}")
    period = _period(request)
    found = statement_queries.statement(statement_queries.numbers_of(request.user, account.index), period)
    rows = _rows(found)
    context = {
        "tab": "statement",
        "period": period,
        "start_ms": start_ms(period.first, statement_queries.market_zone()),
        "kinds": [(kind, _link(period_of(kind, period.first)), kind == period.kind) for kind in KINDS],
        "earlier": _link(before_period(period)),
        "later": _link(after_period(period)),
        "found": found,
        "total": found.total,
        "sums": found.total.sums,
        "gain_cents": commercial(found.total.gain_e11, CENT_E11),
        "rows": rows,
        "charges": found.total.charges,
        "language": get_language() or "en",
        "query": _link(period),
    }
    return render(request, "home/statement.html", context)


@never_cache
@require_safe
@only_for(Role.HOUSEHOLD)
def statement_file(request: HttpRequest, kind: str) -> HttpResponse:
    """Hand out the statement of a period as a file, ``kind`` csv or pdf."""
    account = households.account_of(request.user)
    if account is None:
        return redirect("home")
    if kind not in statement_files.FORMATS:
        raise Http404
    found = statement_queries.statement(
        statement_queries.numbers_of(request.user, account.index), _period(request)
    )  # fmt: skip
    return statement_files.response(found, kind, now_ms=statement_queries.market_now_ms())


urlpatterns = [
    path("statement", statement, name="statement"),
    path("statement/movements", movements, name="movements"),
    path("statement/file.<str:kind>", statement_file, name="statement-file"),
]
