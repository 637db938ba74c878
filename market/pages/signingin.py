"""What django-allauth asks of this installation: how people are named, written to and let in.

Nothing it keeps says who somebody is: e-mail addresses stay in our sealed column, secrets of authenticator apps and names of
passkeys are sealed with the key of their owner.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import default_token_generator
from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.account.utils import user_pk_to_url_str
from allauth.core import context, ratelimit
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from market.households import emails, keystore, sessions
from market.households.models import User
from market.pages.context import FRONT_PAGES
from market.pages.outbox import OUTBOX

PLACE = "mfa.authenticator"  # what its sealed texts are bound to
MAX_PROXIES = 8  # in a row
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  (of a request that came through no network: a test's, a command's)
MAIL = "account/email/"

# What allauth has done -> the sentence for it. It has others, which are of no use here.
_DONE = {
    "mfa/messages/totp_activated.txt": _("The authenticator app is set up. From now on it is asked for its code."),
    "mfa/messages/totp_deactivated.txt": _("The authenticator app is not asked any more."),
    "mfa/messages/recovery_codes_generated.txt": _("Recovery codes are made. Any made before open nothing any more."),
    "mfa/messages/webauthn_added.txt": _("The passkey is added. You can sign in with it alone."),
    "mfa/messages/webauthn_removed.txt": _("The passkey is removed: it opens nothing any more."),
    "account/messages/password_changed.txt": _("The password is changed. All devices have been signed out."),
}
# What is written to a person about it, should it not have been them.
_NOTICES = {
    "mfa/email/totp_activated": _("An authenticator app was added to your account."),
    "mfa/email/totp_deactivated": _("The authenticator app was removed from your account."),
    "mfa/email/recovery_codes_generated": _("New recovery codes were made for your account."),
    "mfa/email/webauthn_added": _("A passkey was added to your account."),
    "mfa/email/webauthn_removed": _("A passkey was removed from your account."),
    "account/email/password_reset": _("The password of your account was changed by a link sent to this address."),
}


class AccountAdapter(DefaultAccountAdapter):
    """Signing in, and the password."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "incorrect_password": _("This is not your password."),
        "incorrect_code": _("This code is not right, or it has been used."),
        "too_many_login_attempts": _("Too many attempts. Wait five minutes and try again."),
        "rate_limited": _("Too many attempts. Wait five minutes and try again."),
        "invalid_password_reset": _("This link is too old, or it has been used."),
    }

    def get_login_stages(self) -> list[str]:
        return ["allauth.mfa.stages.AuthenticateStage"]

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        return reverse(FRONT_PAGES[request.user.role])

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request)

    def is_safe_url(self, url: str) -> bool:
        # Of allauth's answer only pages of this host: other hosts of ours are no place to be sent to by a link.
        return url.startswith("/") and super().is_safe_url(url)

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        messages.error(request, gettext("This person can no longer sign in."))
        return redirect("sign-in")

    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse:
        if any(record.get("passwordless") for record in get_authentication_records(request, user)):
            # A passkey just shown counts as shown again, as a password just typed does.
            record_authentication(request, user, "mfa", reauthenticated=True)
        response = super().post_login(request, user, **kwargs)
        remember_language(response, user)
        return response

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, Any] | None = None,
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        sentence = message or _DONE.get(message_template or "")
        if sentence:
            messages.add_message(request, level, str(sentence), extra_tags=extra_tags)

    def set_password(self, user: Any, password: str) -> None:
        super().set_password(user, password)
        sessions.end_others(user=user, session_key="")

    def reauthenticate(self, user: Any, password: str) -> bool:
        found = self.authenticate(context.request, username=user.username, password=password)
        return found is not None and found.pk == user.pk

    def get_reset_password_from_key_url(self, key: str) -> str:
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})
        return settings.PUBLIC_URL + path.replace("UID-KEY", key)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> bool:
        """Have an e-mail sent soon; return whether there was room for it. What was done stays done where it is not sent."""
        return OUTBOX.put(template_prefix, self.render_mail(template_prefix, email, context).send)

    def format_email_subject(self, subject: Any) -> str:
        return f"Sunledger: {subject}"

    def send_notification_mail(
        self, template_prefix: str, user: Any, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        sentence = _NOTICES.get(template_prefix)
        if sentence and user.email and mails_go_out():
            self.send_mail(MAIL + "notice", user.email, {"sentence": sentence, "at": timezone.now()})

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        # The easiest first: who has a passkey at hand types nothing.
        found: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return sorted(found, key=lambda way: way["id"] != "mfa_reauthenticate:webauthn")

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        # The demo's people have no password to be asked for.
        user = context.request.user
        passwordless = settings.DEMO and not user.has_usable_password()
        return not (passwordless and not Authenticator.objects.filter(user_id=user.pk).exists())


class FactorAdapter(DefaultMFAAdapter):
    """Second factors and passkeys."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": _("This code is not right, or it has been used."),
        "cannot_delete_authenticator": _("People in office need a second factor: add another one first."),
    }

    def encrypt(self, text: str) -> str:
        return keystore.seal(context.request.user.person_key, text, PLACE)

    def decrypt(self, encrypted_text: str) -> str:
        return keystore.unseal(encrypted_text, PLACE)

    def get_totp_label(self, user: Any) -> str:
        return str(user.username)

    def get_totp_issuer(self) -> str:
        return "Sunledger"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {**super().get_public_key_credential_rp_entity(), "name": "Sunledger"}

    def get_public_key_credential_user_entity(self, user: Any) -> dict[str, Any]:
        return {
            **super().get_public_key_credential_user_entity(user),
            "name": user.username,
            "display_name": called(user),
        }

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return gettext("Passkey")

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        user = authenticator.user
        if not settings.STAFF_SECOND_FACTOR or user.role == "household":
            return True
        others = Authenticator.objects.filter(user_id=user.pk).exclude(pk=authenticator.pk)
        return others.exclude(type=Authenticator.Type.RECOVERY_CODES).exists()


def client_address(request: HttpRequest) -> str:
    """Return the address a request came from: that of who reached the proxy where a known one says it (``TRUSTED_PROXIES``)."""
    found = _address(request.META.get("REMOTE_ADDR") or "") or ip_address(UNKNOWN_ADDRESS)
    # From the last one on, which the proxy next to us saw: each counts as far as a proxy of ours says it, those before are
    # what the client claims.
    for seen in reversed(request.headers.get("X-Forwarded-For", "").rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]):
        address = _address(seen.strip()) if _is_proxy(found) else None
        if address is None:
            break
        found = address
    return str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_proxy(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)


def within_limit(request: HttpRequest, action: str, key: str = "") -> bool:
    """Return whether something may be done once more now, by allauth's limits."""
    user = request.user if request.user.is_authenticated else None
    return bool(ratelimit.consume(request, action=action, key=key or None, user=user))


def may_send_link(request: HttpRequest, user: User) -> bool:
    """Return whether one more link may go out: to a person, and to an address, whoever says that it is theirs."""
    return all(within_limit(request, "confirm_email", key) for key in (str(user.pk), emails.digest(user.email)))


def send_reset(email: str) -> bool:
    """Have the link for a new password sent to an address, if somebody has confirmed it; return whether there was room.

    All that differs for an address that is nobody's happens in the thread that sends.
    """
    return OUTBOX.put("the link for a new password", partial(_send_reset, email, get_language() or ""))


def _send_reset(email: str, language: str) -> None:
    adapter = AccountAdapter()
    for user in emails.people_with(email):
        key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
        context = {"user": user, "password_reset_url": adapter.get_reset_password_from_key_url(key)}
        with translation.override(user.language or language or settings.LANGUAGE_CODE):
            adapter.send_mail(MAIL + "password_reset_key", email, context)


def called(user: User) -> str:
    """Return what a person is called, the name they sign in with where they gave none."""
    return user.first_name or user.username


def remember_language(response: Any, user: User) -> None:
    """Have this browser show the language a person reads elsewhere."""
    if user.language:
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            user.language,
            samesite=settings.LANGUAGE_COOKIE_SAMESITE,
            secure=settings.SESSION_COOKIE_SECURE,
        )


def name_of(authenticator: Authenticator) -> str:
    """Return what its owner calls a passkey."""
    return keystore.unseal(authenticator.data.get("name", ""), PLACE) or gettext("Passkey")


def mails_go_out() -> bool:
    """Return whether there is a mail server: what nobody asked for is not written into a log instead, with addresses."""
    return not settings.EMAIL_BACKEND.endswith("console.EmailBackend")


def send_confirmation(user: User, token: str) -> bool:
    """Have the link sent that confirms a person's present address; return whether there was room for it."""
    url = settings.PUBLIC_URL + reverse("confirm-email", args=[token])
    return AccountAdapter().send_mail(MAIL + "confirm", user.email, {"url": url})


def send_changed(email: str) -> None:
    """Write to an address that it is no longer a person's."""
    if mails_go_out():
        AccountAdapter().send_mail(MAIL + "notice", email, {"sentence": _NEW_ADDRESS, "at": timezone.now()})


_NEW_ADDRESS = _(
    "Your account has another e-mail address now; this one stays good for a new password until it is confirmed."
)
