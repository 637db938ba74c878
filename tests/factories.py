"""A small market for tests: an exchange on the test database, a grid of two streets, and the cast.

Alice sells, Bob buys, both in LV1.1; Charlie is a stranger in LV2.1. Time stands still until a test moves it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from market.engine.commands import BUY, GOOD_TILL_GATE, PlaceOrder, SetParams, SetTariff
from market.engine.contracts import contract_name
from market.exchange import gateway, operations
from market.exchange.exchange import Exchange
from market.exchange.operations import Area
from market.exchange.outcomes import Committed, Outcome
from market.exchange.units import parse_at, parse_price

START = "2026-06-06T10:00:00Z"
RULEBOOK = "# Market rules\n\nVersion 1 of the tests.\n"
DEPOSIT_E7 = 1_000 * 10**7
MINUTE_MS = 60_000

GRID = (
    Area("CITY", "", "HV", 0, 0, 0),
    Area("MV1", "CITY", "MV", 400_000, 400_000, 100),
    Area("MV2", "CITY", "MV", 400_000, 400_000, 100),
    Area("LV1.1", "MV1", "LV", 100_000, 100_000, 50),
    Area("LV1.2", "MV1", "LV", 100_000, 100_000, 50),
    Area("LV2.1", "MV2", "LV", 100_000, 100_000, 50),
)
TARIFF = SetTariff(topup_e4=4_000, spill_e4=800)
# Two hours ahead: eight contracts, enough to tell them apart and few enough to start at once.
PARAMS = SetParams(
    max_price_e4=10_000,
    tick_e4=1,
    max_order_wh=100_000,
    max_open_orders=1_000,
    horizon_min=120,
    lead_min=0,
    netting_permille=1_000,
    final_after_min=14 * 24 * 60,
    sharing_scope=3,
)


class Clock:
    """Market time that moves only when told."""

    def __init__(self, start: str = START):
        self.at_ms = parse_at(start)

    def __call__(self) -> int:
        return self.at_ms

    def advance(self, *, minutes: float = 0, ms: int = 0) -> None:
        """Move on by a span."""
        self.at_ms += int(minutes * MINUTE_MS) + ms


class Market:
    """A running exchange with its cast; ``alice``, ``bob`` and ``charlie`` are account indices."""

    def __init__(self, exchange: Exchange, clock: Clock):
        self.exchange = exchange
        self.clock = clock
        self.alice = self.bob = self.charlie = -1

    def contract(self, ahead: int = 1) -> str:
        """Return the contract that is delivered ``ahead`` intervals after the running one."""
        length_ms = 15 * MINUTE_MS
        return contract_name((self.clock.at_ms // length_ms + ahead) * length_ms)

    def member(self, area: str = "LV1.1", deposit_e7: int = DEPOSIT_E7) -> int:
        """Open another member's account and return its index."""
        outcome = operations.open_account(self.exchange, area=area)
        account = operations.opened_account(outcome)
        if deposit_e7:
            operations.fund(self.exchange, account=account, amount_e7=deposit_e7)
        return account

    def place(
        self,
        account: int,
        side: str,
        price: str = "0.2000",
        energy_wh: int = 1_000,
        *,
        contract: str | None = None,
        time_in_force: str = GOOD_TILL_GATE,
        expires_at_ms: int = 0,
        key: str | None = None,
    ) -> Outcome:
        """Place an order and return its durable outcome."""
        name = self.contract() if contract is None else contract
        command = PlaceOrder(account, name, side, parse_price(price), energy_wh, time_in_force, expires_at_ms)
        return self.exchange.call(command, key=key)

    def buys(self, account: int, *args: Any, **kwargs: Any) -> Outcome:
        """Place a buy order; arguments as ``place``."""
        return self.place(account, BUY, *args, **kwargs)


@contextlib.contextmanager
def running_exchange(
    clock: Clock | None = None,
    *,
    folder: Path | None = None,
    listener: Callable[[Committed], None] | None = None,
    **options: Any,
) -> Iterator[tuple[Exchange, Clock]]:
    """Start an exchange on the test database, connect it to the gateway, and stop it in the end.

    ``folder`` holds the published checkpoint: give the same one to go on with the same market. ``listener`` hears all
    commits from the first one on.
    """
    clock = clock or Clock()
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        exchange = Exchange(clock, published_file=folder / "published_checkpoint", **options)
        if listener is not None:
            exchange.listen(listener)
        exchange.start()
        gateway.connect(exchange)
        try:
            yield exchange, clock
        finally:
            gateway.disconnect()
            exchange.stop()


@contextlib.contextmanager
def running_market(
    clock: Clock | None = None, *, folder: Path | None = None, cast: bool = True, **options: Any
) -> Iterator[Market]:
    """A founded market with the small grid, two hours of contracts and (``cast``) alice, bob and charlie with money."""
    with running_exchange(clock, folder=folder, **options) as (exchange, running_clock):
        found(exchange)
        market = Market(exchange, running_clock)
        if cast:
            market.alice, market.bob, market.charlie = (
                market.member("LV1.1"),
                market.member("LV1.1"),
                market.member("LV2.1"),
            )
        yield market


def found(exchange: Exchange, **changes: Any) -> bool:
    """Found the small market; ``changes`` replace arguments of ``operations.found_market``."""
    arguments: dict[str, Any] = {"areas": GRID, "tariff": TARIFF, "params": PARAMS, "rulebook": RULEBOOK}
    return operations.found_market(exchange, **{**arguments, "rulebook_version": 1, **changes})
