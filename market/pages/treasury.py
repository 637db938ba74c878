"""The market operator's desk for money: what waits for a decision, what the bank says, what goes to the bank."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from ledger import queries as ledger_queries
from market.exchange.exchange import Exchange
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.exchange.units import parse_at
from market.grid import operations as grid
from market.grid import queries as grid_queries
from market.households import accesslog
from market.households.models import Role
from market.households.operations import HouseholdError
from market.pages import privacy
from market.pages.context import market_now, running_exchange
from market.pages.moneyforms import (
    ASIDE_CHOICES,
    DEPOSIT_CHOICES,
    WITHDRAWAL_CHOICES,
    ArrivedForm,
    PlaceForm,
    StatementForm,
)
from market.pages.roles import only_for, problem_sentence, tell_entry
from market.pages.templatetags.market import money as money_text
from market.payments import bank, operations, payouts, queries, returns
from market.payments.booking import PaymentError, wallet_of
from market.payments.models import Direction, Payment, State
from market.payments.reasons import TAKEN_BACK

TROUBLE = (HouseholdError, NotRunning, Overloaded, CommitFailed, TimeoutError)
SHOWN_DECISIONS = 20
SHOWN_LINES = 500  # transfers of a statement that are shown; all are booked
KINDS = ("deposit", "payout")
MAX_BANK_TEXT = 200  # characters of a form
MAX_STEPS_DIGITS = 9


@never_cache
@only_for(Role.STAFF)
@require_safe
def desk(request: HttpRequest) -> HttpResponse:
    """Show what waits."""
    return _show(request)


def _show(request: HttpRequest, upload: StatementForm | None = None) -> HttpResponse:
    deposits, withdrawals = queries.waiting(Direction.IN), [*queries.waiting(Direction.OUT), *queries.recallable()]
    steps = queries.steps_of([*deposits, *withdrawals])
    count, sum_e7 = queries.ready_for_bank()
    unplaced = queries.unplaced()
    context: dict[str, Any] = {
        "tab": "money",
        "deposits": [(one, steps[one.pk]) for one in deposits],
        "withdrawals": [(one, steps[one.pk], wallet_of(one.account) is None) for one in withdrawals],
        "deposit_reasons": DEPOSIT_CHOICES,
        "withdrawal_reasons": WITHDRAWAL_CHOICES,
        "aside_reasons": ASIDE_CHOICES,
        "upload": upload or StatementForm(),
        "files": queries.waiting_files(),
        "unplaced": unplaced,
        "ready_count": count,
        "ready_e7": sum_e7,
        "payout_files": queries.payout_files(),
        "limit_e7": operations.one_person_limit_e7(),
        "decisions": grid_queries.decisions(limit=SHOWN_DECISIONS, kinds=KINDS),
    }
    shown = {one.account for one in [*deposits, *withdrawals]}
    privacy.note(request, accesslog.ACCOUNT, accounts={account.index for account in shown})
    # A withdrawal shows whose bank account it goes to.
    people = {one.account.user_id for one in withdrawals if one.account.user_id is not None}
    privacy.note(request, accesslog.PEOPLE, people=people)
    return render(request, "staff/money.html", context, status=200 if upload is None else 422)


@never_cache
@only_for(Role.STAFF)
@require_POST
def decide(request: HttpRequest, payment_id: int) -> HttpResponse:
    """Confirm or refuse a payment, or send it to another bank account."""
    now = market_now()
    try:
        if request.POST.get("decision") == "refuse":
            reason = request.POST.get("reason", "")
            payment = operations.refuse(_exchange(), payment_id=payment_id, by=request.user, reason=reason, now=now)
            _tell_refused(request, payment)
        elif request.POST.get("decision") == "elsewhere":
            bank_account = {name: request.POST.get(name, "")[:MAX_BANK_TEXT] for name in ("iban", "holder")}
            operations.pay_elsewhere(payment_id=payment_id, by=request.user, now=now, **bank_account)
            messages.success(request, _("Noted. Somebody else of the staff confirms the other bank account."))
        elif request.POST.get("iban"):  # the enter key in the field presses the first button, which is another one
            sentence = _("Another bank account is typed in. Choose that button, or empty the field.")
            raise PaymentError("invalid_value", "iban", sentence)
        else:
            payment = operations.confirm(
                _exchange(), payment_id=payment_id, by=request.user, now=now, arrived_e7=_arrived(request),
                steps=_steps(request),
            )  # fmt: skip
            _tell_confirmed(request, payment)
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    return redirect("staff-money")


def _steps(request: HttpRequest) -> int | None:
    """Return how many steps the payment had on the page that was looked at; None where the page does not say."""
    text = request.POST.get("steps", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < MAX_STEPS_DIGITS else None


def _arrived(request: HttpRequest) -> int | None:
    if "arrived" not in request.POST:
        return None
    form = ArrivedForm(request.POST)
    if not form.is_valid():
        raise PaymentError("invalid_amount", "amount", " ".join(form.errors["arrived"]))
    return form.arrived_e7()


def _tell_refused(request: HttpRequest, payment: Payment) -> None:
    if payment.returned_seq is None:
        messages.success(request, _("The deposit is refused. Nothing was booked."))
        return
    _note(request, payment.returned_seq, "deposit", payment)
    sentence = _("The withdrawal is refused. The money is back in the wallet of account %(number)s.")
    tell_entry(request, sentence % {"number": payment.account.index}, payment.returned_seq)


def _tell_confirmed(request: HttpRequest, payment: Payment) -> None:
    if payment.state == State.SECOND:
        messages.success(request, _("Noted. It is above the limit: somebody else of the staff confirms it, too."))
        return
    assert payment.seq is not None, "a confirmed payment has its entry"
    number = {"number": payment.account.index}
    if payment.direction == Direction.IN:
        _note(request, payment.seq, "deposit", payment)
        tell_entry(request, _("The deposit is in the wallet of account %(number)s.") % number, payment.seq)
    else:
        _note(request, payment.seq, "payout", payment)
        sentence = _("The withdrawal of account %(number)s is confirmed. It goes into the next file for the bank.")
        tell_entry(request, sentence % number, payment.seq)


def _note(request: HttpRequest, seq: int, kind: str, payment: Payment) -> None:
    # A withdrawal's entry is from when it was asked for; it was decided later.
    decided_at = payment.decided_at
    at_ms = (
        parse_at(str(ledger_queries.entry(seq)["at"])) if decided_at is None else round(decided_at.timestamp() * 1000)
    )
    values = {"amount_e7": payment.amount_e7}
    grid.note_entry(
        seq=seq, at_ms=at_ms, by=request.user, kind=kind, target=str(payment.account.index), values=values
    )  # fmt: skip


# --- statements -------------------------------------------------------------------------------------------------------
@never_cache
@only_for(Role.STAFF)
@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    """Read a bank statement and show what it says; nothing is booked."""
    form = StatementForm(request.POST, request.FILES)
    if not form.is_valid():
        return _show(request, upload=form)
    try:
        bank.check_size(form.cleaned_data["file"].size)
        file = bank.take(data=form.cleaned_data["file"].read(), by=request.user, now=market_now())
    except HouseholdError as error:
        form.add_error("file", str(error.sentence))
        return _show(request, upload=form)
    return redirect("bank-file", file.pk)


@never_cache
@only_for(Role.STAFF)
@require_safe
def bank_file(request: HttpRequest, file_id: int) -> HttpResponse:
    """Show what a statement says and what booking it would do."""
    file = queries.bank_file(file_id)
    if file is None:
        messages.warning(request, _("This statement was booked or discarded already."))
        return redirect("staff-money")
    lines = bank.look(file)
    sums = {
        outcome: (sum(line.outcome == outcome for line in lines),
                  sum(_worth_e7(line) for line in lines if line.outcome == outcome))
        for outcome in (bank.MATCHED, bank.NOTED, bank.UNPLACED, bank.DUPLICATE, bank.OUTGOING, bank.PENDING)
    }  # fmt: skip
    context = {
        "tab": "money",
        "file": file,
        "lines": lines[:SHOWN_LINES],
        "hidden": max(0, len(lines) - SHOWN_LINES),
        "sums": sums,
        "two": sum(line.needs_two for line in lines),
    }
    privacy.note(request, accesslog.ACCOUNT, accounts={line.account for line in lines if line.account is not None})
    return render(request, "staff/bankfile.html", context)


def _worth_e7(line: bank.Line) -> int:
    """Return what a transfer adds to a sum: nothing in another currency, less than that when the bank takes it away."""
    if line.item.currency != settings.MARKET_CURRENCY:
        return 0
    return -line.item.amount_e7 if line.why == TAKEN_BACK else line.item.amount_e7


@never_cache
@only_for(Role.STAFF)
@require_POST
def decide_file(request: HttpRequest, file_id: int) -> HttpResponse:
    """Book what a statement says, or forget it."""
    try:
        if request.POST.get("decision") == "discard":
            bank.discard(file_id=file_id)
            messages.success(request, _("The statement is discarded. Nothing was booked."))
            return redirect("staff-money")
        done = bank.book(_exchange(), file_id=file_id, by=request.user, now=market_now())
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
        return redirect("staff-money")
    parts = [
        ngettext("%(count)s transfer is booked.", "%(count)s transfers are booked.", done.booked)
        % {"count": done.booked}
    ]
    if done.waiting:
        parts.append(_("Waiting for another decision: %(count)s.") % {"count": done.waiting})
    if done.unplaced:
        parts.append(_("To be placed by hand: %(count)s.") % {"count": done.unplaced})
    if done.left:
        parts.append(_("Not looked at yet: %(count)s. Book it once more.") % {"count": done.left})
    messages.success(request, " ".join(parts))
    return redirect("bank-file", file_id) if done.left else redirect("staff-money")


@never_cache
@only_for(Role.STAFF)
@require_POST
def place(request: HttpRequest, item_id: int) -> HttpResponse:
    """Book a transfer nobody could place into an account, leave it aside, or pay out again what came back with it."""
    try:
        if request.POST.get("decision") == "aside":
            reason = request.POST.get("reason", "")
            bank.set_aside(item_id=item_id, by=request.user, reason=reason, now=market_now())
            messages.success(request, _("The transfer is set aside. Nothing was booked."))
            return redirect("staff-money")
        if request.POST.get("decision") == "again":
            returns.reopen(item_id=item_id, by=request.user, now=market_now())
            messages.success(request, _("The withdrawal waits for a decision again, for this or another bank account."))
            return redirect("staff-money")
        form = PlaceForm(request.POST)
        if not form.is_valid():
            raise PaymentError("unknown_account", "account", _("Say which account it is for, by its number."))
        account = form.cleaned_data["account"]
        payment = bank.assign(_exchange(), item_id=item_id, account_index=account, by=request.user, now=market_now())
        _tell_confirmed(request, payment)
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    return redirect("staff-money")


# --- files for the bank -----------------------------------------------------------------------------------------------
@never_cache
@only_for(Role.STAFF)
@require_POST
def make_payouts(request: HttpRequest) -> HttpResponse:
    """Put all confirmed withdrawals into a file."""
    try:
        file = payouts.make(by=request.user, now=market_now())
    except HouseholdError as error:
        messages.error(request, str(error.sentence))
    else:
        sentence = _("File %(name)s with %(amount)s is ready. Download it and give it to the bank.")
        messages.success(request, sentence % {"name": file.message_id, "amount": money_text(file.sum_e7)})
    return redirect("staff-money")


@never_cache
@only_for(Role.STAFF)
@require_POST
def decide_payouts(request: HttpRequest, file_id: int) -> HttpResponse:
    """Note that the bank has a file, or make it void."""
    try:
        if request.POST.get("decision") == "void":
            payouts.void(file_id=file_id, by=request.user, now=market_now())
            messages.success(request, _("The file is void. Its withdrawals go into the next one."))
        else:
            payouts.hand_over(file_id=file_id, by=request.user, now=market_now())
            messages.success(request, _("Noted: the bank has the file."))
    except HouseholdError as error:
        messages.error(request, str(error.sentence))
    return redirect("staff-money")


@never_cache
@only_for(Role.STAFF)
@require_safe
def download(request: HttpRequest, file_id: int) -> HttpResponse:
    """Give a file for the bank: the same bytes each time."""
    file = queries.payout_file(file_id)
    if file is None:
        raise Http404
    try:
        data = payouts.content(file)
    except HouseholdError as error:
        messages.error(request, str(error.sentence))
        return redirect("staff-money")
    owners = file.payments.values_list("account__user_id", flat=True)
    privacy.note(request, accesslog.PEOPLE, people={owner for owner in owners if owner is not None})
    response = HttpResponse(data, content_type="application/xml")
    response["Content-Disposition"] = f'attachment; filename="{file.message_id}.xml"'
    return response


def _exchange() -> Exchange:
    exchange = running_exchange()
    if exchange is None:
        raise NotRunning("no exchange runs in this process")
    return exchange


urlpatterns = [
    path("staff/money", desk, name="staff-money"),
    path("staff/money/payments/<int:payment_id>", decide, name="decide-payment"),
    path("staff/money/statements", upload, name="upload-statement"),
    path("staff/money/statements/<int:file_id>", bank_file, name="bank-file"),
    path("staff/money/statements/<int:file_id>/decide", decide_file, name="decide-bank-file"),
    path("staff/money/transfers/<int:item_id>", place, name="place-transfer"),
    path("staff/money/payouts", make_payouts, name="make-payouts"),
    path("staff/money/payouts/<int:file_id>.xml", download, name="payout-file"),
    path("staff/money/payouts/<int:file_id>/decide", decide_payouts, name="decide-payouts"),
]
