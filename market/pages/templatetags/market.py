"""Numbers as people read them. frontend/src/format.ts follows the same rules, so that live text equals served text.

Amounts come in the system's integers: money ``_e7``, prices ``_e4``, energy ``_wh``, power ``_w``, instants ``_ms``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django import template
from django.conf import settings
from django.utils.formats import date_format
from django.utils.timesince import timesince
from django.utils.translation import gettext, gettext_lazy

from market.engine.contracts import contract_start_ms
from market.pages.context import clocks_differ, currency_symbol, shown
from market.pages.zones import shown_zone
from market.settlement.levies import Charge, commercial
from market.settlement.statements import CENT_E11, CORRECTED, Line

register = template.Library()

LINE_WORDS = {
    "own": gettext_lazy("own use"),
    "bought": gettext_lazy("bought"),
    "topup": gettext_lazy("from the grid"),
    "sold": gettext_lazy("sold"),
    "short": gettext_lazy("not delivered"),
    "spill": gettext_lazy("to the grid"),
    "given": gettext_lazy("given to a neighbour"),
    "received": gettext_lazy("received from a neighbour"),
    "corrected": gettext_lazy("corrected, on the meter"),
}

MINUS = "−"
TINY_E7 = 50_000  # half a cent: below it two digits would show earned money as none


def _rounded(value: int, step: int) -> int:
    return (value + step // 2) // step


@register.filter
def money(amount_e7: int, digits: int = 2) -> str:
    """4275000 -> "€0.43"; less than half a cent shows four digits."""
    size = abs(amount_e7)
    places = 4 if digits == 2 and 0 < size < TINY_E7 else digits
    rounded = _rounded(size, 10 ** (7 - places))
    whole, rest = divmod(rounded, 10**places)
    sign = MINUS if amount_e7 < 0 and rounded else ""
    fraction = f".{rest:0{places}d}" if places else ""
    return f"{sign}{currency_symbol()}{whole:,}{fraction}"


@register.filter
def exact_money(amount_e7: int) -> str:
    """4275000 -> "0.4275000": every digit, for statements and auditors."""
    whole, rest = divmod(abs(amount_e7), 10**7)
    return f"{MINUS if amount_e7 < 0 else ''}{whole:,}.{rest:07d}"


@register.filter
def signed_money(amount_e7: int, digits: int = 4) -> str:
    """1050000 -> "+€0.1050", -800000 -> "−€0.0800", 0 -> "€0.0000"."""
    text = money(amount_e7, digits)
    return f"+{text}" if amount_e7 > 0 and text != money(0, digits) else text


@register.filter
def cents(amount_cents: int) -> str:
    """-1234 -> "−€12.34"; a statement's total, rounded once and not again here."""
    return money(amount_cents * 100_000)


@register.filter
def exact_e11(amount_e11: int) -> str:
    """-371000000 -> "−€0.00371": every digit, at least two."""
    whole, rest = divmod(abs(amount_e11), 10**11)
    digits = f"{rest:011d}".rstrip("0").ljust(2, "0")
    sign = MINUS if amount_e11 < 0 else "+" if amount_e11 > 0 else ""
    return f"{sign}{currency_symbol()}{whole:,}.{digits}"


@register.filter
def cents_of_e11(amount_e11: int) -> str:
    """Return an amount for reading only, in cents and without its sign."""
    return cents(commercial(abs(amount_e11), CENT_E11))


@register.filter
def size_of(amount: int) -> int:
    """Return an amount without its sign."""
    return abs(amount)


@register.filter
def negative(amount: int) -> int:
    """Return an amount with the other sign: what was paid, as what it did to the pocket."""
    return -amount


@register.filter
def charge_name(charge: Charge, language: str) -> str:
    """Return a tax or levy with its rate, "Value added tax 19 %"."""
    name = charge.name(language)
    if charge.percent_bp:
        whole, rest = divmod(charge.percent_bp, 100)
        return f"{name} {whole}{f'.{rest:02d}'.rstrip('0') if rest else ''} %"
    return gettext("%(name)s %(price)s/kWh") % {"name": name, "price": unit_price(charge.price_e4)}


@register.filter
def line_word(kind: str) -> str:
    """Return what a line of a statement is called."""
    return str(LINE_WORDS[kind])


@register.filter
def line_energy(line: Line) -> str:
    """Return a line's energy, with its sign where it is a difference: "+300 Wh" for what the meter saw more."""
    return f"{'+' if line.kind == CORRECTED and line.energy_wh > 0 else ''}{energy(line.energy_wh)}"


@register.filter
def price(price_e4: int) -> str:
    """2850 -> "0.2850"."""
    return f"{price_e4 // 10_000}.{price_e4 % 10_000:04d}"


@register.filter
def unit_price(price_e4: int) -> str:
    """2850 -> "€0.2850", 2800 -> "€0.28": two digits or four, so that prices line up in columns."""
    return f"{currency_symbol()}{price(price_e4).removesuffix('00')}"


def _kilo(size: int) -> str:
    """3240 -> "3.24", 32400 -> "32.4"."""
    if size < 10_000:
        return f"{_rounded(size, 10) / 100:,.2f}"
    return f"{_rounded(size, 100) / 10:,.1f}"


@register.filter
def energy(energy_wh: int) -> str:
    """3240 -> "3.24 kWh", 80 -> "80 Wh"."""
    size, sign = abs(energy_wh), MINUS if energy_wh < 0 else ""
    return f"{sign}{size} Wh" if size < 1000 else f"{sign}{_kilo(size)} kWh"


@register.filter
def power(power_w: int) -> str:
    """3240 -> "3.24 kW", 80 -> "80 W"."""
    return energy(power_w).replace("Wh", "W")


@register.filter
def clock(at_ms: int) -> str:
    """Return the reader's time of day, "12:15"."""
    return f"{shown(at_ms):%H:%M}"


@register.filter
def clock_seconds(at_ms: int) -> str:
    """Return the reader's time of day, "12:15:07"."""
    return f"{shown(at_ms):%H:%M:%S}"


@register.filter
def day(at_ms: int) -> str:
    """Return the reader's date in the reader's language, "Sat, 6 Jun"."""
    # Translators: a date format of Django's; weekday, day and month in the order of the language.
    return date_format(shown(at_ms), gettext("D, j M"))


@register.filter
def long_day(at_ms: int) -> str:
    """Return the reader's date with its year in the reader's language, "Sat, 6 June 2026"."""
    # Translators: a date format of Django's; weekday, day, month and year in the order of the language.
    return date_format(shown(at_ms), gettext("D, j F Y"))


@register.filter
def month(at_ms: int) -> str:
    """Return the reader's month in the reader's language, "June 2026"."""
    # Translators: a date format of Django's; month and year in the order of the language.
    return date_format(shown(at_ms), gettext("F Y"))


@register.filter
def instant(at_ms: int) -> str:
    """Return the reader's date and time, "2026-06-06 12:15:07"."""
    return f"{shown(at_ms):%Y-%m-%d %H:%M:%S}"


@register.filter
def iso(at_ms: int) -> str:
    """Return the instant for a ``datetime`` attribute."""
    return shown(at_ms).isoformat(timespec="seconds")


@register.filter
def start_ms(contract: str) -> int:
    """Return when a contract's delivery starts, ms."""
    return contract_start_ms(contract)


@register.filter
def slot(contract: str) -> str:
    """Return a contract's interval in the reader's time zone, "12:15–12:30"."""
    start_at_ms = contract_start_ms(contract)
    # Not start + 15 minutes by the wall clock: where clocks change, that is another instant.
    start, end = shown(start_at_ms), shown(start_at_ms + settings.MARKET_INTERVAL_MIN * 60_000)
    return f"{start:%H:%M}–{end:%H:%M}"


@register.filter
def ago(at_ms: int, now_ms: int) -> str:
    """Return the market time since an instant in the reader's language, its largest unit."""
    return timesince(shown(at_ms), shown(max(now_ms, at_ms)), depth=1)


@register.filter
def zone_word(at_ms: int) -> str:
    """Return how far the zone that times are shown in is from UTC, "UTC+8"; names like CST mean several places."""
    offset = shown(at_ms).utcoffset() or timedelta()
    return f"UTC{offset / timedelta(hours=1):+g}".replace("-", MINUS)


@register.filter
def moment(at: datetime) -> str:
    """Return a point of real time (not market time) in the reader's language, "Sat, 6 June 2026, 12:15".

    Where the market has another clock it says so, "… (real time)".
    """
    text = _moment(at)
    return gettext("%(time)s (real time)") % {"time": text} if clocks_differ() else text


def _moment(at: datetime) -> str:
    local = at.astimezone(shown_zone())
    return f"{date_format(local, gettext('D, j F Y'))}, {local:%H:%M}"


@register.filter
def when(at_ms: int) -> str:
    """Return an instant in the reader's language, "Sat, 6 June 2026, 12:15"."""
    return _moment(shown(at_ms))
