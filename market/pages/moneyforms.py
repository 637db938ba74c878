"""What people fill in about money in and out. Amounts are typed as decimal texts; ``amount_e7`` is the system's integer."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from market.pages.forms import OnceForm, ScaledField
from market.payments.formats.references import HOLDER_LENGTH
from market.payments.reasons import ASIDE_REASONS, DEPOSIT_REASONS, WITHDRAWAL_REASONS

MAX_AMOUNT = 100_000
IBAN_TYPED = 42  # 34 characters in groups of four
CENTS_E7 = 10**5


def amount_field(**kwargs: Any) -> ScaledField:
    """Return a field for an amount in cents."""
    return ScaledField(
        label=format_lazy(_("Amount, {currency}"), currency=settings.MARKET_CURRENCY),
        decimal_places=2,
        min_value="0.01",
        max_value=MAX_AMOUNT,
        **kwargs,
    )


class DepositForm(OnceForm):
    """Money a member is about to send."""

    amount = amount_field(error_messages={"required": _("How much do you send?")})

    def amount_e7(self) -> int:
        """Return the amount in 0.0000001 currency."""
        return int(self.cleaned_data["amount"]) * CENTS_E7


class WithdrawalForm(OnceForm):
    """Money a member wants at the bank."""

    amount = amount_field(error_messages={"required": _("How much do you take out?")})
    iban = forms.CharField(
        label=_("IBAN of your bank account"),
        max_length=IBAN_TYPED,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "characters"}),
    )
    holder = forms.CharField(
        label=_("Name the bank account is in"),
        max_length=HOLDER_LENGTH,
        help_text=_("In Latin letters, as on your bank card."),
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, prefix="out", **kwargs)

    def amount_e7(self) -> int:
        """Return the amount in 0.0000001 currency."""
        return int(self.cleaned_data["amount"]) * CENTS_E7


class StatementForm(forms.Form):
    """A bank statement from the staff's computer."""

    file = forms.FileField(
        label=_("Bank statement (camt.053)"),
        help_text=_("XML, at most 2 MB. You see what it says before anything is booked."),
        widget=forms.ClearableFileInput(attrs={"accept": ".xml,application/xml,text/xml"}),
    )


class ArrivedForm(forms.Form):
    """What came of a deposit."""

    arrived = amount_field()

    def arrived_e7(self) -> int:
        """Return the amount in 0.0000001 currency."""
        return int(self.cleaned_data["arrived"]) * CENTS_E7


class PlaceForm(forms.Form):
    """Whose transfer it is."""

    account = forms.IntegerField(min_value=0, max_value=2**53 - 1)


DEPOSIT_CHOICES = list(DEPOSIT_REASONS.items())
WITHDRAWAL_CHOICES = list(WITHDRAWAL_REASONS.items())
ASIDE_CHOICES = list(ASIDE_REASONS.items())
