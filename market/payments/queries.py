"""What may be asked about money in and out."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import orjson
from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from market.households.models import User
from market.payments.models import OPEN, BankFile, BankItem, Direction, Payment, PayoutFile, State, Transition
from market.payments.reasons import TAKEN_BACK
from market.payments.returns import payout_of

MAX_LIST = 500  # rows of a staff list; the oldest come first, so that nothing is overlooked
RECENT = 20


class Placeable(NamedTuple):
    """A transfer that waits for somebody to place it."""

    id: int
    amount_e7: int
    currency: str
    booked_on: str
    why: str
    alike: bool
    again: bool  # the payout that came back with it can be paid out again
    payer: str
    iban: str
    text: str

    @property
    def bookable(self) -> bool:
        """Return whether it can be booked into an account: not what the bank took away, nor what is no money here."""
        return self.why != TAKEN_BACK and self.currency == settings.MARKET_CURRENCY and self.amount_e7 > 0


class Step(NamedTuple):
    """A transition with the name of the member of staff, "" for the member or the market itself."""

    after: str
    at: object
    by: str
    reason: str


def payments_of(
    accounts: Collection[int], *, direction: str | None = None, before: int | None = None, limit: int = MAX_LIST
) -> list[Payment]:
    """Return the payments of accounts (all numbers of one home), newest first, those before an id when it is given."""
    rows = Payment.objects.filter(account__index__in=accounts).select_related("account__user", "file")
    if direction is not None:
        rows = rows.filter(direction=direction)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return list(rows.order_by("-pk")[: min(limit, MAX_LIST)])


def waiting(direction: Direction) -> list[Payment]:
    """Return payments that staff have to decide or finish, oldest first; ``tied``: the bank has said what arrived."""
    rows = Payment.objects.filter(direction=direction).select_related("account__user", "account__home")
    open_ones = rows.filter(state__in=OPEN) | rows.filter(state=State.CONFIRMED, seq=None)
    back = rows.filter(state=State.REFUSED, returned_seq=None).exclude(seq=None)  # not given back yet
    found = open_ones | back if direction == Direction.OUT else open_ones
    tied = Exists(BankItem.objects.filter(payment=OuterRef("pk")))
    return list(found.annotate(tied=tied).order_by("pk")[:MAX_LIST])


def recallable() -> list[Payment]:
    """Return confirmed withdrawals in no file that may have to go elsewhere, oldest first.

    The bank did not take their file, or their account is closed.
    """
    rows = Payment.objects.filter(direction=Direction.OUT, state=State.CONFIRMED, file=None).exclude(seq=None)
    rows = rows.filter(Q(reason="file_void") | Q(account__closed_at__isnull=False))
    return list(rows.select_related("account__user", "account__home").order_by("pk")[:MAX_LIST])


def ready_for_bank() -> tuple[int, int]:
    """Return (number, sum in e7) of the confirmed withdrawals that are in no file yet."""
    amounts = Payment.objects.filter(direction=Direction.OUT, state=State.CONFIRMED, file=None)
    found = list(amounts.values_list("amount_e7", flat=True))
    return len(found), sum(found)


def payout_files() -> QuerySet[PayoutFile]:
    """Return the files for the bank, newest first."""
    return PayoutFile.objects.defer("text").order_by("-pk")[:RECENT]


def payout_file(file_id: int) -> PayoutFile | None:
    """Return a file for the bank, or None."""
    return PayoutFile.objects.filter(pk=file_id).first()


def waiting_files() -> QuerySet[BankFile]:
    """Return the statements that were read and not booked, oldest first."""
    return BankFile.objects.filter(state=BankFile.PREVIEW).defer("text").order_by("pk")[:RECENT]


def bank_file(file_id: int) -> BankFile | None:
    """Return a statement that was read and not booked, or None."""
    return BankFile.objects.filter(pk=file_id, state=BankFile.PREVIEW).first()


def unplaced() -> list[Placeable]:
    """Return transfers that wait for somebody to place them, oldest first."""
    found = []
    for item in BankItem.objects.filter(state=BankItem.OPEN).order_by("pk")[:MAX_LIST]:
        known = orjson.loads(item.details) if item.details else {"payer": "", "iban": "", "text": ""}
        found.append(
            Placeable(item.pk, item.amount_e7, item.currency, item.booked_on, item.why, item.alike,
                      payout_of(item) is not None,
                      known["payer"], known["iban"], known["text"])
        )  # fmt: skip
    return found


def steps_of(payments: list[Payment]) -> dict[int, list[Step]]:
    """Return how each payment came to its state, oldest step first, by its id."""
    rows = list(Transition.objects.filter(payment__in=payments).order_by("payment_id", "n"))
    names = {user.pk: user.username for user in User.objects.filter(pk__in={row.by for row in rows if row.by})}
    found: dict[int, list[Step]] = {payment.pk: [] for payment in payments}
    for row in rows:
        found[row.payment_id].append(Step(row.after, row.at, names.get(row.by or 0, ""), row.reason))
    return found
