"""API keys, and signatures of devices, for the REST framework; sessions are its own."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from market.api.problems import Problem
from market.households import devices, keys, operations, queries
from market.households.identities import Identity
from market.households.models import User
from market.metering import intake

CHALLENGE = (("WWW-Authenticate", "Bearer"),)


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY`. ``request.auth`` is the identity, limited to the key's scopes."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        identity = queries.identify_key(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
        user = None if identity is None else queries.user_with_key(identity)
        if identity is None or user is None:
            raise Problem(401, "invalid_key", headers=CHALLENGE)
        operations.note_key_use(identity=identity, now=timezone.now())
        return user, identity

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document describes keys."""

    target_class = "market.api.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key with the scope the call needs."}


class SignatureAuthentication(BaseAuthentication):
    """`Device: ID` with `Device-Signature: HEX`, over "sunledger/readings/v1", the id, and the very bytes of the body."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        signature = request.META.get("HTTP_DEVICE_SIGNATURE")
        if signature is None:
            return None
        name = request.META.get("HTTP_DEVICE", "")
        device = devices.live(device_id=name) if len(name) == devices.ID_LENGTH else None
        if device is None:
            raise Problem(401, "unknown_device", "Device")
        try:
            evidence = intake.signed(device, request._request.body, signature)
        except intake.SignatureInvalid:
            raise Problem(401, "signature_invalid", "Device-Signature") from None
        identity = Identity(
            device.user_id,
            "device",
            None if device.account < 0 else device.account,
            frozenset((keys.READINGS_WRITE,)),
            area=device.area,
            device=device.pk,
        )
        user = queries.user_with_key(identity)
        if user is None:
            raise Problem(401, "unknown_device", "Device")
        request._request.evidence = evidence  # type: ignore[attr-defined]
        return user, identity


class SignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document describes signatures of devices."""

    target_class = "market.api.authentication.SignatureAuthentication"
    name = "device"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Device-Signature",
            "description": "Ed25519 signature (hex) of a registered device, its id in the header Device: docs/metering.md",
        }
