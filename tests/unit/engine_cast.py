"""A small market and its cast: alice sells, bob buys, charlie is a stranger; all amounts in the engine's integers."""

from __future__ import annotations

from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.events import Refused
from market.engine.replay import replay

OPENING_MS = contract_start_ms("2026-06-06T10:05Z")
NOON = "2026-06-06T12:00Z"
LATER = "2026-06-06T12:15Z"
FEE_E4 = 100
TOPUP_E4, SPILL_E4 = 3_000, 800
MONEY_E7 = 1_000_000_000


class Market:
    """An engine with two streets under one substation; ``bob`` and ``dora`` live in the other street than ``alice``."""

    def __init__(self, *, capacity_w: int = 40_000, netting_permille: int = 1_000):
        self.engine = Engine()
        self.log: list[Any] = []
        self.now_ms = OPENING_MS
        self.do(c.Found("test.example/log", "EUR", 15, "vkey", 1, "0" * 64))
        self.do(c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, netting_permille))
        for area, parent, level in (("MV", "", "MV"), ("LV1", "MV", "LV"), ("LV2", "MV", "LV")):
            self.do(c.SetArea(area, parent, level))
            if parent:
                self.do(c.SetFee(area, FEE_E4))
                self.do(c.SetCapacity(area, capacity_w, capacity_w, "opening"))
        self.do(c.SetTariff(TOPUP_E4, SPILL_E4))
        self.alice = self.member("LV1")
        self.bob = self.member("LV2")
        self.charlie = self.member("LV1")
        self.dora = self.member("LV2")
        for command in self.engine.schedule(self.now_ms):
            self.do(command)

    def member(self, area: str, group: str = "", money_e7: int = MONEY_E7) -> int:
        """Open an account with money and return its index."""
        index: int = self.do(c.OpenAccount(f"{len(self.engine.accounts):032x}", area, group, "", ""))[0].account
        if money_e7:
            self.do(c.Fund(index, money_e7, "opening", ""))
        return index

    def apply(self, command: Any) -> list[Any]:
        """Apply a command now."""
        events = self.engine.apply(command, self.now_ms)
        if not (events and isinstance(events[0], Refused)):
            self.log += events
        return events

    def do(self, command: Any) -> list[Any]:
        """Apply a command that must be accepted."""
        events = self.apply(command)
        assert not (events and isinstance(events[0], Refused)), events[0]
        return events

    def refused(self, command: Any) -> tuple[str, str]:
        """Apply a command that must be refused without a trace; return code and field."""
        before = self.engine.state_hash()
        events = self.apply(command)
        assert len(events) == 1 and isinstance(events[0], Refused), events
        assert self.engine.state_hash() == before
        return events[0].code, events[0].field

    def order(
        self,
        account: int,
        side: str,
        price_e4: int,
        energy_wh: int,
        tif: str = "gtg",
        contract: str = NOON,
        expires: int = 0,
    ) -> list[Any]:
        """Place an order that must be accepted; return what happened after its own entry."""
        events = self.do(c.PlaceOrder(account, contract, side, price_e4, energy_wh, tif, expires))
        assert isinstance(events[0], ev.OrderPlaced)
        return events

    def trades(self, events: list[Any]) -> list[tuple[int, int, int, int, int]]:
        """Return (seller, buyer, Wh, seller's price, buyer's price) of the trades among events."""
        return [(e.seller, e.buyer, e.energy_wh, e.sell_e4, e.buy_e4) for e in events if isinstance(e, ev.Traded)]

    def wallet(self, account: int) -> tuple[int, int]:
        """Return cash and holds of an account."""
        return self.engine.accounts[account].cash_e7, self.engine.accounts[account].held_e7

    def tick(self, now_ms: int) -> None:
        """Let the clock go on and do what it asks for."""
        self.now_ms = now_ms
        while commands := self.engine.schedule(now_ms):
            for command in commands:
                self.do(command)

    def assert_replays(self) -> None:
        """What happened, replayed from its entries, gives the same state."""
        again = Engine()
        replay(again, [to_leaf(event) for event in self.log], self.rows)
        assert again.state_hash() == self.engine.state_hash()

    def rows(self, seq: int) -> list[dict[str, Any]]:
        """Return the committed rows of a settle or adjust entry."""
        event = self.log[seq]
        assert isinstance(event, ev.Settled | ev.Adjusted | ev.Shared) and event.seq == seq
        if not isinstance(event, ev.Adjusted):
            return [row._asdict() for row in event.rows]
        return [
            row._asdict() | {f"was_{name}": value for name, value in was._asdict().items() if name != "account"}
            for row, was in event.rows
        ]
