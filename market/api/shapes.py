"""The JSON of every answer and body, as types: the OpenAPI document is made of them, tests hold every answer to them.

Prices and money are decimal texts (4 and 7 decimals), energy is integer Wh, instants are RFC 3339 texts in UTC, a
contract is named by its start, ``seq`` is the ledger's sequence.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Price = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{4}$", description="currency per kWh", examples=["0.2850"])]
Money = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{7}$", description="currency", examples=["0.4275000"])]
Contract = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}Z$",
        description="start of the delivery interval",
        examples=["2026-06-06T12:15Z"],
    ),
]
Instant = Annotated[str, Meta(description="RFC 3339, UTC", examples=["2026-06-06T12:15:00.000Z"])]
Seq = Annotated[int, Meta(ge=0, description="sequence in the ledger")]
Next = str | None
Side = Literal["buy", "sell"]


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """Base of all shapes: what is not named here is in no answer."""


# --- orders ----------------------------------------------------------------------------------------------------------
class Order(Shape):
    """An order as it stands. ``id`` is the sequence of its ledger entry."""

    id: Seq
    contract: Contract
    area: str
    side: Side
    price: Price
    energy_wh: int
    filled_wh: int
    remaining_wh: int
    status: Literal["open", "filled", "cancelled", "expired"]
    reason: Annotated[str | None, Meta(description="why it was cancelled")]
    time_in_force: Literal["gtg", "gtd", "ioc", "fok"]
    expires_at: str | None
    created_at: Instant
    changed_seq: Annotated[int, Meta(description="the last ledger entry that changed it")]


class OwnTrade(Shape):
    """A trade of one of my orders: what I pay or get."""

    seq: Seq
    at: Instant
    price: Price
    energy_wh: int
    amount: Money


class OrderAnswer(Shape):
    """What became of an order. ``seq``: the last ledger entry of this request."""

    order: Order
    trades: list[OwnTrade]
    seq: Seq


class OrderDetail(Shape):
    """An order and all its trades."""

    order: Order
    trades: list[OwnTrade]


class OrderPage(Shape):
    """My orders, newest first."""

    results: list[Order]
    next: Next


class Problem(Shape):
    """An error (RFC 9457). ``code`` is stable, ``field`` names the input at fault, ``detail`` is for people."""

    type: str
    title: str
    status: int
    code: str
    field: str
    detail: str


class BatchItem(Shape, omit_defaults=True):
    """The answer to one order of a batch: what a single order would have got, with its status."""

    status: int
    order: Order | msgspec.UnsetType = msgspec.UNSET
    trades: list[OwnTrade] | msgspec.UnsetType = msgspec.UNSET
    seq: int | msgspec.UnsetType = msgspec.UNSET
    problem: Problem | msgspec.UnsetType = msgspec.UNSET


class BatchAnswer(Shape):
    """One answer for each order of a batch, in the same sequence."""

    results: list[BatchItem]


class CancelledAll(Shape):
    """Which orders were taken back."""

    cancelled: list[int]
    seq: int | None


# --- the market ------------------------------------------------------------------------------------------------------
class Area(Shape):
    """A node of the grid. Fee and capacities belong to the edge between it and its parent."""

    area: str
    parent: str | None
    level: str
    fee: Price
    import_w: int
    export_w: int
    halted: bool


class AreaPage(Shape):
    """The grid, parents before children."""

    results: list[Area]
    next: Next


class ContractOut(Shape):
    """A delivery interval (half-open) with the supplier's prices frozen at its opening."""

    contract: Contract
    start: Instant
    end: Instant
    state: Literal["open", "closed", "delivered", "settled"]
    halted: bool
    topup_price: Price
    spill_price: Price
    last_price: Price | None
    volume_wh: int


class ContractPage(Shape):
    """Contracts by start."""

    results: list[ContractOut]
    next: Next


class Level(Shape):
    """Energy that can be traded at a price. ``fee``: the grid fee a kWh that is part of the price, on average."""

    price: Price
    energy_wh: int
    fee: Price


class Book(Shape):
    """What can really be executed now, seen from an area, fees included: bids descending, asks ascending.

    Of a contract whose gate has closed there is nothing left: both sides are empty.
    """

    contract: Contract
    state: Literal["open", "closed", "delivered", "settled"]
    area: str
    seq: Annotated[int, Meta(description="ledger entries so far")]
    bids: list[Level]
    asks: list[Level]


class Trade(Shape):
    """A public trade. ``price`` is the maker's, the one that stood in the book."""

    seq: Seq
    at: Instant
    contract: Contract
    price: Price
    energy_wh: int
    buy_price: Price
    sell_price: Price


class TradePage(Shape):
    """Trades, newest first; with ``after`` oldest first."""

    results: list[Trade]
    next: Next


class Candle(Shape):
    """Prices in a span of time: what sellers got."""

    start: Instant
    open: Price
    high: Price
    low: Price
    close: Price
    volume_wh: int


class CandlePage(Shape):
    """Candles that have trades, oldest first."""

    results: list[Candle]
    next: Next


# --- me --------------------------------------------------------------------------------------------------------------
class Me(Shape):
    """Who is asking, and what may be done with this key or session."""

    user: str
    role: str
    scopes: list[str]
    account: int | None
    account_id: str | None
    area: str | None
    home: str | None
    automatic: bool | None


class Position(Shape):
    """What an account traded in a contract; ``position_wh`` = bought - sold."""

    contract: Contract
    bought_wh: int
    sold_wh: int
    position_wh: int
    paid: Money
    proceeds: Money


class PositionPage(Shape):
    """Positions in contracts that are not settled yet."""

    results: list[Position]
    next: Next


class Balance(Shape):
    """An account's money: ``free`` = ``cash`` - ``held`` (set aside for open orders)."""

    account: int
    currency: str
    cash: Money
    held: Money
    free: Money
    arrears: Money


class StatementLine(Shape):
    """A movement of money; ``amount`` is negative when it leaves the account. ``seq`` is its ledger entry."""

    seq: Seq
    n: int
    at: Instant
    kind: str
    amount: Money


class StatementPage(Shape):
    """Movements of money, newest first."""

    results: list[StatementLine]
    next: Next


class ReadingIn(Shape, forbid_unknown_fields=True):
    """Energy through my connection in one delivery interval, import and export apart."""

    contract: str
    import_wh: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    export_wh: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    produced_wh: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    used_wh: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None


class ReadingsIn(Shape):
    """A batch of readings, at most one for each contract."""

    readings: Annotated[list[ReadingIn], Meta(min_length=1)]


class ReadingsAnswer(Shape):
    """What became of a batch; duplicates are harmless."""

    accepted: int
    corrected: int
    duplicates: int
    seq: int | None


# --- what happened ---------------------------------------------------------------------------------------------------
class EventPage(Shape):
    """What happened after a sequence, oldest first. Every event has ``seq``, ``type`` and ``at``."""

    results: list[dict[str, Any]]
    next: Next


class Block(Shape):
    """A sealed run of entries; ``root`` is the log's at ``size`` entries."""

    height: int
    first: int
    count: int
    size: int
    root: str
    at: Instant


class BlockPage(Shape):
    """Blocks, newest first."""

    results: list[Block]
    next: Next


class Entry(Shape):
    """An entry of the ledger: its fields, and the very bytes that are hashed."""

    seq: Seq
    entry: dict[str, Any]
    leaf: Annotated[str, Meta(description="the leaf's bytes, base64")]
    leaf_hash: Annotated[str, Meta(description="SHA-256(0x00 || leaf), hex")]


class Proof(Shape):
    """That an entry is in the log: hashes from the leaf to the root that the checkpoint signs."""

    seq: Seq
    size: int
    leaf_hash: str
    hashes: Annotated[list[str], Meta(description="hex, from the leaf upwards")]
    root: Annotated[str, Meta(description="hex")]
    checkpoint: Annotated[str, Meta(description="signed note")]
    receipt: Annotated[str, Meta(description="the same as a c2sp.org/tlog-proof@v1 file")]


# --- operator and regulator -------------------------------------------------------------------------------------------
class CapacityIn(Shape):
    """What the edge between an area and its parent can carry, in W each way. ``reason`` is a code."""

    import_w: int
    export_w: int
    reason: str = "operator"


class FeeIn(Shape):
    """Grid fee of the edge between an area and its parent, for contracts opened from now on."""

    fee: str


class TariffIn(Shape):
    """What the supplier of last resort charges and pays, for contracts opened from now on."""

    topup_price: str
    spill_price: str


class HaltIn(Shape):
    """Stop or resume trading. ``target``: "" for the market, else a contract, an area or an account's number."""

    scope: Literal["market", "contract", "area", "account"]
    on: bool
    target: str = ""
    reason: str = "operator"


class Params(Shape):
    """All limits of the market."""

    max_price: str
    tick: str
    max_order_wh: int
    max_open_orders: int
    horizon_min: int
    lead_min: int
    netting_permille: int


class Decision(Shape):
    """The ledger entry that carries a decision."""

    seq: Seq


class Flow(Shape):
    """Traded flow over the edge between an area and its parent in one contract, against what it can carry, in Wh."""

    area: str
    import_wh: int
    export_wh: int
    import_capacity_wh: int
    export_capacity_wh: int


class FlowPage(Shape):
    """Flows of one contract."""

    results: list[Flow]
    next: Next


class SettlementState(Shape):
    """How far settlement of a contract has come."""

    contract: Contract
    state: str
    settled_areas: int
    missing_readings: int


class SettlementPage(Shape):
    """The settlement board, newest contract first."""

    results: list[SettlementState]
    next: Next


class SearchedOrder(Order):
    """An order as the regulator sees it: with its account's number, never with a name."""

    account: int


class SearchedOrderPage(Shape):
    """Orders found."""

    results: list[SearchedOrder]
    next: Next


class SearchedTrade(Trade):
    """A trade as the regulator sees it: with orders, accounts' numbers and areas."""

    buyer: int
    seller: int
    buy_order: int
    sell_order: int
    buy_area: str
    sell_area: str


class SearchedTradePage(Shape):
    """Trades found."""

    results: list[SearchedTrade]
    next: Next


class RefusalOut(Shape):
    """A command that changed nothing."""

    n: int
    at: Instant
    account: int | None
    code: str
    field: str
    command: list[Any]


class RefusalPage(Shape):
    """Refusals, newest first."""

    results: list[RefusalOut]
    next: Next


class Health(Shape):
    """Whether trading can go on."""

    status: Literal["ok", "unavailable"]
    seq: int
    sealed: int
    database: str
    exchange: str
    queue: int
