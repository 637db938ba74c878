"""What people fill in on the sign-in, account, staff and operator pages.

Prices and money are typed as decimal texts and power in kW; ``cleaned_data`` has the system's integers.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import password_validation
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from market.engine.accounts import (
    MAX_CONNECTION_W,
    MAX_FINAL_MIN,
    SHARING_AREA,
    SHARING_CITY,
    SHARING_NONE,
    SHARING_SUBSTATION,
)
from market.grid.operations import MAX_ONCE_LENGTH
from market.grid.reasons import TO_GO_ON
from market.households import keys
from market.households.models import DEVICE_NAME_LENGTH, AccountRequest, Colours, DeviceKind, User
from market.pages.whyfields import reason_field, words_field

ONCE_BYTES = 16
MAX_KW = 10_000_000  # 10 GW: more than any edge of a city's grid
MAX_RULEBOOK_LENGTH = 300_000

SCOPE_WORDS = {
    keys.READ: _("Read my account, orders and trades"),
    keys.TRADE: _("Place, change and cancel my orders"),
    keys.READINGS_WRITE: _("Send meter readings"),
    keys.LEDGER_READ: _("Read the whole ledger"),
    keys.OPERATE: _("Set capacities, fees and halts"),
}


def new_once() -> str:
    """Return a token for one filling-in of a form."""
    return secrets.token_hex(ONCE_BYTES)


class OnceForm(forms.Form):
    """A form whose repeated sending does nothing twice: it carries a token made when it was shown."""

    once = forms.CharField(max_length=MAX_ONCE_LENGTH, widget=forms.HiddenInput, initial=new_once)

    def renew(self) -> None:
        """Take a new token: what was refused may be sent again with other values."""
        self.data = self.data.copy()
        self.data[self.add_prefix("once")] = new_once()


class ScaledField(forms.DecimalField):
    """A decimal number that cleans to an integer in steps of ``10 ** -decimal_places``."""

    def __init__(self, *, decimal_places: int, min_value: str | int = 0, max_value: str | int, **kwargs: Any):
        super().__init__(
            decimal_places=decimal_places,
            max_digits=20,
            min_value=Decimal(min_value),
            max_value=Decimal(max_value),
            **kwargs,
        )
        self.widget.attrs["inputmode"] = "decimal"

    def clean(self, value: Any) -> int | None:
        cleaned = super().clean(value)
        return None if cleaned is None else int(cleaned.scaleb(self.decimal_places))

    def prepare_value(self, value: Any) -> Any:
        """Show an integer (an initial value) as the decimal number it stands for; leave what a person typed."""
        return f"{Decimal(value).scaleb(-self.decimal_places):f}" if isinstance(value, int) else value


def price_field(*, label: Any, **kwargs: Any) -> ScaledField:
    """Return a field for a price in currency per kWh, cleaned to ``_e4``."""
    with_unit = format_lazy(_("{what}, {currency} per kWh"), what=label, currency=settings.MARKET_CURRENCY)
    return ScaledField(label=with_unit, decimal_places=4, max_value=1_000, **kwargs)


def power_field(**kwargs: Any) -> ScaledField:
    """Return a field for a power in kW, cleaned to W."""
    return ScaledField(decimal_places=3, max_value=MAX_KW, **kwargs)


def connection_field(**kwargs: Any) -> ScaledField:
    """Return a field for what a home's connection may carry, in kW, cleaned to W."""
    return ScaledField(decimal_places=3, max_value=MAX_CONNECTION_W // 1_000, **kwargs)


# --- sign in, sign up ------------------------------------------------------------------------------------------------
class SignInForm(AuthenticationForm):
    """Name and password."""

    error_messages = {
        "invalid_login": _("Name and password do not belong together."),
        "inactive": _("This person can no longer sign in."),
    }

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["username"].label = _("Name")
        self.fields["username"].widget.attrs["autocomplete"] = "username"
        # The demo's buttons stand above: a page that jumps past them on a phone hides the easy way.
        self.fields["username"].widget.attrs.pop("autofocus", None)
        self.fields["password"].label = _("Password")


class SignUpForm(forms.Form):
    """A household that wants an account. Areas are offered when the market can name them, else typed."""

    username = forms.CharField(
        label=_("Name to sign in with"),
        max_length=150,
        help_text=_("Letters, digits and @ . + - _ only. Nobody else in the market sees it."),
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    password = forms.CharField(
        label=_("Password"),
        max_length=256,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 10 characters. A few words you remember are better than one you don't."),
    )
    address = forms.CharField(
        label=_("Address of the home"), max_length=255, widget=forms.TextInput(attrs={"autocomplete": "street-address"})
    )
    meter_number = forms.CharField(
        label=_("Meter number"),
        max_length=64,
        help_text=_("It stands on the meter and on the electricity bill."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    area = forms.CharField(
        label=_("Grid area"),
        max_length=64,
        help_text=_("If you are not sure, take your street's; the market operator checks it."),
    )

    def __init__(self, *args: Any, areas: list[tuple[str, str]], **kwargs: Any):
        super().__init__(*args, **kwargs)
        if areas:
            old = self.fields["area"]
            self.fields["area"] = forms.ChoiceField(
                label=old.label, help_text=old.help_text, choices=[("", _("Choose…")), *areas]
            )

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        User.username_validator(name)
        return name

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        password = cleaned.get("password")
        if password:
            person = User(username=cleaned.get("username", ""), email=cleaned.get("email", ""))
            try:
                password_validation.validate_password(password, person)
            except ValidationError as error:
                self.add_error("password", error)
        return cleaned


# --- account ---------------------------------------------------------------------------------------------------------
class ProfileForm(forms.Form):
    """How a person is called, and how pages look to them."""

    first_name = forms.CharField(
        label=_("What we call you"),
        max_length=150,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "given-name"}),
    )
    language = forms.ChoiceField(label=_("Language"), choices=[("en", "English"), ("zh-hans", "简体中文")])
    time_zone = forms.ChoiceField(
        label=_("Time zone"), required=False,
        help_text=_("Pages show times in it. Statements and what is due go by the market's."),
    )  # fmt: skip
    colours = forms.ChoiceField(label=_("Rising and falling prices"), required=False, choices=Colours.choices)

    def __init__(self, *args: Any, zones: Sequence[str], market_zone: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        market = _("The market's, %(zone)s") % {"zone": market_zone.replace("_", " ")}
        self.fields["time_zone"].choices = [("", market), *((zone, zone.replace("_", " ")) for zone in zones)]


class KeyForm(OnceForm):
    """A new API key: a name and what it may do."""

    name = forms.CharField(
        label=_("Name of the key"), max_length=80, help_text=_("For you, so that you know later what it was for.")
    )
    scopes = forms.MultipleChoiceField(label=_("It may"), widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, role: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        allowed = keys.allowed_scopes(role)
        self.fields["scopes"].choices = [(scope, SCOPE_WORDS[scope]) for scope in keys.SCOPES if scope in allowed]
        self.fields["scopes"].initial = [keys.READ]


class DeviceForm(OnceForm):
    """A device of a home."""

    kind = forms.ChoiceField(
        label=_("What it is"),
        choices=[(kind.value, kind.label) for kind in DeviceKind if kind != DeviceKind.SUBSTATION],
    )
    name = forms.CharField(
        label=_("Name of the device"), max_length=DEVICE_NAME_LENGTH, help_text=_("For you: roof, cellar, garage.")
    )
    rating_w = connection_field(
        label=_("Rated power, kW"),
        min_value="0.001",
        help_text=_(
            "The most it can take or give; it stands on its plate. Of a meter: what your connection can carry."
        ),
    )
    register_digits = forms.IntegerField(
        label=_("Digits of its counter, in Wh"),
        min_value=0,
        max_value=15,
        initial=0,
        required=False,
        help_text=_("Only for a meter that sends its counter: after how many digits it begins again. 0: never."),
    )


class SubstationForm(OnceForm):
    """The meter of the edge between an area and its parent."""

    area = forms.ChoiceField(label=_("Area"))
    name = forms.CharField(label=_("Name of the device"), max_length=DEVICE_NAME_LENGTH)
    rating_w = power_field(label=_("Rated power, kW"), min_value="0.001")

    def __init__(self, *args: Any, areas: list[tuple[str, str]], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["area"].choices = areas


class UploadForm(forms.Form):
    """A file of readings, and the device they are of."""

    device = forms.ChoiceField(label=_("Device"))
    file = forms.FileField(
        label=_("File"),
        help_text=_("Green Button (XML) or CSV, at most 12 MB. Nothing is taken before you have seen what is in it."),
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.xml,text/csv,application/xml,text/xml"}),
    )

    def __init__(self, *args: Any, devices: list[tuple[str, str]], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["device"].choices = devices


# --- staff -----------------------------------------------------------------------------------------------------------
class RequestForm(forms.Form):
    """Where the account of a household that asked for one is opened."""

    area = forms.ChoiceField(label=_("Area"))

    def __init__(self, *args: Any, areas: list[tuple[str, str]], request: AccountRequest, **kwargs: Any):
        super().__init__(*args, prefix=f"request-{request.pk}", initial={"area": request.area}, **kwargs)
        self.request = request
        self.fields["area"].choices = areas
        if request.area not in dict(areas):
            self.fields["area"].choices = [("", _("Choose…")), *areas]


class TariffForm(OnceForm):
    """The prices of the supplier of last resort."""

    topup = price_field(label=_("Top-up price"), help_text=_("What missing energy costs."))
    spill = price_field(label=_("Spill price"), help_text=_("What left-over energy brings."))
    reason = reason_field("tariff")
    text = words_field()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        topup, spill = cleaned.get("topup"), cleaned.get("spill")
        if topup is not None and spill is not None and spill > topup:
            self.add_error("spill", _("The spill price may not be above the top-up price."))
        return cleaned


class ParamsForm(OnceForm):
    """The limits of the market."""

    max_price = price_field(label=_("Highest price"), min_value="0.0001")
    tick = price_field(label=_("Price step"), min_value="0.0001")
    max_order_wh = forms.IntegerField(label=_("Largest order, Wh"), min_value=1, max_value=100_000_000)
    max_open_orders = forms.IntegerField(label=_("Open orders of one account"), min_value=1, max_value=1_000_000)
    horizon_min = forms.IntegerField(
        label=_("Contracts open, minutes ahead"), min_value=15, max_value=10_080, help_text=_("2160 is 36 hours.")
    )
    lead_min = forms.IntegerField(label=_("Gate closes, minutes before"), min_value=0, max_value=1_440)
    netting_permille = forms.IntegerField(
        label=_("Netting, per mille"),
        min_value=0,
        max_value=1_000,
        help_text=_("How much of a flow frees capacity in the opposite direction; 1000 is all of it."),
    )
    collar = price_field(
        label=_("Price collar"),
        help_text=_("A trade further than this from the reference price halts its contract; 0 is no collar."),
    )
    collar_period_s = forms.IntegerField(label=_("Reference price is renewed after, s"), min_value=0, max_value=86_400)
    collar_halt_s = forms.IntegerField(label=_("The collar halts for, s"), min_value=0, max_value=86_400)
    throttle_per_min = forms.IntegerField(
        label=_("Orders and changes a minute"),
        min_value=0,
        max_value=1_000_000,
        help_text=_("Of one account; 0 is no throttle."),
    )
    throttle_burst = forms.IntegerField(label=_("Of them at once"), min_value=0, max_value=1_000_000)
    throttle_credit = forms.IntegerField(
        label=_("Given back by a trade"),
        min_value=0,
        max_value=1_000,
        help_text=_("Who trades much may order much: so many orders more for each trade."),
    )
    connection_import_w = connection_field(
        label=_("A connection may take, kW"), help_text=_("Unless it has a limit of its own; 0 is no limit.")
    )
    connection_export_w = connection_field(label=_("And give, kW"))
    final_after_min = forms.IntegerField(
        label=_("Settlements are corrected for, minutes"),
        min_value=0,
        max_value=MAX_FINAL_MIN,
        help_text=_("After delivery; 20160 is 14 days, 0 is never. Contracts that are settled already keep theirs."),
    )
    sharing_scope = forms.TypedChoiceField(
        label=_("Homes may share with"),
        coerce=int,
        choices=[
            (SHARING_NONE, _("nobody")),
            (SHARING_AREA, _("homes of their own area")),
            (SHARING_SUBSTATION, _("homes below the same substation")),
            (SHARING_CITY, _("every home")),
        ],
    )
    reason = reason_field("params")
    text = words_field()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("collar"):
            for name in ("collar_period_s", "collar_halt_s"):
                if cleaned.get(name) == 0:
                    self.add_error(name, _("With a collar this is at least a second."))
        if cleaned.get("throttle_per_min") and cleaned.get("throttle_burst") == 0:
            self.add_error("throttle_burst", _("With a throttle this is at least 1."))
        if (cleaned.get("tick") or 0) > (cleaned.get("max_price") or 0) > 0:
            self.add_error("tick", _("The price step may not be above the highest price."))
        return cleaned


class RulebookForm(OnceForm):
    """A new text of the rulebook."""

    version = forms.IntegerField(label=_("Version"), min_value=1, max_value=1_000_000)
    text = forms.CharField(
        label=_("Text (Markdown)"),
        max_length=MAX_RULEBOOK_LENGTH,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false"}),
        help_text=_("Its SHA-256 goes on the ledger; the text stays available under it for good."),
    )
    reason = reason_field("rulebook")
    words = words_field()


class SureForm(OnceForm):
    """A form that first shows what it would do: it is done once ``sure`` is sent with it."""

    sure = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def doubt(self) -> None:
        """Take back that the reader is sure: the form is shown again and may be sent with other values."""
        self.data = self.data.copy()
        self.data.pop(self.add_prefix("sure"), None)


class HaltForm(SureForm):
    """Stop trading somewhere."""

    scope = forms.ChoiceField(
        label=_("What"),
        choices=[
            ("market", _("The whole market")),
            ("contract", _("One contract")),
            ("area", _("One area with all below it")),
            ("account", _("One account")),
        ],
    )
    target = forms.CharField(
        label=_("Which one"),
        max_length=64,
        required=False,
        help_text=_("Contract, area or account number; empty for the whole market."),
        widget=forms.TextInput(attrs={"list": "targets", "autocomplete": "off", "spellcheck": "false"}),
    )
    reason = reason_field("halt", without=TO_GO_ON)
    until = forms.TimeField(
        label=_("Ends by itself at"),
        required=False,
        help_text=_("Market time, for a contract only; empty: when somebody ends it."),
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )
    cancel = forms.BooleanField(
        label=_("Take back all open orders there, too (kill switch)"),
        required=False,
        help_text=_("Their owners have to place them again."),
    )
    text = words_field()

    def __init__(self, *args: Any, scopes: tuple[str, ...] = ("market", "contract", "area", "account"), **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["scope"].choices = [c for c in self.fields["scope"].choices if c[0] in scopes]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        scope, target = cleaned.get("scope"), (cleaned.get("target") or "").strip()
        cleaned["target"] = "" if scope == "market" else target
        if scope in {"contract", "area", "account"} and not target:
            self.add_error("target", _("Say which one."))
        if scope == "account" and target and not (target.isascii() and target.isdigit() and len(target) < 16):
            self.add_error("target", _("An account is named by its number."))
        if cleaned.get("until") is not None and scope != "contract":
            self.add_error("until", _("Only a contract's halt can end by itself."))
        return cleaned


class ResumeForm(OnceForm):
    """Let trading go on where it was stopped."""

    scope = forms.ChoiceField(choices=[(s, s) for s in ("market", "contract", "area", "account")])
    target = forms.CharField(max_length=64, required=False)


class RecallForm(OnceForm):
    """Take a trade back."""

    reason = reason_field("recall")
    text = words_field()


class ConnectionForm(OnceForm):
    """What the grid connection of an account may take and give."""

    import_w = connection_field(label=_("May take, kW"))
    export_w = connection_field(label=_("May give, kW"), help_text=_("0 is the market's limit."))
    reason = reason_field("connection")
    text = words_field()


# --- grid operator ---------------------------------------------------------------------------------------------------
class CapacityForm(SureForm):
    """What an edge can carry."""

    import_kw = power_field(label=_("Into the area, kW"))
    export_kw = power_field(label=_("Out of the area, kW"))
    reason = reason_field("capacity")
    text = words_field()


class FeeForm(SureForm):
    """What using an edge costs."""

    fee = price_field(label=_("Grid fee"), help_text=_("For contracts that open from now on."))
    reason = reason_field("fee")
    text = words_field()
