"""What may be done to an autopilot: switch it, set its limits, take its orders back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from market.agents import queries
from market.agents.models import Autopilot, PlacedOrder
from market.agents.queries import Settings
from market.agents.strategies.limits import FULL_PERCENT, Limits
from market.engine.commands import CancelOrder, Command, PlaceOrder
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.exchange.idempotency import KEPT_MS
from market.exchange.keyed import orders_placed
from market.exchange.outcomes import ExchangeError
from market.exchange.units import price_text
from market.households import operations as households
from market.households import signing
from market.households.models import Account
from market.households.operations import HouseholdError

log = logging.getLogger(__name__)

SCOPE = -2  # of the agents' idempotency keys; an account's clients have its index, what belongs to no account has -1
MAX_PRICE_E4 = 10_000_000  # the most any market may allow (``accounts.params_problem``)
BATCH = 1_000  # commands at once: the exchange's largest batch
TIMEOUT_S = 60.0
MINUTE_MS = 60_000
FORGET_AT_ONCE = 5_000  # notes: on SQLite the market waits for whoever writes
KEEP_MS = 3 * 24 * 3_600_000  # after delivery: what was done today is told from these rows, and nothing older


class Changed(NamedTuple):
    """What a change came to: the settings in force, and how many of the autopilot's orders were taken back for it.

    ``trouble``: the settings are stored, but the market did not take the cancellations or did not answer in time. The agents
    send them again with the next interval.
    """

    settings: Settings
    cancelled: int
    trouble: ExchangeError | TimeoutError | None = None


class Placed(NamedTuple):
    """An order that was just placed for a person."""

    order: int
    account: int
    contract: str
    at_ms: int


def change(
    exchange: Exchange | None,
    *,
    account: int,
    on: bool | None = None,
    limits: Limits | None = None,
    fields: Mapping[str, int | None] | None = None,
    revision: int | None = None,
) -> Changed:
    """Switch an account's autopilot, give it other limits (all, or single ``fields`` of ``Limits``), or both.

    None leaves a part as it is. In force at once: what is in the book and breaks the new limits is taken back, everything
    when it is switched off. ``revision``: of the settings that the change was made for; where others have changed them
    since, nothing is changed (``HouseholdError`` changed_meanwhile).

    Raises ``HouseholdError`` that names the field (sell_from, buy_to, reserve_percent, on) and changes nothing then. Without an
    exchange (None) nothing can be in force; orders that break the limits are taken back when it opens (``obey``).
    """
    # Read before the transaction: the market's writer may be waiting for the database.
    bounds = None if exchange is None else exchange.read(_bounds)
    signed = bool(on) and exchange is not None and signing.is_signed(exchange, account=account)
    user = Account.objects.values_list("user_id", flat=True).get(index=account)
    if user is None and (limits is not None or fields is not None or revision is not None):
        raise ValueError(f"account {account} belongs to nobody who could set limits")
    with transaction.atomic():
        row = None if user is None else Autopilot.objects.select_for_update().get_or_create(user_id=user)[0]
        before = queries.settings_of(account)
        if revision is not None and revision != before.revision:
            sentence = _(
                "This was changed elsewhere in the meantime. See what holds now, and save again if you still want to."
            )
            raise HouseholdError("changed_meanwhile", "revision", sentence)
        wanted = (before.limits if limits is None else limits)._replace(**(fields or {}))
        if wanted != before.limits:
            _check(bounds, wanted, before)
        if on and not before.on and signed:
            raise HouseholdError(
                "orders_signed", "on", _("Your orders are signed in a browser; the autopilot has no key.")
            )
        if row is not None and (wanted != before.limits or on not in (None, before.on)):
            Autopilot.objects.filter(pk=row.pk).update(changes=F("changes") + 1, **wanted._asdict())
        if on is not None:
            households.set_automatic(account_index=account, automatic=on)
    settings = queries.settings_of(account)
    if exchange is None:
        return Changed(settings, 0)
    try:
        return Changed(settings, obey(exchange, accounts=[account]))
    except (ExchangeError, TimeoutError) as trouble:
        return Changed(settings, 0, trouble)


def _check(bounds: tuple[int, int, int] | None, limits: Limits, before: Settings) -> None:
    """Raise ``HouseholdError`` for what makes no sense in a market of these ``_bounds``."""
    highest_e4, topup_e4, spill_e4 = bounds or (MAX_PRICE_E4, -1, -1)
    # What was allowed before may stand: when the market has changed since, that is no reason to refuse something else.
    was, sell_e4, buy_e4 = before.limits, limits.sell_from_e4, limits.buy_to_e4
    for field, price_e4, was_e4 in (("sell_from", sell_e4, was.sell_from_e4), ("buy_to", buy_e4, was.buy_to_e4)):
        if price_e4 is not None and price_e4 != was_e4 and not 1 <= price_e4 <= highest_e4:
            sentence = _("Expected a price from %(least)s to %(most)s per kWh.")
            values = {"least": price_text(1), "most": price_text(highest_e4)}
            raise HouseholdError("price_out_of_range", field, sentence % values)
    if sell_e4 is not None and sell_e4 != was.sell_from_e4 and sell_e4 > topup_e4 >= 0:
        sentence = _("Nobody pays more than the grid charges, %(price)s per kWh: it would never sell.")
        raise HouseholdError("invalid_value", "sell_from", sentence % {"price": price_text(topup_e4)})
    if buy_e4 is not None and buy_e4 != was.buy_to_e4 and buy_e4 < spill_e4:
        sentence = _("Nobody sells for less than the grid pays, %(price)s per kWh: it would never buy.")
        raise HouseholdError("invalid_value", "buy_to", sentence % {"price": price_text(spill_e4)})
    if not 0 <= limits.reserve_percent <= FULL_PERCENT:
        raise HouseholdError("invalid_value", "reserve_percent", _("Expected a whole number from 0 to 100."))
    if limits.reserve_percent not in (0, was.reserve_percent) and not before.has_battery:
        raise HouseholdError("no_battery", "reserve_percent", _("Your home has no battery that we know of."))


def _bounds(engine: Engine) -> tuple[int, int, int]:
    return engine.params.max_price_e4, engine.topup_e4, engine.spill_e4


# --- orders ----------------------------------------------------------------------------------------------------------
def obey(exchange: Exchange, *, accounts: Iterable[int] | None = None) -> int:
    """Take back what autopilots have in the book beyond their limits, of some accounts or of all; return how many orders.

    Of an autopilot that is off that is everything. Orders that people placed themselves stay.
    """
    waiting = queries.open_orders(exchange, accounts)
    return take_back(exchange, waiting, queries.limits_of({one.account for one in waiting}))


def take_back(exchange: Exchange, waiting: Iterable[queries.OpenOrder], limits: Mapping[int, Limits]) -> int:
    """Cancel those orders that break the limits of their account (not in ``limits``: it is off); return how many."""
    breaking: list[Command] = [
        CancelOrder(one.account, one.order, "owner")
        for one in waiting
        if one.account not in limits or not limits[one.account].allow(one.side, one.price_e4)
    ]
    cancelled = 0
    for start in range(0, len(breaking), BATCH):
        batch: list[tuple[Command, str | None]] = [(command, None) for command in breaking[start : start + BATCH]]
        outcomes = exchange.submit_many(batch).result(TIMEOUT_S)
        cancelled += sum(outcome.refused is None for outcome in outcomes)  # traded in the meantime: nothing to cancel
    return cancelled


def key_of(command: PlaceOrder, lead: int, revision: int) -> str:
    """Return the idempotency key of an order that an autopilot places in one look at a contract, ``lead`` intervals ahead.

    The same for the same account, contract, look, side and revision of what its person allows: a look that is repeated, as
    after a crash, gets the order it placed or a conflict, and never a second order.
    """
    return f"{command.account}/{command.contract}/{lead}/{command.side}/{revision}"


def recover_notes(*, now_ms: int) -> int:
    """Note the orders that were placed and not noted because the process ended in between; return how many.

    Nothing is placed before the orders of the batch before are noted, so only what is newer than the newest note is looked
    for; and nothing older than the exchange keeps keys.
    """
    newest_ms = PlacedOrder.objects.order_by("-order").values_list("at_ms", flat=True).first()
    since_ms = now_ms - KEPT_MS if newest_ms is None else max(newest_ms, now_ms - KEPT_MS)
    found = 0
    orders = orders_placed(scope=SCOPE, since_ms=since_ms)
    while piece := list(islice(orders, BATCH)):
        open_ones = Account.objects.filter(index__in={one.account for one in piece}, closed_at=None).exclude(user=None)
        known = set(open_ones.values_list("index", flat=True))  # who was erased leaves no notes
        noted = set(PlacedOrder.objects.filter(order__in=[one.order for one in piece]).values_list("order", flat=True))
        lost = [one for one in piece if one.account in known and one.order not in noted]
        note(Placed(one.order, one.account, one.contract, one.at_ms) for one in lost)
        found += len(lost)
    if found:
        log.warning("%d orders of autopilots were in doubt and are found again", found)
    return found


def note(placed: Iterable[Placed]) -> None:
    """Keep which orders autopilots placed. Safe to repeat."""
    PlacedOrder.objects.bulk_create([PlacedOrder(**one._asdict()) for one in placed], ignore_conflicts=True)


def forget_old(*, now_ms: int) -> int:
    """Drop the notes about orders whose delivery is long over; return how many."""
    old = PlacedOrder.objects.filter(contract__lt=contract_name((now_ms - KEEP_MS) // MINUTE_MS * MINUTE_MS))
    dropped = 0
    while some := list(old.values_list("order", flat=True)[:FORGET_AT_ONCE]):
        dropped += PlacedOrder.objects.filter(order__in=some).delete()[0]
    return dropped
