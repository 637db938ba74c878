"""What settlement takes for a home whose meter is silent: an estimate of what is certainly final, told with its reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.metering import estimation
from market.metering import queries as metering
from market.metering.estimation import Estimate, Profile

MINUTE_MS = 60_000
# An interval may be corrected for the market's ``final_after_min`` after delivery. What came in last may still wait for its
# adjustment then, and the final entry for that: a day, so that what an estimate may lean on is the same whatever came last.
FINAL_SLACK_MS = estimation.DAY_MS

Estimator = Callable[[str, str, Sequence[int]], dict[int, Estimate]]
ProfileOf = Callable[[int, int], Profile | None]  # (account, start_ms) -> what such a home takes and gives on average


def final_after_ms(engine: Engine) -> int:
    """Return how long after its start an interval is certainly final; runs inside ``Exchange.read``."""
    return engine.params.final_after_min * MINUTE_MS + FINAL_SLACK_MS


def estimator(exchange: Exchange, *, profile_of: ProfileOf | None = None) -> Estimator:
    """Return the ``estimate`` of ``operations.settle_due``: from a home's own final readings, else from its profile.

    A home with neither is left out, and settled by what it traded.
    """

    def estimates(contract: str, area: str, accounts: Sequence[int]) -> dict[int, Estimate]:
        start_ms = contract_start_ms(contract)
        window_ms, open_ms = exchange.read(lambda engine: _window(engine, start_ms))
        history = metering.history(accounts, start_ms=start_ms, final_after_ms=window_ms)
        found = {}
        for account in accounts:
            past = {at: one for at, one in history.get(account, {}).items() if at not in open_ms}
            profile = profile_of(account, start_ms) if profile_of is not None else None
            guess = estimation.estimate(start_ms=start_ms, history=past, profile=profile, final_after_ms=window_ms)
            if guess is not None:
                found[account] = guess
        return found

    return estimates


def _window(engine: Engine, start_ms: int) -> tuple[int, Collection[int]]:
    """Return how old readings must be, and which intervals of that age are not final all the same (settled too late)."""
    window_ms = final_after_ms(engine)
    days = estimation.days_before(start_ms, window_ms)
    names = {at: contract_name(at) for at in days}
    return window_ms, {at for at, name in names.items() if name in engine.contracts or name in engine.provisional}
