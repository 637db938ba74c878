"""Everything that lives in a simulated city: its homes' agents and meters, and the settlement of what they did."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import lru_cache
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Count, Q, Sum

from market.agents import operations as agent_operations
from market.agents import queries as agents
from market.agents.ahead import DEMO_LEADS, Calendar, Sun
from market.agents.battery import Battery
from market.agents.forecast import Forecaster
from market.agents.runner import Runner
from market.agents.turns import AgentHome
from market.engine.commands import Command, Fund
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.households.models import Account
from market.metering import operations as metering_operations
from market.metering import queries as metering_queries
from market.metering.models import Quality
from market.metering.queries import Outlook, Power
from market.settlement import estimates
from market.settlement import operations as settlement_operations
from market.simulator.clock import local_time
from market.simulator.founding import opening_money, submit_all
from market.simulator.meters import MeteredHome, Meters
from market.simulator.neighbourhood import SHARE, STEP_MIN, STEPS_A_DAY, City, CityError

log = logging.getLogger(__name__)

STANDARD_LOAD = ("H0-A", 2_000)  # profile and W of a household that joined without any data of its own
MAX_METERED = 1_000  # contracts that are remembered as metered; a delivered one is settled long before that
# Market time from an interval's start in which its meters are read, if they could not be before.
READ_LATE_MS = 2 * 3_600_000
MAX_CONTRACTS_A_CALL = 8  # delivered contracts that are metered in one call
MAX_POWERS = 200  # homes of persons whose power is noted
AHEAD_MS = 24 * 3_600_000  # how far a person's home is told what to expect


class Life:
    """One simulated city on one exchange. Not thread-safe: one thread drives it.

    ``leads``, ``seed``, ``in_flight``: see ``agents.runner``.
    """

    def __init__(
        self,
        exchange: Exchange,
        city: City,
        *,
        leads: Sequence[int] = DEMO_LEADS,
        seed: int = 1,
        in_flight: int = 0,
    ):
        self._exchange = exchange
        self._city = city
        self._homes = {home.code: home for home in city.homes}
        self._parts = lru_cache(maxsize=100_000)(city.profiles.parts)
        self._money = opening_money(city)
        zone = ZoneInfo(settings.MARKET_TIME_ZONE)
        steps = settings.MARKET_INTERVAL_MIN // STEP_MIN
        if not steps or settings.MARKET_INTERVAL_MIN % STEP_MIN:
            raise CityError(f"expected intervals of 15, 30 or 60 minutes, was {settings.MARKET_INTERVAL_MIN}")
        self.calendar = Calendar(
            settings.MARKET_INTERVAL_MIN * 60_000,
            steps,
            lambda at_ms: city.profiles.step(local_time(at_ms, zone)),
            lambda at_ms: local_time(at_ms, zone).hour,
        )
        self.meters = Meters(city.profiles, self.calendar)
        self._estimate = estimates.estimator(exchange, profile_of=self.meters.typical)
        roofs = tuple(sorted({city.profiles.index[home.pv_profile] for home in city.homes if home.pv_profile}))
        together = [sum(values) for values in zip(*(city.profiles.shares[roof] for roof in roofs), strict=True)]
        self._forecaster = Forecaster(city.profiles.shares, STEPS_A_DAY)
        self.runner = Runner(
            exchange,
            forecaster=self._forecaster,
            calendar=self.calendar,
            sun=Sun(roofs, max(together, default=0)),
            share_unit=SHARE,
            charge_of=self.meters.charge_of,
            leads=leads,
            seed=seed,
            in_flight=in_flight,
        )
        self._metered: dict[str, None] = {}
        self._seen: tuple[dict[str, int], tuple[int, int]] | None = None
        self._persons: list[int] = []
        self._expected: tuple[int, list[int]] = (-1, [])  # interval and persons the outlook was noted for
        self._automatic: dict[int, str] = {}  # account -> home code

    # --- who lives here ---------------------------------------------------------------------------------------------
    def move_in(self) -> None:
        """Find homes, batteries and orders as they were left; once, before anything else."""
        self.refresh()
        self.meters.restore(metering_queries.stored_wh(self.meters.batteries()))
        self.runner.adopt()

    def refresh(self) -> None:
        """Look who lives here now and whom an agent trades for; costs little while nothing changes."""
        counts = Account.objects.aggregate(
            accounts=Count("pk"),
            automatic=Sum("index", filter=Q(automatic=True)),
            persons=Sum("index", filter=Q(user__isnull=False)),
            closed=Count("closed_at"),
        )
        seen = counts, agents.revision()
        if seen == self._seen:
            return
        self._seen = seen
        rows = list(
            Account.objects.order_by("index").values_list(
                "index", "area", "home__code", "user_id", "automatic", "closed_at"
            )
        )
        limits = agents.limits_of([index for index, _, _, user_id, *_ in rows if user_id is not None])
        metered, homes = [], []
        self._persons = []
        self._automatic = {}
        for index, area, code, user_id, automatic, closed_at in rows:
            use, make, battery = self._equipment(code)
            # The home's controller keeps what the autopilot is told to keep; without an autopilot the battery is free.
            kept = battery if battery is None or index not in limits else limits[index].kept(battery)
            metered.append(MeteredHome(index, area, use, make, kept))
            if user_id is not None:
                self._persons.append(index)
            if automatic and closed_at is None:
                homes.append(AgentHome(index, area, index, use, make, battery, user_id is not None))
                self._automatic[index] = code or ""
        del self._persons[MAX_POWERS:]
        self.meters.set_homes(metered)
        self.runner.set_homes(homes)

    def _equipment(
        self, code: str | None
    ) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], Battery | None]:
        profiles = self._city.profiles
        home = self._homes.get(code or "")
        if home is None:
            name, watts = STANDARD_LOAD
            return ((profiles.index.get(name, 0), watts),), (), None
        battery = None
        if home.battery_wh and home.battery_w:
            battery = Battery(home.battery_wh, home.battery_w * self.calendar.interval_ms // (60 * 60_000))
        make = ((profiles.index[home.pv_profile], home.pv_w),) if home.pv_profile else ()
        return self._parts(home.load_profiles), make, battery

    # --- what happens -----------------------------------------------------------------------------------------------
    def trade(self, now_ms: int) -> int:
        """Let the agents whose moment has come look at the market; return the number of commands sent."""
        return self.runner.tick(now_ms)

    def measure(self, now_ms: int) -> int:
        """Send the readings of what has been delivered; return how many were new.

        A battery moves on once for each contract, so contracts come in order and none is read twice.
        """
        delivered = self._exchange.read(lambda engine: _delivered(engine, now_ms))
        recorded = 0
        for contract in [name for name in delivered if name not in self._metered][:MAX_CONTRACTS_A_CALL]:
            # An estimate of settlement's is no reason not to read the meter after all.
            known = {
                account
                for some in metering_queries.readings_of(contract).values()
                for account, metered in some.items()
                if metered.quality != Quality.ESTIMATED
            }
            if len(known) < len(self.meters.accounts()):
                recorded += self._measure_one(contract, known, now_ms)
            self._metered[contract] = None
            if len(self._metered) > MAX_METERED:
                del self._metered[next(iter(self._metered))]
        return recorded

    def _measure_one(self, contract: str, known: Collection[int], now_ms: int) -> int:
        charges = self.meters.charges()
        batches = self.meters.read(contract, contract_start_ms(contract), self._exchange.read)
        for area, some in batches.items():  # a person may have been faster
            batches[area] = [reading for reading in some if reading.account not in known]
        try:
            result = metering_operations.record_batches(
                exchange=self._exchange, contract=contract, batches=batches, now_ms=now_ms
            )
        except BaseException:
            self.meters.put_back(charges)  # it will be read again
            raise
        return result.accepted

    def settle(self, now_ms: int) -> settlement_operations.Settlement:
        """Settle what is due; who has no history of its own yet is estimated by the profile of such homes."""
        return settlement_operations.run_due(exchange=self._exchange, now_ms=now_ms, estimate=self._estimate)

    def note_power(self, now_ms: int) -> None:
        """Note what the homes of persons make and use at this moment."""
        if not self._persons:
            return
        interval_ms = self.calendar.interval_ms
        start_ms = now_ms // interval_ms * interval_ms
        persons = self._persons
        positions = self._exchange.read(lambda engine: _positions(engine, start_ms, persons))
        powers: dict[int, Power] = {}
        for account in persons:
            power = self.meters.power(account, now_ms, positions.get(account, 0))
            if power is not None:
                powers[account] = power
        metering_operations.note_power(powers=powers)

    def tidy(self, now_ms: int) -> int:
        """Drop notes about orders of long ago; return how many."""
        return agent_operations.forget_old(now_ms=now_ms)

    def note_outlook(self, now_ms: int) -> None:
        """Note what the homes of persons will probably make and use in the next day, once an interval.

        It is the forecast their agents would trade by: what ordinary days and the sky so far say, never the future.
        """
        interval_ms, steps = self.calendar.interval_ms, self.calendar.steps
        start_ms = now_ms // interval_ms * interval_ms
        if not self._persons or self._expected == (start_ms, self._persons):
            return
        observed = self.calendar.step_of(start_ms) - 1
        shares = [
            [self._forecaster.expect(observed, lead * steps + 1 + step) for step in range(steps)]
            for lead in range(1, AHEAD_MS // interval_ms + 1)
        ]
        outlooks: dict[int, Outlook] = {}
        for account in self._persons:
            expected = [self.meters.expected(account, parts) for parts in shares]
            outlooks[account] = Outlook(
                start_ms + interval_ms, tuple(made for made, _ in expected), tuple(used for _, used in expected)
            )
        metering_operations.note_outlook(outlooks=outlooks)
        self._expected = (start_ms, list(self._persons))

    def pay_in(self) -> int:
        """Let the homes that agents trade for send money when half of their opening money is spent, as members do."""

        def cash(engine: Engine) -> dict[int, int]:
            return {account: engine.accounts[account].cash_e7 for account in self._automatic}

        commands: list[Command] = []
        for account, cash_e7 in self._exchange.read(cash).items():
            opening = self._money.get(self._automatic[account], 0)
            if opening and cash_e7 < opening // 2:
                commands.append(Fund(account, opening - cash_e7, "deposit", ""))
        return submit_all(self._exchange, commands)


def _delivered(engine: Engine, now_ms: int) -> list[str]:
    """Return what was delivered and is not settled, or was settled within ``READ_LATE_MS``: by estimates, maybe."""
    late = contract_name((now_ms - READ_LATE_MS) // 60_000 * 60_000)
    found = {name for name, contract in engine.contracts.items() if contract.state == "delivered"}
    return sorted(found | {name for name in engine.provisional if name >= late})


def _positions(engine: Engine, start_ms: int, accounts: list[int]) -> dict[int, int]:
    contract = engine.contracts.get(contract_name(start_ms))
    tallies = contract.tallies if contract is not None else {}
    return {a: tallies[a].bought_wh - tallies[a].sold_wh for a in accounts if a in tallies}
