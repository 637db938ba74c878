"""Who else may read or trade for a household: the list, giving a consent, and the link by which a third party asks for one."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from market.households import consents, keys
from market.households.models import KEY_NAME_LENGTH, Role
from market.households.operations import HouseholdError
from market.pages.account import first_time
from market.pages.again import freshly, typed
from market.pages.forms import SCOPE_WORDS, OnceForm
from market.pages.roles import only_for
from market.pages.zones import shown_zone

USUAL_DAYS = 90  # what the form proposes where nobody said until when


class ConsentForm(OnceForm):
    """Who may do what, until when."""

    party = forms.CharField(
        label=gettext_lazy("Who"), max_length=KEY_NAME_LENGTH,
        help_text=gettext_lazy("The company or person, as you know them."),
    )  # fmt: skip
    scopes = forms.MultipleChoiceField(label=gettext_lazy("They may"), widget=forms.CheckboxSelectMultiple)
    until = forms.DateField(
        label=gettext_lazy("Last day"), widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        allowed = keys.allowed_scopes(Role.HOUSEHOLD)
        self.fields["scopes"].choices = [(scope, SCOPE_WORDS[scope]) for scope in keys.SCOPES if scope in allowed]
        today = timezone.now().astimezone(shown_zone()).date()
        limits = {"min": today.isoformat(), "max": (today + timedelta(days=consents.MAX_DAYS - 1)).isoformat()}
        self.fields["until"].widget.attrs.update(limits)


def _end_of(day: date) -> datetime:
    """Return the end of a day, by the clock of who chose it; of one too far away to have one, its beginning."""
    if day >= date.max - timedelta(days=1):
        return datetime.combine(day, time.min, tzinfo=UTC)
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=shown_zone())


@never_cache
@only_for(Role.HOUSEHOLD)
@require_safe
def consents_page(request: HttpRequest) -> HttpResponse:
    """Show who may act for this household."""
    return _show(request)


def _show(request: HttpRequest, *, status: int = 200, wrong: int = 0, error: str = "") -> HttpResponse:
    rows = consents.consents_of(request.user, now=timezone.now())
    context = {
        "rows": [
            (row, [str(SCOPE_WORDS.get(scope, scope)) for scope in row.scopes], _wanted(request, row) or _last_day(row))
            for row in rows
        ],
        "wrong": wrong,
        "error": error,
        "today": timezone.now().astimezone(shown_zone()).date(),
        "request_link": request.build_absolute_uri("/consent") + "?name=…&scopes=read+trade&until=…",
    }
    return render(request, "account/consents.html", context, status=status)


def _wanted(request: HttpRequest, row: consents.ConsentView) -> date | None:
    """Return the day that was chosen for a consent before its giver was asked who they are."""
    try:
        return parse_date(typed(request, reverse("change-consent", args=[row.id])).get("until", ""))
    except ValueError:
        return None


def _last_day(row: consents.ConsentView) -> date:
    return (row.expires_at - timedelta(microseconds=1)).astimezone(shown_zone()).date()


def _asked(request: HttpRequest) -> dict[str, Any]:
    """Return what a third party's link asks for, as far as it can be read; all of it is only a proposal."""
    today = timezone.now().astimezone(shown_zone()).date()
    allowed = keys.allowed_scopes(Role.HOUSEHOLD)
    try:
        until = parse_date(request.GET.get("until", ""))
    except ValueError:
        until = None
    latest = today + timedelta(days=consents.MAX_DAYS - 1)
    wanted = request.GET.get("scopes", keys.READ).replace(",", " ").split()
    return {
        "party": request.GET.get("name", "")[:KEY_NAME_LENGTH],
        "scopes": [scope for scope in wanted if scope in allowed],
        "until": min(max(until or today + timedelta(days=USUAL_DAYS), today), latest),
    }


@never_cache
@only_for(Role.HOUSEHOLD)
@require_http_methods(["GET", "POST"])
@freshly(changes_only=True, unless=lambda request: request.POST.get("decision") == "no")
def consent(request: HttpRequest) -> HttpResponse:
    """Ask a household whether it agrees to what a link asks for (or what it has in mind itself), and take the answer."""
    asked = "name" in request.GET
    form = ConsentForm(request.POST or None, initial=_asked(request) | typed(request, request.path, many=("scopes",)))
    if request.method == "POST" and request.POST.get("decision") == "no":
        messages.success(request, _("Nothing was allowed."))
        return redirect("consents")
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        if not first_time(request, values["once"]):
            messages.warning(request, _("This was allowed already. The key is not shown a second time."))
            return redirect("consents")
        try:
            granted = consents.grant(
                user=request.user,
                party=values["party"],
                scopes=values["scopes"],
                expires_at=_end_of(values["until"]),
                now=timezone.now(),
            )
        except HouseholdError as error:
            form.renew()
            field = "until" if error.field == "expires_at" else error.field
            form.add_error(field if field in form.fields else None, str(error.sentence))
        else:
            # Shown in the answer itself: a redirect would need the secret to be kept somewhere.
            return render(request, "account/consent_given.html", {"granted": granted, "until": values["until"]})
    context = {"form": form, "asked": asked, "trades": keys.TRADE in (form["scopes"].value() or [])}
    return render(request, "account/consent.html", context, status=422 if form.errors else 200)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
@freshly(back="consents", unless=lambda request: request.POST.get("decision") == "withdraw")
def change(request: HttpRequest, consent_id: int) -> HttpResponse:
    """Withdraw a consent, or let it end on another day."""
    now = timezone.now()
    try:
        if request.POST.get("decision") == "withdraw":
            consents.withdraw(user=request.user, consent_id=consent_id, now=now)
            messages.success(request, _("Withdrawn: they may do nothing for you any more."))
            return redirect("consents")
        day = parse_date(request.POST.get("until", ""))
        if day is None:
            raise ValueError("no date")
        consents.extend(user=request.user, consent_id=consent_id, expires_at=_end_of(day), now=now)
    except ValueError:
        return _show(request, status=422, wrong=consent_id, error=_("Choose a day."))
    except HouseholdError as error:
        if error.code == "unknown_consent":
            messages.warning(request, str(error.sentence))
            return redirect("consents")
        return _show(request, status=422, wrong=consent_id, error=str(error.sentence))
    messages.success(request, _("Changed."))
    return redirect("consents")


urlpatterns = [
    path("account/consents", consents_page, name="consents"),
    path("account/consents/<int:consent_id>", change, name="change-consent"),
    path("consent", consent, name="consent"),
]
