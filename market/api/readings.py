"""`POST /api/v1/readings`: energies of my connection, or what my devices measured; `GET /me/readings`: what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from market.api import shapes
from market.api.authentication import KeyAuthentication, SignatureAuthentication
from market.api.openapi import describe, query
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.engine.contracts import contract_start_ms
from market.exchange.exchange import Exchange
from market.exchange.units import parse_at
from market.households import devices, keys
from market.households.devices import DeviceInfo
from market.metering import committing, intake, validation
from market.metering import operations as metering
from market.metering import queries as metering_queries
from market.metering.formats import csvbatch, jsonbatch
from market.metering.formats.values import FormatError, Value

MAX_READINGS = metering.MAX_OWN
COMMIT_NOW = 200  # values: so many are on the ledger when the answer comes; more follow within seconds
COMMIT_WAIT_S = 2.0
DAY_MS = 86_400_000
CSV = "text/csv"


class Readings(ApiView):
    """Readings in; sent twice they count once, sent again with other values they are corrections."""

    authentication_classes = [KeyAuthentication, SignatureAuthentication, *ApiView.authentication_classes[1:]]
    write_scope = keys.READINGS_WRITE
    for_devices = True
    for_parties = True

    @describe("Send readings", shapes.ReadingsAnswer, tag="me", body=shapes.ReadingsIn)
    def post(self, request: Request) -> HttpResponse:
        """Record readings of delivered contracts, or take values of devices, as JSON or (values only) as CSV."""
        self.query()
        exchange = self.exchange()
        content_type = request.META.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
        if content_type == CSV:
            if getattr(request._request, "evidence", None) is not None:
                raise Problem(415, "unsupported_media_type", "Content-Type")  # an auditor reads JSON only
            try:
                values = csvbatch.parse(request._request.body, received_ms=exchange.now_ms())
            except FormatError as error:
                raise format_problem(error) from None
            return self._take(exchange, values)
        body = self.decode(shapes.ReadingsIn)
        if (body.readings is None) == (body.values is None):
            raise Problem(400, "missing_field", "readings")
        if body.values is not None:
            try:
                values = jsonbatch.values_of(body.values, received_ms=exchange.now_ms())
            except FormatError as error:
                raise format_problem(error) from None
            return self._take(exchange, values)
        assert body.readings is not None
        return self._record(exchange, body.readings)

    def _record(self, exchange: Exchange, rows: list[shapes.ReadingIn]) -> HttpResponse:
        if self.identity is not None and self.identity.device is not None:
            raise Problem(403, "forbidden")  # a device tells of itself: a charger knows nothing of the connection
        account = self.account()
        if len(rows) > MAX_READINGS:
            raise Problem(422, "too_many_readings", "readings", params={"limit": MAX_READINGS})
        if devices.has_meter(account):
            raise Problem(409, "metered_by_device", "readings")
        periods = devices.periods_of(self.request.user.pk)
        readings: dict[int, dict[str, metering.ReadingIn]] = {}
        places: dict[str, int] = {}
        for item, row in enumerate(rows):
            if row.contract in places:
                raise Problem(422, "duplicate_contract", f"readings[{item}].contract")
            places[row.contract] = item
            number = _number(periods, row.contract, account)
            if number < 0:
                raise Problem(422, "before_account", f"readings[{item}].contract")
            readings.setdefault(number, {})[row.contract] = metering.ReadingIn(
                number, row.import_wh, row.export_wh, row.produced_wh, row.used_wh
            )
        total = metering.Recorded(0, 0, 0, None)
        for number, own in readings.items() or [(account, {})]:
            try:
                done = metering.record_own(exchange=exchange, account=number, readings=own, now_ms=exchange.now_ms())
            except metering.InvalidReading as error:
                item = -1 if error.item < 0 else places[list(own)[error.item]]
                field = error.field if item < 0 else f"readings[{item}].{error.field}"
                raise Problem(422, error.code, field) from None
            except metering.ReadingsRefused as error:
                raise Problem(409, error.code, error.field) from None
            total = committing.added(total, done)
        return answer({**total._asdict(), "refused": 0, "verdicts": []})

    # --- values of devices -------------------------------------------------------------------------------------------
    def _take(self, exchange: Exchange, values: list[Value]) -> HttpResponse:
        sender, known = self._devices()
        limits = intake.limits_of(exchange, {one.account for one in known.values()})
        evidence = getattr(self.request._request, "evidence", None)
        sent = intake.Sent(values, known, sender, evidence or b"")
        taken = intake.take(sent=sent, limits=limits, now_ms=exchange.now_ms())
        seq = None
        if taken.batch is not None and len(values) <= COMMIT_NOW:
            done = committing.commit_due(
                exchange=exchange, now_ms=exchange.now_ms(), only=[taken.batch], timeout_s=COMMIT_WAIT_S
            )
            seq = done.seq
        return answer(
            {
                "accepted": taken.count(validation.ACCEPTED, validation.CORRECTED, validation.SUPERSEDED),
                "corrected": taken.count(validation.CORRECTED),
                "duplicates": taken.count(validation.DUPLICATE),
                "seq": seq,
                "refused": taken.refused,
                "verdicts": [
                    {"code": code, "first": first, "count": count} for code, first, count in intake.runs(taken.verdicts)
                ],
            }
        )

    def _devices(self) -> tuple[int, Mapping[str, DeviceInfo]]:
        """Return who sends (0: a person) and the devices it may speak for, by id; "" is the sender itself."""
        identity = self.identity
        assert identity is not None
        if identity.device is None:
            mine = [one for one in devices.of_account(self.account()) if one.revoked_ms is None]
            known = {one.device_id: one for one in mine}
            meters = [one for one in mine if one.kind == "meter"]
            if len(meters) == 1:
                known[""] = meters[0]
            return 0, known
        device = devices.live(pk=identity.device)
        if device is None:
            raise Problem(401, "invalid_key")
        if device.kind != "substation" and device.account < 0:
            raise Problem(403, "no_account")
        known = {"": device, device.device_id: device}
        if getattr(self.request._request, "evidence", None) is not None and device.account >= 0:
            # One signature for a batch of several devices of one home: its gateway signs for all.
            known |= {one.device_id: one for one in devices.of_account(device.account) if one.revoked_ms is None}
        return device.pk, known


class MyReadings(ApiView):
    """My readings."""

    @describe(
        "My readings",
        shapes.MyReadingPage,
        tag="me",
        parameters=(query("start", "RFC 3339, UTC: a day from here; default: the last day"),),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return the readings of a day, each with its quality and the reason where it is not simply measured."""
        asked = self.query("start")
        start_ms = self.exchange().now_ms() - DAY_MS
        if "start" in asked:
            try:
                start_ms = parse_at(asked["start"])
            except (ValueError, OverflowError):
                raise Problem(400, "invalid_value", "start") from None
        rows = metering_queries.day(self.account(), start_ms=start_ms, end_ms=start_ms + DAY_MS)
        return answer({"results": [_line(row) for row in rows], "next": None})


def _number(periods: Sequence[devices.Period], contract: str, present: int) -> int:
    """Return the number a home had when a contract's interval began, -1 before it was here; what is no contract is present."""
    try:
        return devices.account_at(periods, contract_start_ms(contract))
    except ValueError:
        return present


def _line(row: metering_queries.ReadingLine) -> dict[str, Any]:
    return {
        "contract": row.contract,
        "import_wh": row.import_wh,
        "export_wh": row.export_wh,
        "produced_wh": row.produced_wh,
        "used_wh": row.used_wh,
        "quality": row.quality,
        "reason": row.reason,
        "version": row.version,
        "seq": row.seq,
        "n": row.n,
    }


_STATUS = {
    "too_many": (422, "too_many_readings"),
    "too_large": (413, "body_too_large"),
    "malformed": (400, "bad_request"),
}


def format_problem(error: FormatError) -> Problem:
    """Return the problem for a batch that cannot be read."""
    status, code = _STATUS.get(error.code, (422, error.code))
    field = f"line {error.line}: {error.field}".rstrip(": ") if error.line else error.field
    return Problem(status, code, field, params={"limit": intake.MAX_VALUES} if error.code == "too_many" else None)
