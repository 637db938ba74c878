"""`/api/v1/regulator/…`: search in everything that was ordered, traded and refused. Accounts are numbers, never names."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import PAGE, describe, query
from market.api.orders_out import order_out, public_trade
from market.api.views import ApiView, answer, contract_of
from market.exchange import queries
from market.exchange.units import at_text
from market.households import accesslog, keys
from market.households.models import Role

_FILTERS = (query("account", "only of this account", int), query("contract", "only of this contract"), *PAGE)


class RegulatorView(ApiView):
    """A resource for those who watch the market. Their own views and exports need no more than the right to read."""

    roles = frozenset({Role.REGULATOR.value, Role.STAFF.value})
    write_scope = keys.READ

    def me(self) -> int:
        """Return who asks."""
        assert self.identity is not None
        return self.identity.user_id


class Orders(RegulatorView):
    """All orders."""

    @describe("Search orders", shapes.SearchedOrderPage, tag="regulator", parameters=_FILTERS)
    def get(self, request: Request) -> HttpResponse:
        """Return orders, newest first."""
        query = self.query("account", "contract", "limit", "cursor")
        account, contract = cursors.integer(query, "account"), query.get("contract")
        if contract is not None:
            contract_of(contract, status=422)
        before, limit = cursors.number_cursor(query), cursors.limit_of(query)
        rows = queries.search_orders(account=account, contract=contract, before=before, limit=limit + 1)
        self.note(accesslog.ORDERS, lambda: {row.account for row in rows[:limit]})
        return answer(cursors.page(rows, limit, lambda row: row.id, order_view))


def order_view(view: queries.OrderView) -> dict[str, Any]:
    """Return an order as the regulator sees it."""
    return {**order_out(view), "account": view.account}


class Trades(RegulatorView):
    """All trades with both sides."""

    @describe("Search trades", shapes.SearchedTradePage, tag="regulator", parameters=_FILTERS)
    def get(self, request: Request) -> HttpResponse:
        """Return trades, newest first."""
        query = self.query("account", "contract", "limit", "cursor")
        account, contract = cursors.integer(query, "account"), query.get("contract")
        if contract is not None:
            contract_of(contract, status=422)
        before, limit = cursors.number_cursor(query), cursors.limit_of(query)
        rows = queries.trades(account=account, contract=contract, before=before, limit=limit + 1, newest_first=True)
        self.note(accesslog.TRADES, lambda: {side for row in rows[:limit] for side in (row.buyer, row.seller)})
        return answer(cursors.page(rows, limit, lambda row: row.seq, trade_view))


def trade_view(view: queries.TradeView) -> dict[str, Any]:
    """Return a trade as the regulator sees it."""
    return {
        **public_trade(view),
        "buyer": view.buyer,
        "seller": view.seller,
        "buy_order": view.buy_order,
        "sell_order": view.sell_order,
        "buy_area": view.buy_area,
        "sell_area": view.sell_area,
    }


class Refusals(RegulatorView):
    """What the market refused."""

    @describe(
        "Search refusals",
        shapes.RefusalPage,
        tag="regulator",
        parameters=(query("account", "only of this account", int), *PAGE),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return refused commands, newest first."""
        query = self.query("account", "limit", "cursor")
        account = cursors.integer(query, "account")
        before, limit = cursors.number_cursor(query), cursors.limit_of(query)
        rows = queries.refusals(account=account, before=before, limit=limit + 1)
        self.note(accesslog.REFUSALS, lambda: {row.account for row in rows[:limit]})
        return answer(cursors.page(rows, limit, lambda row: row.n, _refusal))


def _refusal(view: queries.RefusalView) -> dict[str, Any]:
    return {
        "n": view.n,
        "at": at_text(view.at_ms),
        "account": view.account if view.account >= 0 else None,
        "code": view.code,
        "field": view.field,
        "command": orjson.loads(view.command),
    }
