"""From one change of a contract's book to the next, and which contracts' books changed last."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Max, Min

from ledger import queries as ledger
from market.exchange import models, queries

LAST_STATES = ("settled",)
NEWEST_TRADES = 1_000  # in which contracts that traded lately are looked for


class Around(NamedTuple):
    """Entries around one: the contract's first and last, and the nearest that changed its orders, None where there is none."""

    first: int
    last: int
    before: int | None
    after: int | None


class LastTrade(NamedTuple):
    """The newest trade of a contract: its entry, time and the area it was bought in."""

    contract: str
    seq: int
    at_ms: int
    area: str


def traded_lately(limit: int) -> list[LastTrade]:
    """Return the contracts of the newest trades, at most ``limit``, each with its last one, newest first."""
    rows = models.Trade.objects.order_by("-id").values_list("contract", "id", "at_ms", "buy_area")[:NEWEST_TRADES]
    found: dict[str, LastTrade] = {}
    for row in rows:
        found.setdefault(row[0], LastTrade(*row))
    return list(found.values())[:limit]


def around(contract: str, first: int, last: int) -> Around | None:
    """Return where to go from the entries ``first`` to ``last``, None when there is no such contract."""
    found = queries.contract(contract)
    if found is None:
        return None
    end = found.changed_seq if found.state in LAST_STATES else ledger.size() - 1
    befores, afters = [], []
    for model, name in ((models.Order, "id"), (models.Trade, "id"), (models.OrderChange, "seq")):
        rows = model.objects.filter(contract=contract)  # type: ignore[attr-defined]
        earlier = rows.filter(**{f"{name}__gte": found.opened_seq, f"{name}__lt": first})
        later = rows.filter(**{f"{name}__gt": last, f"{name}__lte": end})
        befores.append(earlier.aggregate(seq=Max(name))["seq"])
        afters.append(later.aggregate(seq=Min(name))["seq"])
    return Around(
        found.opened_seq,
        end,
        max((seq for seq in befores if seq is not None), default=None),
        min((seq for seq in afters if seq is not None), default=None),
    )


def newest_change(contract: str) -> int | None:
    """Return the last entry that changed the contract's orders, None when there is none."""
    found = around(contract, 2**53 - 1, 2**53 - 1)
    return None if found is None else found.before
