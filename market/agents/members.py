"""The autopilots of a market of real homes: forecasts from each home's own meter, decisions and limits as everywhere.

Beside the server of ``manage.py serve``. What a battery does is its home's controller's business, which reads the reserve from
``/api/v1/me/autopilot``: here nobody knows how full it is, and nothing is ever planned from it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import close_old_connections, connection

from market.agents import operations, queries
from market.agents.forecast import Forecaster
from market.agents.pastweek import DAY_MS, WEEK_DAYS, Ring, Week, place
from market.agents.runner import DEMO_LEADS, AgentHome, Calendar, Runner, Sun
from market.engine.engine import Engine
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import ExchangeError, NotRunning
from market.metering import queries as metering

log = logging.getLogger(__name__)

EVERY_S = 2.0  # real time between two looks
STOP_TIMEOUT_S = 20.0
MAX_MEMBERS = 2_000  # homes of one process: a week of each lies in memory, twice while forecasts are made
FEWEST_DAYS = 1  # of readings before anything is traded: a forecast from nothing would only cost money
AT_ONCE = 100  # homes whose readings are read at a time
LATE_MS = 3 * 3_600_000  # how far back an interval's readings are read again; once a day all of them are


class Members:
    """The members whose autopilot is on. Not thread-safe: one thread calls ``step``."""

    def __init__(self, exchange: Exchange, *, seed: int = 1):
        interval_ms = settings.MARKET_INTERVAL_MIN * 60_000
        zone = ZoneInfo(settings.MARKET_TIME_ZONE)
        self._exchange = exchange
        self._interval_ms = interval_ms
        self._fewest = FEWEST_DAYS * DAY_MS // interval_ms
        self._rings: dict[int, Ring] = {}
        self._weeks: dict[int, Week | None] = {}  # what the rings say in this interval
        self._seen: tuple[int, list[int]] = (-1, [])
        self._day = -1
        calendar = Calendar(
            interval_ms,
            1,
            lambda at_ms: place(at_ms, interval_ms),
            lambda at_ms: datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).hour,
        )
        self.runner = Runner(
            exchange,
            forecaster=Forecaster([[0]], DAY_MS // interval_ms),
            calendar=calendar,
            sun=Sun((), 0),
            share_unit=1,
            charge_of=lambda account: 0,
            leads=DEMO_LEADS,
            seed=seed,
        )

    def move_in(self) -> None:
        """Find the orders that were left in the book, and take back those that break limits; once, before ``step``."""
        self._refresh(self._exchange.now_ms())
        self.runner.adopt()

    def step(self, now_ms: int) -> int:
        """Let the members look whose moment has come; return the number of commands sent. Raises ``Overloaded``."""
        self._refresh(now_ms)
        return self.runner.tick(now_ms)

    def _refresh(self, now_ms: int) -> None:
        """Learn from the meters once an interval, and who is there whenever that changed.

        Once an interval, too, what breaks limits goes: a change that found the market too busy is obeyed then.
        """
        current = now_ms // self._interval_ms
        people = queries.people()
        if (current, people) == self._seen:
            return
        if len(people) > MAX_MEMBERS:
            log.warning("%d autopilots are on, %d of them trade", len(people), MAX_MEMBERS)
        members = people[:MAX_MEMBERS]
        if current != self._seen[0]:
            if self._seen[0] >= 0:  # ``move_in`` does it at the start
                operations.obey(self._exchange)
            self._weeks = {}
        self._learn(members, now_ms)
        areas = self._exchange.read(lambda engine: _areas(engine, members))
        homes: list[AgentHome] = []
        profiles: list[Sequence[int]] = []
        watts = 3_600_000 // self._interval_ms  # a share is Wh of one interval
        for account in members:
            week = self._weeks[account]
            if week is None or account not in areas:
                continue
            use, make = ((len(profiles), watts),), ((len(profiles) + 1, watts),)
            profiles += [week.taken_wh, week.given_wh]
            homes.append(AgentHome(account, areas[account], account, use, make, None, True))
        roofs = tuple(range(1, len(profiles), 2))
        together = [sum(values) for values in zip(*(profiles[roof] for roof in roofs), strict=True)]
        forecaster = Forecaster(profiles or [[0]], DAY_MS // self._interval_ms)
        self.runner.know(forecaster, Sun(roofs, max(together, default=0)))
        self.runner.set_homes(homes)
        self._seen = (current, people)

    def _learn(self, members: list[int], now_ms: int) -> None:
        day = now_ms // DAY_MS
        first_ms = now_ms - WEEK_DAYS * DAY_MS
        if day != self._day:  # once a day all of it is read again: late readings and corrections
            self._day = day
            self._rings = {}
            operations.forget_old(now_ms=now_ms)
        new = [account for account in members if account not in self._rings]
        self._rings = {account: self._rings[account] for account in members if account in self._rings}
        # Who joins or leaves within an interval costs the others nothing: their weeks are worked out already.
        known = [account for account in self._rings if account not in self._weeks]
        for account in known:
            self._rings[account].advance(now_ms)
        for account in new:
            self._rings[account] = Ring(now_ms, self._interval_ms)
        for accounts, since_ms in ((new, first_ms), (known, now_ms - LATE_MS)):
            for at in range(0, len(accounts), AT_ONCE):
                found = metering.energies(accounts[at : at + AT_ONCE], start_ms=since_ms, end_ms=now_ms)
                for account, readings in found.items():
                    self._rings[account].learn(readings)
        for account in (*known, *new):
            self._weeks[account] = self._rings[account].week(self._fewest)


def knows(account: int, now_ms: int) -> bool:
    """Whether an account's meter has reported enough for its autopilot to begin."""
    interval_ms = settings.MARKET_INTERVAL_MIN * 60_000
    ring = Ring(now_ms, interval_ms)
    found = metering.energies([account], start_ms=now_ms - WEEK_DAYS * DAY_MS, end_ms=now_ms)
    ring.learn(found.get(account, {}))
    return ring.week(FEWEST_DAYS * DAY_MS // interval_ms) is not None


def _areas(engine: Engine, accounts: list[int]) -> dict[int, str]:
    return {account: engine.accounts[account].area for account in accounts if account < len(engine.accounts)}


class MembersService:
    """A service of the runtime: trades for the members whose autopilot is on."""

    def __init__(self, every_s: float = EVERY_S):
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="autopilots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the running look end, then no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    def _run(self) -> None:
        members: Members | None = None
        try:
            while not self._stopping.wait(self._every_s):
                try:
                    exchange = gateway.current()
                    if members is None:
                        arriving = Members(exchange)
                        arriving.move_in()
                        members = arriving
                    members.step(exchange.now_ms())
                except NotRunning:
                    return
                except ExchangeError as error:
                    log.warning("autopilots wait: %s", error)
                except Exception:
                    log.exception("a look of the autopilots failed; they go on")
                    close_old_connections()
        finally:
            connection.close()
