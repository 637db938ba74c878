"""Sign-in and security: passkeys, the authenticator app, recovery codes, the e-mail address, and where one is signed in.

The steps themselves are django-allauth's; which of its pages can be reached is listed in ``urlpatterns``, no other is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account import views as account_views
from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.base import views as factor_views
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes import views as recovery_views
from allauth.mfa.totp import views as totp_views
from allauth.mfa.webauthn import views as webauthn_views
from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, re_path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from market.households import emails, queries, sessions
from market.households.operations import HouseholdError
from market.pages.again import freshly, typed
from market.pages.roles import only_for
from market.pages.signingin import may_send_link, name_of, send_changed, send_confirmation

View = Callable[..., HttpResponse]
MAX_PASSKEYS = 10  # of one person


class EmailForm(forms.Form):
    """How a person is reached."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"), max_length=254, required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text=gettext_lazy("A link goes there. Once you have followed it, a lost password can be renewed by it."),
    )  # fmt: skip


@never_cache
@only_for()
@require_safe
def security(request: HttpRequest) -> HttpResponse:
    """Show how a person signs in, and where they are signed in."""
    kinds = Authenticator.Type
    rows = list(Authenticator.objects.filter(user_id=request.user.pk).order_by("pk"))
    recovery = next((row for row in rows if row.type == kinds.RECOVERY_CODES), None)
    context = {
        "passkeys": [(row, name_of(row)) for row in rows if row.type == kinds.WEBAUTHN],
        "may_add": sum(row.type == kinds.WEBAUTHN for row in rows) < MAX_PASSKEYS,
        "app": next((row for row in rows if row.type == kinds.TOTP), None),
        "codes_left": None if recovery is None else len(recovery.wrap().get_unused_codes()),
        "confirmed": emails.confirmed(request.user),
        "signed_in": [(one, sessions.name_of(one)) for one in _sign_ins(request)],
    }
    return render(request, "account/security.html", context)


def _sign_ins(request: HttpRequest) -> list[sessions.SignedIn]:
    return sessions.sign_ins_of(request.user, session_key=request.session.session_key or "", now=timezone.now())


@never_cache
@only_for()
@require_POST
def end_session(request: HttpRequest, sign_in: int) -> HttpResponse:
    """Sign another browser of this person out; its pages stop hearing anything at once."""
    if any(one.id == sign_in and one.here for one in _sign_ins(request)):
        raise Http404  # that is what "Sign out" is for
    if sessions.end(user=request.user, sign_in=sign_in):
        messages.success(request, _("That device is signed out."))
    else:
        messages.warning(request, _("That device was signed out before."))
    return redirect("security")


@never_cache
@only_for()
@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """Sign all other browsers of this person out."""
    _end_others(request)
    return redirect("security")


def _end_others(request: HttpRequest) -> None:
    count = sessions.end_others(user=request.user, session_key=request.session.session_key or "")
    sentence = ngettext("%(count)s other device is signed out.", "%(count)s other devices are signed out.", count)
    messages.success(request, sentence % {"count": count})


# --- the e-mail address ----------------------------------------------------------------------------------------------
@never_cache
@only_for()
@freshly
@require_http_methods(["GET", "POST"])
def change_email(request: HttpRequest) -> HttpResponse:
    """Take another address, and send the link that confirms it."""
    user = request.user
    form = EmailForm(request.POST or None, initial={"email": user.email} | typed(request, request.path))
    if request.method == "POST" and form.is_valid():
        before, was_confirmed = user.email, emails.confirmed(user)
        try:
            wants_link = emails.change(user=user, email=form.cleaned_data["email"])
        except HouseholdError as error:
            form.add_error("email", str(error.sentence))
        else:
            if was_confirmed and before != user.email:
                send_changed(before)
            if wants_link:
                _send_link(request)
            else:
                messages.success(request, _("Saved."))
            return redirect("security")
    return render(request, "account/email.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
@only_for()
@require_POST
def send_link(request: HttpRequest) -> HttpResponse:
    """Send the link that confirms the address once more."""
    if request.user.email and not emails.confirmed(request.user):
        _send_link(request)
    return redirect("security")


def _send_link(request: HttpRequest) -> None:
    if not may_send_link(request, request.user):
        messages.error(request, _("Too many attempts. Wait five minutes and try again."))
        return
    if send_confirmation(request.user, emails.token_of(request.user)):
        messages.success(request, _("A link is on its way to your address. Follow it."))
    else:
        messages.error(request, _("The e-mail could not be sent. Try again later."))


@never_cache
@only_for()
@require_http_methods(["GET", "POST"])
def confirm_email(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm an address of one's own: whoever gets a mail that was mistyped cannot, the account would be theirs.

    Opening the link only asks: programs that look through mail open links, too.
    """
    owner = emails.owner_of(token)
    known = owner is not None and owner.pk == request.user.pk
    if request.method == "POST" and known:
        emails.confirm(token=token)
        messages.success(request, _("Your e-mail address is confirmed."))
        return redirect("security")
    return render(request, "account/confirm_email.html", {"known": known}, status=200 if known else 404)


def _limited_passkeys(view: View) -> View:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        mine = Authenticator.objects.filter(user_id=request.user.pk, type=Authenticator.Type.WEBAUTHN)
        if mine.count() >= MAX_PASSKEYS:
            messages.error(request, _("You have too many passkeys; remove one first."))
            return redirect("security")
        return view(request, *args, **kwargs)

    return checked


def _first_factor(view: View) -> View:
    """End the other sessions of somebody who now has the second factor that was required: none was asked of them."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        lacked = queries.lacks_factor(request.user)
        response = view(request, *args, **kwargs)
        if lacked and not queries.lacks_factor(request.user):
            _end_others(request)
        return response

    return checked


def _proven(view: View) -> View:
    """Let a second factor that was just made count as shown: who made it is not asked for it before its recovery codes.

    It opens nothing more: whoever may make one has shown who they are, or is somebody of the demo's who had nothing to show.
    """

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        factors = Authenticator.objects.filter(user_id=request.user.pk).exclude(type=Authenticator.Type.RECOVERY_CODES)
        before = factors.count()
        response = view(request, *args, **kwargs)
        if factors.count() > before:
            record_authentication(request, request.user, "mfa", reauthenticated=True)
        return response

    return checked


def _own(view: View, *, keeps: bool = False) -> View:
    """Return one of allauth's views for people who are signed in and have just shown who they are (``freshly``)."""
    return never_cache(only_for()(freshly(view, keeps=keeps)))


def _lasting_factor(view: View) -> View:
    """Keep the last second factor of somebody in office who has to have one."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        from allauth.mfa.adapter import get_adapter as get_factor_adapter

        one = Authenticator.objects.filter(user_id=request.user.pk, pk=kwargs.get("pk")).first()
        if one is not None and not get_factor_adapter().can_delete_authenticator(one):
            messages.error(request, _("People in office need a second factor: add another one first."))
            return redirect("security")
        return view(request, *args, **kwargs)

    return checked


_KEY = r"^password/reset/(?P<uidb36>[0-9A-Za-z]{1,13})-(?P<key>[0-9A-Za-z-]{1,200})$"
_ROOT = "account/security"

urlpatterns = [
    path(_ROOT, security, name="security"),
    path(_ROOT, security, name="mfa_index"),
    path(_ROOT, security, name="mfa_list_webauthn"),
    path(f"{_ROOT}/sessions/end", end_others, name="end-sessions"),
    path(f"{_ROOT}/sessions/<int:sign_in>/end", end_session, name="end-session"),
    path(f"{_ROOT}/email", change_email, name="change-email"),
    path(f"{_ROOT}/email/link", send_link, name="send-email-link"),
    path("confirm-email/<str:token>", confirm_email, name="confirm-email"),
    path(f"{_ROOT}/again", never_cache(only_for()(account_views.reauthenticate)), name="account_reauthenticate"),
    path(f"{_ROOT}/again/code", never_cache(only_for()(factor_views.reauthenticate)), name="mfa_reauthenticate"),
    path(
        f"{_ROOT}/again/passkey",
        never_cache(only_for()(webauthn_views.reauthenticate_webauthn)),
        name="mfa_reauthenticate_webauthn",
    ),
    path(f"{_ROOT}/app", _own(_proven(_first_factor(totp_views.activate_totp))), name="mfa_activate_totp"),
    path(f"{_ROOT}/app/remove", _own(totp_views.deactivate_totp), name="mfa_deactivate_totp"),
    path(f"{_ROOT}/codes", _own(recovery_views.view_recovery_codes), name="mfa_view_recovery_codes"),
    path(f"{_ROOT}/codes/new", _own(recovery_views.generate_recovery_codes), name="mfa_generate_recovery_codes"),
    path(f"{_ROOT}/codes/file", _own(recovery_views.download_recovery_codes), name="mfa_download_recovery_codes"),
    path(
        f"{_ROOT}/passkey",
        _own(_limited_passkeys(_proven(_first_factor(webauthn_views.add_webauthn))), keeps=True),
        name="mfa_add_webauthn",
    ),
    path(
        f"{_ROOT}/passkey/<int:pk>/remove",
        _own(_lasting_factor(webauthn_views.remove_webauthn)),
        name="mfa_remove_webauthn",
    ),
    path("sign-in/code", never_cache(factor_views.authenticate), name="mfa_authenticate"),
    path("sign-in/passkey", never_cache(webauthn_views.login_webauthn), name="mfa_login_webauthn"),
    path("password/reset", never_cache(account_views.password_reset), name="account_reset_password"),
    path("password/reset/sent", never_cache(account_views.password_reset_done), name="account_reset_password_done"),
    path(
        "password/reset/done",
        never_cache(account_views.password_reset_from_key_done),
        name="account_reset_password_from_key_done",
    ),
    re_path(_KEY, never_cache(account_views.password_reset_from_key), name="account_reset_password_from_key"),
]
