"""From the order a home wants to the commands that lead there: as few as possible, never two orders."""

from __future__ import annotations

import pytest

from market.agents.runner import _commands
from market.agents.strategies.household import Intent
from market.agents.wallets import NOTHING, Standing
from market.engine.commands import BUY, SELL, AmendOrder, CancelOrder, PlaceOrder

CONTRACT = "2026-06-06T12:15Z"
RESTING = Standing(position_wh=300, order=77, side=BUY, price_e4=1_500, filled_wh=300, remaining_wh=200)
CANCEL = CancelOrder(5, 77, "owner")


def place(side: str, price_e4: int, energy_wh: int, in_force: str = "gtg") -> PlaceOrder:
    return PlaceOrder(5, CONTRACT, side, price_e4, energy_wh, in_force, 0)


@pytest.mark.parametrize(
    ("stands", "intent", "expected"),
    [
        (NOTHING, None, []),
        (NOTHING, Intent(BUY, 1_500, 200, "gtg"), [place(BUY, 1_500, 200)]),
        (NOTHING, Intent(SELL, 1_500, 200, "ioc"), [place(SELL, 1_500, 200, "ioc")]),
        (RESTING, None, [CANCEL]),
        (RESTING, Intent(BUY, 1_500, 200, "gtg"), []),
        # The total of an order includes what is filled.
        (RESTING, Intent(BUY, 1_600, 200, "gtg"), [AmendOrder(5, 77, 1_600, 500)]),
        (RESTING, Intent(BUY, 1_500, 450, "gtg"), [AmendOrder(5, 77, 1_500, 750)]),
        (RESTING, Intent(SELL, 1_500, 200, "gtg"), [CANCEL, place(SELL, 1_500, 200)]),
        # What rests is changed rather than placed anew, whatever the new one would be: the same energy is never out twice.
        (RESTING, Intent(BUY, 1_500, 200, "ioc"), []),
        (RESTING, Intent(BUY, 1_600, 200, "ioc"), [AmendOrder(5, 77, 1_600, 500)]),
    ],
)
def test_commands(stands: Standing, intent: Intent | None, expected: list) -> None:
    assert _commands(5, CONTRACT, stands, intent) == expected
