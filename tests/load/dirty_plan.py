"""What goes wrong between a meter and the market in a week, and in which order the rest arrives. Pure."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from market.engine.commands import Command, SettleRow
from market.metering.formats.values import MEASURED, Value

PLAIN, MISSING, LATE, CORRECTED, DOUBLED, ABSURD = "plain", "missing", "late", "corrected", "doubled", "absurd"
DEAD, CLOCK = "dead", "clock"
SHARES = {MISSING: 20, LATE: 30, CORRECTED: 10, DOUBLED: 5, ABSURD: 1}  # of a thousand values
ARRIVE = frozenset((PLAIN, LATE, CORRECTED, DOUBLED))  # the true value is there in the end
HOUR_MS = 3_600_000
BEHIND_MS = HOUR_MS  # how far one meter's clock is off: one that goes ahead is refused at once
ABSURD_WH = 10**9
FEWEST_WRONG_WH, MOST_WRONG_WH = 1, 400  # how far a value that is corrected later is off

Place = tuple[int, int]  # start of an interval (ms), account


class Script(NamedTuple):
    """What happened in the clean life: orders by the time they were sent, and what went through each connection."""

    orders: list[tuple[int, list[Command]]]
    truth: dict[Place, tuple[int, int]]


class Meter(NamedTuple):
    """A home's meter."""

    account: int
    device: str  # its id


class Result(NamedTuple):
    """What a life came to."""

    script: Script
    rows: dict[tuple[str, int], SettleRow]  # the newest, by contract and account
    statements: dict[tuple[int, str], tuple[int, ...]]  # by account and day (UTC): sums of money, corrections included
    net_e7: list[int]  # what each account has less what it owes
    trades: list[tuple[Any, ...]]
    bases: Counter[str]  # what estimates were made of
    counts: dict[str, int]
    seconds: float
    violations: list[str]


class Arrival(NamedTuple):
    """A value and when it reaches the market."""

    due_ms: int
    value: Value


def kinds(
    starts: Sequence[int], accounts: Collection[int], *, dead: int, clock: int, seed: int, shares: Mapping[str, int]
) -> dict[Place, str]:
    """Return what happens to each value; ``dead`` and ``clock`` are the accounts of the two broken meters."""
    chance = random.Random(seed)
    names = [*shares, PLAIN]
    weights = [*shares.values(), 1_000 - sum(shares.values())]
    found = {}
    for start_ms in starts:
        picked = chance.choices(names, weights, k=len(accounts))
        for account, kind in zip(sorted(accounts), picked, strict=True):
            found[start_ms, account] = DEAD if account == dead else CLOCK if account == clock else kind
    return found


def arrivals(
    truth: Mapping[Place, tuple[int, int]],
    what: Mapping[Place, str],
    meters: Collection[Meter],
    *,
    length_ms: int,
    longest_ms: int,
    order: int,
) -> list[Arrival]:
    """Return what reaches the market, in the order it does; another ``order`` has other delays and another order.

    ``truth``: import and export (Wh) of each interval and account; ``longest_ms``: the longest delay, after which a settlement
    is still provisional. A place that ``what`` does not name arrives as it should.
    """
    devices = {meter.account: meter.device for meter in meters}
    chance = random.Random(order)

    def delayed(end_ms: int) -> int:
        """Hours or days: each order of magnitude is as likely as the other."""
        return end_ms + round(math.exp(chance.uniform(math.log(HOUR_MS), math.log(longest_ms))))

    found: list[tuple[int, float, Value]] = []

    def send(due_ms: int, account: int, start_ms: int, sides: tuple[int, int], revision: int = 0) -> None:
        value = Value(devices[account], start_ms, length_ms, *sides, False, MEASURED, revision, due_ms)
        found.append((due_ms, chance.random(), value))

    for (start_ms, account), sides in sorted(truth.items()):
        kind = what.get((start_ms, account), PLAIN)
        end_ms = start_ms + length_ms
        if kind in (PLAIN, DOUBLED):
            send(end_ms, account, start_ms, sides)
        if kind in (LATE, DOUBLED):
            send(delayed(end_ms), account, start_ms, sides)
        if kind == CORRECTED:
            wrong_wh = FEWEST_WRONG_WH + (start_ms // length_ms + account) % MOST_WRONG_WH
            first, second = end_ms, delayed(end_ms)
            if chance.random() < 0.3:  # the correction overtakes what it corrects
                first, second = second, first
            send(first, account, start_ms, (sides[0] + wrong_wh, sides[1]))
            send(second, account, start_ms, sides, 1)
        if kind == ABSURD:
            send(end_ms, account, start_ms, (ABSURD_WH, 0))
        if kind == CLOCK:
            send(end_ms, account, start_ms - BEHIND_MS, sides)
    return [Arrival(due_ms, value) for due_ms, _, value in sorted(found, key=lambda one: one[:2])]
