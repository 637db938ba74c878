"""Accounts and the limits of the market."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

UNLIMITED_WH = 1 << 60
TOKEN = 60_000  # the throttle counts in this part of an order: at n orders a minute, n parts come in a millisecond
MAX_INT = 2**53 - 1  # the largest integer a browser holds exactly
MAX_CONNECTION_W = 10**9  # a gigawatt: more than any one connection of a city
SHARING_NONE, SHARING_AREA, SHARING_SUBSTATION, SHARING_CITY = range(4)  # nobody; same area; same parent; everybody
MAX_FINAL_MIN = 366 * 24 * 60  # a year: no law asks for longer, and what is not final is kept in memory
MEMBER = "member"
BANK = "bank"  # the world outside: what was paid in minus what was paid out, negated
OPERATOR = "operator"  # grid fees
SUPPLIER = "supplier"  # of last resort: top-up and spill
BILLING = "billing"  # supply bills that members have still to pay
CLEARING = "clearing"  # one a contract: what is paid in and not yet settled
SYSTEM_KINDS = (BANK, OPERATOR, SUPPLIER, BILLING)
BANK_INDEX, OPERATOR_INDEX, SUPPLIER_INDEX, BILLING_INDEX = range(4)


def derived_id(text: str) -> str:
    """Return the id of an account that is nobody's, from what it is for."""
    return sha256(text.encode("ascii")).hexdigest()[:32]


class Account:
    """A wallet, or one of the market's own accounts. ``held_e7`` is the part of ``cash_e7`` set aside for open orders."""

    __slots__ = (
        "area",
        "arrears_e7",
        "cash_e7",
        "closed",
        "connection",
        "export_w",
        "export_wh",
        "group",
        "halted",
        "held_e7",
        "id",
        "import_w",
        "import_wh",
        "index",
        "key",
        "key_changes",
        "kind",
        "node",
        "open_ids",
        "slot",
        "spent",
        "spent_at_ms",
    )

    def __init__(self, index: int, id: str, kind: str, area: str, node: int, group: str):
        self.index = index
        self.id = id
        self.kind = kind
        self.area = area
        self.node = node
        self.group = group
        self.cash_e7 = 0
        self.held_e7 = 0
        self.arrears_e7 = 0
        self.closed = False
        self.halted = False
        self.key = ""  # its orders are signed with this one, hex
        self.key_changes = 0  # how often it was changed with a proof, or by a reset that gives its reason
        self.open_ids: dict[int, None] = {}  # its open orders
        self.connection = ""  # name of its grid connection, "" = one of its own
        self.slot = index  # its connection's number in ``Contract.exposures``
        self.import_w = 0  # limits of the connection, 0 = the market's
        self.export_w = 0
        self.import_wh = UNLIMITED_WH  # what follows from them for one interval
        self.export_wh = UNLIMITED_WH
        self.spent = 0  # of its tokens (see ``TOKEN``), at the time of
        self.spent_at_ms = 0

    @property
    def open_orders(self) -> int:
        """How many orders it has open."""
        return len(self.open_ids)

    @property
    def free_e7(self) -> int:
        """Money that is not set aside."""
        return self.cash_e7 - self.held_e7

    @property
    def net_e7(self) -> int:
        """What it has less what it owes: this is what transfers change, and what adds up to 0 over all accounts."""
        return self.cash_e7 - self.arrears_e7

    def receive(self, amount_e7: int) -> int:
        """Take money in: what is owed is paid of it first. Return by how much the arrears fell (e7)."""
        paid_e7 = min(self.arrears_e7, amount_e7)
        self.arrears_e7 -= paid_e7
        self.cash_e7 += amount_e7 - paid_e7
        return paid_e7

    def owe(self, amount_e7: int) -> int:
        """Give money: of what is free first, the rest is owed. Return by how much the arrears grew (e7)."""
        free_e7 = min(self.free_e7, amount_e7)
        self.cash_e7 -= free_e7
        self.arrears_e7 += amount_e7 - free_e7
        return amount_e7 - free_e7


class Connection:
    """A grid connection that accounts have named, and who they are. ``slot`` is below zero: accounts' own are above."""

    __slots__ = ("accounts", "slot")

    def __init__(self, slot: int):
        self.slot = slot
        self.accounts: list[Account] = []


class Params(NamedTuple):
    """Limits of the market, as ``SetParams`` sets them."""

    max_price_e4: int = 40_000  # 4.00 a kWh: Europe's harmonised maximum clearing price for the day-ahead market
    tick_e4: int = 1
    max_order_wh: int = 10_000_000
    max_open_orders: int = 1_000  # an account
    horizon_min: int = 36 * 60  # how long before delivery a contract opens
    lead_min: int = 0  # how long before delivery its gate closes
    netting_permille: int = 1_000
    collar_e4: int = 0  # a trade further than this from the reference price halts its contract; 0 = no collar
    collar_period_s: int = 0  # how old the reference price becomes
    collar_halt_s: int = 0  # how long the halt lasts
    throttle_per_min: int = 0  # orders and amendments of an account that come in again each minute; 0 = no throttle
    throttle_burst: int = 0  # and how many at once
    throttle_credit: int = 0  # how many a trade of the account gives back
    connection_import_w: int = 0  # what a grid connection may take unless it has a limit of its own; 0 = no limit
    connection_export_w: int = 0  # and give
    final_after_min: int = 0  # how long after delivery a settlement may be corrected; 0 = it is final at once
    sharing_scope: int = SHARING_NONE  # who may share with whom: one of ``SHARING_…``


FIRST_PARAMS = Params._fields.index("final_after_min")  # how many there were before this one


def params_problem(params: Params) -> str:
    """Return the name of the first parameter that is out of range, "" if there is none."""
    ranges = {
        "max_price_e4": (1, 10_000_000),
        "tick_e4": (1, 10_000_000),
        "max_order_wh": (1, 100_000_000),
        "max_open_orders": (1, 1_000_000),
        "horizon_min": (15, 7 * 24 * 60),
        "lead_min": (0, 24 * 60),
        "netting_permille": (0, 1_000),
        "collar_e4": (0, 10_000_000),
        "collar_period_s": (1 if params.collar_e4 else 0, 24 * 3600),
        "collar_halt_s": (1 if params.collar_e4 else 0, 24 * 3600),
        "throttle_per_min": (0, 1_000_000),
        "throttle_burst": (1 if params.throttle_per_min else 0, 1_000_000),
        "throttle_credit": (0, 1_000),
        "connection_import_w": (0, MAX_CONNECTION_W),
        "connection_export_w": (0, MAX_CONNECTION_W),
        "final_after_min": (0, MAX_FINAL_MIN),
        "sharing_scope": (SHARING_NONE, SHARING_CITY),
    }
    for name, (least, most) in ranges.items():
        value = getattr(params, name)
        if type(value) is not int or not least <= value <= most:
            return name
    if params.tick_e4 > params.max_price_e4:
        return "tick_e4"
    if params.max_price_e4 * params.max_order_wh > MAX_INT:
        return "max_order_wh"
    return ""
