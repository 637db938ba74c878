"""The JSON of the autopilot; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from market.api.shaping import Money, Price, Shape

Limit = Annotated[
    str,
    Meta(max_length=24, description="currency per kWh, all-in at my meter, at most four decimals", examples=["0.1200"]),
]
Percent = Annotated[int, Meta(description="of the battery's capacity, 0 to 100", examples=[30])]


class AutopilotIn(Shape):
    """What to change; fields that are left out stay as they are, null takes a limit away."""

    on: bool | msgspec.UnsetType = msgspec.UNSET
    sell_from: Limit | msgspec.UnsetType | None = msgspec.UNSET
    buy_to: Limit | msgspec.UnsetType | None = msgspec.UNSET
    reserve_percent: Percent | msgspec.UnsetType = msgspec.UNSET


class AutopilotDay(Shape):
    """What the autopilot did since midnight of the market's day."""

    orders: Annotated[int, Meta(description="placed today")]
    sold_wh: int
    sold: Money
    bought_wh: int
    bought: Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{7}$", description="currency, grid fees included")]


class Autopilot(Shape):
    """How my autopilot is set, and what it did today."""

    on: bool
    sell_from: Annotated[Price | None, Meta(description="it never sells for less; null: no limit of mine")]
    buy_to: Annotated[Price | None, Meta(description="it never buys for more; null: no limit of mine")]
    reserve_percent: Annotated[int, Meta(description="what of the battery's capacity stays in it")]
    has_battery: bool
    open_orders: Annotated[int, Meta(description="orders of the autopilot that wait in the book")]
    cancelled: Annotated[int, Meta(description="its orders that this change took back; 0 in the answer to GET")]
    waits_for: Annotated[
        Literal["readings", "meter", "halt", "refused"] | None,
        Meta(
            description="why it does nothing now although it is on: its meter has not reported for a whole day yet, or not "
            "in the last 48 hours, or trading is halted here, or the market refused its orders again and again: it tries "
            "again within four hours, or at its next turn once its settings change"
        ),
    ]
    today: AutopilotDay
