"""The ledger's side of a payment: one fund entry a step, however often it is tried.

A step is cut short where the entry is on the ledger and the row does not know it yet. What finds it again is the entry's
``reference``, a keyed digest that belongs to this step of this payment alone; the exchange forgets idempotency keys after 48
hours, the ledger forgets nothing.
"""

from __future__ import annotations

from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.households.models import Account
from market.households.operations import HouseholdError, Refusal
from market.payments.models import Payment

REASONS = {"in": "deposit", "out": "withdrawal", "back": "withdrawal_refused"}  # of fund entries, by step


class PaymentError(HouseholdError):
    """Nothing was changed. ``code`` is stable, ``field`` names the input at fault, ``sentence`` says it to a person."""


def wallet_of(account: Account) -> Account | None:
    """Return where money for an account goes: there, or, once it is closed, to its owner's present account."""
    if account.closed_at is None:
        return account
    if account.user_id is None:
        return None
    return Account.objects.filter(user_id=account.user_id, closed_at=None).order_by("index").first()


def post(exchange: Exchange, payment: Payment, *, step: str, account: int, amount_e7: int) -> int:
    """Move a payment's money into (positive) or out of a wallet, once; return the ledger entry. Raise ``Refusal``."""
    reference = _reference(payment, step)
    found = booked(payment, step=step)
    if found is not None:
        return found
    outcome = exchange_operations.fund(
        exchange,
        account=account,
        amount_e7=amount_e7,
        reason=REASONS[step],
        reference=reference,
        # Nobody can guess it, so no client can use it up; a refused attempt leads to another step and another key.
        key=f"payment:{salted_hmac('payments.key', f'{reference}:{payment.steps}', algorithm='sha256').hexdigest()[:40]}",
    )
    if outcome.refused is not None:
        raise Refusal(outcome.refused)
    if outcome.conflict is not None:
        raise PaymentError("key_conflict", outcome.conflict, _("This was booked with other content."))
    return int(outcome.events[0].seq)  # type: ignore[union-attr]


def booked(payment: Payment, *, step: str) -> int | None:
    """Return the ledger entry of a step that is on the ledger already, in whichever account of its owner, or None."""
    reference = _reference(payment, step)
    owner = payment.account.user_id
    accounts = [payment.account.index]
    if owner is not None:
        accounts = list(Account.objects.filter(user_id=owner).values_list("index", flat=True))
    found = (
        exchange_queries.fund_seq(account=account, reference=reference, since=payment.since_seq) for account in accounts
    )
    return next((seq for seq in found if seq is not None), None)


def _reference(payment: Payment, step: str) -> str:
    return salted_hmac("payments.reference", f"{payment.reference}:{step}", algorithm="sha256").hexdigest()
