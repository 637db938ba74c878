"""`GET /api/v1/trades` and `/candles`: what was traded, with nobody's name."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import PAGE, describe, query
from market.api.orders_in import MAX_AT_MS
from market.api.orders_out import public_trade
from market.api.problems import Problem
from market.api.views import ApiView, answer, area_of, contract_of
from market.exchange import queries
from market.exchange.units import at_text, parse_at, price_text

RESOLUTIONS_MS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "1d": 86_400_000}
DEFAULT_RESOLUTION = "15m"


class Trades(ApiView):
    """Public trades."""

    public = True

    @describe(
        "Trades",
        shapes.TradePage,
        tag="market",
        parameters=(
            query("contract", "only of this contract"),
            query("after", "only trades after this ledger sequence, oldest first", int),
            *PAGE,
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return trades, newest first; with ``after`` oldest first."""
        query = self.query("contract", "after", "limit", "cursor")
        contract = query.get("contract")
        if contract is not None:
            contract_of(contract, status=422)
        after, position, limit = (
            cursors.integer(query, "after"), cursors.number_cursor(query), cursors.limit_of(query),
        )  # fmt: skip
        if after is None:
            rows = queries.trades(contract=contract, before=position, limit=limit + 1, newest_first=True)
        else:
            rows = queries.trades(contract=contract, after=max(after, position or 0), limit=limit + 1)
        return answer(cursors.page(rows, limit, lambda row: row.seq, public_trade))


class Candles(ApiView):
    """Prices over time."""

    public = True

    @describe(
        "Prices over time",
        shapes.CandlePage,
        tag="market",
        parameters=(
            query("contract", "only trades of this contract"),
            query("area", "only trades with one side in this area (not the lowest level)"),
            query("resolution", f"length of a candle: {', '.join(RESOLUTIONS_MS)} (default {DEFAULT_RESOLUTION})"),
            query("since", "RFC 3339 instant; default: one day before `until`"),
            query("until", "RFC 3339 instant; default: now"),
            query("limit", f"at most so many of the newest, 1 to {cursors.MAX_LIMIT}", int),
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return the candles that have trades, oldest first."""
        query = self.query("contract", "area", "resolution", "since", "until", "limit")
        contract, area = query.get("contract"), query.get("area")
        if contract is not None:
            contract_of(contract, status=422)
        if area is not None:
            self._check_area(area_of(area, status=422))
        length_ms = RESOLUTIONS_MS.get(query.get("resolution", DEFAULT_RESOLUTION))
        if length_ms is None:
            raise Problem(400, "invalid_value", "resolution")
        until_ms = _instant(query, "until")
        if until_ms is None:
            until_ms = self.exchange().now_ms() + 1
        since_ms = _instant(query, "since")
        if since_ms is None:
            since_ms = max(0, until_ms - RESOLUTIONS_MS["1d"])
        rows = queries.candles(
            contract=contract,
            area=area,
            length_ms=length_ms,
            since_ms=since_ms,
            until_ms=until_ms,
            limit=cursors.limit_of(query),
        )
        return answer({"results": [_candle(row) for row in rows], "next": None})

    def _check_area(self, area: str) -> None:
        # Prices of a single street would show what its few homes did.
        found = self.exchange().read(lambda engine: engine.areas.get(area))
        if found is None:
            raise Problem(422, "unknown_area", "area")
        lowest = self.exchange().read(lambda engine: all(a.parent != found.index for a in engine.areas.areas))
        if lowest and not self.official() and (self.identity is None or self.identity.area != area):
            raise Problem(403, "forbidden", "area")


def _instant(query: dict[str, str], name: str) -> int | None:
    if name not in query:
        return None
    try:
        # A "+" of an offset that was not escaped arrives as a space.
        at_ms = parse_at(query[name].replace(" ", "+"))
    except (ValueError, OverflowError):
        raise Problem(400, "invalid_value", name) from None
    if not 0 <= at_ms <= MAX_AT_MS:
        raise Problem(400, "invalid_value", name)
    return at_ms


def _candle(row: Any) -> dict[str, Any]:
    return {
        "start": at_text(row.start_ms),
        "open": price_text(row.open_e4),
        "high": price_text(row.high_e4),
        "low": price_text(row.low_e4),
        "close": price_text(row.close_e4),
        "volume_wh": row.volume_wh,
    }
