"""The demo market: a neighbourhood that trades by itself, beside the server, faster than life."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import close_old_connections, connection

from ledger import queries as ledger_queries
from market.agents.ahead import DEMO_LEADS
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import NotRunning, Overloaded
from market.exchange.units import parse_at
from market.households.demo import ensure_demo_people
from market.households.models import Account
from market.simulator.clock import DEFAULT_SPEED, MarketClock, at_local, local_time
from market.simulator.founding import found_city
from market.simulator.life import Life
from market.simulator.neighbourhood import City, load_city

log = logging.getLogger(__name__)

TICK_S = 0.5  # real time between two looks at the city: two homes of a hundred move in it
SLOW_EVERY = 4  # ticks between two looks at the meters, settlement and who lives here
STOP_TIMEOUT_S = 20.0
BACK_OFF_S = 2.0  # after an overload
MAX_LIVELY = 1_000  # homes that look at many contracts an interval; those of a whole city look once
CALM_LEADS = (1,)
PERSONS_HOME = "LV4.101-Load-16"  # an ordinary household with a small roof: what visitors of the demo will know best


def last_market_ms() -> int:
    """Return the time of the ledger's last entry, 0 when it is empty."""
    size = ledger_queries.size()
    return parse_at(str(ledger_queries.entry(size - 1)["at"])) if size else 0


def demo_clock(last_ms: int, speed: float = DEFAULT_SPEED) -> MarketClock:
    """Return the demo's clock: on from the ledger's last time, or from 10:00 market time today when it is empty."""
    if last_ms:
        return MarketClock(last_ms, speed)
    today = datetime.now(ZoneInfo(settings.MARKET_TIME_ZONE)).date()
    return MarketClock(at_local(today, settings.MARKET_TIME_ZONE), speed)


class Demo:
    """A service of the runtime: founds the neighbourhood's market on its first start and keeps it alive.

    ``clock`` is market time. Everything that happens, happens in ``step``: the thread only calls it.
    """

    def __init__(self, clock: Callable[[], int], *, city: City | None = None, seed: int = 1, tick_s: float = TICK_S):
        self._clock = clock
        self._city = city or load_city()
        self._seed = seed
        self._tick_s = tick_s
        self._life: Life | None = None
        self._exchange: Exchange | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lively = True
        self._steps = 0
        self._day = -1
        self._wait_until = 0.0

    # --- life of the service ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Found what is missing and let the city live, in a thread of its own."""
        self.prepare(gateway.current())
        close_old_connections()
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the running step end, then no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    def prepare(self, exchange: Exchange) -> Life:
        """Found the market, open accounts, bring the demo's people; harmless to repeat."""
        began = time.monotonic()
        now_ms = self._clock()
        found_city(exchange, self._city, now_ms=now_ms)
        ensure_demo_people(self._home_for_a_person())
        self._lively = len(self._city.homes) <= MAX_LIVELY
        life = Life(exchange, self._city, leads=DEMO_LEADS if self._lively else CALM_LEADS, seed=self._seed)
        life.move_in()
        self._exchange, self._life = exchange, life
        log.info("%d homes are ready after %.1f s", len(self._city.homes), time.monotonic() - began)
        return life

    def _home_for_a_person(self) -> int | None:
        """Return the account of the home the demo's household gets, when it is in this city and nobody has it."""
        return (
            Account.objects.filter(home__code=PERSONS_HOME, user=None, closed_at=None)
            .values_list("index", flat=True)
            .first()
        )

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._tick_s):
                try:
                    self.step(self._clock())
                except NotRunning:
                    log.info("the exchange has closed, the demo city rests")
                    return
                except Exception:
                    log.exception("a moment of the demo city failed; it goes on")
        finally:
            connection.close()

    # --- one moment -------------------------------------------------------------------------------------------------
    def step(self, now_ms: int) -> None:
        """Let one moment pass in the city. Whatever fails is logged and tried again; only ``NotRunning`` is raised."""
        life = self._life
        assert life is not None, "prepare() comes first"
        if time.monotonic() < self._wait_until:
            return
        if self._steps == 0 and self._lively:
            self._try("the first look", life.runner.sweep, now_ms)
        self._try("trading", life.trade, now_ms)
        if self._steps % SLOW_EVERY == 0:
            self._try("moving in", life.refresh)
            self._try("power", life.note_power, now_ms)
            self._try("outlook", life.note_outlook, now_ms)
            self._try("metering", life.measure, now_ms)
            self._try("settlement", life.settle, now_ms)
            day = local_time(now_ms, ZoneInfo(settings.MARKET_TIME_ZONE)).toordinal()
            if day != self._day:
                self._day = day
                self._try("paying in", life.pay_in)
                self._try("tidying up", life.tidy, now_ms)
        self._steps += 1

    def _try(self, what: str, do: Callable[..., object], *args: object) -> None:
        try:
            do(*args)
        except NotRunning:
            raise
        except Overloaded as error:
            self._wait_until = time.monotonic() + max(BACK_OFF_S, error.retry_after_s)
            log.warning("%s waits: %s", what, error)
        except Exception:
            log.exception("%s failed in the demo city; it goes on", what)
            close_old_connections()
