"""Shapes of what operators and regulators decide and see; part of ``shapes``, where callers find them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from market.api.order_shapes import Order, Trade
from market.api.shaping import Contract, Instant, Money, Next, Seq, Shape
from market.engine.reasons import CODES, OPERATOR


def _reason(kind: str) -> object:
    return Annotated[str, Meta(description=f"why, on the ledger; one of {', '.join(sorted(CODES[kind]))}")]


CapacityReason, FeeReason, TariffReason, ParamsReason = map(_reason, ("capacity", "fee", "tariff", "params"))
HaltReason, ConnectionReason, RecallReason = map(_reason, ("halt", "connection", "recall"))
Words = Annotated[
    str, Meta(description="at most 200 characters in your own words, sealed; the ledger gets a salted hash of them")
]


class CapacityIn(Shape):
    """What the edge between an area and its parent can carry, in W each way."""

    import_w: int
    export_w: int
    reason: CapacityReason = OPERATOR
    text: Words = ""


class AcknowledgeIn(Shape):
    """What an official writes beside an alert that they have seen: at most 200 characters."""

    note: str = ""


class FeeIn(Shape):
    """Grid fee of the edge between an area and its parent, for contracts opened from now on."""

    fee: str
    reason: FeeReason = OPERATOR
    text: Words = ""


class TariffIn(Shape):
    """What the supplier of last resort charges and pays, for contracts opened from now on."""

    topup_price: str
    spill_price: str
    reason: TariffReason = OPERATOR
    text: Words = ""


class HaltIn(Shape):
    """Stop or resume trading. ``target``: "" for the market, else a contract, an area or an account's number."""

    scope: Literal["market", "contract", "area", "account"]
    on: bool
    target: str = ""
    until: Annotated[
        str | None, Meta(description="of a contract's halt: when it ends by itself, an RFC 3339 instant in the future")
    ] = None
    cancel: Annotated[bool, Meta(description="kill switch: all open orders in the scope are taken back, too")] = False
    reason: HaltReason = OPERATOR
    text: Words = ""


class Limits(Shape):
    """The limits every market has had from the beginning."""

    max_price: str
    tick: str
    max_order_wh: int
    max_open_orders: int
    horizon_min: int
    lead_min: int
    netting_permille: int


class Params(Limits):
    """All limits of the market."""

    collar: Annotated[str, Meta(description="how far from the reference price a trade may be; 0.0000: no collar")]
    collar_period_s: Annotated[int, Meta(description="how old the reference price becomes")]
    collar_halt_s: Annotated[int, Meta(description="how long the collar halts a contract")]
    throttle_per_min: Annotated[int, Meta(description="orders and changes of an account a minute; 0: no throttle")]
    throttle_burst: Annotated[int, Meta(description="and how many at once")]
    throttle_credit: Annotated[int, Meta(description="how many a trade gives back")]
    connection_import_w: Annotated[int, Meta(description="what a connection without a limit may take; 0: any")]
    connection_export_w: Annotated[int, Meta(description="and give")]
    final_after_min: Annotated[
        int, Meta(description="minutes after delivery in which a settlement is corrected; 0: it is final at once")
    ]
    sharing_scope: Annotated[
        int, Meta(description="who may share: 0 nobody, 1 homes of an area, 2 of areas below one area, 3 all")
    ]


class ParamsIn(Limits):
    """All limits of the market; of those from ``collar`` on, what is absent stays as it is."""

    collar: str | None = None
    collar_period_s: int | None = None
    collar_halt_s: int | None = None
    throttle_per_min: int | None = None
    throttle_burst: int | None = None
    throttle_credit: int | None = None
    connection_import_w: int | None = None
    connection_export_w: int | None = None
    final_after_min: int | None = None
    sharing_scope: int | None = None
    reason: ParamsReason = OPERATOR
    text: Words = ""


class ConnectionIn(Shape):
    """What an account's grid connection may take and give, whoever trades for it; 0 W: the market's limit."""

    import_w: int
    export_w: int
    connection: Annotated[
        str, Meta(description="commitment of the connection to tie the account to, hex; absent: the one it has")
    ] = ""
    reason: ConnectionReason = OPERATOR
    text: Words = ""


class RecallIn(Shape):
    """Why a trade is taken back."""

    reason: RecallReason
    text: Words = ""


class Overload(Shape):
    """A contract in which trades ask more of the edge above ``area`` than it can carry now; ``over_wh`` beyond what netting
    gives back.
    """

    area: str
    contract: Contract
    direction: Literal["import", "export"]
    flow_wh: int
    capacity_wh: int
    over_wh: int


class Alert(Shape):
    """Something the grid operator must look at. ``id`` is the sequence of the ledger entry that raised it.

    capacity: edges can carry less than is allocated in ``contracts`` (at most 1,000 of them, the soonest); that direction is
    blocked, trades stand. ``area`` is the one edge concerned, null for several. ``reason``: recall (a trade was taken back
    that went the other way), netting (it gives back less than before), else that of the capacity's setting.
    collar: the price collar halted ``contract`` until ``until``. quorum: the checkpoint whose seal is ``id`` has waited a
    minute for its quorum of witnesses. fork: ``witnesses`` refuse to cosign the log because it does not go on from what
    they have cosigned.
    """

    id: Seq
    at: Instant
    kind: Literal["capacity", "collar", "quorum", "fork"]
    reason: str
    area: str | None
    contract: str | None
    until: str | None
    contracts: list[Overload]
    witnesses: list[str]
    acknowledged_by: str | None
    acknowledged_at: str | None
    note: Annotated[str | None, Meta(description="what they wrote beside it")]


class AlertPage(Shape):
    """Alerts, newest first."""

    results: list[Alert]
    next: Next


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
    import_residual_wh: Annotated[int, Meta(description="what can still be traded; below zero after a cut")]
    export_residual_wh: int


class FlowPage(Shape):
    """Flows of one contract."""

    results: list[Flow]
    next: Next


class SettlementWait(Shape):
    """An area that is not settled in a delivered contract."""

    area: str
    homes: int
    missing: Annotated[int, Meta(description="meters without a reading; 0: the next run settles the area")]


class SettlementCorrected(Shape):
    """What corrections changed in a contract: differences, each new value minus the old one."""

    entries: int
    accounts: int
    short: Annotated[Money, Meta(description="paid by sellers who did not deliver")]
    topup: Annotated[Money, Meta(description="on supply bills")]
    spill: Annotated[Money, Meta(description="paid to homes for what they had left over")]


class SettlementOutstanding(Shape):
    """Money that has not found its way yet, in the whole market."""

    unsettled: Annotated[Money, Meta(description="paid into intervals that are not settled")]
    supply_bills: Annotated[Money, Meta(description="homes owe it to the supplier")]
    arrears: Annotated[Money, Meta(description="owed by members after corrections and sharing")]
    members_in_arrears: int


class SettlementState(Shape):
    """How far settlement of a contract has come."""

    contract: Contract
    state: Annotated[str, Meta(description="closed, delivered, settled")]
    settled_areas: int
    missing_readings: int
    stage: Literal["closed", "waiting", "provisional", "corrected", "final"]
    accounts: Annotated[int, Meta(description="settled so far")]
    estimated: Annotated[int, Meta(description="of them, on an estimate")]
    outstanding: Annotated[Money, Meta(description="paid by buyers and not paid out yet")]
    deadline: Annotated[Instant, Meta(description="when silent meters are estimated")]
    waits: list[SettlementWait]
    corrected: SettlementCorrected | None


class SettlementPage(Shape):
    """The settlement board, newest contract first."""

    results: list[SettlementState]
    next: Next
    outstanding: SettlementOutstanding


class SearchedOrder(Order, kw_only=True):
    """An order as the regulator sees it: with its account's number, never with a name."""

    account: int


class SearchedOrderPage(Shape):
    """Orders found."""

    results: list[SearchedOrder]
    next: Next


class SearchedTrade(Trade, kw_only=True):
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
