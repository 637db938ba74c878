"""The grid operator's settlement board: intervals by stage, meters by area, money outstanding, and a file of it."""

from __future__ import annotations

import csv
import io

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.exchange.exchange import Exchange
from market.pages.context import running_exchange
from market.pages.operator import OPERATORS
from market.pages.roles import only_for
from market.settlement import board

SHOWN_WAITS = 6  # areas named in a row; all of them are in the file


def _asked(request: HttpRequest, exchange: Exchange, limit: int) -> board.Page:
    """Return the page of the board that is asked for; raise ``Http404`` when there can be none."""
    before = request.GET.get("before")
    try:
        return board.page(exchange, before=before, stage=request.GET.get("stage", ""), limit=limit)
    except ValueError as error:
        raise Http404 from error


@never_cache
@only_for(*OPERATORS)
@require_safe
def settlement(request: HttpRequest) -> HttpResponse:
    """Show where settlement stands, whose meters are missing and what money is outstanding."""
    exchange = running_exchange()
    if exchange is None:
        return render(request, "operator/closed.html", {"decisions": [], "tab": "settlement"})
    stage = request.GET.get("stage", "")
    found = _asked(request, exchange, board.PAGE)
    kept = {"stage": stage} if stage else {}
    context = {
        "tab": "settlement",
        "found": found,
        "rows": [(one, one.waits[:SHOWN_WAITS], len(one.waits) - SHOWN_WAITS) for one in found.intervals],
        "stage": stage,
        "stages": board.STAGES,
        "older": urlencode({**kept, "before": found.next}) if found.next else "",
        "first": "before" not in request.GET,
        "outstanding": board.outstanding(),
        "file": urlencode({name: request.GET[name] for name in ("stage", "before") if request.GET.get(name)}),
        "shown_areas": board.SHOWN_AREAS,
    }
    return render(request, "operator/settlement.html", context)


@never_cache
@only_for(*OPERATORS)
@require_safe
def settlement_file(request: HttpRequest) -> HttpResponse:
    """Hand out a day of the board as CSV: one line a contract and area."""
    exchange = running_exchange()
    if exchange is None:
        raise Http404
    target = io.StringIO(newline="")
    csv.writer(target).writerows(board.export_rows(_asked(request, exchange, board.MAX_EXPORT)))
    response = HttpResponse(target.getvalue(), content_type="text/csv; charset=utf-8; header=present")
    response["Content-Disposition"] = 'attachment; filename="settlement.csv"'
    return response


urlpatterns = [
    path("operator/settlement", settlement, name="operator-settlement"),
    path("operator/settlement.csv", settlement_file, name="operator-settlement-file"),
]
