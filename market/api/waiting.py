"""Why an order that rests has not traded: the engine's reason as a code and a sentence its owner can act on."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from market.api.problems import params_of
from market.engine.engine import Engine
from market.exchange import gateway
from market.exchange.outcomes import NotRunning
from market.exchange.queries import OrderView
from market.exchange.units import price_text
from market.streaming import access

WAITING = ("open", "hibernated")  # the states in which an order may still trade
CAPACITY = "capacity"
READ_BUDGET_S = 0.005  # the writer waits that long at most, plus one order

# The first sentence whose parameters are all known is used, as for problems.
SENTENCES: dict[str, tuple[str, ...]] = {
    "hibernated": (_("You have put this order to sleep. It takes part again when you bring it back."),),
    "market_halted": (_("Trading is halted. The order takes part again when trading resumes."),),
    "contract_halted": (_("Trading in this interval is halted. The order takes part again when it resumes."),),
    "account_halted": (_("Trading of your account is halted. The order takes part again when that ends."),),
    "area_halted": (_("Trading in your area is halted. The order takes part again when that ends."),),
    "gate_passed": (_("The gate of this interval has closed. Nothing trades in it any more."),),
    "no_offers": (_("Nobody is on the other side of the market in this interval yet."),),
    "price": (_("The best price to be had is %(best)s per kWh with grid fees, and your limit is %(limit)s."),),
    "capacity_import": (
        _("A price of %(best)s per kWh would suit you, but the grid can bring no more energy into %(area)s."),
        _("A price of %(best)s per kWh would suit you, but a line on the way to you is full."),
    ),
    "capacity_export": (
        _("A price of %(best)s per kWh would suit you, but the grid can take no more energy out of %(area)s."),
        _("A price of %(best)s per kWh would suit you, but a line on the way from you is full."),
    ),
    "block": (
        _("A block trades as a whole or not at all. At your limit %(missing_wh)s Wh are missing in %(contract)s."),
        _("A block trades as a whole or not at all."),
    ),
    "collar": (
        _("The energy for this block is there, but in %(contract)s only at a price outside the price collar."),
        _("The energy for this block is there, but only at a price outside the price collar."),
    ),
    "own_orders": (
        _("In %(contract)s %(missing_wh)s Wh could only come from your own orders, and nobody trades with themselves."),
        _("Only your own orders would match, and nobody trades with themselves."),
    ),
}


class Look(NamedTuple):
    """What the engine says of some orders: reasons by order id, what icebergs show, and which areas may be named."""

    reasons: dict[int, tuple[str, dict[str, int | str]]]
    visible_wh: dict[int, int]
    nameable: set[str]


def look(orders: Iterable[OrderView], viewer: access.Viewer) -> Look:
    """Ask the engine about the orders that may still trade; nothing is known while it does not run.

    One look for all, unless that held up the writer: in a city of 443 areas an order takes 0.3 ms, and a page may have 500.
    """
    found = Look({}, {}, set())
    ids = [order.id for order in orders if order.status in WAITING]

    def read(engine: Engine) -> int:
        return _read(engine, ids, viewer, found)

    with suppress(NotRunning):
        while ids:
            ids = ids[gateway.current().read(read) :]
    return found


def _read(engine: Engine, ids: Sequence[int], viewer: access.Viewer, found: Look) -> int:
    """Add what the engine says of the first orders to ``found``; return how many there was time for."""
    stop_s = time.perf_counter() + READ_BUDGET_S
    done = 0
    of_groups: dict[int, tuple[str, dict[str, int | str]] | None] = {}  # what keeps one leg of a block keeps them all
    for order_id in ids:
        order = engine.orders.get(order_id)
        extra = None if order is None else order.complex
        group = None if extra is None or extra.asleep else extra.group
        if group is None:
            reason = engine.why_not(order_id)
        elif group.id in of_groups:
            reason = of_groups[group.id]
        else:
            reason = of_groups[group.id] = engine.why_not(order_id)
        if reason is not None:
            found.reasons[order_id] = reason
            if reason[0] == CAPACITY and not found.nameable:
                found.nameable.update(access.nameable(engine, viewer))
        if order is not None and order.resting and extra is not None and extra.display_wh:
            found.visible_wh[order_id] = order.remaining_wh
        done += 1
        if time.perf_counter() > stop_s:
            break
    return done


def add(out: dict[str, Any], order: OrderView, found: Look) -> dict[str, Any]:
    """Add ``waiting``, and of an iceberg ``visible_wh``, to an order's JSON, in the language that is active now."""
    reason = found.reasons.get(order.id)
    out["waiting"] = None if reason is None else {"code": reason[0], "detail": sentence(*reason, order, found.nameable)}
    if order.id in found.visible_wh:
        out["visible_wh"] = found.visible_wh[order.id]
    return out


def sentence(code: str, detail: dict[str, int | str], order: OrderView, nameable: Container[str]) -> str:
    """Return the sentence for a reason."""
    params = params_of(detail.items()) | {"limit": price_text(order.price_e4)}
    if code == CAPACITY:
        code = f"{CAPACITY}_{detail.get('direction')}"
        if params.get("area") not in nameable:
            params.pop("area", None)
    return _first_that_fits(SENTENCES.get(code, ()), params)


def _first_that_fits(templates: Sequence[str], params: dict[str, object]) -> str:
    for template in templates:
        try:
            return gettext(template) % params
        except KeyError:
            continue
    return gettext("This order waits.")
