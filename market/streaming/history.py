"""What the public logs open with after a start: their newest items, from the database. Runs in a worker thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.db import connection

from ledger import queries as ledger
from market.exchange import queries
from market.streaming import items
from market.streaming.channels import SNAPSHOT_ITEMS

log = logging.getLogger(__name__)

Newest = Callable[[], dict[str, list[tuple[int, Any]]]]


def read(newest: Newest | None) -> dict[str, list[tuple[int, Any]]]:
    """Return what ``newest`` finds; nothing where there is no such function, or it fails: prices matter more."""
    try:
        return {} if newest is None else newest()
    except Exception:
        log.exception("the streams open without history")
        return {}


def newest() -> dict[str, list[tuple[int, Any]]]:
    """Return, by channel, the newest (seq, raw item), oldest first; trades have the fields of their event."""
    try:
        trades = [(trade.seq, trade) for trade in queries.trades(limit=SNAPSHOT_ITEMS, newest_first=True)]
        blocks = [(item["seq"], item) for item in map(items.block_item, ledger.blocks(SNAPSHOT_ITEMS))]
        alerts = [(alert.seq, alert) for alert in queries.alerts(limit=SNAPSHOT_ITEMS)]
        return {"trades": trades[::-1], "blocks": blocks[::-1], "alerts": alerts[::-1]}
    finally:
        connection.close()  # the thread asks once in its life
