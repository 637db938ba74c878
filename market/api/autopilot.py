"""`/api/v1/me/autopilot`: what home controllers set, and what they keep to."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from market.agents import operations, queries
from market.api import shapes
from market.api.openapi import describe
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.exchange.units import money_text, parse_price, price_text
from market.households import keys
from market.settlement.periods import DAY, period_of, start_ms
from market.settlement.statement_queries import local_day, market_now_ms, market_zone


class Autopilot(ApiView):
    """Trading for me within my limits."""

    write_scope = keys.TRADE

    @describe("My autopilot", shapes.Autopilot, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return whether it is on, its limits, and what it did today."""
        self.query()
        return self._answer(0)

    @describe("Set my autopilot", shapes.Autopilot, tag="me", body=shapes.AutopilotIn)
    def patch(self, request: Request) -> HttpResponse:
        """Switch it or change its limits, at once: its orders that break them are taken back, all when it is switched off.

        What the market is too busy to take back stays in ``open_orders`` for now and goes without another request.
        """
        self.query()
        asked = self.decode(shapes.AutopilotIn)
        limits = queries.settings_of(self.account()).limits
        if asked.sell_from is not msgspec.UNSET:
            limits = limits._replace(sell_from_e4=_price_e4(asked.sell_from, "sell_from"))
        if asked.buy_to is not msgspec.UNSET:
            limits = limits._replace(buy_to_e4=_price_e4(asked.buy_to, "buy_to"))
        if asked.reserve_percent is not msgspec.UNSET:
            limits = limits._replace(reserve_percent=asked.reserve_percent)
        changed = operations.change(
            self.exchange(),
            account=self.account(),
            on=None if asked.on is msgspec.UNSET else asked.on,
            limits=None if limits == queries.settings_of(self.account()).limits else limits,
        )
        return self._answer(changed.cancelled)

    def _answer(self, cancelled: int) -> HttpResponse:
        account, zone = self.account(), market_zone()
        found = queries.settings_of(account)
        today = period_of(DAY, local_day(market_now_ms()))
        done = queries.done(account, start_ms=start_ms(today.first, zone), end_ms=start_ms(today.end, zone))
        return answer(
            {
                "on": found.on,
                "sell_from": _price(found.limits.sell_from_e4),
                "buy_to": _price(found.limits.buy_to_e4),
                "reserve_percent": found.limits.reserve_percent,
                "has_battery": found.has_battery,
                "open_orders": len(queries.open_orders(self.exchange(), [account])),
                "cancelled": cancelled,
                "today": {
                    "orders": done.orders,
                    "sold_wh": done.sold_wh,
                    "sold": money_text(done.sold_e7),
                    "bought_wh": done.bought_wh,
                    "bought": money_text(done.bought_e7),
                },
            }
        )


def _price(price_e4: int | None) -> str | None:
    return None if price_e4 is None else price_text(price_e4)


def _price_e4(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_price(text)
    except ValueError:
        raise Problem(422, "invalid_price", field) from None
