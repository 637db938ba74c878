"""One life of a market with members on autopilot, for ``tests/integration/test_autopilot_killed``; it kills itself.

``prepare``, or ``live START_MS MINUTES WHERE N``: where it dies, at which time it comes there (``note``: orders are in the book
and not yet noted; ``answer``: the batch is durable and nobody was told; ``never``), or ``judge START_MS``. The last line
of each is JSON: ``at_ms``, or what is wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from market.agents import operations, queries  # noqa: E402
from market.agents.members import Members  # noqa: E402
from market.agents.models import PlacedOrder  # noqa: E402
from market.engine.engine import Engine  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.exchange.models import Order  # noqa: E402
from market.exchange.outcomes import Committed  # noqa: E402
from tests.factories import Clock, Market, found  # noqa: E402
from tests.integration.test_autopilot_agents import member, meter  # noqa: E402

NOON = "2026-06-06T10:00:00Z"
SELLERS, BUYERS = 6, 3
SURPLUS_WH = 500


def prepare(exchange: Exchange, clock: Clock) -> None:
    """Found a market of sellers and buyers, all on autopilot."""
    found(exchange)
    market = Market(exchange, clock)
    for n in range(SELLERS + BUYERS):
        account = member(market, f"member-{n}")
        meter(market, account, import_wh=400 * (n >= SELLERS), export_wh=SURPLUS_WH * (n < SELLERS))


def live(exchange: Exchange, clock: Clock, minutes: int, where: str, times: int) -> None:
    """Trade for some minutes, and die on the way."""
    left = [times]

    def die() -> None:
        left[0] -= 1
        if not left[0]:
            say({"at_ms": clock.at_ms})
            os.kill(os.getpid(), signal.SIGKILL)

    note = operations.note

    def dying_note(placed: Any) -> None:
        die()
        note(placed)

    members = Members(exchange)
    members.move_in()
    if where == "note":
        operations.note = dying_note
    if where == "answer":
        exchange.listen(lambda committed: die() if _places(committed) else None)
    for _ in range(minutes):
        members.step(clock.at_ms)
        clock.advance(minutes=1)
    say({"at_ms": clock.at_ms})


def _places(committed: Committed) -> bool:
    return any(type(event).__name__ == "OrderPlaced" for event in committed.events)


def judge(exchange: Exchange) -> None:
    """Let agents arrive, then say what is there that must not be."""
    Members(exchange).move_in()
    wrong: list[str] = []
    everything = set(Order.objects.values_list("id", flat=True))
    noted = set(PlacedOrder.objects.values_list("order", flat=True))
    wrong += [f"order {order} looks like its member's own" for order in sorted(everything - noted)]
    wrong += exchange.read(_doubled)
    for account in queries.people():
        operations.change(exchange, account=account, on=False)
    left = exchange.read(lambda engine: sorted(engine.orders))
    wrong += [f"order {order} is left in the book of somebody who is off" for order in left]
    say({"wrong": wrong, "orders": len(everything)})


def _doubled(engine: Engine) -> list[str]:
    open_ones: dict[tuple[int, str], list[int]] = {}
    for order in engine.orders.values():
        open_ones.setdefault((order.account, order.contract), []).append(order.left_wh)
    wrong = [
        f"{len(each)} orders of {account} in {name}" for (account, name), each in open_ones.items() if len(each) > 1
    ]
    for name, contract in engine.contracts.items():
        for account, tally in contract.tallies.items():
            offered = tally.sold_wh + sum(open_ones.get((account, name), ())) if not tally.bought_wh else 0
            if offered > SURPLUS_WH:
                wrong.append(f"account {account} offers {offered} Wh in {name} and has {SURPLUS_WH}")
    return wrong


def say(message: dict[str, Any]) -> None:
    """Write one line at once: there may be no later."""
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    """See the module."""
    what, *arguments = sys.argv[1:]
    clock = Clock(NOON)
    if what == "prepare":
        call_command("migrate", verbosity=0)
    else:
        clock.at_ms = int(arguments[0])
    exchange = Exchange(clock)
    exchange.start()
    if what == "prepare":
        prepare(exchange, clock)
        say({"at_ms": clock.at_ms})
    elif what == "live":
        live(exchange, clock, int(arguments[1]), arguments[2], int(arguments[3]))
    else:
        judge(exchange)
    exchange.stop()
    connection.close()


if __name__ == "__main__":
    main()
