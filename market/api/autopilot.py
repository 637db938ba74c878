"""`/api/v1/me/autopilot`: what home controllers set, and what they keep to."""

from __future__ import annotations

import re

import msgspec
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from market.agents import members, operations, queries
from market.api import shapes
from market.api.openapi import describe
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.exchange.units import money_text, parse_price, price_text
from market.households import keys
from market.households.operations import HouseholdError
from market.settlement.periods import DAY, period_of, start_ms
from market.settlement.statement_queries import local_day, market_now_ms, market_zone

TAG = re.compile(r'"([0-9]{1,15})"', re.ASCII)
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="the ETag of the settings this change is made for; 412 where they have been changed since",
)


class Autopilot(ApiView):
    """Trading for me within my limits."""

    write_scope = keys.TRADE

    @describe("My autopilot", shapes.Autopilot, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return whether it is on, its limits, and what it did today."""
        self.query()
        return self._answer(0)

    @describe("Set my autopilot", shapes.Autopilot, tag="me", body=shapes.AutopilotIn, parameters=(IF_MATCH,))
    def patch(self, request: Request) -> HttpResponse:
        """Switch it or change its limits, at once: its orders that break them are taken back, all when it is switched off.

        What the market is too busy to take back stays in ``open_orders`` for now and goes without another request. With
        If-Match nothing is changed (412) where somebody else has changed the settings since; without it fields that are left
        out stay as they are at that moment.
        """
        self.query()
        asked = self.decode(shapes.AutopilotIn)
        fields: dict[str, int | None] = {}
        if asked.sell_from is not msgspec.UNSET:
            fields["sell_from_e4"] = _price_e4(asked.sell_from, "sell_from")
        if asked.buy_to is not msgspec.UNSET:
            fields["buy_to_e4"] = _price_e4(asked.buy_to, "buy_to")
        if asked.reserve_percent is not msgspec.UNSET:
            fields["reserve_percent"] = asked.reserve_percent
        try:
            changed = operations.change(
                self.exchange(),
                account=self.account(),
                on=None if asked.on is msgspec.UNSET else asked.on,
                fields=fields,
                revision=_revision(request.META.get("HTTP_IF_MATCH")),
            )
        except HouseholdError as error:
            if error.code == "changed_meanwhile":
                raise Problem(412, error.code, "If-Match") from error
            raise
        return self._answer(changed.cancelled)

    def _answer(self, cancelled: int) -> HttpResponse:
        account, zone = self.account(), market_zone()
        found = queries.settings_of(account)
        today = period_of(DAY, local_day(market_now_ms()))
        done = queries.done(account, start_ms=start_ms(today.first, zone), end_ms=start_ms(today.end, zone))
        waits = members.waits_for(self.exchange(), account, market_now_ms()).code if found.on else ""
        response = answer(
            {
                "on": found.on,
                "sell_from": _price(found.limits.sell_from_e4),
                "buy_to": _price(found.limits.buy_to_e4),
                "reserve_percent": found.limits.reserve_percent,
                "has_battery": found.has_battery,
                "open_orders": len(queries.open_orders(self.exchange(), [account])),
                "cancelled": cancelled,
                "waits_for": waits or None,
                "today": {
                    "orders": done.orders,
                    "sold_wh": done.sold_wh,
                    "sold": money_text(done.sold_e7),
                    "bought_wh": done.bought_wh,
                    "bought": money_text(done.bought_e7),
                },
            }
        )
        response["ETag"] = f'"{found.revision}"'
        return response


def _revision(if_match: str | None) -> int | None:
    """Return the revision an If-Match names, None for any; one that no settings ever have for what is no tag of ours."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = TAG.fullmatch(if_match.strip())
    return int(found[1]) if found else -1


def _price(price_e4: int | None) -> str | None:
    return None if price_e4 is None else price_text(price_e4)


def _price_e4(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_price(text)
    except ValueError:
        raise Problem(422, "invalid_price", field) from None
