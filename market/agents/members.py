"""The autopilots of a market of real homes: forecasts from each home's own meter, decisions and limits as everywhere.

Beside the server of ``manage.py serve``. What a battery does is its home's controller's business, which reads the reserve from
``/api/v1/me/autopilot``: here nobody knows how full it is, and nothing is ever planned from it.

However many members there are, all have their turn (``turns``). What is done for one of them, from reading its meter to
sending its orders, is done when its turn has come, for some homes at a time; nothing is done for all of them at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import close_old_connections, connection

from market.agents import operations, queries
from market.agents.ahead import DEMO_LEADS, Calendar, Sun
from market.agents.forecast import Forecaster
from market.agents.pastweek import DAY_MS, WEEK_DAYS, Ring, place, places
from market.agents.runner import Known, Runner
from market.agents.turns import AgentHome
from market.engine.engine import Engine
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import ExchangeError, NotRunning
from market.households import queries as households
from market.metering import queries as metering

log = logging.getLogger(__name__)

EVERY_S = 2.0  # real time between two looks
BUSY_S = 1.5  # real time in which looks are begun before the next pause: the market's own threads need the machine, too
STOP_TIMEOUT_S = 20.0
KEPT_RINGS = (
    50_000  # weeks that lie in memory, 5 kB each: a city of 32,511 homes, and more; of others all is read again
)
FEWEST_DAYS = 1  # of readings before anything is traded: a forecast from nothing would only cost money
AT_ONCE = 100  # homes whose readings are read at a time
LATE_MS = 3 * 3_600_000  # how far back an interval's readings are read again; once a day all of them are
# A meter that has been silent for so long says too little about tomorrow. One that is read once a day, and reported at
# noon of the next, is never silent for more than 36 hours.
SILENT_MS = 48 * 3_600_000
SUN_HOMES = 200  # whose meters say how sunny it is


class Report(NamedTuple):
    """How the members' agents get on, for who runs the market."""

    homes: int
    missed: int  # homes that the last whole interval had no time for; they came first in the next
    busy_s: float  # real time the last whole interval's looks took
    longest_s: float  # and the longest of them


class Members:
    """The members whose autopilot is on. Not thread-safe: one thread calls ``step``."""

    def __init__(self, exchange: Exchange, *, seed: int = 1):
        interval_ms = settings.MARKET_INTERVAL_MIN * 60_000
        zone = ZoneInfo(settings.MARKET_TIME_ZONE)
        self._exchange = exchange
        self._interval_ms = interval_ms
        self._fewest = FEWEST_DAYS * DAY_MS // interval_ms
        self._rings: dict[int, Ring] = {}
        self._seen: tuple[int, tuple[int, ...]] = (-1, ())
        self._homes: list[AgentHome] = []
        self._day = -1
        self._sun = [0] * places(interval_ms)  # Wh that some homes gave together, by ``place``
        self._busy_s = self._longest_s = 0.0
        self.report = Report(0, 0, 0.0, 0.0)
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
            learn=self._learn,
        )

    def move_in(self) -> None:
        """Find the orders that were left in the book, and take back those that break limits; once, before ``step``."""
        self._refresh(self._exchange.now_ms())
        self.runner.adopt()

    def step(self, now_ms: int) -> int:
        """Let the members look whose turn it is, for ``BUSY_S`` at most; return the number of commands sent.

        Raises ``Overloaded``.
        """
        began_s = time.monotonic()
        self._refresh(now_ms)
        sent = 0
        while True:
            look_s = time.monotonic()
            sent += self.runner.tick(now_ms)
            now_s = time.monotonic()
            self._busy_s += now_s - look_s
            self._longest_s = max(self._longest_s, now_s - look_s)
            if now_s - began_s >= BUSY_S or not self.runner.waiting(now_ms):
                return sent

    def _refresh(self, now_ms: int) -> None:
        """See who is there whenever that changed, and once an interval."""
        current, crowd = now_ms // self._interval_ms, queries.crowd()
        if (current, crowd) == self._seen:
            return
        people = queries.people()
        if current != self._seen[0]:
            if self._seen[0] >= 0:  # ``move_in`` does it at the start
                self._tell()
                operations.obey(self._exchange, accounts=queries.stopped(self._exchange))
            if now_ms // DAY_MS != self._day:
                operations.forget_old(now_ms=now_ms)
                self._day = now_ms // DAY_MS
            self._look_up(people, now_ms)
        areas = self._exchange.read(lambda engine: _areas(engine, people))
        homes = [AgentHome(one, areas[one], one, (), (), None, True) for one in people if one in areas]
        if homes != self._homes:
            self._rings = {account: self._rings[account] for account in people if account in self._rings}
            self.runner.set_homes(homes)
            self._homes = homes
        self._seen = (current, crowd)

    def _tell(self) -> None:
        """Report on the interval that is over."""
        last = self.runner.last_round
        missed = 0 if last is None else last.missed
        self.report = Report(len(self._homes), missed, round(self._busy_s, 3), round(self._longest_s, 3))
        self._busy_s = self._longest_s = 0.0
        if missed:
            log.warning("%d of %d autopilots had no turn in this interval; they come first", missed, len(self._homes))

    # --- what is known ------------------------------------------------------------------------------------------------
    def _look_up(self, people: Sequence[int], now_ms: int) -> None:
        """See how sunny the week was: homes from everywhere say so, some are enough."""
        some = people[:: max(1, -(-len(people) // SUN_HOMES))]
        together = [0] * places(self._interval_ms)
        for account, ring in self._rings_of(some, now_ms).items():
            try:
                week = ring.week(self._fewest)
            except Exception:  # its own look will fail, too, and no other
                log.exception("the week of account %d cannot be worked out", account)
                continue
            if week is not None:
                together = [sum(pair) for pair in zip(together, week.given_wh, strict=True)]
        self._sun = together

    def _learn(self, homes: list[AgentHome], now_ms: int) -> Known:
        """Let homes' meters tell what they will need, just before they look at the market."""
        rings = self._rings_of([home.account for home in homes], now_ms)
        profiles: list[Sequence[int]] = [self._sun]
        known: list[AgentHome] = []
        watts = 3_600_000 // self._interval_ms  # a share is Wh of one interval
        for home in homes:
            ring = rings[home.account]
            week = ring.week(self._fewest) if ring.silent_ms <= SILENT_MS else None
            if week is not None:
                use, make = ((len(profiles), watts),), ((len(profiles) + 1, watts),)
                profiles += [week.taken_wh, week.given_wh]
                known.append(home._replace(use=use, make=make))
        self.runner.know(Forecaster(profiles, DAY_MS // self._interval_ms), Sun((0,), max(self._sun)))
        return Known(known, frozenset(rings) - {home.account for home in known})

    def _rings_of(self, accounts: Sequence[int], now_ms: int) -> dict[int, Ring]:
        """Return homes' weeks up to now; what is missing in them is read."""
        current, a_day = now_ms // self._interval_ms, DAY_MS // self._interval_ms
        found: dict[int, Ring] = {}
        for at in range(0, len(accounts), AT_ONCE):
            some = accounts[at : at + AT_ONCE]
            # Once a day all of a week is read again, for late readings and corrections; not of all homes at once.
            known = {
                account: self._rings[account]
                for account in some
                if account in self._rings
                and self._rings[account].end_ms <= now_ms
                and ((current + account) % a_day or self._rings[account].end_ms // self._interval_ms == current)
            }
            new = {account: Ring(now_ms, self._interval_ms) for account in some if account not in known}
            behind = {account: ring for account, ring in known.items() if ring.end_ms // self._interval_ms < current}
            if behind:
                since_ms = min(ring.end_ms for ring in behind.values()) - LATE_MS
                for ring in behind.values():
                    ring.advance(now_ms)
                _read(behind, since_ms, now_ms)
            if new:
                _read(new, now_ms - WEEK_DAYS * DAY_MS, now_ms, households.same_connection(new))
            for account, ring in new.items():
                if len(self._rings) < KEPT_RINGS or account in self._rings:
                    self._rings[account] = ring
            found |= known | new
        return found


def _read(rings: dict[int, Ring], since_ms: int, now_ms: int, earlier: dict[int, list[int]] | None = None) -> None:
    """Let weeks learn what meters said since a moment, under earlier numbers of the same connections, too."""
    before = earlier or {}
    asked = [*rings, *(index for indexes in before.values() for index in indexes)]
    said = metering.energies(asked, start_ms=since_ms, end_ms=now_ms)
    for account, ring in rings.items():
        for index in (*reversed(before.get(account, [])), account):  # the present number knows best
            ring.learn(said.get(index, {}))


class Waits(NamedTuple):
    """Why an autopilot that is on does nothing now: a ``code``, "" when nothing keeps it.

    ``readings``: its meter has not yet reported for ``FEWEST_DAYS``. ``meter``: it has been silent for ``SILENT_MS``.
    ``halt``: the account may not trade. ``refused``: the market refused it again and again, and it asks less often.
    """

    code: str = ""
    missing: int = 0  # intervals that ``readings`` still lacks


def waits_for(exchange: Exchange | None, account: int, now_ms: int) -> Waits:
    """Return what an account's autopilot waits for; in the demo every home is known."""
    if exchange is not None and exchange.read(lambda engine: _halted(engine, account)):
        return Waits("halt")
    if settings.DEMO:
        return Waits()
    interval_ms = settings.MARKET_INTERVAL_MIN * 60_000
    ring = Ring(now_ms, interval_ms)
    _read({account: ring}, now_ms - WEEK_DAYS * DAY_MS, now_ms, households.same_connection([account]))
    missing = FEWEST_DAYS * DAY_MS // interval_ms - ring.known
    if missing > 0:
        return Waits("readings", missing)
    if ring.silent_ms > SILENT_MS:
        return Waits("meter")
    return Waits("refused") if any(one.runner.held_back(account, now_ms) for one in _running) else Waits()


def _halted(engine: Engine, account: int) -> bool:
    found = engine.accounts[account]
    return engine.halted or found.halted or engine.areas.areas[found.node].halted_above


def _areas(engine: Engine, accounts: Collection[int]) -> dict[int, str]:
    return {account: engine.accounts[account].area for account in accounts if account < len(engine.accounts)}


_running: list[Members] = []  # those of the service of this process
_reports: list[Report] = []  # their newest one


def report() -> Report | None:
    """Return how the members' agents of this process get on; None where none run."""
    return _reports[0] if _reports else None


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
                        _running[:] = [members]
                    members.step(exchange.now_ms())
                    _reports[:] = [members.report]
                except NotRunning:
                    return
                except ExchangeError as error:
                    log.warning("autopilots wait: %s", error)
                except Exception:
                    log.exception("a look of the autopilots failed; they go on")
                    close_old_connections()
        finally:
            _running.clear()
            _reports.clear()
            connection.close()
