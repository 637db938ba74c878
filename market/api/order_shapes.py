"""Shapes of orders and trades; part of ``shapes``, where callers find them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from market.api.shaping import Contract, Instant, Money, Next, Price, Seq, Shape, Side


class Waiting(Shape):
    """Why an order has not traded: a stable code, and a sentence for its owner."""

    code: Literal[
        "hibernated", "market_halted", "contract_halted", "account_halted", "area_halted", "gate_passed", "no_offers",
        "price", "capacity", "block", "collar", "own_orders",
    ]  # fmt: skip
    detail: str


class Order(Shape, omit_defaults=True):
    """An order as it stands. ``id`` is the sequence of its ledger entry."""

    id: Seq
    contract: Contract
    area: str
    side: Side
    price: Price
    energy_wh: int
    filled_wh: int
    remaining_wh: int
    status: Literal["open", "hibernated", "filled", "cancelled", "expired"]
    reason: Annotated[str | None, Meta(description="why it was cancelled")]
    time_in_force: Literal["gtg", "gtd", "ioc", "fok"]
    expires_at: str | None
    created_at: Instant
    changed_seq: Annotated[int, Meta(description="the last ledger entry that changed it")]
    # Only where they apply.
    kind: Literal["iceberg", "sweep", "block", "basket"] | msgspec.UnsetType = msgspec.UNSET
    last: Annotated[str | msgspec.UnsetType, Meta(description="last contract of a sweep")] = msgspec.UNSET
    display_wh: Annotated[int | msgspec.UnsetType, Meta(description="what an iceberg shows at a time")] = msgspec.UNSET
    visible_wh: Annotated[int | msgspec.UnsetType, Meta(description="what it shows now")] = msgspec.UNSET
    group: Annotated[int | msgspec.UnsetType, Meta(description="id of the first leg")] = msgspec.UNSET
    leg: Annotated[int | msgspec.UnsetType, Meta(description="1 to `legs`")] = msgspec.UNSET
    legs: int | msgspec.UnsetType = msgspec.UNSET
    waiting: Annotated[
        Waiting | msgspec.UnsetType | None, Meta(description="of an open order: why it has not traded; when reading")
    ] = msgspec.UNSET


class OwnTrade(Shape, omit_defaults=True):
    """A trade of one of my orders: what I pay or get."""

    seq: Seq
    at: Instant
    price: Price
    energy_wh: int
    amount: Money
    contract: Annotated[str | msgspec.UnsetType, Meta(description="of a sweep's trades")] = msgspec.UNSET
    order: Annotated[int | msgspec.UnsetType, Meta(description="which of several orders")] = msgspec.UNSET
    recalled: Annotated[bool | msgspec.UnsetType, Meta(description="true: the market took it back")] = msgspec.UNSET


class OrderAnswer(Shape):
    """What became of an order. ``seq``: the last ledger entry of this request."""

    order: Order
    trades: list[OwnTrade]
    seq: Seq


class OrdersAnswer(Shape):
    """What became of orders that belong together, first leg first. ``seq``: the last ledger entry of this request."""

    orders: list[Order]
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


class Trade(Shape, omit_defaults=True):
    """A public trade. ``price`` is the maker's, the one that stood in the book."""

    seq: Seq
    at: Instant
    contract: Contract
    price: Price
    energy_wh: int
    buy_price: Price
    sell_price: Price
    recalled: Annotated[bool | msgspec.UnsetType, Meta(description="true: the market took it back")] = msgspec.UNSET
