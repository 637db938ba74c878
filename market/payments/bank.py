"""What the bank says has arrived: statements are read, shown, and booked when somebody of the staff says so.

A transfer that names a deposit's reference is booked as what arrived, whatever was announced; what nobody can place waits for
the staff. Whatever a file says twice, or two files say, is booked once, and what only looks like that is left to the staff.
A transfer is tied to its deposit in the transaction that writes down what arrived: whoever decides about the deposit
afterwards decides about that amount.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from market.exchange.exchange import Exchange
from market.households import keystore
from market.households.models import Account, User
from market.households.operations import HouseholdError
from market.payments import operations
from market.payments.booking import PaymentError, wallet_of
from market.payments.formats import camt053, safexml
from market.payments.models import BankFile, BankItem, Direction, Payment, State
from market.payments.reasons import ASIDE_REASONS, PAYOUT_RETURNED, TAKEN_BACK

BOOKED_AT_ONCE = 500  # transfers of one call; more are booked by calling again
QUERY_KEYS = 500  # keys of one query
WAITING_FILES = 20  # statements that are read and not booked yet
LOOKS = 5  # at a transfer whose deposit somebody decides at the same moment

_SENTENCES = {
    "file_too_large": _("The file is too large. A statement has at most 8 MB and 10,000 payments."),
    "file_encoding": _("The file is not in UTF-8, as bank statements are."),
    "file_entities": _("The file declares a document type or entities. No bank sends that; it was not read."),
    "file_malformed": _("The file is damaged or is no XML."),
    "file_kind": _("The file is no bank statement (camt.053, version 08 or 02)."),
}

# What becomes of a transfer when its file is booked.
MATCHED, NOTED, UNPLACED, DUPLICATE, OUTGOING, PENDING = (
    "matched", "noted", "unplaced", "duplicate", "outgoing", "pending",
)  # fmt: skip

# Only the exchange's process books; two of its threads that did so at once would look at the same transfers.
_one_at_a_time = threading.RLock()


class _Moved(Exception):
    """What was looked at has changed since; look again."""


class Line(NamedTuple):
    """A transfer of a statement and what becomes of it.

    ``payment`` is the deposit it names, or the payout that comes back with it, ``fresh`` that it needs another deposit for the
    same account. ``alike``: another statement has the like of it, whatever else there is to say of it.
    """

    item: camt053.Item
    outcome: str
    why: str = ""
    payment: Payment | None = None
    fresh: bool = False
    again: bool = False  # booking it was cut short
    alike: bool = False

    @property
    def account(self) -> int | None:
        """Return the number of the account the money is for."""
        return None if self.payment is None else self.payment.account.index

    @property
    def differs(self) -> bool:
        """Return whether another amount was announced."""
        payment = self.payment
        if payment is None or self.fresh or payment.direction == Direction.OUT:
            return False
        return payment.asked_e7 != self.item.amount_e7

    @property
    def needs_two(self) -> bool:
        """Return whether a second person has to confirm it."""
        return self.outcome == MATCHED and operations.needs_two(self.item.amount_e7)


class Done(NamedTuple):
    """What booking a file came to."""

    booked: int
    waiting: int  # for a second person, or for another decision
    unplaced: int
    left: int  # not looked at yet: call again


# --- reading ----------------------------------------------------------------------------------------------------------
def take(*, data: bytes, by: User | None, now: datetime) -> BankFile:
    """Keep a statement to look at; nothing is booked. Raise ``PaymentError``: file_…, file_known, file_of_another."""
    read = _read(data)
    for statement in read.statements:
        if settings.BANK_IBAN and statement.account != settings.BANK_IBAN:
            sentence = _("This is the statement of another account: %(account)s.") % {"account": statement.account}
            raise PaymentError("file_of_another", "file", sentence)
    digest = hashlib.sha256(data).hexdigest()
    known = BankFile.objects.filter(sha256=digest).exclude(state=BankFile.DISCARDED).first()
    if known is not None:
        raise PaymentError("file_known", "file", _("This file was read already."))
    if BankFile.objects.filter(state=BankFile.PREVIEW).count() >= WAITING_FILES:
        raise PaymentError("too_many_files", "file", _("Too many statements wait. Book or discard them first."))
    return BankFile.objects.create(
        sha256=digest,
        message_id=read.message_id[:80],
        received_at=now,
        by=None if by is None else by.pk,
        text=data.decode("utf-8-sig"),
    )


def check_size(size: int) -> None:
    """Raise ``PaymentError`` when a file is too large to be read at all."""
    try:
        safexml.check_size(size)
    except safexml.UnreadableFile as error:
        raise PaymentError(error.code, "file", _SENTENCES[error.code]) from None


def _read(data: bytes) -> camt053.BankFile:
    try:
        return camt053.read(data)
    except safexml.UnreadableFile as error:
        raise PaymentError(error.code, "file", _SENTENCES[error.code]) from error


def look(file: BankFile) -> list[Line]:
    """Return what a kept statement says and what booking it would do. [] once its text is gone."""
    return _lines(_items(file), file)


def _items(file: BankFile) -> list[camt053.Item]:
    if not file.text:
        return []
    return [item for statement in _read(file.text.encode()).statements for item in statement.items]


_Like = tuple[str, bool]  # ``like``, and whether the bank takes money away, which is not the like of what it gave


class _Known(NamedTuple):
    """What transfers are compared with. The last three grow from transfer to transfer."""

    payments: dict[str, Payment]  # by reference
    by_hand: set[int]  # payments that no transfer is tied to
    likes: set[_Like]  # of transfers in other files
    kept: set[tuple[str, str]]  # key and ``like`` of transfers
    seen: set[str]  # keys
    told: dict[_Like, str]  # by the like of this file's transfers: the statement that told of it first
    used: set[int]  # payments


def _lines(items: list[camt053.Item], file: BankFile) -> list[Line]:
    rows = _rows(BankItem.objects.all(), "key", {key for item in items for key in _keys(item)})
    elsewhere = BankItem.objects.exclude(file=file)
    ours = Payment.objects.select_related("account__user")
    payments = {
        row.reference: row for row in _rows(ours, "reference", {one for item in items for one in item.references})
    }
    ids = {row.pk for row in payments.values()}
    likes = {like for item in items for like in _likes(item)}
    known = _Known(
        payments,
        by_hand=ids - {row.payment_id for row in _rows(BankItem.objects.all(), "payment_id", ids)},
        likes={(row.like, row.why == TAKEN_BACK) for row in _rows(elsewhere, "like", likes)},
        kept={(row.key, row.like) for row in rows},
        seen={row.key for row in rows if not _unfinished(row, file)},
        told={},
        used=set(),
    )
    numbers = {row.key for row in rows}
    again = {row.key: row for row in rows if _unfinished(row, file)}
    # This file's own transfers tell themselves apart, one after the other, also once a part of them is booked.
    whose = {row.key: row.like for row in rows if row.like and row.file_id != file.pk}
    otherwise: set[str] = (
        set()
    )  # entries that came before, taken apart in another way: none of their parts is new for sure
    lines: list[Line] = []
    for item in items:
        counts = item.booked and (item.credit or item.reversal)
        another = counts and whose.setdefault(item.key, item.like) not in _likes(item)
        if another:
            otherwise.add(item.entry)
        elif counts and item.entry in otherwise and item.key not in numbers:
            another = True
        if another:
            item = item._replace(key=camt053.another_key(item.key, item.like))
        line = _line(item, known, another)
        if item.key in again:
            line = Line(item, MATCHED, payment=_of(again[item.key]), again=True)
        lines.append(line)
        if counts:
            known.seen.add(item.key)
            known.told.setdefault((item.like, not item.credit), item.statement)
        if line.payment is not None:
            known.used.add(line.payment.pk)
    return lines


def _keys(item: camt053.Item) -> tuple[str, str, str]:
    return item.key, camt053.another_key(item.key, item.like), item.old_key


def _likes(item: camt053.Item) -> tuple[str, str]:
    return item.like, item.old_like


def _alike(item: camt053.Item, known: _Known) -> bool:
    """Return whether another statement, or one read by an older version, has the like of a transfer."""
    if any((like, not item.credit) in known.likes for like in _likes(item)):
        return True
    # From before pages counted, in this file, too; from before such transfers had a like: nobody knows which page it was on.
    if item.old_key != item.key and any((item.old_key, like) in known.kept for like in ("", *_likes(item))):
        return True
    return known.told.get((item.like, not item.credit), item.statement) != item.statement


def _unfinished(row: BankItem, file: BankFile) -> bool:
    """Return whether booking this file was cut short between the transfer's row and its payment's decision."""
    payment = row.payment
    if row.file_id != file.pk or row.state != BankItem.BOOKED or payment is None or payment.direction == Direction.OUT:
        return False
    return payment.state == State.REQUESTED or (payment.state == State.CONFIRMED and payment.seq is None)


def _of(row: BankItem) -> Payment:
    assert row.payment is not None
    return row.payment


def _rows(rows, field: str, values: Iterable[object]) -> list:  # type: ignore[no-untyped-def,type-arg]
    """Return the rows whose field has one of many values."""
    wanted = sorted(values)  # type: ignore[type-var]
    if rows.model is BankItem:
        rows = rows.select_related("payment__account__user")
    found = []
    for start in range(0, len(wanted), QUERY_KEYS):
        found += list(rows.filter(**{f"{field}__in": wanted[start : start + QUERY_KEYS]}))
    return found


def _line(item: camt053.Item, known: _Known, another: bool) -> Line:
    """Return what becomes of a transfer. ``another``: its key was another one's."""
    if not item.booked:
        return Line(item, PENDING)
    if not item.credit and not item.reversal:
        return Line(item, OUTGOING)
    if item.key in known.seen:
        return Line(item, DUPLICATE)
    named = [known.payments[name] for name in item.references if name in known.payments]
    incoming = [payment for payment in named if payment.direction == Direction.IN]
    payment = incoming[0] if len(incoming) == 1 else None
    sent = [one for one in named if one.direction == Direction.OUT and one.state == State.SENT]
    returned = sent[0] if item.credit and len(sent) == 1 and not incoming else None
    why, alike = "", _alike(item, known)
    if not item.credit:
        why = TAKEN_BACK
    elif item.amount_e7 == 0 or item.currency != settings.MARKET_CURRENCY:
        why = "other_currency"
    elif item.amount_e7 > operations.MAX_AMOUNT_E7:
        why = "too_large"
    elif item.reversal:
        why = "reversal"
    elif another:
        why = "same_number"
    elif alike:
        why = "possible_duplicate"
    elif len(incoming) > 1:
        why = "several_references"
    elif payment is None:
        why = "unknown_reference" if item.references else "no_reference"
        if sent:
            why = PAYOUT_RETURNED
    elif wallet_of(payment.account) is None:
        why = "account_closed"
    if why or payment is None:
        return Line(item, UNPLACED, why, returned, alike=alike)
    if payment.pk in known.used or payment.pk not in known.by_hand or payment.state == State.REFUSED:
        return Line(item, MATCHED, payment=payment, fresh=True)
    if payment.state == State.REQUESTED:
        return Line(item, MATCHED, payment=payment)
    if payment.amount_e7 == item.amount_e7:  # somebody saw it at the bank before the statement came
        return Line(item, NOTED, payment=payment)
    return Line(item, UNPLACED, "booked_by_hand", payment)


# --- booking ----------------------------------------------------------------------------------------------------------
def book(exchange: Exchange, *, file_id: int, by: User, now: datetime) -> Done:
    """Book what a kept statement says; call again while something is left. Raise ``PaymentError``, ``Refusal``.

    Cut short, it goes on where it stopped: each transfer's row comes first and holds its place.
    """
    with _one_at_a_time:
        return _book(exchange, _waiting(file_id), by, now)


def _book(exchange: Exchange, file: BankFile, by: User, now: datetime) -> Done:
    booked = waiting = unplaced = done = left = 0
    for line in _lines(_items(file), file):
        if line.outcome not in (MATCHED, NOTED, UNPLACED):
            continue
        if done >= BOOKED_AT_ONCE:
            left += 1
            continue
        done += 1
        line, payment = _tie(file, line, now)
        if line.outcome == UNPLACED:
            unplaced += _keep(file, line)
        if payment is None or line.outcome == NOTED:
            continue
        try:
            payment = operations.confirm(
                exchange, payment_id=payment.pk, by=by, now=now, arrived_e7=line.item.amount_e7
            )
        except HouseholdError:  # it stays on the staff's list, which says why; the others do not wait for it
            waiting += 1
            continue
        booked += payment.state == State.CONFIRMED
        waiting += payment.state == State.SECOND
    if not left:
        _forget_text(file, BankFile.BOOKED)
    return Done(booked, waiting, unplaced, left)


def discard(*, file_id: int) -> None:
    """Forget a statement that was not booked. Raise ``PaymentError``: already_decided, booked_in_part."""
    with _one_at_a_time:
        file = _waiting(file_id)
        if file.items.exists():
            sentence = _("A part of this statement is booked already. Book the rest, too.")
            raise PaymentError("booked_in_part", "file", sentence)
        _forget_text(file, BankFile.DISCARDED)


def _waiting(file_id: int) -> BankFile:
    file = BankFile.objects.filter(pk=file_id, state=BankFile.PREVIEW).first()
    if file is None:
        raise PaymentError("already_decided", "file", _("This statement was booked or discarded already."))
    return file


def _forget_text(file: BankFile, state: str) -> None:
    BankFile.objects.filter(pk=file.pk).update(state=state, text="")
    keystore.store().destroy(file.key)


def _row(file: BankFile, line: Line, **fields: object) -> BankItem:
    item = line.item
    return BankItem(
        file=file, key=item.key, like=item.like, amount_e7=item.amount_e7, currency=item.currency[:3],
        booked_on=item.booked_on, **fields,
    )  # fmt: skip


def _keep(file: BankFile, line: Line) -> int:
    """Keep a transfer that somebody has to place; return whether it is new."""
    item, payment = line.item, line.payment
    returned = payment if payment is not None and payment.direction == Direction.OUT else None
    details = orjson.dumps({"payer": item.payer, "iban": item.payer_iban, "text": item.text}).decode()
    try:
        with transaction.atomic():
            _row(
                file, line, state=BankItem.OPEN, why=line.why, alike=line.alike, payment=returned, details=details
            ).save()
    except IntegrityError:
        return 0
    return 1


def _tie(file: BankFile, line: Line, now: datetime) -> tuple[Line, Payment | None]:
    """Tie a transfer to its deposit; return what became of it and the deposit, None where there is none to confirm."""
    for _again in range(LOOKS):
        if line.outcome not in (MATCHED, NOTED):
            return line, None
        try:
            return line, _claim(file, line, now)
        except _Moved:
            line = _lines([line.item], file)[0]
    return Line(line.item, UNPLACED, "booked_by_hand"), None


def _claim(file: BankFile, line: Line, now: datetime) -> Payment | None:
    """Tie a transfer to its deposit, or to another one for the same account; None when it is tied already.

    Raise ``_Moved`` where the deposit was decided or tied to another transfer since it was looked at.
    """
    payment = line.payment
    assert payment is not None
    known = BankItem.objects.filter(key=line.item.key).select_related("payment").first()
    if known is not None:
        return known.payment if line.again else None
    try:
        with transaction.atomic():
            if line.fresh:
                payment = operations.new_payment(
                    account=payment.account, direction=Direction.IN, amount_e7=line.item.amount_e7,
                    once=f"item:{line.item.key}", now=now,
                )  # fmt: skip
            else:
                _write_arrived(payment, line.item)
            _row(file, line, state=BankItem.BOOKED, payment=payment).save()
            others = BankItem.objects.exclude(file=file).exclude(why=TAKEN_BACK)
            if others.filter(like__in=_likes(line.item)).exists():
                raise _Moved
    except IntegrityError:
        return None
    return payment


def _write_arrived(payment: Payment, item: camt053.Item) -> None:
    """Make a deposit's amount what arrived. The update holds the row: who decides at the same moment sees all or nothing."""
    rows = Payment.objects.filter(pk=payment.pk, state=payment.state, steps=payment.steps)
    decided = payment.state != State.REQUESTED  # by hand, with the same amount
    if not rows.update(amount_e7=F("amount_e7") if decided else item.amount_e7) or payment.items.exists():
        raise _Moved


# --- by hand ----------------------------------------------------------------------------------------------------------
def assign(exchange: Exchange, *, item_id: int, account_index: int, by: User, now: datetime) -> Payment:
    """Book a transfer nobody could place into an account. Raise ``PaymentError``, ``Refusal``."""
    item = open_item(item_id)
    if item.why == TAKEN_BACK:
        sentence = _("The bank has taken this money away again. Settle it with the member, then leave it aside.")
        raise PaymentError("taken_back", "account", sentence)
    account = Account.objects.select_related("user").filter(index=account_index).first()
    if account is None or account.user_id is None or wallet_of(account) is None:
        raise PaymentError("unknown_account", "account", _("There is no such open account of a member."))
    if item.currency != settings.MARKET_CURRENCY or item.amount_e7 == 0:
        raise PaymentError("other_currency", "account", _("It is in another currency: it can only be set aside."))
    with transaction.atomic():
        # Not by the transfer's key: it may come back to the list and go to the same account after all.
        payment = operations.new_payment(account=account, direction=Direction.IN, amount_e7=item.amount_e7, now=now)
        decided = {"state": BankItem.BOOKED, "payment": payment, "decided_at": now, "decided_by": by.pk}
        if not BankItem.objects.filter(pk=item.pk, state=BankItem.OPEN).update(**decided):
            raise placed()
    return operations.confirm(exchange, payment_id=payment.pk, by=by, now=now)


def set_aside(*, item_id: int, by: User, reason: str, now: datetime) -> None:
    """Note that a transfer is not booked into any account. Raise ``PaymentError``."""
    if reason not in ASIDE_REASONS:
        raise PaymentError("invalid_value", "reason", _("Choose a reason."))
    item = open_item(item_id)
    decided = {"state": BankItem.ASIDE, "reason": reason, "decided_at": now, "decided_by": by.pk}
    if not BankItem.objects.filter(pk=item.pk, state=BankItem.OPEN).update(details="", **decided):
        raise placed()
    keystore.store().destroy(item.details_key)


def open_item(item_id: int) -> BankItem:
    """Return a transfer that waits for somebody to place it; raise ``PaymentError``."""
    item = BankItem.objects.filter(pk=item_id, state=BankItem.OPEN).first()
    if item is None:
        raise placed()
    return item


def placed() -> PaymentError:
    """Return what is said of a transfer that waits no more."""
    return PaymentError("already_decided", "item", _("Somebody has placed this transfer already."))
