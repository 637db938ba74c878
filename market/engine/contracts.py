"""Delivery intervals: their names, and the state of one that is being traded or settled."""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any

from market.engine.book import Book
from market.engine.grid import Topology
from market.engine.orders import Exposure, Group

MINUTE_MS = 60_000
NAME_LENGTH = len("2026-06-06T12:15Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TRADE = Struct("<6q")  # seq, buyer, seller, energy (0 once it was recalled), price paid, price got
UNLIMITED_E4 = 1 << 60
NEVER_MS = 1 << 60

OPEN = "open"
CLOSED = "closed"
DELIVERED = "delivered"
SETTLED = "settled"
FINAL = "final"  # settled, and corrected no more


def contract_name(start_ms: int) -> str:
    """Return the name of the contract that starts at a time (ms since the epoch, a whole minute)."""
    if start_ms % MINUTE_MS:
        raise ValueError(f"expected a whole minute, was {start_ms} ms")
    return (_EPOCH + timedelta(milliseconds=start_ms)).strftime("%Y-%m-%dT%H:%MZ")


def contract_start_ms(name: str) -> int:
    """Return the start of a contract in ms since the epoch; raise ``ValueError`` unless the name is exactly canonical."""
    if len(name) != NAME_LENGTH or not name.endswith("Z"):
        raise ValueError(f"expected a name like 2026-06-06T12:15Z, was {name!r}")
    start = datetime.strptime(name, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
    start_ms = (start - _EPOCH) // timedelta(milliseconds=1)
    if contract_name(start_ms) != name:
        raise ValueError(f"expected a name like 2026-06-06T12:15Z, was {name!r}")
    return start_ms


class Tally:
    """What one account did in one contract."""

    __slots__ = ("bought_wh", "fee_e7", "margin_e7", "paid_e7", "proceeds_e7", "sold_wh")

    def __init__(self) -> None:
        self.bought_wh = 0
        self.sold_wh = 0
        self.paid_e7 = 0  # all-in cost of what it bought
        self.proceeds_e7 = 0  # what it is to get for what it sold
        self.margin_e7 = 0  # set aside against not delivering
        self.fee_e7 = 0  # grid fees within ``paid_e7``

    @property
    def position_wh(self) -> int:
        """Bought minus sold."""
        return self.bought_wh - self.sold_wh

    def values(self) -> list[int]:
        """Return the fields in the order of ``restore``."""
        return [self.bought_wh, self.sold_wh, self.paid_e7, self.proceeds_e7, self.margin_e7, self.fee_e7]

    @classmethod
    def restore(cls, values: list[int]) -> Tally:
        """Return the tally with these fields."""
        tally = cls()
        (
            tally.bought_wh,
            tally.sold_wh,
            tally.paid_e7,
            tally.proceeds_e7,
            tally.margin_e7,
            tally.fee_e7,
        ) = values
        return tally


class Provisional:
    """A settlement that may still be corrected: all that is kept of it, 8 bytes an area, until it is final."""

    __slots__ = ("final_ms", "newest", "shared", "spill_e4", "topup_e4")

    def __init__(self, topup_e4: int, spill_e4: int, final_ms: int, areas: int):
        self.shared = 0  # the entry that shared out what was left over, last; 0 = none has
        self.topup_e4 = topup_e4
        self.spill_e4 = spill_e4
        self.final_ms = final_ms  # readings are taken until then; what they change is corrected, and then it is final
        # By the area's number: the entry that settled it or corrected it last; 0 = it is not settled yet.
        self.newest = array("q", bytes(8 * areas))

    def values(self) -> list[Any]:
        """Return the fields in the order of ``restore``."""
        packed = Struct(f"<{len(self.newest)}q").pack(*self.newest)
        return [self.topup_e4, self.spill_e4, self.final_ms, self.shared, b64encode(packed).decode("ascii")]

    @classmethod
    def restore(cls, topup_e4: int, spill_e4: int, final_ms: int, shared: int, newest: str) -> Provisional:
        """Return what ``values`` wrote."""
        packed = b64decode(newest)
        found = cls(topup_e4, spill_e4, final_ms, 0)
        found.shared = shared
        found.newest.extend(Struct(f"<{len(packed) // 8}q").unpack(packed))
        return found


class Agreement:
    """Energy that one account has left over goes to another, at a price; in force once both have agreed."""

    __slots__ = (
        "accepted_ms", "fee_e4", "giver", "id", "price_e4", "proposer", "receiver", "revoked_ms", "start_ms",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        proposer: int,
        giver: int,
        receiver: int,
        price_e4: int,
        fee_e4: int,
        start_ms: int,
        accepted_ms: int = 0,
        revoked_ms: int = 0,
    ):
        self.id = id  # the entry that proposed it
        self.proposer = proposer
        self.giver = giver
        self.receiver = receiver
        self.price_e4 = price_e4
        self.fee_e4 = fee_e4
        self.start_ms = start_ms
        self.accepted_ms = accepted_ms  # 0 = it is a proposal
        self.revoked_ms = revoked_ms  # 0 = it stands

    def applies(self, start_ms: int) -> bool:
        """Return whether it was in force when a contract started."""
        return (
            0 < self.accepted_ms <= start_ms
            and self.start_ms <= start_ms
            and not (self.revoked_ms and self.revoked_ms <= start_ms)
        )

    def values(self) -> list[int]:
        """Return the arguments that make it again."""
        return [
            self.id, self.proposer, self.giver, self.receiver, self.price_e4, self.fee_e4, self.start_ms,
            self.accepted_ms, self.revoked_ms,
        ]  # fmt: skip


class Contract:
    """One delivery interval. Tariff and fees are those in force when it opened."""

    __slots__ = (
        "account",
        "areas_due",
        "blocks",
        "book",
        "end_ms",
        "exposures",
        "gate_ms",
        "halt_until_ms",
        "halted",
        "high_e4",
        "last_e4",
        "look_at_ms",
        "looked_until_ms",
        "low_e4",
        "name",
        "reference_e4",
        "settled_areas",
        "spill_e4",
        "start_ms",
        "state",
        "tallies",
        "tallies_in",
        "topup_e4",
        "trades",
        "volume_wh",
        "watching",
    )

    def __init__(self, name: str, start_ms: int, end_ms: int, gate_ms: int, account: int, topup_e4: int, spill_e4: int):
        self.name = name
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.gate_ms = gate_ms
        self.state = OPEN
        self.halted = False
        self.account = account  # index of its clearing account
        self.topup_e4 = topup_e4
        self.spill_e4 = spill_e4
        self.tallies: dict[int, Tally] = {}
        self.tallies_in: dict[str, int] = {}  # how many of them in each area, known from the first settlement on
        self.areas_due: set[str] = set()  # areas to settle, known at delivery
        self.settled_areas: set[str] = set()
        self.last_e4 = 0  # price the last trade's seller got
        self.volume_wh = 0
        self.halt_until_ms = 0  # when its halt ends by itself; 0: when somebody ends it
        self.reference_e4 = (topup_e4 + spill_e4) // 2  # what the price collar lies around
        self.looked_until_ms = 0  # until when that holds
        self.look_at_ms = NEVER_MS  # the same while there is a collar, else never
        self.low_e4, self.high_e4 = -UNLIMITED_E4, UNLIMITED_E4  # prices the collar lets pass
        self.trades = bytearray()  # one ``TRADE`` after the other: what a recall needs
        self.exposures: dict[int, Exposure] = {}  # by ``Account.slot``
        self.blocks = 0  # legs of waiting blocks
        self.watching: dict[int, Group] = {}  # waiting blocks that could not trade for want of energy here
        self.book: Book | None = None

    def set_collar(self, collar_e4: int) -> None:
        """Set the prices that pass: so far around the reference, 0 = all."""
        if collar_e4:
            self.low_e4, self.high_e4 = self.reference_e4 - collar_e4, self.reference_e4 + collar_e4
            self.look_at_ms = self.looked_until_ms
        else:
            self.low_e4, self.high_e4 = -UNLIMITED_E4, UNLIMITED_E4
            self.look_at_ms = NEVER_MS

    def exposure(self, slot: int) -> Exposure:
        """Return a connection's exposure, a new one at its first order."""
        exposure = self.exposures.get(slot)
        if exposure is None:
            exposure = self.exposures[slot] = Exposure()
        return exposure

    def find_trade(self, seq: int) -> int:
        """Return where in ``trades`` the trade of that entry begins, -1 if it is not there."""
        low, high = 0, len(self.trades) // TRADE.size
        while low < high:
            middle = (low + high) // 2
            if TRADE.unpack_from(self.trades, middle * TRADE.size)[0] < seq:
                low = middle + 1
            else:
                high = middle
        at = low * TRADE.size
        return at if at < len(self.trades) and TRADE.unpack_from(self.trades, at)[0] == seq else -1

    def last_price_e4(self) -> int:
        """Return what the seller of the last trade that stands got, 0 without any."""
        for at in range(len(self.trades) - TRADE.size, -1, -TRADE.size):
            _, _, _, energy_wh, _, sell_e4 = TRADE.unpack_from(self.trades, at)
            if energy_wh:
                return int(sell_e4)
        return 0

    def open_book(self, topology: Topology, import_wh: list[int], export_wh: list[int], netting_permille: int) -> Book:
        """Give the contract an empty book over the grid as it is now."""
        self.book = Book(topology, import_wh, export_wh, netting_permille)
        return self.book

    def tally(self, account: int) -> Tally:
        """Return the account's tally, a new one at its first trade."""
        tally = self.tallies.get(account)
        if tally is None:
            tally = self.tallies[account] = Tally()
        return tally
