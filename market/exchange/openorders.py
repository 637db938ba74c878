"""Which orders of an account may still trade: the engine knows, however many finished ones came after them."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest

from market.engine.engine import Engine


def open_ids(
    engine: Engine, account: int, *, limit: int, contract: str | None = None, asleep: bool | None = None,
    before: int | None = None,
) -> list[int]:  # fmt: skip
    """Return ids of an account's open orders, newest first: of one contract or all, asleep, awake or both.

    ``before`` is an id that is left out itself. For ``Exchange.read``; looks at up to ``max_open_orders`` of them.
    """

    def chosen() -> Iterator[int]:
        for order_id in engine.accounts[account].open_ids:
            order = engine.orders[order_id]
            sleeps = order.complex is not None and order.complex.asleep
            if asleep is not None and sleeps is not asleep:
                continue
            if (contract is None or order.contract == contract) and (before is None or order_id < before):
                yield order_id

    return nlargest(limit, chosen())
