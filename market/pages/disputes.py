"""Objections: a household contests a reading or a line of its statement, the operator answers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from market.disputes import operations, queries
from market.disputes.models import Kind
from market.disputes.reasons import ACCEPTED, CLAIMS, DECLINED
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.households import accesslog
from market.households import queries as households
from market.households.models import Role
from market.households.operations import HouseholdError
from market.metering import queries as metering
from market.pages import privacy
from market.pages.context import market_now, running_exchange
from market.pages.forms import ScaledField
from market.pages.roles import only_for, problem_sentence
from market.pages.templatetags.market import day, energy, slot

OPERATORS = (Role.OPERATOR, Role.STAFF)
OFFERED = 96  # intervals whose readings can be chosen: the last day's
DAY_MS = 24 * 3_600_000
MAX_KWH = 10_000
TROUBLE = (HouseholdError, NotRunning, Overloaded, CommitFailed, TimeoutError)


def energy_field(**kwargs: Any) -> ScaledField:
    """Return a field for an energy in kWh, cleaned to Wh."""
    return ScaledField(decimal_places=3, max_value=MAX_KWH, **kwargs)


class ClaimForm(forms.Form):
    """What is contested and why."""

    contract = forms.ChoiceField(label=gettext_lazy("Interval"))
    code = forms.ChoiceField(label=gettext_lazy("What is wrong"), choices=list(CLAIMS.items()))
    import_wh = energy_field(label=gettext_lazy("Taken from the grid, by your meter, kWh"), required=False)
    export_wh = energy_field(
        label=gettext_lazy("Given to the grid, by your meter, kWh"),
        required=False,
        help_text=gettext_lazy("If you can read it."),
    )
    text = forms.CharField(
        label=gettext_lazy("In your own words"),
        max_length=operations.MAX_TEXT,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Only you and the operator read this."),
    )

    def __init__(self, *args: Any, intervals: list[tuple[str, str]], fixed: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["contract"].choices = intervals
        if fixed:
            self.fields["contract"].widget = forms.HiddenInput()
            self.fields["contract"].initial = intervals[0][0]


class AnswerForm(forms.Form):
    """What the operator found."""

    decision = forms.ChoiceField(choices=[("accept", "accept"), ("decline", "decline")])
    accepted = forms.ChoiceField(choices=list(ACCEPTED.items()), required=False)
    declined = forms.ChoiceField(choices=list(DECLINED.items()), required=False)
    import_wh = energy_field(required=False)
    export_wh = energy_field(required=False)
    text = forms.CharField(max_length=operations.MAX_TEXT, required=False)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("decision") == "accept" and None in (cleaned.get("import_wh"), cleaned.get("export_wh")):
            raise forms.ValidationError(_("Say what the right values are."))
        return cleaned


# --- the household's --------------------------------------------------------------------------------------------------
@never_cache
@only_for(Role.HOUSEHOLD)
@require_http_methods(["GET", "POST"])
def disputes(request: HttpRequest) -> HttpResponse:
    """Show a household's objections, with what contests a reading."""
    mine = households.account_of(request.user)
    if mine is None:
        return redirect("account")
    intervals = _intervals(operations.numbers(mine.index))
    form = ClaimForm(request.POST or None, intervals=intervals)
    if request.method == "POST" and _contested(request, form, mine.index, Kind.READING):
        return redirect("disputes")
    context = {"form": form, "disputes": queries.disputes_of(mine.index), "readings": bool(intervals)}
    return render(request, "home/disputes.html", context, status=422 if request.method == "POST" else 200)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_http_methods(["GET", "POST"])
def contest_line(request: HttpRequest, contract: str) -> HttpResponse:
    """Contest a line of the statement: the settlement of one interval."""
    mine = households.account_of(request.user)
    if mine is None:
        return redirect("account")
    form = ClaimForm(request.POST or None, intervals=[(contract, contract)], fixed=True)
    if request.method == "POST" and _contested(request, form, mine.index, Kind.LINE):
        return redirect("disputes")
    try:
        found = (operations.reading_of(one, contract) for one in operations.numbers(mine.index))
        reading = next((one for one in found if one is not None), None)
    except ValueError:
        return redirect("statement")
    context = {"form": form, "contract": contract, "reading": reading}
    return render(request, "home/contest.html", context, status=422 if request.method == "POST" else 200)


def _intervals(accounts: list[int]) -> list[tuple[str, str]]:
    """Return the intervals whose readings can be contested, newest first, with what the meter said: of all a home's numbers."""
    latest_ms = max((line.start_ms for one in accounts if (line := metering.latest(one)) is not None), default=None)
    if latest_ms is None:
        return []
    lines = [
        line for one in accounts for line in metering.day(one, start_ms=latest_ms - DAY_MS + 1, end_ms=latest_ms + 1)
    ]
    lines.sort(key=lambda line: line.start_ms)
    return [
        (
            line.contract,
            _("%(day)s %(slot)s: %(import)s taken, %(export)s given")
            % {
                "day": day(line.start_ms), "slot": slot(line.contract),
                "import": energy(line.import_wh), "export": energy(line.export_wh),
            },
        )
        for line in reversed(lines[-OFFERED:])
    ]  # fmt: skip


def _contested(request: HttpRequest, form: ClaimForm, account: int, kind: Kind) -> bool:
    if not form.is_valid():
        return False
    try:
        operations.contest(account_index=account, kind=kind, now=market_now(), **form.cleaned_data)
    except HouseholdError as error:
        shown = error.field in form.fields and not form[error.field].is_hidden
        form.add_error(error.field if shown else None, str(error.sentence))
        return False
    messages.success(request, _("Your objection is with the operator. The answer comes here."))
    return True


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def decide_own(request: HttpRequest, dispute_id: int) -> HttpResponse:
    """Agree with an answer, or contest it once."""
    mine = households.account_of(request.user)
    if mine is None:
        return redirect("account")
    how = {"dispute_id": dispute_id, "account_index": mine.index, "now": market_now()}
    try:
        if request.POST.get("decision") == "reopen":
            operations.reopen(text=request.POST.get("text", ""), **how)
            messages.success(request, _("The operator looks at it once more."))
        else:
            operations.close(**how)
            messages.success(request, _("Closed. Everything stays here to be read."))
    except HouseholdError as error:
        messages.error(request, str(error.sentence))
    return redirect("disputes")


# --- the operator's ---------------------------------------------------------------------------------------------------
@never_cache
@only_for(*OPERATORS)
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """Show the objections that wait for an answer."""
    waiting = queries.waiting()
    privacy.note(request, accesslog.ACCOUNT, accounts={one.account for one in waiting})
    context = {
        "tab": "disputes", "disputes": waiting, "accepted": list(ACCEPTED.items()), "declined": list(DECLINED.items()),
    }  # fmt: skip
    return render(request, "operator/disputes.html", context)


@never_cache
@only_for(*OPERATORS)
@require_POST
def answer(request: HttpRequest, dispute_id: int) -> HttpResponse:
    """Answer an objection."""
    form = AnswerForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(one for found in form.errors.values() for one in found))
        return redirect("operator-disputes")
    asked = form.cleaned_data
    how = {"dispute_id": dispute_id, "by": request.user, "text": asked["text"], "now": market_now()}
    try:
        if asked["decision"] == "accept":
            exchange = running_exchange()
            if exchange is None:
                raise NotRunning("no exchange runs in this process")
            operations.accept(
                exchange, code=asked["accepted"], import_wh=asked["import_wh"], export_wh=asked["export_wh"], **how
            )
            messages.success(request, _("Accepted: the corrected reading is on the ledger, settlement follows it."))
        else:
            operations.decline(code=asked["declined"], **how)
            messages.success(request, _("Declined. The household may contest the answer once."))
    except TROUBLE as error:
        messages.error(request, problem_sentence(error))
    return redirect("operator-disputes")


urlpatterns = [
    path("disputes", disputes, name="disputes"),
    path("disputes/lines/<str:contract>", contest_line, name="contest-line"),
    path("disputes/<int:dispute_id>", decide_own, name="decide-dispute"),
    path("operator/disputes", queue, name="operator-disputes"),
    path("operator/disputes/<int:dispute_id>", answer, name="answer-dispute"),
]
