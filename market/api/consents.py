"""`/api/v1/me/consents`: who may read or trade for me, until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from market.api import consent_shapes as shapes
from market.api.openapi import describe
from market.api.problems import Problem
from market.api.views import ApiView, answer
from market.exchange.units import at_text, parse_at
from market.households import consents
from market.households.models import Role
from market.households.queries import user_with_key

HOUSEHOLDS = frozenset({Role.HOUSEHOLD.value})


class Consents(ApiView):
    """My consents. Only a person who is signed in gives one: a key must not make keys."""

    roles = HOUSEHOLDS
    people_only = True
    private = True
    fresh = frozenset({"POST"})

    @describe("My consents", shapes.ConsentPage, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return who may act for me, and who might before."""
        self.query()
        rows = consents.consents_of(_person(self), now=timezone.now())
        return answer({"results": [_consent(row) for row in rows], "next": None})

    @describe("Let a third party act for me", shapes.ConsentGranted, tag="me", body=shapes.ConsentIn, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Give a consent; the answer has the third party's key, this once."""
        self.query()
        body = self.decode(shapes.ConsentIn)
        granted = consents.grant(
            user=_person(self),
            party=body.party,
            scopes=body.scopes,
            expires_at=_instant(body.expires_at),
            now=timezone.now(),
        )
        return answer({"consent": _consent(granted.consent), "token": granted.token}, status=201)


class OneConsent(ApiView):
    """One of my consents."""

    roles = HOUSEHOLDS
    people_only = True
    fresh = frozenset({"PATCH"})  # withdrawing waits for nothing

    @describe("Let a consent end at another time", shapes.Consent, tag="me", body=shapes.ConsentChangeIn)
    def patch(self, request: Request, consent: int) -> HttpResponse:
        """Extend a consent that holds, or let it end sooner."""
        self.query()
        body = self.decode(shapes.ConsentChangeIn)
        row = consents.extend(
            user=_person(self), consent_id=consent, expires_at=_instant(body.expires_at), now=timezone.now()
        )
        return answer(_consent(row))

    @describe("Withdraw a consent", shapes.Consent, tag="me")
    def delete(self, request: Request, consent: int) -> HttpResponse:
        """End it at once: its key is refused, its sockets close."""
        self.query()
        return answer(_consent(consents.withdraw(user=_person(self), consent_id=consent, now=timezone.now())))


def _person(view: ApiView) -> Any:
    assert view.identity is not None
    user = user_with_key(view.identity)
    if user is None:
        raise Problem(401, "not_authenticated")
    return user


def _instant(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(parse_at(text) / 1_000, UTC)
    except (ValueError, OverflowError):
        raise Problem(422, "invalid_value", "expires_at") from None


def _text(at: datetime | None) -> str | None:
    return None if at is None else at_text(round(at.timestamp() * 1_000))


def _consent(row: consents.ConsentView) -> dict[str, Any]:
    return {
        "id": row.id,
        "party": row.party,
        "scopes": list(row.scopes),
        "state": row.state,
        "key": row.prefix,
        "granted_at": _text(row.granted_at),
        "expires_at": _text(row.expires_at),
        "withdrawn_at": _text(row.withdrawn_at),
        "used_at": _text(row.used_at),
    }
