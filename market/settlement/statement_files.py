"""Statements as downloads, for the pages and for REST."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse

from market.settlement import statement_csv, statement_pdf, statement_queries
from market.settlement.periods import DAY
from market.settlement.statement_queries import Statement

CSV, PDF = "csv", "pdf"
FORMATS = (CSV, PDF)


def response(found: Statement, kind: str, *, now_ms: int) -> HttpResponse:
    """Return a statement as a file to save, ``kind`` csv or pdf; ``now_ms`` stands on the PDF."""
    currency = settings.MARKET_CURRENCY
    if kind == CSV:
        content, media_type = statement_csv.render(found, currency), statement_csv.MEDIA_TYPE
    else:
        day = found.period.kind == DAY
        intervals = statement_queries.intervals(found.accounts, found.period) if day else []
        content = statement_pdf.render(
            found, intervals, currency=currency, origin=settings.LEDGER_ORIGIN, now_ms=now_ms
        )
        media_type = statement_pdf.MEDIA_TYPE
    answer = HttpResponse(content, content_type=media_type)
    answer["Content-Disposition"] = f'attachment; filename="statement-{found.period.name}.{kind}"'
    answer["Cache-Control"] = "no-store"
    return answer
