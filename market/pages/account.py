"""A person's own affairs: profile, language, money, API keys."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.households import operations
from market.households.operations import HouseholdError
from market.pages.accountview import profile_form, show
from market.pages.again import freshly
from market.pages.forms import KeyForm
from market.pages.roles import only_for

USED_KEPT = 20  # form tokens remembered in a session: a repeated sending follows soon or never


@never_cache
@only_for()
@require_safe
def account(request: HttpRequest) -> HttpResponse:
    """Show a person's profile, account, money and keys."""
    return show(request)


@never_cache
@only_for()
@require_POST
def save_profile(request: HttpRequest) -> HttpResponse:
    """Keep what a person says about herself."""
    form = profile_form(request.POST)
    if not form.is_valid():
        return show(request, profile=form)
    values = form.cleaned_data
    operations.set_profile(
        user=request.user,
        first_name=values["first_name"],
        time_zone=values["time_zone"],
        colours=values["colours"],
    )
    operations.set_language(user=request.user, language=values["language"])
    translation.activate(values["language"])
    messages.success(request, _("Saved."))
    response = redirect("account")
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        values["language"],
        samesite=settings.LANGUAGE_COOKIE_SAMESITE,
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return response


@never_cache
@only_for()
@require_POST
@freshly(back="account")
def make_key(request: HttpRequest) -> HttpResponse:
    """Make an API key and show its secret, this once."""
    form = KeyForm(request.POST, role=request.user.role)
    if not form.is_valid():
        return show(request, key_form=form)
    if not first_time(request, form.cleaned_data["once"]):
        messages.warning(request, _("This key has been made already. Its secret is not shown a second time."))
        return redirect("account")
    try:
        made = operations.issue_key(
            user=request.user,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            now=timezone.now(),
        )
    except HouseholdError as error:
        form.renew()
        form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        return show(request, key_form=form)
    # Shown in the answer itself: a redirect would need the secret to be kept somewhere.
    return show(request, new_key=made)


@never_cache
@only_for()
@require_POST
def revoke_key(request: HttpRequest, key_id: int) -> HttpResponse:
    """Revoke one of the person's keys."""
    if operations.revoke_key(user=request.user, key_id=key_id, now=timezone.now()):
        messages.success(request, _("The key is revoked: it opens nothing any more."))
    else:
        messages.warning(request, _("There is no such key, or it has been revoked before."))
    return redirect("account")


def first_time(request: HttpRequest, once: str) -> bool:
    """Return whether this form's token is new in the session, and remember it."""
    used: list[str] = request.session.get("used_forms", [])
    if once in used:
        return False
    request.session["used_forms"] = [*used, once][-USED_KEPT:]
    return True


urlpatterns = [
    path("account", account, name="account"),
    path("account/profile", save_profile, name="save-profile"),
    path("account/keys", make_key, name="make-key"),
    path("account/keys/<int:key_id>/revoke", revoke_key, name="revoke-key"),
]
