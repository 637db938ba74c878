"""The shapes of a statement by day, month or year; part of ``shapes``, where callers find them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from market.api.shaping import Instant, Money, Next, Price, Seq, Shape

Exact = Annotated[
    str,
    Meta(
        pattern=r"^-?[0-9]+\.[0-9]{11}$",
        description="currency; a percentage of money has eleven decimals",
        examples=["-0.08123450000"],
    ),
]
Cents = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{2}$", description="currency, in cents", examples=["-12.34"])]


class StatementPart(Shape):
    """One kind of energy; ``amount`` is negative when it leaves the household's pocket, and includes ``fee``."""

    energy_wh: int
    fee: Money
    amount: Money


class StatementItem(Shape):
    """A line; ``seq`` is its ledger entry, ``receipt`` the file that proves it. ``price`` null: not one price."""

    line: Literal["own", "bought", "topup", "sold", "short", "spill", "given", "received", "corrected"]
    energy_wh: int
    price: Price | None
    fee: Money
    amount: Money
    seq: Seq | None
    receipt: str | None
    short_wh: Annotated[
        int, Meta(description="how much of this sale was not delivered; the newest sales are short first")
    ]
    agreement: Annotated[int | None, Meta(description="the private agreement that moved it")]


class StatementSums(Shape):
    """Sums over settled intervals, after corrections and sharing.

    ``net = bought + topup + sold + short + spill + given + received``; ``own`` has no money.
    """

    intervals: int
    estimated: Annotated[int, Meta(description="of them, settled on an estimate")]
    provisional: Annotated[int, Meta(description="of them, those that later readings may still correct")]
    corrected_intervals: Annotated[int, Meta(description="of them, corrected since they were settled")]
    import_wh: int
    export_wh: int
    own_wh: Annotated[
        int | None, Meta(description="the roof's energy that stayed in the home; null: it is not metered")
    ]
    bought: StatementPart
    topup: StatementPart
    sold: StatementPart
    short: StatementPart
    spill: StatementPart
    given: Annotated[StatementPart, Meta(description="to neighbours by private agreement")]
    received: Annotated[StatementPart, Meta(description="from neighbours by private agreement, on the supply bill")]
    corrected: Annotated[Money, Meta(description="what corrections changed; the amounts above contain it")]
    net: Money
    without_market: Annotated[
        Money, Meta(description="all consumption at the top-up price, all surplus at the spill price")
    ]


class StatementRow(Shape):
    """An interval of a day (with its lines), a day of a month or a month of a year."""

    name: Annotated[str, Meta(examples=["2026-06-06T12:15Z", "2026-06-06", "2026-06"])]
    state: Annotated[
        Literal["settled", "waiting"] | None, Meta(description="of an interval; waiting ones have lines and no sums")
    ]
    stage: Annotated[
        Literal["waiting", "provisional", "corrected", "final"] | None,
        Meta(description="of an interval; a final one is corrected no more, its lines say what was corrected before"),
    ]
    seq: Annotated[int | None, Meta(description="the entry that settled the interval")]
    sums: StatementSums
    lines: list[StatementItem]


class StatementCharge(Shape):
    """A tax (``percent``) or levy (``price`` per kWh); ``included``: the prices contain it, and no total changes."""

    code: str
    name: str
    percent: Annotated[str | None, Meta(examples=["19.00"])]
    price: Price | None
    included: bool
    amount: Exact


class StatementTotals(Shape):
    """What the period comes to. ``net`` = ``sums.net`` + charges on top; ``total`` = ``net`` + ``rounding``."""

    sums: StatementSums
    charges: list[StatementCharge]
    net: Exact
    rounding: Exact
    total: Cents
    wallet: Annotated[Money, Meta(description="of ``net``: through the wallet")]
    supply_bill: Annotated[Exact, Meta(description="of ``net``: on the ordinary supply bill")]
    without_market: Exact
    gain: Annotated[Exact, Meta(description="what the market was worth: ``net - without_market``")]


class StatementOfPeriod(Shape):
    """A day, month or year of my home, in the market's time."""

    period: Literal["day", "month", "year"]
    name: Annotated[str, Meta(examples=["2026-06-06", "2026-06", "2026"])]
    start: Instant
    end: Instant
    currency: str
    accounts: Annotated[list[int], Meta(description="the home's numbers: the present one and earlier ones")]
    results: list[StatementRow]
    next: Next
    waiting: Annotated[int, Meta(description="intervals with trades that are not settled yet and not counted")]
    total: StatementTotals
