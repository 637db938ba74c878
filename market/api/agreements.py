"""`/api/v1/me/agreements`: what I have left over goes to a neighbour, or a neighbour's comes to me."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import problems, shapes
from market.api.openapi import describe
from market.api.orders_in import price_e4
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.engine.contracts import contract_start_ms
from market.exchange import operations
from market.exchange.outcomes import Outcome
from market.exchange.units import price_text
from market.households import keys
from market.settlement import queries

GIVE, RECEIVE = "give", "receive"


class Agreements(ApiView):
    """My private agreements."""

    write_scope = keys.TRADE

    @describe("My agreements", shapes.AgreementPage, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return what I have proposed, what was proposed to me, and what holds."""
        self.query()
        rows = queries.agreements(self.exchange(), self.account())
        return answer({"results": [_agreement(row) for row in rows], "next": None})

    @describe("Propose an agreement", shapes.Agreement, tag="me", body=shapes.AgreementIn, keyed=True, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Propose to give what I have left over to a neighbour, or to get theirs; the neighbour has to accept."""
        self.query()
        account = self.account()
        body = self.decode(shapes.AgreementIn)
        if body.side not in (GIVE, RECEIVE):
            raise Problem(422, "invalid_side", "side")
        try:
            contract_start_ms(body.start)
        except ValueError:
            raise Problem(422, "unknown_contract", "start") from None
        other = queries.account_index(self.exchange(), body.neighbour)
        if other is None:
            raise Problem(422, "unknown_account", "neighbour")
        giver, receiver = (account, other) if body.side == GIVE else (other, account)
        outcome = operations.propose_agreement(
            self.exchange(),
            account=account,
            giver=giver,
            receiver=receiver,
            price_e4=price_e4(body.price),
            start=body.start,
            key=self.idempotency_key(),
        )
        checked(outcome, {"giver": "neighbour", "receiver": "neighbour"})
        return answer(_found(self, account, outcome.events[0].seq), status=201)


class Acceptance(ApiView):
    """My consent to what was proposed to me."""

    write_scope = keys.TRADE

    @describe("Accept an agreement", shapes.Agreement, tag="me", keyed=True)
    def post(self, request: Request, agreement: int) -> HttpResponse:
        """Accept what a neighbour has proposed: it holds for contracts that start from now on."""
        self.query()
        account = self.account()
        operation = operations.accept_agreement
        checked(operation(self.exchange(), account=account, agreement=agreement, key=self.idempotency_key()))
        return answer(_found(self, account, agreement))


class OneAgreement(ApiView):
    """One of my agreements."""

    write_scope = keys.TRADE

    @describe("End an agreement", shapes.AgreementEnded, tag="me", keyed=True)
    def delete(self, request: Request, agreement: int) -> HttpResponse:
        """End it, take a proposal back or turn one down: contracts that have started are shared out all the same."""
        self.query()
        operation = operations.revoke_agreement
        outcome = operation(self.exchange(), account=self.account(), agreement=agreement, key=self.idempotency_key())
        checked(outcome)
        return answer({"seq": outcome.events[0].seq})


def checked(outcome: Outcome, fields: dict[str, str] | None = None) -> None:
    """Raise ``Problem`` unless it was done. Somebody else's agreement looks like one that does not exist."""
    if outcome.conflict is not None:
        raise Problem(409, "idempotency_conflict", outcome.conflict)
    refused = outcome.refused
    if refused is None:
        return
    if refused.code == "not_your_account":
        refused = refused._replace(code="unknown_agreement", field="agreement")
    raise problems.from_refused(refused._replace(field=(fields or {}).get(refused.field, refused.field)))


def _found(view: ApiView, account: int, agreement: int) -> dict[str, Any]:
    rows = queries.agreements(view.exchange(), account)
    row = next((row for row in rows if row.agreement == agreement), None)
    if row is None:
        raise Problem(404, "unknown_agreement", "agreement")
    return _agreement(row)


def _agreement(row: queries.AgreementView) -> dict[str, Any]:
    return {
        "agreement": row.agreement,
        "side": GIVE if row.gives else RECEIVE,
        "neighbour": row.neighbour,
        "price": price_text(row.price_e4),
        "fee": price_text(row.fee_e4),
        "start": row.start,
        "state": row.state,
        "mine": row.mine,
    }
