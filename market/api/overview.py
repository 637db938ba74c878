"""`GET /api/v1/market`: the public board. Encoded once and kept as long as the board is."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from market.api import shapes
from market.api.openapi import describe
from market.api.views import ApiView
from market.exchange.units import at_text, price_text
from market.overview import board as overview
from market.overview.board import Board


def _price(price_e4: int | None) -> str | None:
    return None if price_e4 is None else price_text(price_e4)


def _shown(board: Board) -> dict[str, Any]:
    sun, health = board.sun, board.health
    return {
        "at": at_text(board.at_ms),
        "area": board.area,
        "topup_price": price_text(board.topup_e4),
        "spill_price": price_text(board.spill_e4),
        "ahead": [
            {"contract": one.contract, "bid": _price(one.bid_e4), "ask": _price(one.ask_e4), "last": _price(one.last_e4),
             "volume_wh": one.volume_wh, "halted": one.halted}
            for one in board.ahead
        ],
        "behind": [
            {"contract": one.contract, "price": _price(one.price_e4), "volume_wh": one.volume_wh, "near_wh": one.near_wh}
            for one in board.behind
        ],
        "sun": None
        if sun is None
        else {"given_wh": sun.given_wh, "used_near_wh": sun.used_near_wh, "permille": sun.permille,
              "intervals": board.settled},
        "ledger": {**health._asdict(), "keys": list(health.keys)},
    }  # fmt: skip


class Market(ApiView):
    """The market in public."""

    public = True
    _encoded: tuple[Board, bytes] | None = None  # of the class: everybody gets the same bytes

    @describe("The market now", shapes.MarketBoard, tag="market")
    def get(self, request: Request) -> HttpResponse:
        """Return prices, volumes, the share of local sun and how the ledger does; renewed every few seconds."""
        self.query()
        board = overview.board(self.exchange())
        kept = Market._encoded
        if kept is None or kept[0] is not board:
            kept = Market._encoded = board, msgspec.json.encode(_shown(board))
        response = HttpResponse(kept[1], content_type="application/json")
        response["Cache-Control"] = f"public, max-age={int(overview.KEPT_S)}"
        return response
