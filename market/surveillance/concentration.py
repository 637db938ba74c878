"""How much of the trade is in few hands, and what was paid: by delivery day, area and contract.

The index is Herfindahl's and Hirschman's: the sum of the squares of all shares in per cent, 0 to 10,000 (Commission Guidelines
on the assessment of horizontal mergers, OJ C 31, 5.2.2004, point 16; point 19 calls a market below 1,000 unlikely to raise
concerns, point 20 speaks of 1,000 to 2,000 and of more). Shares are of energy, by account.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Count, F, Max, Min, Sum

from ledger import queries as ledger
from market.engine.contracts import contract_name
from market.exchange import models

LARGEST = 5  # accounts that are named
MAX_DAYS = 7
KEPT_DAYS = 60  # days whose answer is kept until a trade is added or taken back: a day of a large city takes seconds
LOW_HHI, HIGH_HHI = 1_000, 2_000
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)  # days around these can be reckoned with, too


# One adds up and one may wait for it: the threads that wait answer everybody's pages, too.
_room = threading.BoundedSemaphore(2)
_one = threading.Lock()


class TooMany(Exception):
    """Others are having days added up."""


class Hands(NamedTuple):
    """Who bought (or sold) how much; ``largest`` is (account, Wh, share in 0.01 %), largest first. ``area`` "": everywhere."""

    day: date
    area: str
    side: str
    energy_wh: int
    accounts: int
    hhi: int
    largest: tuple[tuple[int, int, int], ...]


class Priced(NamedTuple):
    """What sellers got in a contract: lowest, mean by energy and highest price, and the energy."""

    contract: str
    low_e4: int
    mean_e4: int
    high_e4: int
    energy_wh: int
    trades: int


def hhi(energies: Iterable[int]) -> int:
    """Return the index of these energies (Wh), rounded half up; 0 when there are none."""
    known = list(energies)
    total = sum(known)
    if not total:
        return 0
    squares = sum(energy * energy for energy in known)
    return (2 * 10_000 * squares + total * total) // (2 * total * total)


def hands(*, day: date, area: str, side: str, energies: Mapping[int, int]) -> Hands:
    """Return who has how much of these energies (Wh by account)."""
    total = sum(energies.values())
    ordered = sorted(energies.items(), key=lambda pair: (-pair[1], pair[0]))[:LARGEST]
    largest = tuple((account, energy, (20_000 * energy + total) // (2 * total)) for account, energy in ordered)
    return Hands(day, area, side, total, len(energies), hhi(energies.values()), largest)


def day_names(day: date) -> tuple[str, str]:
    """Return the names between which the contracts of a delivery day lie (half-open), in the market's time zone."""
    zone = ZoneInfo(settings.MARKET_TIME_ZONE)
    ends = (datetime.combine(day, time(), zone), datetime.combine(day + timedelta(days=1), time(), zone))
    first, last = (contract_name(int(end.astimezone(UTC).timestamp()) * 1000) for end in ends)
    return first, last


def _of_day(day: date) -> Any:
    first, last = day_names(day)
    rows = models.Trade.objects.filter(contract__gte=first, contract__lt=last)
    return rows.exclude(id__in=models.Recall.objects.values("trade"))


# By ledger and day: what was there when the answer was made, and the answer.
_known: OrderedDict[tuple[str, date], tuple[tuple[int, ...], list[Hands]]] = OrderedDict()


def by_day(*, last: date, days: int = 1) -> list[Hands]:
    """Return concentration of both sides on the delivery days up to ``last``: everywhere first, then by area.

    Raise ``TooMany``.
    """
    if not _room.acquire(blocking=False):
        raise TooMany
    try:
        with _one:
            asked = (last - timedelta(days=back) for back in range(max(1, min(days, MAX_DAYS))))
            return [one for day in asked for one in _day(day)]
    finally:
        _room.release()


def _day(day: date) -> list[Hands]:
    first, last = day_names(day)
    traded = models.Trade.objects.filter(contract__gte=first, contract__lt=last)
    counted = traded.aggregate(count=Count("id"), newest=Max("id"))
    if not counted["count"]:
        return []
    recalls = models.Recall.objects.filter(contract__gte=first, contract__lt=last).count()
    stamp = (counted["count"], counted["newest"], recalls)
    key = (hashlib.sha256(ledger.leaf(0)).hexdigest(), day)
    if key not in _known or _known[key][0] != stamp:
        _known[key] = stamp, _added_up(day)
    _known.move_to_end(key)
    while len(_known) > KEPT_DAYS:
        _known.popitem(last=False)
    return _known[key][1]


def _added_up(day: date) -> list[Hands]:
    found: list[Hands] = []
    for side, who in (("buy", "buyer"), ("sell", "seller")):
        rows = _of_day(day).values_list(f"{side}_area", who).annotate(energy=Sum("energy_wh")).order_by()
        areas: dict[str, dict[int, int]] = {}
        for area, account, energy in rows:
            areas.setdefault(area, {})[account] = int(energy)
        whole: dict[int, int] = {}
        for energies in areas.values():
            for account, energy in energies.items():
                whole[account] = whole.get(account, 0) + energy
        if whole:
            found.append(hands(day=day, area="", side=side, energies=whole))
            found += [hands(day=day, area=area, side=side, energies=areas[area]) for area in sorted(areas)]
    return found


def prices(day: date) -> list[Priced]:
    """Return prices and energies of the contracts of a delivery day that have trades, by start."""
    rows = _of_day(day).values("contract").annotate(
        low=Min("sell_e4"), high=Max("sell_e4"), energy=Sum("energy_wh"), paid=Sum(F("sell_e4") * F("energy_wh")),
        count=Count("id"),
    )  # fmt: skip
    return [
        Priced(
            row["contract"], row["low"], int(row["paid"]) // int(row["energy"]), row["high"], int(row["energy"]),
            row["count"],
        )
        for row in rows.order_by("contract")
    ]  # fmt: skip
