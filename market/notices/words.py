"""Notices as people read them, in the active language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from market.engine.contracts import contract_start_ms
from market.notices.kinds import BOUGHT, CORRECTION, MONEY, SOLD, Notice

SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "CNY": "¥", "JPY": "¥"}
TITLES = {
    ("sold", ""): gettext_noop("You sold energy"),
    ("bought", ""): gettext_noop("You bought energy"),
    ("money", "settled"): gettext_noop("Money arrived"),
    ("money", "deposit"): gettext_noop("Your deposit arrived"),
    ("money", "payout"): gettext_noop("Money is on its way to your bank"),
    ("order", "expired"): gettext_noop("An order ended without a trade"),
    ("order", "self_trade"): gettext_noop("An order gave way to another of yours"),
    ("order", "taken_back"): gettext_noop("An order was taken back by the market"),
    ("correction", "settled"): gettext_noop("A settlement was corrected"),
    ("correction", "recall"): gettext_noop("A trade was taken back by the market"),
    ("objection", "answered"): gettext_noop("Your objection has been answered"),
    ("connection", "limits"): gettext_noop("Your connection has new limits"),
    ("connection", "halted"): gettext_noop("Trading is halted"),
    ("connection", "resumed"): gettext_noop("Trading goes on"),
}


def title(notice: Notice) -> str:
    """Return what happened, without any amount: it may be read over a shoulder."""
    return _(TITLES[notice.kind, notice.what])


def text(notice: Notice, *, amounts: bool = True) -> str:
    """Return a sentence with the interval and, where they may be shown, energy and money; "" when there is no more to say."""
    if notice.kind in (SOLD, BOUGHT) and amounts:
        values = {"energy": energy(notice.energy_wh), "amount": money(notice.amount_e7)}
        if not notice.contract:  # of several intervals
            return _("%(energy)s, %(amount)s.") % values
        return _("%(energy)s for %(slot)s, %(amount)s.") % {**values, "slot": slot(notice.contract)}
    if notice.kind == MONEY and amounts:
        if notice.contract:
            values = {"amount": money(notice.amount_e7), "day": day(notice.contract)}
            if notice.energy_wh:  # sold: what was left as security comes back with the money
                return _("%(amount)s for %(day)s, security given back included.") % values
            return _("%(amount)s for %(day)s.") % values
        return money(notice.amount_e7)
    if notice.kind == CORRECTION and amounts and notice.amount_e7:
        sign = "+" if notice.amount_e7 > 0 else ""
        return _("%(amount)s for %(slot)s.") % {
            "amount": sign + money(notice.amount_e7), "slot": slot(notice.contract),
        }  # fmt: skip
    if notice.contract and notice.kind != MONEY:
        return _("For %(slot)s.") % {"slot": slot(notice.contract)}
    return ""


def money(amount_e7: int) -> str:
    """4275000 -> "€0.43"; less than half a cent shows four digits, as everywhere on the pages."""
    size = abs(amount_e7)
    places = 4 if 0 < size < 50_000 else 2
    step = 10 ** (7 - places)
    whole, rest = divmod((size + step // 2) // step, 10**places)
    symbol = SYMBOLS.get(settings.MARKET_CURRENCY, f"{settings.MARKET_CURRENCY} ")
    return f"{'−' if amount_e7 < 0 else ''}{symbol}{whole:,}.{rest:0{places}d}"


def energy(energy_wh: int) -> str:
    """3240 -> "3.24 kWh", 80 -> "80 Wh"."""
    return f"{energy_wh} Wh" if energy_wh < 1000 else f"{energy_wh / 1000:,.2f} kWh"


def slot(contract: str) -> str:
    """Return a contract's interval in market-local time, "12:15–12:30"."""
    start = start_of(contract)
    return f"{start:%H:%M}–{start + timedelta(minutes=settings.MARKET_INTERVAL_MIN):%H:%M}"


def day(contract: str) -> str:
    """Return the market-local day of a contract in the reader's language, "Sat, 6 Jun"."""
    # Translators: a date format of Django's; weekday, day and month in the order of the language.
    return date_format(start_of(contract), _("D, j M"))


def start_of(contract: str) -> datetime:
    """Return when a contract starts, in the market's time."""
    return datetime.fromtimestamp(contract_start_ms(contract) / 1000, UTC).astimezone(
        ZoneInfo(settings.MARKET_TIME_ZONE)
    )
