"""Words for codes on the account, staff, operator and regulator pages."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from market.exchange.units import parse_at
from market.grid.reasons import reason_text
from market.pages.templatetags.market import power

register = template.Library()

MEGAWATT_FROM_W = 10_000_000  # smaller ones are easier to compare in kW

OPEN_CONTRACT = pgettext_lazy("contract", "open")
WORDS = {
    # contracts
    "open": _("open"),
    "closed": _("gate closed"),
    "delivered": _("delivered"),
    "settled": _("settled"),
    "waiting": _("waiting"),
    "provisional": _("provisional"),
    "final": _("final"),
    # orders
    "filled": _("filled"),
    "cancelled": _("cancelled"),
    "buy": _("buy"),
    "sell": _("sell"),
    "gtg": _("good till gate"),
    "gtd": _("good till date"),
    "ioc": _("immediate or cancel"),
    "fok": _("fill or kill"),
    # steps of an order's life
    "placed": _("placed"),
    "traded": _("traded"),
    "amended": _("changed"),
    "hibernated": _("asleep"),
    "reactivated": _("brought back"),
    "clip": _("shows its next part"),
    "ran_out": _("expired"),
    # what an entry did to a book
    "new": _("new"),
    "more": _("more"),
    "less": _("less"),
    "gone": _("gone"),
    # kinds of results
    "trades": _("Trades"),
    "orders": _("Orders"),
    "entries": _("Entries"),
    "limit": _("limit order"),
    "standing": _("not taken back"),
    "recalled": _("taken back"),
    # kinds of orders
    "iceberg": _("iceberg"),
    "sweep": _("sweep"),
    "block": _("block"),
    "basket": _("basket"),
    # why an order ended
    "owner": _("by its owner"),
    "expired": _("its time was over"),
    "gate": _("the gate closed"),
    "self_trade": _("would have met an own order"),
    "account_closed": _("the account was closed"),
    "kill": _("taken back when trading was stopped"),
    "collar": _("price collar"),
    # accounts
    "member": _("member"),
    "bank": _("outside world"),
    "operator": _("grid operator"),
    "supplier": _("supplier of last resort"),
    "billing": _("supply bills"),
    "clearing": _("clearing"),
    # transfers
    "fund": _("money in or out"),
    "trade": _("trade"),
    "margin": _("margin"),
    "recall": _("taken back"),
    "energy": _("energy"),
    "payout": _("payout"),
    "fee": _("grid fee"),
    "short": _("not delivered"),
    "topup": _("top-up"),
    "spill": _("left over"),
    # values
    "measured": _("measured"),
    "estimated": _("estimated"),
    "corrected": _("corrected"),
    # scopes of a halt
    "market": _("The whole market"),
    "contract": _("Contract"),
    "area": _("Area"),
    "account": _("Account"),
    # the exchange
    "running": _("running"),
    "recovering": _("recovering"),
    "stopped": _("stopped"),
    "failed": _("failed"),
}


@register.filter
def word(code: str) -> str:
    """Return the word for a code; an unknown one stands for itself."""
    return str(WORDS.get(code, code))


@register.filter
def contract_state(code: str) -> str:
    """Return the word for a contract's state: an open one is traded, an open order is unfinished, which not all languages
    call by one word.
    """
    return str(OPEN_CONTRACT) if code == "open" else word(code)


@register.filter
def reason(code: str) -> str:
    """Return the word for the reason of an official's decision."""
    return reason_text(code)


@register.filter
def entry_ms(at: str) -> int:
    """Return the instant of an entry's ``at`` in ms."""
    return parse_at(at)


@register.filter
def short_hash(digits: str) -> str:
    """Return the ends of a long hash: enough for a person to compare."""
    return digits if len(digits) <= 20 else f"{digits[:10]}…{digits[-6:]}"


@register.filter
def thousands(number: int) -> str:
    """Return 12345 as "12,345", in every language alike, as all numbers here."""
    return f"{number:,}"


@register.filter
def watts(power_w: int) -> str:
    """Return a power of the grid: 5300 -> "5.30 kW", 80000000 -> "80 MW"."""
    if abs(power_w) < MEGAWATT_FROM_W:
        return power(power_w)
    return f"{power_w / 1_000_000:,.1f}".removesuffix(".0") + " MW"


@register.filter
def rest_percent(left_percent: int) -> int:
    """Return what is left of a width in per cent."""
    return 100 - left_percent
