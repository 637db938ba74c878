"""`GET /api/v1/areas`: the grid."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import shapes
from market.api.openapi import describe
from market.api.views import ApiView, answer
from market.engine.engine import Engine
from market.exchange.units import price_text


def _areas(engine: Engine) -> list[dict[str, Any]]:
    names = [area.name for area in engine.areas.areas]
    return [
        {
            "area": area.name,
            "parent": names[area.parent] if area.parent >= 0 else None,
            "level": area.level,
            "fee": price_text(area.fee_e4),
            "import_w": area.import_w,
            "export_w": area.export_w,
            "halted": bool(area.halted),
        }
        for area in engine.areas.areas
    ]


class Areas(ApiView):
    """The grid, parents before children; a city has some hundred areas, so they come in one page."""

    public = True

    @describe("The grid", shapes.AreaPage, tag="market")
    def get(self, request: Request) -> HttpResponse:
        """Return all areas."""
        self.query()
        return answer({"results": self.exchange().read(_areas), "next": None})
