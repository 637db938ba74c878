"""The meters of the simulated city: what each home really made and used, and what its battery did about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from market.agents.ahead import Calendar
from market.agents.battery import Battery, follow
from market.engine.engine import Engine
from market.metering.estimation import Profile
from market.metering.operations import ReadingIn
from market.metering.queries import Power
from market.simulator.neighbourhood import SHARE, STEPS_A_DAY, Part, Profiles

FIRST_CHARGE = 300  # permille of a battery's capacity when the market opens
STEP_MS = 15 * 60_000


class MeteredHome(NamedTuple):
    """A home as its meter sees it."""

    account: int
    area: str
    use: tuple[Part, ...]
    make: tuple[Part, ...]
    battery: Battery | None


class Meters:
    """All meters. ``charge_wh`` of a battery is kept here and can be told again from the readings (``restore``)."""

    def __init__(self, profiles: Profiles, calendar: Calendar):
        self._profiles = profiles
        self._calendar = calendar
        self._homes: dict[int, MeteredHome] = {}
        self._charge: dict[int, int] = {}
        self._means = lru_cache(maxsize=STEPS_A_DAY)(self._mean_shares)

    def set_homes(self, homes: Iterable[MeteredHome]) -> None:
        """Read these homes from now on; a battery that is new begins with its first charge."""
        self._homes = {home.account: home for home in homes}
        for home in self._homes.values():
            if home.battery is not None and home.account not in self._charge:
                self._charge[home.account] = home.battery.capacity_wh * FIRST_CHARGE // 1000

    def restore(self, stored_wh: Mapping[int, int]) -> None:
        """Set batteries to their first charge plus what they took up since (``metering.queries.stored_wh``)."""
        for account, stored in stored_wh.items():
            home = self._homes.get(account)
            if home is not None and home.battery is not None:
                first = home.battery.capacity_wh * FIRST_CHARGE // 1000
                self._charge[account] = min(home.battery.capacity_wh, max(0, first + stored))

    def batteries(self) -> list[int]:
        """Return the accounts of homes with a battery."""
        return [home.account for home in self._homes.values() if home.battery is not None]

    def accounts(self) -> set[int]:
        """Return the accounts that have a meter."""
        return set(self._homes)

    def charge_of(self, account: int) -> int:
        """Return the charge of an account's battery, Wh; 0 without one."""
        return self._charge.get(account, 0)

    def charges(self) -> dict[int, int]:
        """Return all charges, to be put back if a reading gets lost."""
        return dict(self._charge)

    def put_back(self, charges: dict[int, int]) -> None:
        """Set all charges to what ``charges`` returned."""
        self._charge = charges

    def read(self, contract: str, start_ms: int, read: Callable[..., dict[int, int]]) -> dict[str, list[ReadingIn]]:
        """Return a delivered contract's readings by area, moving the batteries on; ``read`` is ``Exchange.read``."""
        first = self._calendar.step_of(start_ms)
        shares = self._shares(first)
        unit = 60 * 60_000 // STEP_MS * SHARE
        batteries = self.batteries()
        positions = read(lambda engine: _positions(engine, contract, batteries)) if batteries else {}
        found: dict[str, list[ReadingIn]] = {}
        for account, area, use, make, battery in self._homes.values():
            used = made = 0
            for profile, watts in use:
                used += shares[profile] * watts
            for profile, watts in make:
                made += shares[profile] * watts
            used //= unit
            made //= unit
            net = used - made
            if battery is not None:
                charge, net = follow(battery, self._charge[account], positions.get(account, 0), net)
                self._charge[account] = charge
            readings = found.get(area)
            if readings is None:
                readings = found[area] = []
            readings.append(ReadingIn(account, max(0, net), max(0, -net), made, used))
        return found

    def typical(self, account: int, start_ms: int) -> Profile | None:
        """Return what a home with this equipment takes and gives on average at this time of day, its battery at rest.

        The mean of all days of the profiles: a standard profile, not what the weather was. None for a home without meter.
        """
        home = self._homes.get(account)
        if home is None:
            return None
        means, days = self._means(self._calendar.step_of(start_ms) % STEPS_A_DAY)
        unit = 60 * 60_000 // STEP_MS * SHARE * days
        used = sum(means[profile] * watts for profile, watts in home.use) // unit
        made = sum(means[profile] * watts for profile, watts in home.make) // unit
        return Profile(max(0, used - made), max(0, made - used))

    def expected(self, account: int, shares: list[list[int]]) -> tuple[int, int]:
        """Return what a home makes and uses (Wh) in the steps with these shares by profile; a battery is left out of it."""
        home = self._homes[account]
        unit = 60 * 60_000 // STEP_MS * SHARE
        made = sum(step[profile] * watts for step in shares for profile, watts in home.make)
        used = sum(step[profile] * watts for step in shares for profile, watts in home.use)
        return made // unit, used // unit

    def _mean_shares(self, first: int) -> tuple[list[int], int]:
        """Return each profile's share in an interval from this step of the day on, summed over all days, and their number."""
        each = [self._shares(step) for step in range(first, self._profiles.steps, STEPS_A_DAY)]
        return [sum(shares) for shares in zip(*each, strict=True)], len(each)

    def power(self, account: int, at_ms: int, position_wh: int) -> Power | None:
        """Return what a home makes and uses at an instant; between the middles of two steps it changes evenly."""
        home = self._homes.get(account)
        if home is None:
            return None
        middle = at_ms - STEP_MS // 2
        before = self._calendar.step_of(middle)
        after = self._calendar.step_of(middle + STEP_MS)
        weight = middle % STEP_MS
        values = self._profiles.shares

        def watts(parts: tuple[Part, ...]) -> int:
            total = sum(
                (values[profile][before] * (STEP_MS - weight) + values[profile][after] * weight) * installed
                for profile, installed in parts
            )
            return total // (SHARE * STEP_MS)

        made, used = watts(home.make), watts(home.use)
        flow = 0
        if home.battery is not None:
            hours = self._calendar.interval_ms
            demand = (used - made) * hours // (60 * 60_000)
            charge = self._charge[account]
            flow = (follow(home.battery, charge, position_wh, demand).charge_wh - charge) * (60 * 60_000) // hours
        return Power(at_ms, made, used, flow)

    def _shares(self, first: int) -> list[int]:
        values, steps = self._profiles.shares, self._calendar.steps
        total = self._profiles.steps
        if steps == 1:
            return [profile[first % total] for profile in values]
        return [sum(profile[(first + step) % total] for step in range(steps)) for profile in values]


def _positions(engine: Engine, contract: str, accounts: list[int]) -> dict[int, int]:
    found = engine.contracts.get(contract)
    if found is None:
        return {}
    tallies = found.tallies
    return {
        account: tallies[account].bought_wh - tallies[account].sold_wh for account in accounts if account in tallies
    }
