"""The JSON of every answer and body, as types: the OpenAPI document is made of them, tests hold every answer to them.

Prices and money are decimal texts (4 and 7 decimals), energy is integer Wh, instants are RFC 3339 texts in UTC, a
contract is named by its start, ``seq`` is the ledger's sequence.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from market.api.autopilot_shapes import Autopilot, AutopilotDay, AutopilotIn  # noqa: F401
from market.api.consent_shapes import (  # noqa: F401
    Consent,
    ConsentChangeIn,
    ConsentGranted,
    ConsentIn,
    ConsentPage,
)
from market.api.device_shapes import (  # noqa: F401
    AreaBalance,
    BalancePage,
    BalanceRow,
    Device,
    DeviceAnswer,
    DeviceDecision,
    DeviceDecisionIn,
    DeviceIn,
    DeviceKeyIn,
    DevicePage,
    DeviceValueIn,
    MyReading,
    MyReadingPage,
    ReadingIn,
    ReadingsAnswer,
    ReadingsIn,
    SubstationIn,
    Verdicts,
    WaitingDevice,
    WaitingDevicePage,
)
from market.api.dispute_shapes import (  # noqa: F401
    Dispute,
    DisputeIn,
    DisputePage,
    DisputeStep,
    ReopenIn,
)
from market.api.official_shapes import (  # noqa: F401
    AcknowledgeIn,
    Alert,
    AlertPage,
    CapacityIn,
    ConnectionIn,
    Decision,
    FeeIn,
    Flow,
    FlowPage,
    HaltIn,
    Limits,
    Overload,
    Params,
    ParamsIn,
    RecallIn,
    RefusalOut,
    RefusalPage,
    SearchedOrder,
    SearchedOrderPage,
    SearchedTrade,
    SearchedTradePage,
    SettlementPage,
    SettlementState,
    SettlementWait,
    TariffIn,
)
from market.api.order_shapes import (  # noqa: F401
    BatchAnswer,
    BatchItem,
    CancelledAll,
    Order,
    OrderAnswer,
    OrderDetail,
    OrderPage,
    OrdersAnswer,
    OwnTrade,
    Problem,
    Trade,
    Waiting,
)
from market.api.payment_shapes import (  # noqa: F401
    Deposit,
    DepositIn,
    DepositPage,
    Withdrawal,
    WithdrawalIn,
    WithdrawalPage,
)
from market.api.public_shapes import (  # noqa: F401
    BoardAhead,
    BoardBehind,
    BoardLedger,
    BoardSun,
    MarketBoard,
    Notification,
    NotificationPage,
    NotificationSettings,
    NotificationSettingsIn,
    PushDevice,
    PushDeviceIn,
    PushDevicePage,
    ReadIn,
    Unread,
)
from market.api.shaping import Contract, Instant, Money, Next, Price, Seq, Shape
from market.api.statement_shapes import (  # noqa: F401
    StatementCharge,
    StatementItem,
    StatementOfPeriod,
    StatementPart,
    StatementRow,
    StatementSums,
    StatementTotals,
)
from market.api.surveillance_shapes import (  # noqa: F401
    BookRebuilding,
    Concentration,
    ConcentrationPage,
    ExportIn,
    ExportOut,
    ExportPage,
    LookOut,
    LookPage,
    PastBook,
    PastLevelOut,
    PastOrderOut,
    SavedViewIn,
    SavedViewNameIn,
    SavedViewOut,
    SavedViewPage,
    SearchPage,
    SearchTotals,
)


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


class Headroom(Shape):
    """What the edge between an area and its parent can still carry in one contract, each way, in Wh."""

    area: str
    parent: str
    import_residual_wh: Annotated[int, Meta(description="into the area; not above zero: nothing more")]
    export_residual_wh: Annotated[int, Meta(description="out of the area")]
    import_capacity_wh: int
    export_capacity_wh: int


class HeadroomPage(Shape):
    """The capacity map of a contract.

    Areas with fewer than ten homes are left out, and as many next to them as it takes that no difference of flows is that
    of fewer than ten homes.
    """

    results: list[Headroom]
    next: Next


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


class Signing(Shape):
    """What to sign an order with: see `Order-Signature`. ``public_key`` is "" while orders of the account need none."""

    account_id: str
    public_key: str
    rules: Annotated[str, Meta(description="hex SHA-256 of the rulebook in force")]
    origin: Annotated[str, Meta(description="the ledger's name")]
    changes: Annotated[int, Meta(description="how often the account's key has been changed")]


class SigningKeyIn(msgspec.Struct, forbid_unknown_fields=True):
    """A key (Ed25519, hex), signatures (hex) by it (``proof``) and by the key so far (``approval``) or why that is ``reset``.
    What is signed: "sunledger/key/v2", a newline and the JCS of ``account`` (the account's id), ``before`` (the key so far),
    ``changes``, ``origin``, ``public_key`` and ``rules``."""

    public_key: str
    proof: str
    approval: str = ""
    reset: Literal["", "lost_device"] = ""


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


class Agreement(Shape):
    """A private agreement. ``state``: proposed, agreed or ended; ``mine``: I proposed it."""

    agreement: Annotated[int, Meta(description="its number: the ledger entry that proposed it")]
    side: Annotated[str, Meta(description="give: my left-over energy goes to the neighbour; receive: the other way")]
    neighbour: Annotated[str, Meta(description="the other one's account_id, as GET /api/v1/me tells it to them")]
    price: Annotated[str, Meta(description="what the receiver pays a kWh on its supply bill; 0.0000: a gift")]
    fee: Annotated[str, Meta(description="grid fee a kWh, as it was at the proposal; the receiver pays it")]
    start: Contract
    state: str
    mine: bool


class AgreementPage(Shape):
    """My agreements, oldest first. Those that have ended stay while they may still matter to a settlement."""

    results: list[Agreement]
    next: Next


class AgreementIn(Shape, forbid_unknown_fields=True):
    """An agreement I propose; it holds once the neighbour has accepted it."""

    side: str
    neighbour: str
    price: str
    start: Annotated[str, Meta(description="the first contract it holds for")]


class AgreementEnded(Shape):
    """The ledger entry that ends an agreement."""

    seq: Seq


# --- what happened ---------------------------------------------------------------------------------------------------
class EventPage(Shape):
    """What happened after a sequence, oldest first. Every event has ``seq``, ``type`` and ``at``."""

    results: list[dict[str, Any]]
    next: Next


class Block(Shape):
    """A sealed run of entries; ``root`` is the log's at ``size`` entries.

    ``state``: sealed, or witnessed once a checkpoint that covers it has its quorum; always sealed without witnesses.
    """

    height: int
    first: int
    count: int
    size: int
    root: str
    at: Instant
    state: Literal["sealed", "witnessed"]


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
    state: Annotated[
        Literal["accepted", "sealed", "witnessed"],
        Meta(description="durable; under a checkpoint; under one that a quorum of witnesses has cosigned"),
    ]


class Proof(Shape):
    """That an entry is in the log: hashes from the leaf to the root that the checkpoint signs."""

    seq: Seq
    size: int
    leaf_hash: str
    hashes: Annotated[list[str], Meta(description="hex, from the leaf upwards")]
    root: Annotated[str, Meta(description="hex")]
    checkpoint: Annotated[str, Meta(description="signed note, with the cosignatures it has")]
    state: Annotated[Literal["sealed", "witnessed"], Meta(description="whether the checkpoint has its quorum")]
    receipt: Annotated[str, Meta(description="the same as a c2sp.org/tlog-proof@v1 file")]


class Health(Shape):
    """Whether trading can go on."""

    status: Literal["ok", "unavailable"]
    seq: int
    sealed: int
    witnessed: Annotated[int | None, Meta(description="entries under a quorum; null without witnesses")]
    witnesses: Annotated[
        Literal["none", "ok", "behind", "refused"],
        Meta(description="behind: the quorum is over a minute late; refused: a witness says the log has forked"),
    ]
    database: str
    exchange: str
    queue: int
