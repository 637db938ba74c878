"""Deposits and withdrawals: asked for by members, confirmed or refused by the market operator's staff.

A withdrawal's money leaves the wallet for the bank's account at the moment it is asked for, so that nothing can spend it
twice; a refusal books it back. A deposit is booked when it is confirmed. Each step may be repeated: whatever was cut short is
finished, nothing is done twice. Time comes in as ``now`` (an aware datetime).
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from ledger import queries as ledger_queries
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.households import keystore, renewal
from market.households.models import Account, Role, User
from market.households.operations import Refusal
from market.payments.booking import PaymentError, booked, post, wallet_of
from market.payments.formats import references
from market.payments.formats.pain001 import CENT_E7
from market.payments.models import OPEN, BankItem, Direction, Payment, State, Transition
from market.payments.reasons import DEPOSIT_REASONS, OTHER_ACCOUNT, WITHDRAWAL_REASONS

MAX_AMOUNT_E7 = 100_000 * 10**7  # of one payment
MAX_OPEN = 20  # of one account each way, so that nobody floods the staff's list
MAX_ONCE_LENGTH = 64
TOP_UP_E7 = 20 * 10**7  # the demo's play money, by one tap


def one_person_limit_e7() -> int:
    """Return the amount above which a payment needs two members of staff."""
    return int(settings.ONE_PERSON_LIMIT) * 10**7


def needs_two(amount_e7: int) -> bool:
    """Return whether one person's word is not enough for an amount."""
    return amount_e7 > one_person_limit_e7()


# --- asked for by a member --------------------------------------------------------------------------------------------
def request_deposit(*, account_index: int, amount_e7: int, now: datetime, once: str = "") -> Payment:
    """Note that a member sends money; the reference to put on the transfer is made here. Raise ``PaymentError``."""
    if not 0 < amount_e7 <= MAX_AMOUNT_E7:
        raise PaymentError("invalid_amount", "amount", _("The amount must be between 0 and 100,000."))
    account = _open_account(account_index)
    known = _asked_before(account, Direction.IN, once, asked_e7=amount_e7)
    if known is not None:
        return known
    _check_flood(account, Direction.IN)
    return new_payment(account=account, direction=Direction.IN, amount_e7=amount_e7, once=once, now=now)


def request_withdrawal(
    exchange: Exchange, *, account_index: int, amount_e7: int, iban: str, holder: str, now: datetime, once: str = "",
    leaving: bool = False,
) -> Payment:  # fmt: skip
    """Set a member's money aside for a transfer to a bank account; what is less than a cent stays in the wallet.

    ``leaving``: out of a closed account, too.

    Raise ``PaymentError`` (invalid_amount, invalid_iban, invalid_holder, arrears, insufficient_funds, …), ``Refusal``.
    """
    cents_e7 = amount_e7 // CENT_E7 * CENT_E7
    if not 0 < cents_e7 <= MAX_AMOUNT_E7:
        raise PaymentError("invalid_amount", "amount", _("The amount must be at least one cent and at most 100,000."))
    iban, holder = _bank_account(iban, holder)
    account = _open_account(account_index, closed=leaving)
    payment = _asked_before(account, Direction.OUT, once, asked_e7=amount_e7, iban=iban, holder=holder)
    if payment is None:
        _check_flood(account, Direction.OUT)
        check_free(account_index, cents_e7)
        payment = new_payment(
            account=account,
            direction=Direction.OUT,
            amount_e7=cents_e7,
            asked_e7=amount_e7,
            iban=iban,
            holder=holder,
            once=once,
            now=now,
        )
    _reserve(exchange, payment, now)
    return payment


def check_free(account_index: int, amount_e7: int) -> None:
    """Raise ``PaymentError`` unless a wallet may pay so much out: nothing owed under any number of its owner, so much free."""
    balance = exchange_queries.balance(account_index)
    if balance is None:
        raise PaymentError("unknown_account", "account", _("There is no such account."))
    owner = Account.objects.filter(index=account_index).values_list("user", flat=True).first()
    owed_e7 = balance.arrears_e7 if owner is None else renewal.owed_e7(owner)
    if owed_e7:
        sentence = _("Something is owed on this account (%(amount)s). That has to be paid first.")
        # Up: who pays as much owes nothing.
        raise PaymentError("arrears", "amount", sentence % {"amount": in_cents(-(-owed_e7 // CENT_E7))})
    if balance.free_e7 < amount_e7:
        sentence = _("Only %(free)s is free to take out.")
        # Down: as much can be had.
        free = in_cents(max(0, balance.free_e7) // CENT_E7)
        raise PaymentError("insufficient_funds", "amount", sentence % {"free": free})


def in_cents(cents: int) -> str:
    """Return an amount as people are told it: 6090 -> "60.90 EUR"."""
    return f"{cents // 100}.{cents % 100:02d} {settings.MARKET_CURRENCY}"


def new_payment(
    *,
    account: Account,
    direction: Direction,
    amount_e7: int,
    now: datetime,
    asked_e7: int | None = None,
    iban: str = "",
    holder: str = "",
    once: str = "",
) -> Payment:
    """Note a payment that is asked for, with its first transition. Of two at the same moment there is one."""
    once = once or secrets.token_hex(16)
    number = secrets.randbelow(10**references.BODY_DIGITS)
    try:
        with transaction.atomic():
            payment = Payment.objects.create(
                account=account,
                direction=direction,
                asked_e7=amount_e7 if asked_e7 is None else asked_e7,
                amount_e7=amount_e7,
                reference=references.reference_of(number),
                once=once,
                requested_at=now,
                since_seq=ledger_queries.size(),
                iban=iban,
                holder=holder,
                steps=1,
            )
            Transition.objects.create(payment=payment, n=0, before="", after=State.REQUESTED, at=now, by=None)
    except IntegrityError:
        known = Payment.objects.filter(account=account, direction=direction, once=once).first()
        if known is None:  # the reference met another one: one in 10^12
            raise
        return known
    return payment


def _open_account(account_index: int, *, closed: bool = False) -> Account:
    account = Account.objects.select_related("user").filter(index=account_index).first()
    if account is None or account.user is None or (account.closed_at is not None and not closed):
        raise PaymentError("unknown_account", "account", _("There is no such account."))
    return account


def _asked_before(account: Account, direction: Direction, once: str, **content: Any) -> Payment | None:
    """Return the payment that was asked for with the same token; raise ``PaymentError`` when it was another one."""
    if not once:
        return None
    if len(once) > MAX_ONCE_LENGTH:
        raise PaymentError("invalid_value", "once", _("This form is broken. Load the page again."))
    known = Payment.objects.select_related("account__user").filter(
        account=account, direction=direction, once=once
    ).first()  # fmt: skip
    if known is None:
        return None
    for field, value in content.items():
        if getattr(known, field) != value:
            name = "amount" if field == "asked_e7" else field
            raise PaymentError("idempotency_conflict", name, _("This was sent before with another value."))
    return known


def _check_flood(account: Account, direction: Direction) -> None:
    if Payment.objects.filter(account=account, direction=direction, state__in=OPEN).count() >= MAX_OPEN:
        raise PaymentError("too_many_payments", "amount", _("Too many payments wait for the market operator already."))


def _reserve(exchange: Exchange, payment: Payment, now: datetime) -> None:
    """Take a withdrawal's money out of the wallet unless that is done; refused by the market, it is refused for good."""
    if payment.seq is not None:
        return
    if payment.state == State.REFUSED:
        raise PaymentError(payment.reason, "amount", _("The market refused this."))
    try:
        seq = post(exchange, payment, step="out", account=payment.account.index, amount_e7=-payment.amount_e7)
    except Refusal as error:
        move(payment, State.REFUSED, by=None, now=now, reason=error.code)
        raise
    Payment.objects.filter(pk=payment.pk).update(seq=seq)
    payment.seq = seq


# --- decided by staff -------------------------------------------------------------------------------------------------
def find(payment_id: int) -> Payment:
    """Return a payment; raise ``PaymentError`` when there is none."""
    payment = Payment.objects.select_related("account__user").filter(pk=payment_id).first()
    if payment is None:
        raise PaymentError("unknown_payment", "payment", _("There is no such payment."))
    return payment


def confirm(
    exchange: Exchange, *, payment_id: int, by: User | None, now: datetime, arrived_e7: int | None = None,
    steps: int | None = None,
) -> Payment:  # fmt: skip
    """Confirm a payment, or, above the limit, be the first of two who do; ``arrived_e7``: what came of a deposit.

    ``steps``: how many it had when it was looked at; since then it must not have changed.
    ``by`` None is the market itself, for the demo's play money. Raise ``PaymentError`` (already_decided,
    second_person, account_closed, …), ``Refusal``.
    """
    payment = find(payment_id)
    if payment.state == State.CONFIRMED and payment.seq is None:
        return _book(exchange, payment, now)
    if payment.state not in OPEN or steps not in (None, payment.steps):
        raise _decided()
    check_person(payment, by)
    amount_e7 = payment.amount_e7
    if payment.direction == Direction.OUT:
        _reserve(exchange, payment, now)
    elif wallet_of(payment.account) is None:
        raise PaymentError("account_closed", "account", _("This account is closed, and its owner has no other one."))
    elif arrived_e7 is not None and payment.state == State.REQUESTED:
        if not 0 < arrived_e7 <= MAX_AMOUNT_E7:
            raise PaymentError("invalid_amount", "amount", _("The amount must be between 0 and 100,000."))
        amount_e7 = arrived_e7
    if payment.state == State.REQUESTED and by is not None and needs_two(amount_e7):
        move(payment, State.SECOND, by=by, now=now, amount_e7=amount_e7, first_by=by.pk)
        return payment
    if payment.state == State.SECOND and (by is None or by.pk == payment.first_by):
        sentence = _("You have confirmed this already. Somebody else of the staff has to look at it, too.")
        raise PaymentError("second_person", "payment", sentence)
    move(payment, State.CONFIRMED, by=by, now=now, amount_e7=amount_e7, decided=True)
    return _book(exchange, payment, now) if payment.direction == Direction.IN else payment


def refuse(exchange: Exchange, *, payment_id: int, by: User, reason: str, now: datetime) -> Payment:
    """Refuse a payment; what was set aside goes back into the wallet, a transfer that arrived to those to be placed.

    Raise ``PaymentError``, ``Refusal``.
    """
    payment = find(payment_id)
    if payment.state == State.REFUSED and payment.seq is not None and payment.returned_seq is None:
        return _give_back(exchange, payment)
    if payment.state not in OPEN and not _waits_for_a_file(payment):
        raise _decided()
    check_person(payment, by)
    if reason not in (DEPOSIT_REASONS if payment.direction == Direction.IN else WITHDRAWAL_REASONS):
        raise PaymentError("invalid_value", "reason", _("Choose a reason."))
    if payment.direction == Direction.IN:
        with transaction.atomic():
            move(payment, State.REFUSED, by=by, now=now, reason=reason, decided=True)
            freed = {"state": BankItem.OPEN, "payment": None, "why": "refused", "decided_at": None, "decided_by": None}
            BankItem.objects.filter(payment=payment).update(**freed)
        return payment
    # Set aside first if that was cut short: what is not there cannot be given back, and nothing may come after.
    _reserve(exchange, payment, now)
    if wallet_of(payment.account) is None:
        sentence = _("This account is closed, and its owner has no other one: the money can only be paid out.")
        raise PaymentError("account_closed", "account", sentence)
    move(payment, State.REFUSED, by=by, now=now, reason=reason, decided=True)
    return _give_back(exchange, payment)


def pay_elsewhere(*, payment_id: int, iban: str, holder: str, by: User, now: datetime) -> Payment:
    """Give a withdrawal that cannot be refused, because its account is closed, another bank account.

    It waits for a decision, or is confirmed and in no file, or was refused and never given back. Whoever says which one is the
    first of two, whatever the amount; what was confirmed for the old one counts no more. Raise ``PaymentError`` (invalid_iban,
    invalid_holder, already_decided, can_be_refused, forbidden).
    """
    payment = find(payment_id)
    if payment.direction != Direction.OUT or not (
        payment.state in OPEN or _waits_for_a_file(payment) or _kept(payment)
    ):
        raise _decided()
    check_person(payment, by)
    if wallet_of(payment.account) is not None:
        sentence = _("Refuse it: the money goes back into the wallet, and the member says where it is to go.")
        raise PaymentError("can_be_refused", "payment", sentence)
    payment.iban, payment.holder = _bank_account(iban, holder)
    with transaction.atomic():
        move(payment, State.SECOND, by=by, now=now, reason=OTHER_ACCOUNT, first_by=by.pk)
        payment.save(update_fields=["iban", "holder"])  # by the instance: they are sealed
    return payment


def _waits_for_a_file(payment: Payment) -> bool:
    """Return whether a withdrawal is confirmed and the bank has not heard of it, or did not take it."""
    return payment.direction == Direction.OUT and payment.state == State.CONFIRMED and payment.file_id is None


def _kept(payment: Payment) -> bool:
    """Return whether a withdrawal was refused and its money is in no wallet. What was cut short after the entry is noted."""
    if payment.state != State.REFUSED or payment.seq is None or payment.returned_seq is not None:
        return False
    known = booked(payment, step="back")
    if known is not None:
        Payment.objects.filter(pk=payment.pk).update(returned_seq=known)
    return known is None


def _bank_account(iban: str, holder: str) -> tuple[str, str]:
    """Return IBAN and holder as banks take them; raise ``PaymentError``."""
    try:
        iban = references.plain_iban(iban)
    except ValueError as error:
        sentence = _("This is not an IBAN: a digit or its length is wrong.")
        raise PaymentError("invalid_iban", "iban", sentence) from error
    try:
        return iban, references.bank_text(holder)
    except ValueError as error:
        sentence = _("Write the name as the bank has it, in Latin letters, at most 70.")
        raise PaymentError("invalid_holder", "holder", sentence) from error


def check_person(payment: Payment, by: User | None) -> None:
    """Raise ``PaymentError`` unless somebody may decide about a payment: staff, and not its member."""
    if by is None:
        if not settings.DEMO:
            raise PaymentError("forbidden", "by", _("Only the market operator's staff may do this."))
    elif by.role != Role.STAFF or by.pk == payment.account.user_id:
        raise PaymentError("forbidden", "by", _("Only the market operator's staff may do this."))


def _decided() -> PaymentError:
    return PaymentError("already_decided", "payment", _("This payment has been decided already."))


def move(
    payment: Payment, after: State, *, by: User | None, now: datetime, reason: str = "", decided: bool = False,
    **changes: Any,
) -> None:  # fmt: skip
    """Take a payment to its next state and note who did; of two at the same moment one gets ``already_decided``.

    A deposit whose transfer is known goes on with the amount that arrived only, else ``PaymentError`` other_amount.
    """
    before = payment.state
    changes |= {"state": after, "reason": reason}
    if decided:
        changes |= {"decided_at": now, "decided_by": None if by is None else by.pk}
    with transaction.atomic():
        unmoved = Payment.objects.filter(pk=payment.pk, state=before, steps=payment.steps)
        if not unmoved.update(steps=F("steps") + 1, **changes):
            raise _decided()
        amount_e7 = changes.get("amount_e7", payment.amount_e7)
        known = BankItem.objects.filter(payment=payment).exclude(amount_e7=amount_e7)
        incoming = payment.direction == Direction.IN
        if incoming and after in (State.SECOND, State.CONFIRMED) and known.exists():
            sentence = _("The bank says that another amount has arrived. Load the page again.")
            raise PaymentError("other_amount", "amount", sentence)
        Transition.objects.create(
            payment=payment, n=payment.steps, before=before, after=after, at=now,
            by=None if by is None else by.pk, reason=reason,
        )  # fmt: skip
    for name, value in changes.items():
        setattr(payment, name, value)
    payment.steps += 1


def _book(exchange: Exchange, payment: Payment, now: datetime) -> Payment:
    """Put a confirmed deposit into the wallet; refused by the market, it waits for a decision again."""
    known = booked(payment, step="in")
    wallet = wallet_of(payment.account)
    if known is None and wallet is not None:
        try:
            known = post(exchange, payment, step="in", account=wallet.index, amount_e7=payment.amount_e7)
        except Refusal as error:
            move(payment, State.REQUESTED, by=None, now=now, reason=error.code)
            raise
    if known is None:
        move(payment, State.REQUESTED, by=None, now=now, reason="account_closed")
        raise PaymentError("account_closed", "account", _("This account is closed, and its owner has no other one."))
    with transaction.atomic():
        Payment.objects.filter(pk=payment.pk).update(seq=known)
        # Who paid is known by now; nobody has to be asked any more.
        items = BankItem.objects.filter(payment=payment)
        keys = [item.details_key for item in items if item.details]
        items.update(details="")
    for key in keys:
        keystore.store().destroy(key)
    payment.seq = known
    return payment


def _give_back(exchange: Exchange, payment: Payment) -> Payment:
    known = booked(payment, step="back")
    if known is None:
        wallet = wallet_of(payment.account)
        if wallet is None:
            raise PaymentError("account_closed", "account", _("This account is closed."))
        known = post(exchange, payment, step="back", account=wallet.index, amount_e7=payment.amount_e7)
    Payment.objects.filter(pk=payment.pk).update(returned_seq=known)
    payment.returned_seq = known
    return payment


# --- the demo ---------------------------------------------------------------------------------------------------------
def top_up(exchange: Exchange, *, account_index: int, now: datetime, once: str) -> Payment:
    """Give a member play money at once; only in the demo. Raise ``PaymentError``, ``Refusal``."""
    if not settings.DEMO:
        raise PaymentError("forbidden", "account", _("There is play money in the demo only."))
    payment = request_deposit(account_index=account_index, amount_e7=TOP_UP_E7, now=now, once=once)
    return payment if payment.seq is not None else confirm(exchange, payment_id=payment.pk, by=None, now=now)
