"""Whose turn it is to look at the market: each home once an interval, all in turn however little time there is. Pure.

Each home has a moment of its own within the interval, so that the market moves all the time instead of once an interval.
Who was not reached before the interval ended comes first in the next one, in the order of waiting: where there is time
for half of the homes only, each looks every other interval and nobody never.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from market.agents.battery import Battery
from market.agents.forecast import noise

ACTIVE_SHARE = 900  # permille of the interval in which homes look, so that a late tick misses nobody

NOBODY = (-1, -1)  # before the first home

Part = tuple[int, int]  # index of a profile, W at share 1


class AgentHome(NamedTuple):
    """A home as its agent knows it. ``seed`` makes its errors its own; ``person``: somebody set limits, or may."""

    account: int
    area: str
    seed: int
    use: tuple[Part, ...]
    make: tuple[Part, ...]
    battery: Battery | None
    person: bool = False


class Slice(NamedTuple):
    """Homes whose turn it is. ``until``: the place of the next whose moment comes; ``reached``: what lies before it."""

    homes: list[AgentHome]
    until: int
    reached: tuple[int, int]


class Round(NamedTuple):
    """What came of one interval: homes there were, looks that were taken, and homes that were not reached in it."""

    start_ms: int
    homes: int
    looks: int
    missed: int


class Turns:
    """The order of the homes. ``take`` says who is next, ``taken`` that they have looked."""

    def __init__(self, interval_ms: int, seed: int):
        self._interval_ms = interval_ms
        self._seed = seed
        self._homes: list[tuple[int, AgentHome]] = []  # moment within the interval (ms), home
        self._first: dict[int, AgentHome] = {}  # who does not wait for its moment, longest waiting first
        self._early: set[int] = set()  # who looked in this interval before its moment
        self._interval = -1
        self._next = 0  # index of the next home whose moment comes
        self._reached = NOBODY  # moment and account of the last home that looked in this interval
        self._looks = 0
        self.last: Round | None = None  # the newest round that is over

    @property
    def accounts(self) -> set[int]:
        """The accounts of all homes."""
        return {home.account for _, home in self._homes}

    @property
    def homes(self) -> list[AgentHome]:
        """All homes in the order of their moments."""
        return [home for _, home in self._homes]

    def set_homes(self, homes: Iterable[AgentHome]) -> None:
        """Take these homes from now on. Persons who are new do not wait for their moment; who waits keeps its place."""
        before = self.accounts
        active_ms = self._interval_ms * ACTIVE_SHARE // 1000
        self._homes = sorted(
            ((active_ms * (noise(self._seed, home.seed) + 1000) // 2001, home) for home in homes),
            key=_place,
        )
        now = {home.account: home for _, home in self._homes}
        self._first = {account: now[account] for account in self._first if account in now}
        self._first |= {account: home for account, home in now.items() if home.person and account not in before}
        # Who joins or leaves shifts the others by some places; their moments say who has looked already.
        self._next = bisect_right(self._homes, self._reached, key=_place)

    def begin(self, now_ms: int) -> bool:
        """Begin the interval of an instant unless it is the running one; return whether it was begun."""
        interval = now_ms // self._interval_ms
        if interval == self._interval:
            return False
        if self._interval >= 0:
            left = [home for _, home in self._homes[self._next :] if home.account not in self._early]
            self._first |= {home.account: home for home in left if home.account not in self._first}
            self.last = Round(self._interval * self._interval_ms, len(self._homes), self._looks, len(self._first))
        self._interval, self._next, self._reached, self._looks = interval, 0, NOBODY, 0
        self._early = set()
        return True

    def take(self, now_ms: int, limit: int) -> Slice:
        """Return up to ``limit`` homes whose turn it is; the same again until they were ``taken``."""
        homes = list(islice(self._first.values(), limit))
        moment = now_ms % self._interval_ms
        until = self._next
        while len(homes) < limit and until < len(self._homes) and self._homes[until][0] <= moment:
            home = self._homes[until][1]
            # Who is still among the first has no room left there: it looks with them, once.
            if home.account not in self._early and home.account not in self._first:
                homes.append(home)
            until += 1
        return Slice(homes, until, self._reached if until == self._next else _place(self._homes[until - 1]))

    def taken(self, found: Slice) -> None:
        """Go on behind homes that have looked."""
        for home in found.homes:
            if self._first.pop(home.account, None) is not None:
                self._early.add(home.account)
        self._next, self._reached = found.until, found.reached
        self._looks += len(found.homes)


def _place(entry: tuple[int, AgentHome]) -> tuple[int, int]:
    """Return what homes are ordered by: their moment, and among those that share one the account."""
    return entry[0], entry[1].account
