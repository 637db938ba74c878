"""Which settlements may still be corrected, as the ledger says it: for processes in which no exchange runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from django.db import connection

from ledger import queries as ledger_queries
from market.exchange.recovery import load_engine

_TYPES = ("params", "settle", "final")
_MARKS = tuple(f'"type":"{name}"'.encode() for name in _TYPES)  # entries are canonical JSON


class _Reader:
    """Django's connection, which needs no lock and sees a market that runs in another process."""

    def fetch(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()


def provisional() -> set[str]:
    """Return the contracts that are settled, in part at least, and not final: those the engine would say.

    Reads the newest snapshot and the entries after it, page by page: none after a clean stop, at most as many as there are
    between two snapshots.
    """
    engine, _ = load_engine(_Reader())
    found, final_min = set(engine.provisional), engine.params.final_after_min
    for leaf in ledger_queries.iter_leaves(engine.seq):
        if not any(mark in leaf for mark in _MARKS):
            continue
        entry = orjson.loads(leaf)
        if entry["type"] == "params":
            final_min = entry.get("final_after_min", 0)
        elif entry["type"] == "settle" and final_min:
            found.add(entry["contract"])
        elif entry["type"] == "final":
            found.discard(entry["contract"])
    return found
