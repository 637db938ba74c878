"""`GET /api/v1/me` and what belongs to my account."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from market.api import cursors, shapes, statements
from market.api.openapi import PAGE, describe, query, ref
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.engine.signing import LOST
from market.exchange import queries
from market.exchange.units import at_text, money_text
from market.grid import queries as grid
from market.households import keys, signing
from market.households import queries as households
from market.settlement.statement_queries import market_now_ms, numbers_of

# Movements of one account in one ledger entry: a trade has at most two, a settlement three.
MAX_LINES_AN_ENTRY = 8
STATEMENT = (
    *PAGE,
    query("period", "day, month or year: the statement of that period instead of single movements"),
    query("date", "a day in the period, YYYY-MM-DD in the market's time (default: today); only with `period`"),
    query("format", "json (default), csv or pdf; only with `period`"),
)
STATEMENT_ANSWERS = {
    (200, "application/json"): {"oneOf": [ref(shapes.StatementPage), ref(shapes.StatementOfPeriod)]},
    (200, "text/csv"): str,
    (200, "application/pdf"): bytes,
}
LETTING_GO = (
    OpenApiParameter(
        "approval", str, description='signature (hex) by the key, as of its registration, of `public_key` ""'
    ),
    OpenApiParameter("reset", str, enum=[LOST], description="why there is no such signature; the ledger keeps it"),
)


class Me(ApiView):
    """Who is asking."""

    @describe("Who am I", shapes.Me, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return the person behind the key or session, and its account."""
        self.query()
        identity = self.identity
        assert identity is not None
        info = None if identity.account_index is None else households.account_at(identity.account_index)
        return answer(
            {
                "user": request.user.get_username(),
                "role": identity.role,
                "scopes": sorted(identity.scopes),
                "account": None if info is None else info.index,
                "account_id": None if info is None else info.account_id,
                "area": None if info is None else info.area,
                "home": info.home or None if info is not None else None,
                "automatic": None if info is None else info.automatic,
            }
        )


class Signing(ApiView):
    """The key that my account's orders are signed with."""

    write_scope = keys.TRADE

    @describe("How to sign an order", shapes.Signing, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return the account's id, its key and the rulebook, all of which a signature covers."""
        self.query()
        return self._answer()

    @describe("Have my orders signed", shapes.Signing, tag="me", body=shapes.SigningKeyIn)
    def post(self, request: Request) -> HttpResponse:
        """Register a key; from here on every order of the account needs its signature.

        A key is replaced with its own signature, or reset by a person who is signed in: a stolen API key must not undo the
        protection. The ledger says which.
        """
        self.query()
        asked = self.decode(shapes.SigningKeyIn)
        known = self._known()
        if known.public_key and not asked.approval:
            self._by_person()
        signing.register(
            self.exchange(), account=self.account(), public_key=asked.public_key, proof=asked.proof, known=known,
            approval=asked.approval, reason=asked.reset,
        )  # fmt: skip
        return self._answer()

    @describe("No longer sign my orders", shapes.Signing, tag="me", parameters=LETTING_GO)
    def delete(self, request: Request) -> HttpResponse:
        """Take the key back with its own signature, or have it reset by a person who is signed in."""
        query = self.query("approval", "reset")
        approval, reset = query.get("approval", ""), query.get("reset", "")
        if reset not in ("", LOST):
            raise Problem(400, "invalid_value", "reset")
        if not approval:
            self._by_person()
        signing.remove(self.exchange(), account=self.account(), known=self._known(), approval=approval, reason=reset)
        return self._answer()

    def _by_person(self) -> None:
        if self.identity is None or self.identity.key_id is not None:
            raise Problem(403, "forbidden")
        self.need_fresh()

    def _known(self) -> signing.Signing:
        exchange = self.exchange()
        found = grid.rules(exchange)
        if found is None:
            raise Problem(409, "not_founded")
        return signing.signing_of(exchange, account=self.account(), rules=found.rulebook_sha256)

    def _answer(self) -> HttpResponse:
        return answer(self._known()._asdict())


class Positions(ApiView):
    """What I traded in contracts that are not settled yet."""

    @describe("My positions", shapes.PositionPage, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return one position for each such contract."""
        self.query()
        rows = queries.positions(self.account())
        return answer({"results": [_position(row) for row in rows], "next": None})


def _position(row: queries.PositionView) -> dict[str, Any]:
    return {
        "contract": row.contract,
        "bought_wh": row.bought_wh,
        "sold_wh": row.sold_wh,
        "position_wh": row.position_wh,
        "paid": money_text(row.paid_e7),
        "proceeds": money_text(row.proceeds_e7),
    }


class Balance(ApiView):
    """My money."""

    @describe("My balance", shapes.Balance, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return wallet, what is set aside of it, and arrears."""
        self.query()
        row = queries.balance(self.account())
        if row is None:
            raise Problem(404, "unknown_account", "account")
        return answer(
            {
                "account": row.account,
                "currency": settings.MARKET_CURRENCY,
                "cash": money_text(row.cash_e7),
                "held": money_text(row.held_e7),
                "free": money_text(row.free_e7),
                "arrears": money_text(row.arrears_e7),
            }
        )


class Statement(ApiView):
    """Every movement of my money; ``seq`` leads to its ledger entry and receipt."""

    @describe("My statement", shapes.StatementPage, tag="me", parameters=STATEMENT, others=STATEMENT_ANSWERS)
    def get(self, request: Request) -> HttpResponse:
        """Return movements of money, newest first; with ``period`` the statement of a day, month or year."""
        if "period" in request.query_params:
            query = self.query(*statements.FIELDS)
            accounts = numbers_of(request.user, self.account())
            return statements.respond(query, accounts, market_now_ms())
        query = self.query("limit", "cursor")
        account, limit = self.account(), cursors.limit_of(query)
        rows = queries.transfers(
            account=account,
            money_only=True,
            before=cursors.number_cursor(query),
            limit=limit + MAX_LINES_AN_ENTRY,
        )
        end = page_end([row.seq for row in rows], limit)
        more = end < len(rows)
        return answer(
            {
                "results": [_line(row, account) for row in rows[:end]],
                "next": cursors.encode(rows[end - 1].seq) if more else None,
            }
        )


def page_end(seqs: list[int], limit: int) -> int:
    """Return how many lines make a page: it never ends within an entry, because its cursor is an entry's sequence."""
    end = min(limit, len(seqs))
    while 0 < end < len(seqs) and seqs[end] == seqs[end - 1]:
        end += 1
    return end


def _line(row: queries.TransferView, account: int) -> dict[str, Any]:
    amount = (row.amount if row.credit == account else 0) - (row.amount if row.debit == account else 0)
    return {"seq": row.seq, "n": row.n, "at": at_text(row.at_ms), "kind": row.kind, "amount": money_text(amount)}
