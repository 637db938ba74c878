"""A market small enough to steer by hand: what the hub needs of an exchange and of an engine, and nothing else.

The engine's reading side is a table of levels; ``change`` commits one change of it as the real writer would: the state
first, then the news, from a thread that is not the event loop's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import orjson

from market.engine import events
from market.exchange.outcomes import Committed, SealInfo
from market.exchange.views import AlertView

CONTRACT = "2026-06-06T12:15Z"
LATER = "2026-06-06T12:30Z"
NOON_MS = 1_780_747_200_000


class Level(NamedTuple):
    price_e4: int
    energy_wh: int
    fee_wh_e4: int


class FakeAreas:
    """Two streets under one substation."""

    parent: ClassVar = {"MV1": "", "LV1.101": "MV1", "LV1.102": "MV1"}

    def __contains__(self, name: str) -> bool:
        return name in self.parent


class FakeEngine:
    """The reading side of an engine: each (area, contract, side) is a table price_e4 -> energy_wh."""

    def __init__(self) -> None:
        self.seq = 1
        self.areas = FakeAreas()
        self.accounts = [
            SimpleNamespace(kind="bank", area="MV1"),
            SimpleNamespace(kind="member", area="LV1.101"),
            *(SimpleNamespace(kind="member", area="LV1.102") for _ in range(12)),
        ]
        self.contracts = {
            name: SimpleNamespace(name=name, state="open", halted=False, last_e4=0, volume_wh=0)
            for name in (CONTRACT, LATER)
        }
        self.levels: dict[tuple[str, str], dict[int, int]] = {}

    def side(self, contract: str, side: str) -> dict[int, int]:
        return self.levels.setdefault((contract, side), {})

    def depth(self, area: str, contract: str, levels: int) -> tuple[list[Level], list[Level]]:
        bids, asks = self.side(contract, "bids"), self.side(contract, "asks")
        return (
            [Level(price, bids[price], 100 * bids[price]) for price in sorted(bids, reverse=True)[:levels]],
            [Level(price, asks[price], 100 * asks[price]) for price in sorted(asks)[:levels]],
        )

    def best(self, area: str, contract: str) -> tuple[int | None, int | None]:
        bids, asks = self.side(contract, "bids"), self.side(contract, "asks")
        return max(bids, default=None), min(asks, default=None)


class FakeExchange:
    """What the hub sees of an exchange."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.lock = threading.Lock()
        self.listeners: list[Callable[[Committed], None]] = []
        self.broken = False
        self.reads = 0
        self.meanwhile: Callable[[], object] | None = None  # committed just before the next reading, once

    def listen(self, fn: Callable[[Committed], None]) -> None:
        self.listeners.append(fn)

    def unlisten(self, fn: Callable[[Committed], None]) -> None:
        self.listeners.remove(fn)

    def read(self, fn: Callable[[Any], Any]) -> Any:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        with self.lock:
            if self.broken:
                raise RuntimeError("the exchange is gone")
            self.reads += 1
            return fn(self.engine)

    def now_ms(self) -> int:
        return NOON_MS

    def commit(
        self, make: Callable[[int], list[Any]], sealed: SealInfo | None = None, alerts: tuple[AlertView, ...] = ()
    ) -> int:
        """Commit the events that ``make(first seq)`` returns and change what they change; return the last seq."""
        with self.lock:
            first = self.engine.seq
            happened = make(first)
            self.engine.seq = first + len(happened)
            for event in happened:
                self._apply(event)
        committed = Committed(first, first + len(happened), NOON_MS, happened, sealed, alerts)

        def tell() -> None:
            for fn in self.listeners:
                fn(committed)

        writer = threading.Thread(target=tell)
        writer.start()
        writer.join()
        return self.engine.seq - 1

    def _apply(self, event: Any) -> None:
        if isinstance(event, events.Traded):
            contract = self.engine.contracts[event.contract]
            contract.last_e4, contract.volume_wh = event.buy_e4, contract.volume_wh + event.energy_wh
        elif isinstance(event, events.ContractDelivered):
            self.engine.contracts[event.contract].state = "delivered"

    def set_level(self, contract: str, side: str, price_e4: int, energy_wh: int) -> int:
        """Commit an order that makes a level what it says; 0 takes it away."""

        def make(seq: int) -> list[Any]:
            levels = self.engine.side(contract, side)
            if energy_wh:
                levels[price_e4] = energy_wh
            else:
                levels.pop(price_e4, None)
            return [placed(seq, contract=contract, side="buy" if side == "bids" else "sell", price_e4=price_e4)]

        return self.commit(make)

    def trade(self, contract: str = CONTRACT, count: int = 1, buyer: int = 1, seller: int = 2) -> int:
        """Commit trades."""
        return self.commit(lambda seq: [traded(seq + i, contract, buyer=buyer, seller=seller) for i in range(count)])

    def recall(self, trade: int) -> int:
        """Commit that a trade between the accounts 1 and 2 is taken back."""
        return self.commit(
            lambda seq: [events.TradeRecalled(seq, NOON_MS, trade, CONTRACT, "error", 1_000, 1, 2, 2_800_000, 0)]
        )

    def alert(self, kind: str, *, area: str = "", contract: str = "", detail: dict[str, Any]) -> int:
        """Commit an entry that raises an alert."""
        raised = AlertView(self.engine.seq, NOON_MS, kind, area, contract, orjson.dumps(detail).decode())
        return self.commit(lambda seq: [events.CapacitySet(seq, NOON_MS, area, 5, 5, "fault")], alerts=(raised,))

    def seal(self) -> int:
        """Commit a block."""
        return self.commit(
            lambda seq: [events.Sealed(seq, NOON_MS, 1, 0, seq + 1)],
            SealInfo(1, 0, self.engine.seq + 1, self.engine.seq + 1, "ab" * 32, NOON_MS, "note"),
        )


def placed(seq: int, *, contract: str = CONTRACT, account: int = 1, side: str = "buy", price_e4: int = 2500) -> Any:
    """An order event."""
    return events.OrderPlaced(seq, NOON_MS, account, "LV1.101", contract, side, price_e4, 1000, "gtg", 0)


def traded(seq: int, contract: str = CONTRACT, *, buyer: int = 1, seller: int = 2) -> Any:
    """A trade event: the seller's order rested at 0.2700, the buyer paid 0.2800 with the fee."""
    return events.Traded(
        seq, NOON_MS, contract, 5, 6, 1000, 2800, 2700, "buy", buyer, seller, 6, 5, "LV1.101", "LV1.102", 2_800_000, 0
    )
