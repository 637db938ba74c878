"""A small market whose whole log the audit's tests read: all that trading and settling make, in some 120 entries."""

from __future__ import annotations

from functools import cache
from typing import Any

from ledger.core.note import Checkpoint, Signer, parse_vkey
from ledger.core.policy import Policy
from ledger.core.verify import Report, verify_log
from market.audit.judge import Figures, Judge
from market.audit.older import Kept
from market.engine import commands as c
from market.engine.contracts import contract_start_ms
from market.settlement.rules import Metered
from tests.market_log import SIGNER, Fields, MarketLog
from tests.unit.ledger_logs import source

OPENING_MS = contract_start_ms("2026-06-06T10:05Z")
FIRST, NOON, LATER, AFTER = (f"2026-06-06T{time}Z" for time in ("10:15", "12:00", "12:15", "12:30"))
FEE_E4 = 100
MINUTE_MS = 60_000
FINAL_MIN = 60


class Town(MarketLog):
    """Two streets under one substation; alice and charlie live in one, bob and dora in the other."""

    def __init__(self, signer: Signer = SIGNER) -> None:
        super().__init__(OPENING_MS, signer)
        self.found()
        self.do(c.SetParams(40_000, 1, 1_000_000, 50, 180, 0, 1_000, final_after_min=FINAL_MIN, sharing_scope=3))
        for area, parent, level in (("MV", "", "MV"), ("LV1", "MV", "LV"), ("LV2", "MV", "LV")):
            self.do(c.SetArea(area, parent, level))
            if parent:
                self.do(c.SetFee(area, FEE_E4))
                self.do(c.SetCapacity(area, 40_000, 40_000, "opening"))
        self.do(c.SetTariff(3_000, 800))
        self.seal()
        self.alice, self.bob, self.charlie, self.dora = map(self.member, ("LV1", "LV2", "LV1", "LV2"))
        self.due(OPENING_MS)
        self.seal()

    def member(self, area: str) -> int:
        index: int = self.do(c.OpenAccount(f"{len(self.engine.accounts):032x}", area, "", "", ""))[0].account
        self.do(c.Fund(index, 1_000_000_000, "opening", ""))
        return index

    def order(self, account: int, side: str, price_e4: int, energy_wh: int, contract: str = FIRST, **more: Any) -> int:
        """Place an order and return its number."""
        self.at_ms += 10
        time_in_force, expires = more.get("time_in_force", "gtg"), more.get("expires_at_ms", 0)
        seq: int = self.do(c.PlaceOrder(account, contract, side, price_e4, energy_wh, time_in_force, expires))[0].seq
        return seq


def a_day(settled: bool = True) -> Town:
    """Return the log of a town that trades, in all kinds of orders, and is settled for its first contract."""
    town = Town()
    alice, bob, charlie, dora = town.alice, town.bob, town.charlie, town.dora
    town.order(alice, c.SELL, 1_500, 1_000)
    town.order(charlie, c.SELL, 1_500, 1_000)
    town.order(bob, c.BUY, 2_000, 1_200)  # takes alice's, then some of charlie's, each with two fees
    cancelled = town.order(dora, c.BUY, 1_200, 500)
    town.do(c.CancelOrder(dora, cancelled, "owner"))
    town.order(dora, c.BUY, 1_600, 100, time_in_force="ioc")  # crosses nobody's: 1,500 and two fees are more
    town.seal()
    town.order(bob, c.BUY, 1_100, 300, NOON, time_in_force="gtd", expires_at_ms=town.at_ms + MINUTE_MS)
    amended = town.order(alice, c.SELL, 2_500, 400, NOON)
    town.do(c.AmendOrder(alice, amended, 2_400, 500))
    town.do(c.PlaceIceberg(charlie, LATER, c.SELL, 1_400, 1_000, "gtg", 0, 200))
    town.order(dora, c.BUY, 2_000, 350, LATER)
    town.do(c.PlaceBlock(bob, NOON, LATER, c.BUY, 2_800, 100, "gtg", 0))
    town.do(c.PlaceBasket(dora, (c.Leg(dora, LATER, c.BUY, 2_000, 50), c.Leg(dora, NOON, c.BUY, 2_700, 50))))
    town.snapshot()
    town.due(OPENING_MS + 2 * MINUTE_MS)
    town.seal()
    if settled:
        town.due(contract_start_ms(FIRST) + 16 * MINUTE_MS)
        town.readings(FIRST, "LV1", {alice: (0, 900), charlie: (50, 200)})
        town.readings(FIRST, "LV2", {bob: (1_250, 0)})
        town.seal()
        town.settle(FIRST, "LV1", {alice: Metered(0, 900, "measured"), charlie: Metered(50, 200, "measured")})
        town.settle(FIRST, "LV2", {bob: Metered(1_250, 0, "measured")})
        town.seal()
    town.order(alice, c.SELL, 1_700, 10, LATER)
    town.seal()
    return town


@cache
def day() -> Town:
    """Return that day, made once: nobody changes it."""
    return a_day()


def place(entry: Fields) -> str:
    """Return what the audit calls an entry."""
    return f"entry {entry['seq']} ({entry['type']}, {entry['at']})"


def audited(
    files: dict[str, bytes],
    *kept: bytes,
    signer: Signer = SIGNER,
    policy: Policy | None = None,
    allow_missing_rows: bool = False,
) -> tuple[Report, Figures]:
    """Audit files as ``python -m market.audit`` does; raise ``Bad`` or ``Wrong``."""
    judge, read = Judge(), source(files)
    judge.allow_missing_rows = allow_missing_rows
    report = verify_log(read, [parse_vkey(signer.vkey)], each=judge.take)
    figures = judge.end(report.size)
    for number, data in enumerate(kept):
        head = Checkpoint(report.origin, report.size, bytes.fromhex(report.root))
        Kept(f"kept {number}", data).check(read, head, [parse_vkey(signer.vkey)], policy)
    return report, figures


def of_type(entries: list[Fields], kind: str, at: int = 0, **fields: Any) -> Fields:
    """Return the so-manieth entry of a type, with these fields."""
    found = [entry for entry in entries if entry["type"] == kind and fields.items() <= entry.items()]
    return found[at]
