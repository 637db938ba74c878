"""A household contests a reading or a statement line; the operator answers; nothing is ever overwritten.

What is accepted becomes a corrected version of the reading, from which settlement makes its ``adjust`` entry. First the
objection notes the values it is accepted with, then comes the reading, then the answer: cut short in between, it can only be
accepted again with these values, which finds the reading and goes on.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from market.disputes.models import Dispute, Kind, State, Step
from market.disputes.reasons import ACCEPTED, CLAIMS, DECLINED
from market.engine.contracts import contract_start_ms
from market.exchange.exchange import Exchange
from market.households.models import Account, Role, User
from market.households.operations import HouseholdError
from market.metering import operations as metering
from market.metering import queries as readings
from market.metering import validation
from market.metering.models import Quality
from market.metering.queries import ReadingLine
from market.settlement import queries as settlement
from market.settlement.statement_queries import numbers_of

MAX_OPEN = 20  # of one home, so that nobody floods the operator's list
MAX_TEXT = 1_000
SALT_BYTES = 16
ANSWERED = (State.ACCEPTED, State.DECLINED)
OFFICIALS = (Role.OPERATOR, Role.STAFF)

_accepting = threading.Lock()  # the process that has the exchange accepts one objection at a time


class DisputeError(HouseholdError):
    """Nothing was changed. ``code`` is stable, ``field`` names the input at fault, ``sentence`` says it to a person."""


def reading_of(account_index: int, contract: str) -> ReadingLine | None:
    """Return an account's newest reading in a contract, or None."""
    start_ms = contract_start_ms(contract)
    found = readings.day(account_index, start_ms=start_ms, end_ms=start_ms + 1)
    return found[0] if found else None


def numbers(account_index: int) -> list[int]:
    """Return the number of an account and those its owner had before: one home has one list of objections."""
    account = Account.objects.select_related("user").filter(index=account_index).first()
    if account is None or account.user is None:
        return [account_index]
    return numbers_of(account.user, account_index)


def _account_then(account: Account, kind: str, contract: str) -> Account:
    """Return the account under which a home has its reading or line of a contract; the present one where there is none."""
    for index in numbers(account.index):
        found = settlement.newest_line(index, contract) if kind == Kind.LINE else reading_of(index, contract)
        if found is not None:
            return Account.objects.select_related("user").get(index=index)
    return account


# --- by the household -------------------------------------------------------------------------------------------------
def contest(
    *,
    account_index: int,
    kind: str,
    contract: str,
    code: str,
    text: str,
    now: datetime,
    import_wh: int | None = None,
    export_wh: int | None = None,
) -> Dispute:
    """Contest the newest reading of a home in a contract, or its settlement; the same thing once.

    ``account_index``: the home's present number; what stands under an earlier one is contested there.
    ``import_wh``/``export_wh``: what the household says it was. Raise ``DisputeError`` (unknown_contract, no_reading,
    not_settled, already_contested, …).
    """
    _check_claim(code, text, import_wh, export_wh)
    account = Account.objects.select_related("user").filter(index=account_index).first()
    if account is None or account.user is None:
        raise DisputeError("unknown_account", "account", _("There is no such account."))
    try:
        account = _account_then(account, kind, contract)
        reading = reading_of(account.index, contract)
    except ValueError:
        raise DisputeError("unknown_contract", "contract", _("There is no such interval.")) from None
    if kind == Kind.READING:
        if reading is None:
            raise DisputeError("no_reading", "contract", _("There is no reading of yours for this interval."))
        seq = reading.seq
    elif kind == Kind.LINE:
        line = settlement.newest_line(account.index, contract)
        if line is None:
            raise DisputeError("not_settled", "contract", _("This interval is not settled yet."))
        seq = line.seq
    else:
        raise DisputeError("invalid_value", "kind", _("A reading or a line can be contested."))
    if Dispute.objects.filter(account__user=account.user, state=State.OPEN).count() >= MAX_OPEN:
        raise DisputeError(
            "too_many_disputes", "contract", _("Too many of your objections wait for an answer already.")
        )
    try:
        with transaction.atomic():
            dispute = Dispute.objects.create(
                account=account, kind=kind, contract=contract, seq=seq, opened_at=now, steps=1,
                import_wh=None if reading is None else reading.import_wh,
                export_wh=None if reading is None else reading.export_wh,
            )  # fmt: skip
            _note(dispute, 0, "", State.OPEN, now=now, by=None, code=code, text=text, values=(import_wh, export_wh))
    except IntegrityError:
        raise DisputeError("already_contested", "contract", _("You have contested this already.")) from None
    return dispute


def reopen(*, dispute_id: int, account_index: int, text: str, now: datetime) -> Dispute:
    """Contest an answer, once. Raise ``DisputeError``."""
    dispute = _own(dispute_id, account_index)
    if not text.strip():
        raise DisputeError("invalid_value", "text", _("Say what is still wrong."))
    _check_text(text)
    if dispute.state != State.DECLINED or dispute.reopened:
        raise DisputeError("cannot_reopen", "dispute", _("An answer can be contested once, while it is not closed."))
    move(dispute, State.OPEN, now=now, by=None, code="again", text=text, reopened=True)
    return dispute


def close(*, dispute_id: int, account_index: int, now: datetime) -> Dispute:
    """Agree with an answer. Raise ``DisputeError``."""
    dispute = _own(dispute_id, account_index)
    if dispute.state not in ANSWERED:
        raise DisputeError("not_answered", "dispute", _("This has no answer yet, or is closed already."))
    move(dispute, State.CLOSED, now=now, by=None, code="agreed", text="")
    return dispute


def _own(dispute_id: int, account_index: int) -> Dispute:
    dispute = Dispute.objects.select_related("account__user").filter(
        pk=dispute_id, account__index__in=numbers(account_index)
    ).first()  # fmt: skip
    if dispute is None:
        raise DisputeError("unknown_dispute", "dispute", _("There is no such objection of yours."))
    return dispute


def _check_claim(code: str, text: str, import_wh: int | None, export_wh: int | None) -> None:
    if code not in CLAIMS:
        raise DisputeError("invalid_value", "code", _("Choose a reason."))
    _check_text(text)
    _check_energy(import_wh, "import_wh")
    _check_energy(export_wh, "export_wh")


def _check_text(text: str) -> None:
    if len(text) > MAX_TEXT or "\0" in text:
        raise DisputeError("invalid_value", "text", _("The text may have at most 1,000 characters."))


def _check_energy(value: int | None, field: str) -> None:
    if value is not None and not 0 <= value <= metering.MAX_READING_WH:
        raise DisputeError("energy_out_of_range", field, _("This is no energy a home's meter can show."))


# --- by the operator --------------------------------------------------------------------------------------------------
def decline(*, dispute_id: int, by: User, code: str, text: str, now: datetime) -> Dispute:
    """Answer that the value or line stands. Raise ``DisputeError``."""
    dispute = _open(dispute_id, by)
    if code not in DECLINED:
        raise DisputeError("invalid_value", "code", _("Choose a reason."))
    _check_text(text)
    if dispute.granted_import_wh is not None:
        raise _answered()
    move(dispute, State.DECLINED, now=now, by=by.pk, code=code, text=text)
    return dispute


def accept(
    exchange: Exchange,
    *,
    dispute_id: int,
    by: User,
    code: str,
    text: str,
    import_wh: int,
    export_wh: int,
    now: datetime,
) -> Dispute:
    """Answer with the right value, in Wh: a corrected version of the reading, which settlement adjusts by.

    Raise ``DisputeError``; what metering does not take (nothing_to_change, already_settled, …) is not answered. Whatever else
    is raised leaves an objection that can only be accepted, with the same values.
    """
    if code not in ACCEPTED:
        raise DisputeError("invalid_value", "code", _("Choose a reason."))
    _check_text(text)
    _check_energy(import_wh, "import_wh")
    _check_energy(export_wh, "export_wh")
    values = (import_wh, export_wh)
    with _accepting:
        dispute = _open(dispute_id, by)
        _grant(dispute, values)
        try:
            seq = _correct(exchange, dispute, import_wh, export_wh)
        except DisputeError:
            _release(dispute, values)
            raise
        move(dispute, State.ACCEPTED, now=now, by=by.pk, code=code, text=text, values=values, corrected_seq=seq)
    return dispute


def _open(dispute_id: int, by: User) -> Dispute:
    dispute = Dispute.objects.select_related("account__user").filter(pk=dispute_id).first()
    if dispute is None:
        raise DisputeError("unknown_dispute", "dispute", _("There is no such objection."))
    if by.role not in OFFICIALS or by.pk == dispute.account.user_id:
        raise DisputeError("forbidden", "by", _("Only the operators answer objections."))
    if dispute.state != State.OPEN:
        raise _answered()
    return dispute


def _answered() -> DisputeError:
    return DisputeError("already_decided", "dispute", _("This objection has been answered already."))


def _grant(dispute: Dispute, values: tuple[int, int]) -> None:
    """Note what an objection is accepted with, unless it is answered otherwise meanwhile."""
    unmoved = Dispute.objects.filter(pk=dispute.pk, state=State.OPEN, steps=dispute.steps)
    free = Q(granted_import_wh=None) | Q(granted_import_wh=values[0], granted_export_wh=values[1])
    if not unmoved.filter(free).update(granted_import_wh=values[0], granted_export_wh=values[1]):
        dispute.refresh_from_db(fields=("state", "steps", "granted_import_wh", "granted_export_wh"))
        granted = dispute.granted_import_wh, dispute.granted_export_wh
        if dispute.state != State.OPEN or None in granted:
            raise _answered()
        sentence = _(
            "It is being accepted already with %(import)s Wh taken and %(export)s Wh given. Answer with these."
        )
        shown = {"import": granted[0], "export": granted[1]}
        raise DisputeError("already_decided", "import_wh", sentence % shown)
    dispute.granted_import_wh, dispute.granted_export_wh = values


def _release(dispute: Dispute, values: tuple[int, int]) -> None:
    """The reading was not taken: another answer can be given, unless an earlier call had recorded it."""
    known = reading_of(dispute.account.index, dispute.contract)
    recorded = known is not None and (known.import_wh, known.export_wh) == values
    if recorded and values != (dispute.import_wh, dispute.export_wh):
        return
    Dispute.objects.filter(pk=dispute.pk, state=State.OPEN, steps=dispute.steps).update(
        granted_import_wh=None, granted_export_wh=None
    )
    dispute.granted_import_wh = dispute.granted_export_wh = None


def _correct(exchange: Exchange, dispute: Dispute, import_wh: int, export_wh: int) -> int:
    """Record the right value as decided and return its readings entry; one that an earlier call recorded counts."""
    account = dispute.account
    known = reading_of(account.index, dispute.contract)
    if known is not None and (known.import_wh, known.export_wh) == (import_wh, export_wh):
        contested = (dispute.import_wh, dispute.export_wh)
        if contested == (import_wh, export_wh):
            raise DisputeError("nothing_to_change", "import_wh", _("This is the value that is contested."))
        if known.reason == validation.DECIDED:
            return known.seq
    corrected = metering.ReadingIn(
        account.index,
        import_wh,
        export_wh,
        None if known is None else known.produced_wh,
        None if known is None else known.used_wh,
        Quality.CORRECTED.value,
        # Without it whatever the device sends next, or sent before and is looked at again, would undo the answer.
        validation.DECIDED,
    )
    try:
        done = metering.record_batches(
            exchange=exchange,
            contract=dispute.contract,
            batches={account.area: [corrected]},
            now_ms=exchange.now_ms(),
            as_given=True,
        )
    except (metering.InvalidReading, metering.ReadingsRefused) as error:
        sentence = _("No corrected reading is taken for this interval any more.")
        raise DisputeError(error.code, "contract", sentence) from error
    assert done.seq is not None, "what was not decided before is new"
    return done.seq


def move(
    dispute: Dispute,
    after: State,
    *,
    now: datetime,
    by: int | None,
    code: str,
    text: str,
    values: tuple[int | None, int | None] = (None, None),
    **changes: object,
) -> None:
    """Take a dispute to its next state and note who did; of two at the same moment one gets ``already_decided``."""
    before = dispute.state
    with transaction.atomic():
        unmoved = Dispute.objects.filter(
            pk=dispute.pk, state=before, steps=dispute.steps, granted_import_wh=dispute.granted_import_wh
        )
        if not unmoved.update(state=after, steps=F("steps") + 1, **changes):
            raise _answered()
        _note(dispute, dispute.steps, before, after, now=now, by=by, code=code, text=text, values=values)
    for name, value in {"state": after, **changes}.items():
        setattr(dispute, name, value)
    dispute.steps += 1


def _note(
    dispute: Dispute, n: int, before: str, after: str, *, now: datetime, by: int | None, code: str, text: str,
    values: tuple[int | None, int | None],
) -> None:  # fmt: skip
    text = text.strip()
    salt = secrets.token_hex(SALT_BYTES)
    Step.objects.create(
        dispute=dispute, n=n, before=before, after=after, at=now, by=by, code=code,
        # The salt stands before the text: who may read the text can check the commitment.
        text=f"{salt}:{text}" if text else "",
        commitment=hashlib.sha256(f"{salt}:{text}".encode()).hexdigest() if text else "",
        import_wh=values[0], export_wh=values[1],
    )  # fmt: skip
