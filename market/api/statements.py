"""`GET /api/v1/me/statement?period=…`: a day, month or year, as JSON, CSV or PDF."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils.translation import get_language

from market.api import cursors
from market.api.problems import Problem
from market.api.views import answer
from market.exchange.units import at_text, money_text, price_text
from market.settlement import statement_files, statement_queries, statements
from market.settlement.levies import Charged, e11_text
from market.settlement.periods import DAY, MONTH, YEAR, Period, parse_day, period_of, start_ms
from market.settlement.statement_csv import cents_text
from market.settlement.statement_queries import Statement
from market.settlement.statements import Interval, Line, Sums

JSON = "json"
FIELDS = ("period", "date", "format")
RECEIPT = "/api/v1/ledger/entries/%d/receipt"
MAX_ROWS = 2 * cursors.MAX_LIMIT  # intervals of a day with every number a home may have had; never cut in practice


def period_asked(query: Mapping[str, str], now_ms: int) -> tuple[Period, str]:
    """Return the period and format that a query string asks for, today's without a date; raise ``Problem``."""
    kind, shape = query.get("period", DAY), query.get("format", JSON)
    if kind not in (DAY, MONTH, YEAR):
        raise Problem(400, "invalid_value", "period")
    if shape not in (JSON, *statement_files.FORMATS):
        raise Problem(400, "invalid_value", "format")
    try:
        day = parse_day(query["date"]) if "date" in query else statement_queries.local_day(now_ms)
        return period_of(kind, day), shape
    except ValueError:
        raise Problem(400, "invalid_value", "date") from None


def respond(query: Mapping[str, str], accounts: list[int], now_ms: int) -> HttpResponse:
    """Answer with the statement that a query string asks for; raise ``Problem``."""
    period, shape = period_asked(query, now_ms)
    found = statement_queries.statement(accounts, period)
    if shape != JSON:
        return statement_files.response(found, shape, now_ms=now_ms)
    return answer(_body(found))


def _body(found: Statement) -> dict[str, Any]:
    zone = statement_queries.market_zone()
    period = found.period
    return {
        "period": period.kind,
        "name": period.name,
        "start": at_text(start_ms(period.first, zone)),
        "end": at_text(start_ms(period.end, zone)),
        "currency": settings.MARKET_CURRENCY,
        "accounts": list(found.accounts),
        "results": _rows(found),
        "next": None,
        "waiting": found.waiting,
        "total": _total(found),
    }


def _rows(found: Statement) -> list[dict[str, Any]]:
    if found.period.kind == DAY:
        return [_interval(one) for one in statement_queries.intervals(found.accounts, found.period)[:MAX_ROWS]]
    if found.period.kind == MONTH:
        return [_row(day.isoformat(), sums) for day, sums in found.days.items()]
    return [_row(name, sums) for name, sums in found.months()]


def _row(name: str, sums: Sums) -> dict[str, Any]:
    return {"name": name, "state": None, "stage": None, "seq": None, "sums": _sums(sums), "lines": []}


def _interval(one: Interval) -> dict[str, Any]:
    lines = [_line(line, one.account) for line in one.lines]
    found = {"name": one.contract, "state": one.state, "stage": one.stage, "seq": one.seq}
    return {**found, "sums": _sums(one.sums), "lines": lines}


def _line(line: Line, account: int) -> dict[str, Any]:
    receipt = None if line.seq is None else RECEIPT % line.seq
    if receipt is not None and line.kind not in statements.DEALS:
        receipt += f"?account={account}"  # settlements, corrections and sharing are proved by the account's row in them
        receipt += f"&agreement={line.agreement}" if line.agreement else ""
    return {
        "line": line.kind,
        "energy_wh": line.energy_wh,
        "price": None if line.price_e4 is None else price_text(line.price_e4),
        "fee": money_text(line.fee_e7),
        "amount": money_text(line.money_e7),
        "seq": line.seq,
        "receipt": receipt,
        "short_wh": line.short_wh,
        "agreement": line.agreement or None,
    }


def _part(energy_wh: int, amount_e7: int, fee_e7: int = 0) -> dict[str, Any]:
    return {"energy_wh": energy_wh, "fee": money_text(fee_e7), "amount": money_text(amount_e7)}


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "intervals": sums.intervals,
        "estimated": sums.estimated,
        "provisional": sums.provisional,
        "corrected_intervals": sums.corrected,
        "import_wh": sums.import_wh,
        "export_wh": sums.export_wh,
        "own_wh": sums.own_wh if sums.own_known else None,
        "bought": _part(sums.bought_wh, -sums.bought_e7, sums.fee_e7),
        "topup": _part(sums.topup_wh, -sums.topup_e7),
        "sold": _part(sums.sold_wh, sums.sold_e7),
        "short": _part(sums.short_wh, -sums.short_e7),
        "spill": _part(sums.spill_wh, sums.spill_e7),
        "given": _part(sums.given_wh, sums.given_e7),
        "received": _part(sums.received_wh, -sums.received_e7, sums.shared_fee_e7),
        "corrected": money_text(sums.corrected_e7),
        "net": money_text(sums.net_e7),
        "without_market": money_text(sums.without_e7),
    }


def _charges(charges: Iterable[Charged]) -> list[dict[str, Any]]:
    language = get_language() or "en"
    return [
        {
            "code": one.charge.code,
            "name": one.charge.name(language),
            "percent": cents_text(one.charge.percent_bp) if one.charge.percent_bp else None,
            "price": price_text(one.charge.price_e4) if one.charge.price_e4 else None,
            "included": one.charge.included,
            "amount": e11_text(one.amount_e11),
        }
        for one in charges
    ]


def _total(found: Statement) -> dict[str, Any]:
    total = found.total
    return {
        "sums": _sums(total.sums),
        "charges": _charges(total.charges),
        "net": e11_text(total.net_e11),
        "rounding": e11_text(total.rounding_e11),
        "total": cents_text(total.cents),
        "wallet": money_text(total.sums.wallet_e7),
        "supply_bill": e11_text(total.bill_e11),
        "without_market": e11_text(total.without_e11),
        "gain": e11_text(total.gain_e11),
    }
