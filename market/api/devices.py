"""`/api/v1/me/devices`: what sends readings for my home; and the grid operator's side of it."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import describe, query
from market.api.operator import OperatorView
from market.api.orders_in import MAX_AT_MS
from market.api.problems import Problem
from market.api.views import ApiView, answer, area_of
from market.engine.contracts import contract_name
from market.exchange.units import at_text, parse_at
from market.grid import devices as grid_devices
from market.grid.operations import GridError
from market.households import accesslog, devices, keys
from market.households.models import Device, Role
from market.metering import balances


def device_of(text: str) -> str:
    """Return a device's id that may exist; raise ``Problem``."""
    if len(text) != devices.ID_LENGTH or not text.isascii() or not text.isalnum():
        raise Problem(404, "unknown_device", "device")
    return text


def _out(device: Device) -> dict[str, Any]:
    return {
        "device": device.device_id,
        "kind": device.kind,
        "name": device.name,
        "rating_w": device.rating_w,
        "register_digits": device.register_digits,
        "public_key": device.public_key,
        "confirmed": device.confirmed,
        "revoked": device.revoked_ms is not None,
        "registered_at": at_text(int(device.registered_at.timestamp() * 1_000)),
        "last_seen_at": None if device.last_seen_ms is None else at_text(device.last_seen_ms),
    }


def _registered(made: devices.Registered, status: int = 201) -> HttpResponse:
    return answer({"device": _out(made.device), "token": made.token or None}, status=status)


class Devices(ApiView):
    """My devices. A key must not make, void or exchange keys: it would outlive its own revocation."""

    people_only = True
    write_scope = keys.READINGS_WRITE
    fresh = frozenset({"POST"})

    @describe("My devices", shapes.DevicePage, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return my devices, revoked ones included."""
        self.query()
        return answer({"results": [_out(device) for device in devices.devices_of(request.user)], "next": None})

    @describe("Register a device", shapes.DeviceAnswer, tag="me", body=shapes.DeviceIn, keyed=True, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Register a device; its API key is in the answer this once. For people who are signed in, not for keys."""
        self.query()
        asked = self.decode(shapes.DeviceIn)
        self.account()
        made = devices.register(
            user=request.user,
            kind=asked.kind,
            name=asked.name,
            rating_w=asked.rating_w,
            register_digits=asked.register_digits,
            public_key=asked.public_key,
            proof=asked.proof,
            once=self.idempotency_key() or "",
            now=timezone.now(),
            now_ms=self.exchange().now_ms(),
        )
        return _registered(made)


class OneDevice(ApiView):
    """One device of mine."""

    people_only = True
    write_scope = keys.READINGS_WRITE

    @describe("Revoke a device", shapes.Device, tag="me")
    def delete(self, request: Request, device: str) -> HttpResponse:
        """Revoke a lost or removed device: nothing it sends is taken any more. For people who are signed in."""
        self.query()
        now_ms = self.exchange().now_ms()
        gone = devices.revoke(user=request.user, device_id=device_of(device), now=timezone.now(), now_ms=now_ms)
        return answer(_out(gone))


class DeviceKey(ApiView):
    """How a device shows who it is."""

    people_only = True
    write_scope = keys.READINGS_WRITE
    fresh = frozenset({"POST"})

    @describe("Give a device another key", shapes.DeviceAnswer, tag="me", body=shapes.DeviceKeyIn)
    def post(self, request: Request, device: str) -> HttpResponse:
        """Void the key a device has and give it another one; for people who are signed in, not for keys."""
        self.query()
        asked = self.decode(shapes.DeviceKeyIn)
        made = devices.rekey(
            user=request.user,
            device_id=device_of(device),
            public_key=asked.public_key,
            proof=asked.proof,
            now=timezone.now(),
        )
        return _registered(made, 200)


# --- the grid operator -----------------------------------------------------------------------------------------------
class Waiting(OperatorView):
    """Inverters that wait."""

    @describe("Inverters that wait", shapes.WaitingDevicePage, tag="operator")
    def get(self, request: Request) -> HttpResponse:
        """Return the inverters whose rating is to be confirmed."""
        self.query()
        found = devices.waiting()
        self.note(accesslog.ACCOUNT, lambda: {account for _device, account, _area in found})
        results = [
            {
                "device": device.device_id,
                "account": account,
                "area": area,
                "kind": device.kind,
                "rating_w": device.rating_w,
                "registered_at": at_text(int(device.registered_at.timestamp() * 1_000)),
            }
            for device, account, area in found
        ]
        return answer({"results": results, "next": None})


class Decide(OperatorView):
    """What an inverter may give."""

    @describe(
        "Decide about an inverter", shapes.DeviceDecision, tag="operator", body=shapes.DeviceDecisionIn, keyed=True
    )
    def put(self, request: Request, device: str) -> HttpResponse:
        """Confirm an inverter's rating, which sets the connection's export limit on the ledger, or turn it down."""
        self.query()
        asked = self.decode(shapes.DeviceDecisionIn)
        self.idempotency_key()  # of a decision there is one, whatever its key
        name, now = device_of(device), timezone.now()
        try:
            if not asked.confirmed:
                grid_devices.refuse(by=request.user, device_id=name, now=now)
                return answer({"seq": None})
            made = grid_devices.confirm(self.exchange(), by=request.user, device_id=name, now=now)
        except GridError as error:
            raise Problem(409, error.code, error.field, sentence=error.sentence) from None
        return answer({"seq": None if made is None else made.seq})


class Substations(OperatorView):
    """Meters of the grid itself."""

    people_only = True  # a key makes no keys
    fresh = frozenset({"POST"})

    @describe(
        "Register a substation meter", shapes.DeviceAnswer, tag="operator", body=shapes.SubstationIn, keyed=True,
        status=201,
    )  # fmt: skip
    def post(self, request: Request) -> HttpResponse:
        """Register the meter of the edge between an area and its parent; for people who are signed in, not for keys."""
        self.query()
        asked = self.decode(shapes.SubstationIn)
        area = area_of(asked.area, status=422)
        if not self.exchange().read(lambda engine: area in engine.grid):
            raise Problem(422, "unknown_area", "area")
        made = devices.register(
            user=request.user,
            kind="substation",
            area=area,
            name=asked.name,
            rating_w=asked.rating_w,
            register_digits=asked.register_digits,
            public_key=asked.public_key,
            proof=asked.proof,
            once=self.idempotency_key() or "",
            now=timezone.now(),
            now_ms=self.exchange().now_ms(),
        )
        return _registered(made)


class Substation(OperatorView):
    """One meter of the grid."""

    people_only = True

    @describe("Revoke a substation meter", shapes.Device, tag="operator")
    def delete(self, request: Request, device: str) -> HttpResponse:
        """Revoke a lost or removed substation meter: nothing it sends is taken any more. For people who are signed in."""
        self.query()
        now_ms = self.exchange().now_ms()
        return answer(_out(devices.revoke_substation(device_id=device_of(device), now=timezone.now(), now_ms=now_ms)))


class Balances(OperatorView):
    """Whether the energy of areas adds up."""

    roles = OperatorView.roles | {Role.REGULATOR.value}

    @describe(
        "Balance of areas",
        shapes.BalancePage,
        tag="operator",
        parameters=(
            query("end", "RFC 3339, UTC: the end of the window; default: what has come in"),
            query("intervals", f"1 to {balances.MAX_INTERVALS}, default {balances.WINDOW}", int),
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return what flowed into each area and is in no reading, with the likely cause."""
        asked = self.query("end", "intervals")
        count = cursors.integer(asked, "intervals", low=1, high=balances.MAX_INTERVALS) or balances.WINDOW
        end_ms = None
        if "end" in asked:
            try:
                end_ms = parse_at(asked["end"])
            except (ValueError, OverflowError):
                raise Problem(400, "invalid_value", "end") from None
            if not 0 <= end_ms <= MAX_AT_MS:
                raise Problem(400, "invalid_value", "end")
        exchange = self.exchange()
        start_ms, until_ms, _length_ms = balances.window_of(exchange, end_ms=end_ms, intervals=count)
        found = balances.of_areas(exchange, start_ms=max(0, start_ms), end_ms=until_ms)
        return answer({"results": [_balance(one) for one in found], "next": None})


def _balance(one: balances.AreaBalance) -> dict[str, Any]:
    return {
        "area": one.area,
        "parent": one.parent or None,
        "homes": one.homes,
        "metered": one.metered,
        "cause": one.verdict.cause,
        "residual_wh": one.verdict.residual_wh,
        "allowed_wh": one.verdict.allowed_wh,
        "intervals": one.verdict.intervals,
        "beyond": one.verdict.beyond,
        "rows": [
            {
                "contract": contract_name(row.start_ms),
                "residual_wh": row.residual_wh,
                "allowed_wh": row.allowed_wh,
                "missing": row.missing,
                "cause": row.cause,
            }
            for row in one.rows
        ],
    }
