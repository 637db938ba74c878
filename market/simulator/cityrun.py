"""A whole city from the first interval to the last, as fast as it goes: the simulator without a server.

One interval after the other: the market's clock is set, gates close and open, meters report what was delivered,
settlement pays, and every home looks at the market once. At the end the books are checked and summed up.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Count, Sum

from ledger import queries as ledger_queries
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.models import Order, SettlementLine, Trade
from market.exchange.outcomes import Overloaded
from market.metering import queries as metering_queries
from market.simulator.clock import SteppedClock
from market.simulator.founding import GUARD_RAILS, found_city
from market.simulator.life import Life
from market.simulator.neighbourhood import STEP_MIN, City, CityError

R = TypeVar("R")
log = logging.getLogger(__name__)

CITY_LEADS = (1,)  # every home looks once at the next interval: one order a home and interval
HORIZON_MIN = 60  # contracts further ahead would only be opened, never traded
IN_FLIGHT = 4  # batches of orders under way; with 1,000 each a fifth of the exchange's queue
MOMENTS = 20  # looks within an interval, so that orders of one interval have different times
WAIT_S = 120.0  # for a gate to close, or for a wallet's turn under overload
POLL_S = 0.002
BACK_OFF_S = 0.2


class BooksDoNotBalance(Exception):
    """A sum that must be zero is not. The message says which."""


class Progress(NamedTuple):
    """What to tell whoever waits, after each interval."""

    interval: int  # done so far
    intervals: int
    contract: str  # the next to be delivered
    seq: int
    elapsed_s: float


class CityRun:
    """Runs a city on an empty database. ``speed``: times life, 0 = as fast as it goes. ``days``: 0 = all the data."""

    def __init__(
        self,
        city: City,
        *,
        days: int = 0,
        speed: float = 0,
        seed: int = 1,
        progress: Callable[[Progress], None] = lambda progress: None,
    ):
        steps = settings.MARKET_INTERVAL_MIN // STEP_MIN
        available = city.profiles.steps // steps
        self._city = city
        self._intervals = min(available, days * 24 * 60 // settings.MARKET_INTERVAL_MIN) if days else available
        self._speed = speed
        self._seed = seed
        self._progress = progress
        self._interval_ms = settings.MARKET_INTERVAL_MIN * 60_000
        first = city.profiles.first.replace(tzinfo=ZoneInfo(settings.MARKET_TIME_ZONE))
        self._first_ms = int(first.timestamp()) * 1000
        self._end_ms = self._first_ms + self._intervals * self._interval_ms
        # The market opens an interval before the first delivery, so that it can be traded.
        self._clock = SteppedClock(self._first_ms - self._interval_ms)
        self._began_s = time.monotonic()

    def run(self) -> dict[str, object]:
        """Run to the end and return the summary; raise ``BooksDoNotBalance``, ``CityError`` on a used database."""
        self._began_s = time.monotonic()
        exchange = Exchange(self._clock.now_ms)
        exchange.start()
        gateway.connect(exchange)
        try:
            if exchange.read(lambda engine: engine.seq):
                raise CityError("expected an empty database: a city's run starts with the market's founding")
            life = self._found(exchange)
            self._live(exchange, life)
            check_books(exchange, until=contract_name(self._end_ms))
            money = exchange.read(_money)
            refused = dict(sorted(life.runner.refused.items()))
        finally:
            gateway.disconnect()
            exchange.stop(WAIT_S)
        return self._summary(money, refused)

    def _found(self, exchange: Exchange) -> Life:
        params = GUARD_RAILS._replace(horizon_min=max(HORIZON_MIN, 4 * settings.MARKET_INTERVAL_MIN))
        found_city(exchange, self._city, now_ms=self._clock.now_ms(), params=params)
        life = Life(exchange, self._city, leads=CITY_LEADS, seed=self._seed, in_flight=IN_FLIGHT)
        life.move_in()
        return life

    def _live(self, exchange: Exchange, life: Life) -> None:
        for interval in range(self._intervals + 2):
            start_ms = self._first_ms + (interval - 1) * self._interval_ms
            self._go_to(exchange, start_ms)
            _insist(life.measure, start_ms)
            _settle_all(life, start_ms)
            if interval < self._intervals:  # what is delivered after the end is not traded
                self._trade(life, start_ms)
            if interval % (24 * 60 // settings.MARKET_INTERVAL_MIN) == 0:
                _insist(life.pay_in)
            self._progress(
                Progress(
                    interval,
                    self._intervals,
                    contract_name(start_ms),
                    int(exchange.status()["seq"]),
                    time.monotonic() - self._began_s,
                )
            )

    def _trade(self, life: Life, start_ms: int) -> None:
        for moment in range(1, MOMENTS + 1):
            self._clock.set(start_ms + self._interval_ms * moment // (MOMENTS + 1))
            while _insist(life.trade, self._clock.now_ms()):
                pass
        # The last homes' moment; nobody is left out.
        self._clock.set(start_ms + self._interval_ms - 1)
        while _insist(life.trade, self._clock.now_ms()):
            pass
        life.runner.finish()

    def _go_to(self, exchange: Exchange, now_ms: int) -> None:
        """Set the clock and wait until the market's own timetable has been worked off."""
        self._pace(now_ms)
        self._clock.set(now_ms)
        deadline = time.monotonic() + WAIT_S
        while exchange.read(lambda engine: bool(engine.schedule(now_ms))):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the market did not reach {contract_name(now_ms)} within {WAIT_S} s")
            time.sleep(POLL_S)

    def _pace(self, now_ms: int) -> None:
        if self._speed:
            due_s = self._began_s + (now_ms - self._first_ms) / 1000 / self._speed
            time.sleep(max(0.0, due_s - time.monotonic()))

    # --- the end ----------------------------------------------------------------------------------------------------
    def _summary(self, money: dict[str, int], refused: dict[str, int]) -> dict[str, object]:
        traded = Trade.objects.aggregate(trades=Count("id"), energy=Sum("energy_wh"))
        metered = metering_queries.totals()
        settled = SettlementLine.objects.aggregate(
            short=Sum("short_wh"), topup=Sum("topup_wh"), spill=Sum("spill_wh"), lines=Count("account")
        )
        supplied = (settled["short"] or 0) + (settled["topup"] or 0)
        block = ledger_queries.blocks(1)[0]
        return {
            "homes": len(self._city.homes),
            "areas": len(self._city.areas),
            "intervals": self._intervals,
            "from": str(self._city.profiles.first),
            "to": str(self._city.profiles.first + timedelta(milliseconds=self._intervals * self._interval_ms)),
            "orders": Order.objects.count(),
            "refused": refused,
            "trades": traded["trades"],
            "energy_traded_wh": traded["energy"] or 0,
            "readings": metered.readings,
            "used_wh": metered.used_wh,
            "produced_wh": metered.produced_wh,
            "supplied_wh": supplied,
            "spilled_wh": settled["spill"] or 0,
            "self_sufficiency": round(1 - supplied / metered.used_wh, 4) if metered.used_wh else 0.0,
            "settlement_lines": settled["lines"],
            "money_e7": money,
            "ledger": {"entries": block.size, "blocks": block.height, "root": block.root},
            "elapsed_s": round(time.monotonic() - self._began_s, 1),
        }


def check_books(exchange: Exchange, until: str) -> None:
    """Raise ``BooksDoNotBalance`` unless what has been delivered is settled, clearing is empty and money sums to zero.

    ``until`` is the first contract that need not be settled yet; nothing may have been traded in it.
    """

    def look(engine: Engine) -> list[str]:
        wrong = []
        total = sum(account.net_e7 for account in engine.accounts)
        if total:
            wrong.append(f"all balances together are {total} e7, not 0")
        for account in engine.accounts:
            if account.kind == "member" and not 0 <= account.held_e7 <= account.cash_e7:
                wrong.append(f"account {account.index} has {account.cash_e7} e7, {account.held_e7} of it held")
        for contract in engine.contracts.values():
            if contract.name < until and contract.state != "settled":
                wrong.append(f"contract {contract.name} is {contract.state}, not settled")
        clearing = sum(abs(account.cash_e7) for account in engine.accounts if account.kind == "clearing")
        if clearing:
            wrong.append(f"{clearing} e7 are left in clearing")
        return wrong

    wrong = exchange.read(look)
    lines = SettlementLine.objects.aggregate(position=Sum("position_wh"))["position"] or 0
    if lines:
        wrong.append(f"bought and sold energy differ by {lines} Wh")
    if wrong:
        raise BooksDoNotBalance("; ".join(wrong[:10]))


def _money(engine: Engine) -> dict[str, int]:
    money: Counter[str] = Counter()
    for account in engine.accounts:
        money[account.kind] += account.net_e7
    return dict(sorted(money.items()))


def _settle_all(life: Life, now_ms: int) -> None:
    while _insist(life.settle, now_ms).areas:
        pass


def _insist(do: Callable[..., R], *args: object) -> R:
    """Do it, waiting as often as the exchange is overloaded; nothing else competes for it here."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return do(*args)
        except Overloaded:
            if time.monotonic() > deadline:
                raise
            time.sleep(BACK_OFF_S)
