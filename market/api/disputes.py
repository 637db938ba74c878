"""`/api/v1/me/disputes`: contest a reading or a statement line, read the answer, agree or contest it once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import PAGE, describe
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.disputes import operations, queries
from market.exchange.units import at_text
from market.households import keys


def _instant(at: datetime) -> str:
    return at_text(round(at.timestamp() * 1_000))


def _shown(view: queries.DisputeView) -> dict[str, Any]:
    steps = [
        {
            "state": step.after,
            "at": _instant(step.at),
            "by": "operator" if step.who else "household",
            "code": step.code,
            "text": step.text,
            "commitment": step.commitment,
            "import_wh": step.import_wh,
            "export_wh": step.export_wh,
        }
        for step in view.steps
    ]
    return {
        "id": view.id,
        "kind": view.kind,
        "contract": view.contract,
        "seq": view.seq,
        "state": view.state,
        "reopened": view.reopened,
        "opened_at": _instant(view.opened_at),
        "corrected_seq": view.corrected_seq,
        "steps": steps,
    }


class _Mine(ApiView):
    people_only = True  # what is said here is said by the household, and answered to it
    write_scope = keys.READINGS_WRITE

    def now(self) -> datetime:
        """Return market time."""
        return datetime.fromtimestamp(self.exchange().now_ms() / 1_000, UTC)

    def told(self, dispute_id: int, status: int = 200) -> HttpResponse:
        """Answer with a dispute."""
        view = queries.dispute(dispute_id)
        if view is None:
            raise Problem(404, "not_found")
        return answer(_shown(view), status)


class Disputes(_Mine):
    """What I contest."""

    @describe("My disputes", shapes.DisputePage, tag="me", parameters=PAGE)
    def get(self, request: Request) -> HttpResponse:
        """Return disputes with all that was said, newest first."""
        query = self.query("limit", "cursor")
        limit = min(cursors.limit_of(query), queries.MAX_LIST - 1)
        rows = queries.disputes_of(self.account(), before=cursors.number_cursor(query), limit=limit + 1)
        more = len(rows) > limit
        return answer(
            {
                "results": [_shown(row) for row in rows[:limit]],
                "next": cursors.encode(rows[limit - 1].id) if more else None,
            }
        )

    @describe("Contest a reading or a line", shapes.Dispute, tag="me", body=shapes.DisputeIn, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Contest the newest reading of mine in a contract, or its settlement; the same thing once. Not for keys."""
        self.query()
        asked = self.decode(shapes.DisputeIn)
        made = operations.contest(
            account_index=self.account(), kind=asked.kind, contract=asked.contract, code=asked.code, text=asked.text,
            import_wh=asked.import_wh, export_wh=asked.export_wh, now=self.now(),
        )  # fmt: skip
        return self.told(made.pk, 201)


class Reopening(_Mine):
    """An answer that I contest."""

    @describe("Contest an answer, once", shapes.Dispute, tag="me", body=shapes.ReopenIn)
    def post(self, request: Request, dispute_id: int) -> HttpResponse:
        """Have a declined dispute looked at once more."""
        self.query()
        text = self.decode(shapes.ReopenIn).text
        operations.reopen(dispute_id=dispute_id, account_index=self.account(), text=text, now=self.now())
        return self.told(dispute_id)


class Closing(_Mine):
    """An answer that I agree with."""

    @describe("Agree with an answer", shapes.Dispute, tag="me")
    def post(self, request: Request, dispute_id: int) -> HttpResponse:
        """Close an answered dispute."""
        self.query()
        operations.close(dispute_id=dispute_id, account_index=self.account(), now=self.now())
        return self.told(dispute_id)
