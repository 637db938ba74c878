"""`GET /api/v1/events?after=`: what happened, by ledger sequence, as far as the caller may see."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.ledger import may_read_ledger
from market.api.openapi import PAGE, describe, query
from market.api.views import ApiView, answer
from market.exchange import queries
from market.exchange.units import at_text, money_text, price_text
from market.households import accesslog


class Events(ApiView):
    """A household sees what concerns its account; officials and keys with ``ledger:read`` see everything."""

    @describe(
        "What happened",
        shapes.EventPage,
        tag="events",
        parameters=(query("after", "only events after this ledger sequence", int), *PAGE),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return events, oldest first; ask again with ``after`` = the last one's ``seq``."""
        query = self.query("after", "limit", "cursor")
        after, position, limit = (
            cursors.integer(query, "after"), cursors.number_cursor(query), cursors.limit_of(query),
        )  # fmt: skip
        start = max(-1 if after is None else after, -1 if position is None else position)
        account = None if may_read_ledger(self.identity) else self.account()
        if account is None:
            self.note(accesslog.LEDGER, everybody=True)
        rows = queries.events(after=start, limit=limit + 1, account=account)
        return answer(cursors.page(rows, limit, lambda row: row["seq"], event_out))


def event_out(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with the names and texts of the REST side: prices, money and instants as texts."""
    out: dict[str, Any] = {}
    for name, value in event.items():
        if name.endswith("_e4"):
            out[name[:-3]] = price_text(value)
        elif name.endswith("_e7"):
            out[name[:-3]] = money_text(value)
        elif name.endswith("at_ms"):
            if value or name == "at_ms":  # an expiry of 0 is none
                out[name[:-3]] = at_text(value)
        elif name == "requeued":
            out[name] = bool(value)
        else:
            out[name] = value
    return out
