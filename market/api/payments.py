"""`/api/v1/me/deposits` and `/api/v1/me/withdrawals`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import PAGE, describe
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.exchange.units import at_text, money_text, parse_money
from market.households import keys
from market.payments import operations, queries
from market.payments.models import Direction, Payment, State
from market.settlement.statement_queries import numbers_of


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at_text(round(at.timestamp() * 1_000))


def _amount_e7(text: str) -> int:
    try:
        return parse_money(text)
    except ValueError:
        raise Problem(422, "invalid_value", "amount") from None


def _reason(payment: Payment) -> str | None:
    return payment.reason or None if payment.state == State.REFUSED else None


class Payments(ApiView):
    """What deposits and withdrawals have in common."""

    direction = Direction.IN

    def now(self) -> datetime:
        """Return market time."""
        return datetime.fromtimestamp(self.exchange().now_ms() / 1_000, UTC)

    def page(self) -> HttpResponse:
        """Answer with a page of the caller's payments, newest first."""
        query = self.query("limit", "cursor")
        limit = cursors.limit_of(query)
        rows = queries.payments_of(
            numbers_of(self.request.user, self.account()),
            direction=self.direction,
            before=cursors.number_cursor(query),
            limit=limit + 1,
        )
        more = len(rows) > limit
        shown = [self.shown(row) for row in rows[:limit]]
        return answer({"results": shown, "next": cursors.encode(rows[limit - 1].pk) if more else None})

    def shown(self, payment: Payment) -> dict[str, Any]:
        """Return a payment as JSON."""
        return {
            "id": payment.pk,
            "state": payment.state,
            "amount": money_text(payment.amount_e7),
            "requested_at": _instant(payment.requested_at),
            "decided_at": _instant(payment.decided_at),
            "reason": _reason(payment),
            "seq": payment.seq,
        }


class Deposits(Payments):
    """Money I put in."""

    write_scope = keys.TRADE

    @describe("My deposits", shapes.DepositPage, tag="me", parameters=PAGE)
    def get(self, request: Request) -> HttpResponse:
        """Return deposits, newest first."""
        return self.page()

    @describe("Announce a deposit", shapes.Deposit, tag="me", body=shapes.DepositIn, keyed=True, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Get the reference to put on a transfer. The money counts once it has arrived, as what has arrived."""
        self.query()
        asked = self.decode(shapes.DepositIn)
        payment = operations.request_deposit(
            account_index=self.account(), amount_e7=_amount_e7(asked.amount), now=self.now(),
            once=self.idempotency_key() or "",
        )  # fmt: skip
        return answer(self.shown(payment), 201)

    def shown(self, payment: Payment) -> dict[str, Any]:
        return {
            **super().shown(payment),
            "announced": money_text(payment.asked_e7),
            "reference": payment.reference,
            "pay_to": settings.BANK_IBAN or None,
        }


class Withdrawals(Payments):
    """Money I take out. Only a person who is signed in may: a stolen key must not empty a wallet."""

    direction = Direction.OUT
    private = True
    fresh = frozenset({"POST"})

    @describe("My withdrawals", shapes.WithdrawalPage, tag="me", parameters=PAGE)
    def get(self, request: Request) -> HttpResponse:
        """Return withdrawals, newest first."""
        return self.page()

    @describe("Take money out", shapes.Withdrawal, tag="me", body=shapes.WithdrawalIn, keyed=True, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Set money aside for a transfer to my bank account; for people who are signed in, not for keys."""
        self.query()
        if self.identity is None or self.identity.key_id is not None:
            raise Problem(403, "forbidden")
        account = self.account()
        asked = self.decode(shapes.WithdrawalIn)
        payment = operations.request_withdrawal(
            self.exchange(), account_index=account, amount_e7=_amount_e7(asked.amount), iban=asked.iban,
            holder=asked.holder, now=self.now(), once=self.idempotency_key() or "",
        )  # fmt: skip
        return answer(self.shown(payment), 201)

    def shown(self, payment: Payment) -> dict[str, Any]:
        return {
            **super().shown(payment),
            "asked": money_text(payment.asked_e7),
            "kept": money_text(payment.asked_e7 - payment.amount_e7),
            "iban": payment.iban,
            "holder": payment.holder,
            "returned_seq": payment.returned_seq,
        }
