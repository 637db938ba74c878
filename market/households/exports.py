"""What is known about a person here, for the copy that they may take: readable, and without what would open a door."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from allauth.mfa.models import Authenticator

from market.households import accesslog, consents, emails, queries, sessions
from market.households.models import Account, Device, Renewal, User

MAX_SEEN = 10_000  # notes of the access log


def about(user: User, *, now: datetime) -> dict[str, Any]:
    """Return what is known about a person, by file: profile, accounts, devices, keys, consents, sign-ins, access log."""
    return {
        "profile": _profile(user),
        "accounts": [_account(row) for row in Account.objects.filter(user=user).order_by("index")],
        "renewals": [_renewal(row) for row in Renewal.objects.filter(old__user=user).order_by("pk")],
        "devices": [_device(row) for row in Device.objects.filter(user=user).order_by("pk")],
        "keys": [_key(row) for row in user.api_keys.order_by("pk")],
        "consents": [row._asdict() for row in consents.consents_of(user, now=now, limit=MAX_SEEN)],
        "sign-ins": [
            {"browser": one.browser, "system": one.system, "first_at": one.first_at, "seen_at": one.seen_at}
            for one in sessions.sign_ins_of(user, session_key="", now=now)
        ],
        "second-factors": [
            {"type": row.type, "added_at": row.created_at, "used_at": row.last_used_at}
            for row in Authenticator.objects.filter(user_id=user.pk).order_by("pk")
        ],
        "access-log": [
            {"at": seen.at, "who": seen.reader, "role": str(seen.role), "what": str(seen.kind), "account": seen.account}
            for seen in accesslog.about(user, limit=MAX_SEEN)
        ],
    }


def _profile(user: User) -> dict[str, Any]:
    request = queries.request_of(user)
    asked = None
    if request is not None:
        asked = {
            "area": request.area,
            "address": request.address,
            "meter_number": request.meter_number,
            "requested_at": request.requested_at,
            "decided_at": request.decided_at,
            "accepted": request.accepted,
        }
    return {
        "name": user.username,
        "called": user.first_name,
        "email": user.email,
        "email_confirmed": emails.confirmed(user),
        "role": user.role,
        "language": user.language,
        "time_zone": user.time_zone,
        "colours": user.colours,
        "joined_at": user.date_joined,
        "last_sign_in_at": user.last_login,
        "erasure_requested_at": user.erasure_requested_at,
        "account_request": asked,
    }


def _account(row: Account) -> dict[str, Any]:
    """Return an account with what its commitment on the ledger was made of: its owner may check it, or show it."""
    return {
        "index": row.index,
        "account_id": row.account_id,
        "area": row.area,
        "automatic": row.automatic,
        "opened_at": row.opened_at,
        "opened_entry": row.opened_seq,
        "closed_at": row.closed_at,
        "commitment": orjson.loads(row.identity) if row.identity else None,
    }


def _renewal(row: Renewal) -> dict[str, Any]:
    return {"at": row.at, "amount_e7": row.amount_e7, "out_entry": row.out_seq, "in_entry": row.in_seq}


def _device(row: Device) -> dict[str, Any]:
    return {
        "device_id": row.device_id,
        "kind": row.kind,
        "name": row.name,
        "rating_w": row.rating_w,
        "register_digits": row.register_digits,
        "public_key": row.public_key,
        "registered_at": row.registered_at,
        "confirmed": row.confirmed,
        "revoked_ms": row.revoked_ms,
        "last_seen_ms": row.last_seen_ms,
    }


def _key(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "begins_with": row.prefix,
        "scopes": row.scopes.split(),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "used_at": row.last_used_at,
    }
