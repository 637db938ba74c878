"""The bell's page: what happened, what devices are told, and which they are."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.households.models import Role
from market.notices import kinds, operations, queries, webpush, words
from market.notices.kinds import Notice
from market.notices.operations import NoticeError, Wanted
from market.pages.roles import only_for

IN_THE_BELL = 8  # newest ones in the list that opens on every page

KIND_LABELS = {
    kinds.SOLD: gettext_lazy("I sold energy"),
    kinds.BOUGHT: gettext_lazy("I bought energy"),
    kinds.MONEY: gettext_lazy("Money arrived or left"),
    kinds.ORDER: gettext_lazy("An order ended without a trade, or was taken back"),
    kinds.CORRECTION: gettext_lazy("A settlement or trade was corrected"),
    kinds.OBJECTION: gettext_lazy("An objection of mine was answered"),
    kinds.CONNECTION: gettext_lazy("My connection changed, or trading is halted"),
}
HOURS = [("", "–"), *((str(hour), f"{hour:02d}:00") for hour in range(24))]


class PushForm(forms.Form):
    """What devices are told, and when not."""

    kinds = forms.MultipleChoiceField(
        label=gettext_lazy("Tell my devices when"),
        choices=list(KIND_LABELS.items()),
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    amounts = forms.BooleanField(
        label=gettext_lazy("Say how much"),
        help_text=gettext_lazy("Off: a locked screen shows that you sold energy, not how much."),
        required=False,
    )
    quiet_from = forms.ChoiceField(label=gettext_lazy("Quiet from"), choices=HOURS, required=False)
    quiet_until = forms.ChoiceField(
        label=gettext_lazy("Quiet until"),
        choices=HOURS,
        required=False,
        help_text=gettext_lazy("In these hours no device is told; the list here has everything."),
    )


def shown(notices: queries.Told) -> list[tuple[Notice, str, str, str, bool]]:
    """Return notices as templates show them: notice, title, text, link, whether it was read."""
    return [
        (notice, words.title(notice), words.text(notice), kinds.LINKS[notice.kind], notices.is_read(notice))
        for notice in notices.notices
    ]


@never_cache
@only_for(Role.HOUSEHOLD)
@require_safe
def notifications(request: HttpRequest) -> HttpResponse:
    """Show the list and the settings."""
    return _page(request, _form(operations.wanted(request.user.pk)))


def _form(wish: Wanted) -> PushForm:
    initial = {
        "kinds": sorted(wish.kinds), "amounts": wish.amounts, "quiet_from": _hour(wish.quiet_from),
        "quiet_until": _hour(wish.quiet_until),
    }  # fmt: skip
    return PushForm(initial=initial)


def _hour(hour: int | None) -> str:
    return "" if hour is None else str(hour)


def _page(request: HttpRequest, form: PushForm) -> HttpResponse:
    found = queries.told(request.user)
    context = {
        "found": found,
        "notices": shown(found),
        "form": form,
        "devices": operations.devices_of(request.user),
        "key": webpush.public_key(),
        "this_device": operations.told_here(user=request.user, cookie=request.COOKIES.get(operations.THIS_DEVICE, "")),
    }
    return render(request, "account/notifications.html", context)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_safe
def latest(request: HttpRequest) -> HttpResponse:
    """Return the newest few, for the list that the bell opens."""
    found = queries.told(request.user)
    return render(request, "parts/bell_list.html", {"found": found, "notices": shown(found)[:IN_THE_BELL]})


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def read(request: HttpRequest) -> HttpResponse:
    """Mark everything up to a notice as read."""
    try:
        operations.read_up_to(user=request.user, mark=request.POST.get("mark", ""))
    except NoticeError as error:
        messages.error(request, str(error.sentence))
    return redirect("notifications")


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Take what devices are to be told."""
    form = PushForm(request.POST)
    if form.is_valid():
        values = form.cleaned_data
        hours = [None if values[name] == "" else int(values[name]) for name in ("quiet_from", "quiet_until")]
        try:
            operations.choose(
                user=request.user, wish=Wanted(frozenset(values["kinds"]), values["amounts"], hours[0], hours[1])
            )
        except NoticeError as error:
            form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        else:
            messages.success(request, _("Saved."))
            return redirect("notifications")
    return _page(request, form)


@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def remove(request: HttpRequest, device: int) -> HttpResponse:
    """Tell a device no more."""
    operations.remove_device(user=request.user, device=min(device, 2**53))
    messages.success(request, _("This device is told no more."))
    return redirect("notifications")


urlpatterns = [
    path("notifications", notifications, name="notifications"),
    path("notifications/latest", latest, name="notifications-latest"),
    path("notifications/read", read, name="read-notifications"),
    path("notifications/settings", choose, name="choose-notifications"),
    path("notifications/devices/<int:device>/remove", remove, name="remove-push-device"),
]
