"""Whom an entry of the ledger is about."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db.models import Q

from market.exchange import models

IDS_AT_ONCE = 500  # of one query

Entry = Mapping[str, Any]


def accounts_named(entries: Iterable[Entry]) -> set[int]:
    """Return the accounts that entries name: their own, or through an order, trade or agreement. Three queries, however many.

    Entries over many homes (readings, settle, adjust) name none: the homes are in their rows.
    """
    found: set[int] = set()
    orders: set[int] = set()
    trades: set[int] = set()
    agreements: set[int] = set()
    for entry in entries:
        kind = entry["type"]
        if kind == "agreement":
            agreements.add(entry.get("agreement", entry["seq"]))
        elif kind != "contract" and isinstance(entry.get("account"), int):
            found.add(entry["account"])
        elif kind == "trade":
            orders.update((entry["maker"], entry["taker"]))
        elif kind in ("amend", "cancel"):
            orders.add(entry["order"])
        elif kind == "recall":
            trades.add(entry["trade"])
        elif kind == "halt" and entry["scope"] == "account":
            found.add(int(entry["target"]))
    for part in _parts(orders):
        found.update(models.Order.objects.filter(id__in=part).values_list("account", flat=True))
    for part in _parts(agreements):
        for pair in models.AgreementChange.objects.filter(seq__in=part).values_list("giver", "receiver"):
            found.update(pair)
    for part in _parts(trades):
        for pair in models.Trade.objects.filter(id__in=part).values_list("buyer", "seller"):
            found.update(pair)
    return found


def _parts(ids: set[int]) -> Iterable[list[int]]:
    ordered = sorted(ids)
    return (ordered[start : start + IDS_AT_ONCE] for start in range(0, len(ordered), IDS_AT_ONCE))


def concerns(entry: Entry, accounts: Collection[int]) -> bool:
    """Whether an entry is about one of these accounts: orders, trades, money, settlement, or the account itself."""
    if entry["type"] == "adjust" and entry.get("action") == "shared":
        mine = Q(giver__in=accounts) | Q(receiver__in=accounts)
        return models.SharedLine.objects.filter(mine, seq=entry["seq"]).exists()
    lines = {"settle": models.SettlementLine, "adjust": models.Adjustment}.get(str(entry["type"]))
    if lines is not None:
        return lines.objects.filter(account__in=accounts, seq=entry["seq"]).exists()
    return not accounts_named([entry]).isdisjoint(accounts)
