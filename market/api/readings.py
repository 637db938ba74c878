"""`POST /api/v1/readings`: interval energies of my connection."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import shapes
from market.api.openapi import describe
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.households import keys
from market.metering import operations as metering

MAX_READINGS = metering.MAX_OWN


class Readings(ApiView):
    """Readings in; sent twice they count once, sent again with other values they are corrections."""

    write_scope = keys.READINGS_WRITE

    @describe("Send readings", shapes.ReadingsAnswer, tag="me", body=shapes.ReadingsIn)
    def post(self, request: Request) -> HttpResponse:
        """Record readings of delivered contracts."""
        account = self.account()
        body = self.decode(shapes.ReadingsIn)
        self.query()
        if body.readings is None:
            raise Problem(400, "missing_field", "readings")
        if len(body.readings) > MAX_READINGS:
            raise Problem(422, "too_many_readings", "readings", params={"limit": MAX_READINGS})
        readings: dict[str, metering.ReadingIn] = {}
        for item, row in enumerate(body.readings):
            if row.contract in readings:
                raise Problem(422, "duplicate_contract", f"readings[{item}].contract")
            readings[row.contract] = metering.ReadingIn(
                account, row.import_wh, row.export_wh, row.produced_wh, row.used_wh
            )
        exchange = self.exchange()
        try:
            done = metering.record_own(exchange=exchange, account=account, readings=readings, now_ms=exchange.now_ms())
        except metering.InvalidReading as error:
            field = error.field if error.item < 0 else f"readings[{error.item}].{error.field}"
            raise Problem(422, error.code, field) from None
        except metering.ReadingsRefused as error:
            raise Problem(409, error.code, error.field) from None
        return answer(done._asdict())
