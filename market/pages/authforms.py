"""The forms of django-allauth in our words, and with what our people's addresses and passkeys need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.account.forms import ReauthenticateForm, ResetPasswordForm, ResetPasswordKeyForm
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as FactorAgainForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import TOTP
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from fido2.webauthn import AuthenticationResponse, RegistrationResponse

from market.households import keystore
from market.pages.again import typed
from market.pages.signingin import PLACE, send_reset

MAX_PASSKEY_NAME = 80
MAX_CREDENTIAL = 20_000  # characters: an attestation has a few thousand
MAX_CODE = 16
NO_ANSWER = _("No passkey was used. You can try again.")


def _password(label: Any, **attrs: str) -> forms.CharField:
    return forms.CharField(label=label, max_length=256, strip=False, widget=forms.PasswordInput(attrs=attrs))


def _code(label: Any, help_text: Any = "") -> forms.CharField:
    attrs = {"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}
    return forms.CharField(label=label, max_length=MAX_CODE, help_text=help_text, widget=forms.TextInput(attrs=attrs))


class CredentialField(forms.JSONField):
    """What a browser's authenticator answered, parsed once for trial: allauth takes its shape for granted."""

    def __init__(self, parse: Callable[[Any], object]):
        super().__init__(widget=forms.HiddenInput, max_length=MAX_CREDENTIAL)
        self._parse = parse

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > MAX_CREDENTIAL:
            raise ValidationError(NO_ANSWER)
        found = super().to_python(value)
        if found in self.empty_values:
            return found
        try:
            self._parse(found)
        except Exception as error:  # fido2's parsers raise whatever the bytes they are given lead to
            raise ValidationError(NO_ANSWER) from error
        return found


class ResetForm(ResetPasswordForm):
    """Where to send the link that a new password is chosen with."""

    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"])  # whose it is, is looked up where the link is sent

    def save(self, request: HttpRequest, **kwargs: Any) -> str:
        email: str = self.cleaned_data["email"]
        send_reset(email)
        return email


class NewPasswordForm(ResetPasswordKeyForm):
    """The new password, after the link."""

    password1 = _password(_("New password"), autocomplete="new-password")
    password2 = _password(_("New password, once more"), autocomplete="new-password")
    field_order = ["password1", "password2"]

    def clean_password1(self) -> str:
        password: str = self.cleaned_data["password1"]
        password_validation.validate_password(password, self.user)
        return password

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = forms.Form.clean(self) or {}
        if cleaned.get("password1") and cleaned.get("password2") and cleaned["password1"] != cleaned["password2"]:
            self.add_error("password2", _("The two are not the same."))
        return cleaned


class PasswordAgainForm(ReauthenticateForm):
    """The password once more, before something that a stolen session must not do."""

    password = _password(_("Password"), autocomplete="current-password")


class CodeForm(AuthenticateForm):
    """The second factor of a sign-in."""

    code = _code(_("Code"), _("Six digits from the app, or one of your recovery codes."))


class CodeAgainForm(FactorAgainForm):
    """The second factor once more."""

    code = _code(_("Code"), _("Six digits from the app, or one of your recovery codes."))


class NewAppForm(ActivateTOTPForm):
    """The first code of an authenticator app."""

    code = _code(_("The code it shows"))

    def clean_code(self) -> str:
        code: str = super().clean_code()
        # Used with that: whoever looked over the shoulder must not sign in with it.
        if not TOTP(Authenticator(user=self.user))._mark_code_used(code):
            raise get_adapter().validation_error("incorrect_code")
        return code


class PasskeyForm(AddWebAuthnForm):
    """A passkey that was just made. Its name is stored sealed."""

    name = forms.CharField(
        label=_("Name of the passkey"), max_length=MAX_PASSKEY_NAME, required=False,
        help_text=_("For you: which phone, computer or key has it."),
    )  # fmt: skip
    passwordless = forms.BooleanField(widget=forms.HiddenInput, initial=True)
    credential = CredentialField(RegistrationResponse.from_dict)
    field_order = ["name", "passwordless", "credential"]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not self.is_bound:
            self.initial.update(typed(context.request, reverse("mfa_add_webauthn")))

    def clean_name(self) -> str:
        name: str = super().clean_name()
        return keystore.seal(self.user.person_key, name, PLACE)


class PasskeyLoginForm(LoginWebAuthnForm):
    """A passkey in the place of name and password."""

    credential = CredentialField(AuthenticationResponse.from_dict)


class PasskeyFactorForm(AuthenticateWebAuthnForm):
    """A passkey after the password."""

    credential = CredentialField(AuthenticationResponse.from_dict)


class PasskeyAgainForm(ReauthenticateWebAuthnForm):
    """A passkey once more."""

    credential = CredentialField(AuthenticationResponse.from_dict)
