"""A home battery, without losses: it keeps the home to what it traded, as far as power and charge allow. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Battery(NamedTuple):
    """Its size: capacity in Wh, and what it can take up or give in one delivery interval, in Wh.

    ``reserve_wh`` stays in it: it gives nothing below that.
    """

    capacity_wh: int
    interval_wh: int
    reserve_wh: int = 0


class Stored(NamedTuple):
    """What an interval came to: the charge after it and the home's net import (negative = export), in Wh."""

    charge_wh: int
    net_wh: int


def follow(battery: Battery, charge_wh: int, position_wh: int, demand_wh: int) -> Stored:
    """Return what the battery makes of an interval in which the home needs ``demand_wh`` (negative = surplus).

    It charges what was bought beyond the demand and gives what was sold or not bought. A home that trades nothing thus
    keeps its own surplus for its own evening.
    """
    wanted = position_wh - demand_wh
    if wanted >= 0:
        flow = min(wanted, battery.interval_wh, battery.capacity_wh - charge_wh)
    else:
        flow = -min(-wanted, battery.interval_wh, max(0, charge_wh - battery.reserve_wh))
    return Stored(charge_wh + flow, demand_wh + flow)
