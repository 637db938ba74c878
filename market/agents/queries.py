"""What may be asked about autopilots: what they are allowed, and what they did."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import NamedTuple

from django.db.models import Count, QuerySet, Sum

from market.agents.models import Autopilot, PlacedOrder
from market.agents.strategies.limits import FREE, Limits
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.exchange import history
from market.exchange.exchange import Exchange
from market.exchange.models import Recall, Trade
from market.households.models import Account, Device, DeviceKind, Role, User

MAX_PLACED = 5_000  # orders of one account that are looked at: one a look, six looks an interval, for some days
MAX_TRADES = 10_000  # of one account and day
MAX_NOTED = 5_000_000  # orders of all of them for contracts that are not delivered yet: 48 of a city's homes, thrice
NOTED_AT_ONCE = 5_000  # of them in one look at the book
IN_ONE_QUERY = 500
GONE_MS = 3_600_000  # after its delivery has begun no order of a contract is left, however late its gate was closed
MINUTE_MS = 60_000


class Settings(NamedTuple):
    """How one account's autopilot is set."""

    on: bool
    limits: Limits
    has_battery: bool
    revision: int = 0  # another one after every change of the limits or the switch


class Done(NamedTuple):
    """What an autopilot did in a span of time: orders placed, and what its orders sold and bought."""

    orders: int = 0
    sold_wh: int = 0
    sold_e7: int = 0
    bought_wh: int = 0
    bought_e7: int = 0


class OpenOrder(NamedTuple):
    """An order of an autopilot that still waits."""

    account: int
    order: int
    contract: str
    side: str
    price_e4: int


class Allowed(NamedTuple):
    """What a person allows an autopilot that is on. ``revision`` is another one after every change."""

    limits: Limits
    revision: int = 0


def _limits(row: Autopilot | None) -> Limits:
    return FREE if row is None else Limits(row.sell_from_e4, row.buy_to_e4, row.reserve_percent)


def settings_of(account: int) -> Settings:
    """Return how an account's autopilot is set; off for an account that is closed or not there."""
    row = Account.objects.filter(index=account, closed_at=None).select_related("home").first()
    if row is None:
        return Settings(False, FREE, False)
    found = None if row.user_id is None else Autopilot.objects.filter(user_id=row.user_id).first()
    battery = row.home is not None and row.home.battery_wh > 0
    if not battery and row.user_id is not None:  # of one that only its own controller knows the size of
        devices = Device.objects.filter(user_id=row.user_id, kind=DeviceKind.BATTERY, revoked_ms=None)
        battery = devices.exists()
    return Settings(row.automatic, _limits(found), battery, 0 if found is None else found.changes)


def chosen_by(user: User) -> Limits:
    """Return the limits a person gave their autopilot, whether it is on or not."""
    return _limits(Autopilot.objects.filter(user=user).first())


def automatic() -> QuerySet[Account]:
    """Return the accounts an autopilot may trade for: open, switched on, of households that may still come in."""
    # Who was shut out or has taken an office could not switch it off any more.
    return Account.objects.filter(automatic=True, closed_at=None, user__is_active=True, user__role=Role.HOUSEHOLD)


def allowed(accounts: Collection[int]) -> dict[int, Allowed]:
    """Return what persons allow, of those of the accounts whose autopilot is on."""
    names = sorted(accounts)
    found: dict[int, Allowed] = {}
    for at in range(0, len(names), IN_ONE_QUERY):
        people = dict(automatic().filter(index__in=names[at : at + IN_ONE_QUERY]).values_list("index", "user_id"))
        rows = {
            row.user_id: Allowed(_limits(row), row.changes)
            for row in Autopilot.objects.filter(user_id__in=people.values())
        }
        found.update({index: rows.get(user, Allowed(FREE)) for index, user in people.items()})
    return found


def limits_of(accounts: Collection[int]) -> dict[int, Limits]:
    """Return the limits of those of the persons' accounts whose autopilot is on."""
    return {account: one.limits for account, one in allowed(accounts).items()}


def people() -> list[int]:
    """Return the accounts of persons whose autopilot is on, in the order of their index."""
    return list(automatic().order_by("index").values_list("index", flat=True))


def crowd() -> tuple[int, int, int, int]:
    """Return something that costs little and differs as soon as ``people`` or anybody's limits do."""
    found = automatic().aggregate(count=Count("pk"), sum=Sum("index"))
    return found["count"], found["sum"] or 0, *revision()


def revision() -> tuple[int, int]:
    """Return something that differs as soon as anybody has changed a limit."""
    found = Autopilot.objects.aggregate(rows=Count("pk"), changes=Sum("changes"))
    return found["rows"], found["changes"] or 0


def open_orders(exchange: Exchange, accounts: Iterable[int] | None = None) -> list[OpenOrder]:
    """Return what the autopilots of some accounts, or of all persons, have in the book; a sleeping order counts."""
    found: list[OpenOrder] = []
    names = None if accounts is None else sorted(accounts)
    if names is None:
        _collect(exchange, _not_delivered(exchange), found)
    else:
        for at in range(0, len(names), IN_ONE_QUERY):
            _collect(exchange, _not_delivered(exchange).filter(account__in=names[at : at + IN_ONE_QUERY]), found)
    return sorted(found)


def stopped(exchange: Exchange) -> list[int]:
    """Return whose autopilot is off and has placed orders for contracts that are not delivered yet."""
    rows = _not_delivered(exchange).exclude(account__in=automatic().values("index"))
    return list(rows.order_by("account").values_list("account", flat=True).distinct())


def _not_delivered(exchange: Exchange) -> QuerySet[PlacedOrder]:
    open_from = contract_name((exchange.now_ms() - GONE_MS) // MINUTE_MS * MINUTE_MS)
    return PlacedOrder.objects.filter(contract__gte=open_from)


def _collect(exchange: Exchange, rows: QuerySet[PlacedOrder], found: list[OpenOrder]) -> None:
    """Add those of the noted orders that are in the book. In pieces: the market stands still while one is looked at."""
    placed = rows.order_by("-order").values_list("order", flat=True)[:MAX_NOTED].iterator(chunk_size=NOTED_AT_ONCE)
    while piece := list(islice(placed, NOTED_AT_ONCE)):
        found += exchange.read(lambda engine: _in_book(engine, piece))


def _in_book(engine: Engine, orders: list[int]) -> list[OpenOrder]:
    return [
        OpenOrder(found.account, found.id, found.contract, found.side, found.price_e4)
        for found in (engine.orders.get(order) for order in orders)
        if found is not None
    ]


def done(account: int, *, start_ms: int, end_ms: int) -> Done:
    """Return what an account's autopilot did in a span of market time; what was taken back is not counted."""
    rows = PlacedOrder.objects.filter(account=account).order_by("-order").values_list("order", "at_ms")[:MAX_PLACED]
    placed = dict(rows)
    if not placed:
        return Done()
    first = history.seq_before(start_ms)
    found = Done(orders=sum(start_ms <= at_ms < end_ms for at_ms in placed.values()))
    standing = Trade.objects.exclude(id__in=Recall.objects.values("trade"))
    spans = standing.filter(id__gte=first, at_ms__gte=start_ms, at_ms__lt=end_ms)
    for order, energy_wh, sell_e4 in spans.filter(seller=account).values_list("sell_order", "energy_wh", "sell_e4")[
        :MAX_TRADES
    ]:
        if order in placed:
            found = found._replace(sold_wh=found.sold_wh + energy_wh, sold_e7=found.sold_e7 + sell_e4 * energy_wh)
    for order, energy_wh, cost_e7 in spans.filter(buyer=account).values_list("buy_order", "energy_wh", "cost_e7")[
        :MAX_TRADES
    ]:
        if order in placed:
            found = found._replace(bought_wh=found.bought_wh + energy_wh, bought_e7=found.bought_e7 + cost_e7)
    return found
