"""Whom an area waits for before it is settled, and how long. Nobody waits for a meter that is known to be silent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from market.engine.accounts import MEMBER
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.exchange.models import Contract
from market.households import queries as households
from market.metering import queries as metering

MINUTE_MS = 60_000
# Market time after delivery in which meters answer. Then an area is settled, by estimates where they have not: no home waits
# longer for its neighbours' meters, whatever these do.
DEADLINE_MS = 5 * MINUTE_MS
# The same where a settlement is final sooner than that, or at once: there a value that comes later is lost.
UNCORRECTED_DEADLINE_MS = 60 * MINUTE_MS
# Intervals a meter has missed before nobody waits for it at all; it is waited for again once it answers.
SILENT_AFTER = 4


class Members(NamedTuple):
    """Member accounts by area."""

    open: Mapping[str, Sequence[int]]
    closed: Mapping[str, Sequence[int]]


def deadline_ms(engine: Engine, contract: str) -> int:
    """Return how long after its end (ms) a contract's areas wait for meters; runs inside ``Exchange.read``."""
    open_ = engine.provisional.get(contract)  # by the rule that was in force when its first area was settled
    if open_ is None:
        corrected_ms = engine.params.final_after_min * MINUTE_MS
    else:
        corrected_ms = open_.final_ms - contract_start_ms(contract) - engine.interval_ms
    return DEADLINE_MS if corrected_ms >= UNCORRECTED_DEADLINE_MS else UNCORRECTED_DEADLINE_MS


def members(engine: Engine) -> Members:
    """Return all member accounts; runs inside ``Exchange.read``."""
    found = Members({}, {})
    for account in engine.accounts:
        if account.kind == MEMBER:
            some = found.closed if account.closed else found.open
            some.setdefault(account.area, []).append(account.index)  # type: ignore[attr-defined]
    return found


def homes(found: Members, areas: Iterable[str], start_ms: int) -> dict[str, list[int]]:
    """Return the homes of areas at a time (ms): not those that joined since, and those that were closed since.

    An account that no household is known of counts as long as it is open.
    """
    periods = households.periods_since(start_ms)
    return {
        area: [account for account in found.open.get(area, ()) if account not in periods.joined]
        + [account for account in found.closed.get(area, ()) if account in periods.left]
        for area in areas
    }


def silent(contract: str, accounts: Collection[int], length_ms: int) -> set[int]:
    """Return which of the accounts nobody waits for: their meters answered in none of the last ``SILENT_AFTER`` intervals.

    An answer counts if it came while it was waited for. Who joined in between is waited for, and everybody in a market that
    is younger than that.
    """
    start_ms = contract_start_ms(contract)
    first_ms = start_ms - SILENT_AFTER * length_ms
    if not accounts or not Contract.objects.filter(name=contract_name(first_ms)).exclude(state="open").exists():
        return set()
    starts = range(first_ms, start_ms, length_ms)
    heard = metering.answered_in_time(accounts, starts, within_ms=length_ms + DEADLINE_MS)
    return set(accounts) - heard - households.periods_since(first_ms).joined


def missing(exchange: Exchange, contracts: Mapping[str, Collection[str]]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return, of areas in contracts, the homes there were and how many of them have no reading yet."""
    if not any(contracts.values()):
        return {name: {} for name in contracts}
    found = exchange.read(members)
    counted: dict[str, dict[str, tuple[int, int]]] = {}
    for name, areas in contracts.items():
        there = metering.answered(name) if areas else {}
        lived = homes(found, areas, contract_start_ms(name)) if areas else {}
        counted[name] = {area: (len(some), len(set(some) - there.get(area, set()))) for area, some in lived.items()}
    return counted
