"""`GET /healthz`: whether trading can go on."""

from __future__ import annotations

import logging

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from ledger import witnessing
from market.api.problems import Problem, response
from market.api.views import answer
from market.exchange import gateway
from market.exchange.outcomes import NotRunning

log = logging.getLogger(__name__)


@csrf_exempt
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 where the exchange and its database work, else 503; the body says what does not."""
    if request.method not in ("GET", "HEAD"):
        return response(Problem(405, "method_not_allowed", headers=(("Allow", "GET, HEAD"),)))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        database = "ok"
    except DatabaseError:
        log.exception("the database does not answer")
        database = "unavailable"
    try:
        status = gateway.current().status()
    except NotRunning:
        status = {"state": "not running", "seq": 0, "sealed": 0, "queue": 0}
    witnesses = witnessing.status()  # trading goes on without them: they do not make the market unavailable
    fine = database == "ok" and status["state"] == "running"
    return answer(
        {
            "status": "ok" if fine else "unavailable",
            "seq": status["seq"],
            "sealed": status["sealed"],
            "witnessed": witnesses.witnessed,
            "witnesses": witnesses.state,
            "database": database,
            "exchange": status["state"],
            "queue": status["queue"],
        },
        200 if fine else 503,
    )
