"""Words of the home page: when something is, and what stands on the button's data."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.utils.translation import gettext

from market.exchange.units import price_text
from market.pages.context import shown
from market.pages.plans import Plan
from market.pages.pricestrip import Slot
from market.pages.templatetags.market import clock, day

register = template.Library()


def span(start_ms: int, end_ms: int, now_ms: int) -> str:
    """Return when something happens, seen from now: "between 11:00 and 12:00", "tomorrow between 09:00 and 12:00"."""
    words = {"start": clock(start_ms), "end": clock(end_ms), "day": day(start_ms)}
    days = shown(start_ms).toordinal() - shown(now_ms).toordinal()  # of the reader, whose clock it is
    if days == 0:
        return gettext("between %(start)s and %(end)s") % words
    if days == 1:
        return gettext("tomorrow between %(start)s and %(end)s") % words
    return gettext("%(day)s between %(start)s and %(end)s") % words


@register.filter
def when(found: Plan | Slot, now_ms: int) -> str:
    """Return when a plan delivers or an hour of the strip is, in words."""
    return span(max(found.start_ms, now_ms), found.end_ms, now_ms)  # of an hour that runs, what is left


@register.filter
def when_paid(slot: Slot, now_ms: int) -> str:
    """Return when in an hour neighbours pay most: its interval with that price, the hour itself where nobody offers."""
    return _interval(slot, slot.bid_ms, now_ms)


@register.filter
def when_asked(slot: Slot, now_ms: int) -> str:
    """Return when in an hour neighbours ask least: its interval with that price, the hour itself where nobody offers."""
    return _interval(slot, slot.ask_ms, now_ms)


def _interval(slot: Slot, start_ms: int | None, now_ms: int) -> str:
    if start_ms is None:
        return when(slot, now_ms)
    return span(start_ms, start_ms + settings.MARKET_INTERVAL_MIN * 60_000, now_ms)


@register.filter
def hours(slot: Slot) -> str:
    """Return an hour of the strip by the clock, "11:00–12:00"."""
    return f"{clock(slot.start_ms)}–{clock(slot.end_ms)}"


@register.filter
def legs(plan: Plan) -> str:
    """Return a plan's orders as the page's script reads them: "2026-06-06T12:15Z 450 0.2400;…"."""
    return ";".join(f"{leg.contract} {leg.energy_wh} {price_text(leg.price_e4)}" for leg in plan.legs)
