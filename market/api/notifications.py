"""`/api/v1/me/notifications` and `/me/push`: what happened to me, and which devices are told."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import describe, query
from market.api.views import ApiView, answer
from market.exchange.units import at_text
from market.households import keys
from market.notices import kinds, operations, queries, webpush, words
from market.notices.models import PushDevice
from market.notices.operations import Wanted

COOKIE_S = 400 * 86_400  # browsers keep no cookie longer


class Notifications(ApiView):
    """What happened to me lately."""

    @describe(
        "My notifications",
        shapes.NotificationPage,
        tag="me",
        parameters=(query("limit", f"how many of the newest, 1 to {queries.MAX_LIST} (default all)", int),),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return the newest notifications, in the language of the request."""
        asked = self.query("limit")
        limit = min(queries.MAX_LIST, cursors.limit_of(asked))
        self.account()
        found = queries.told(request.user, limit)
        results = [
            {
                "id": notice.id,
                "kind": notice.kind,
                "at": at_text(notice.at_ms),
                "seq": notice.seq or None,
                "title": words.title(notice),
                "text": words.text(notice),
                "link": kinds.LINKS[notice.kind],
                "read": found.is_read(notice),
                "mark": notice.mark,
            }
            for notice in found.notices
        ]
        return answer({"results": results, "unread": found.unread, "next": None})


class _Mine(ApiView):
    """What a person chooses; a key that only trades must not silence its owner's devices."""

    write_scope = keys.TRADE
    people_only = True


class Reading(_Mine):
    """That I have seen them."""

    @describe("Mark notifications as read", shapes.Unread, tag="me", body=shapes.ReadIn)
    def post(self, request: Request) -> HttpResponse:
        """Mark everything up to a notification as read. Not for keys."""
        self.query()
        self.account()
        operations.read_up_to(user=request.user, mark=self.decode(shapes.ReadIn).mark)
        return answer({"unread": queries.told(request.user).unread})


class Settings(_Mine):
    """What my devices are told."""

    @describe("What my devices are told", shapes.NotificationSettings, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return the settings."""
        self.query()
        self.account()
        return self._told(request)

    @describe(
        "Choose what my devices are told", shapes.NotificationSettings, tag="me", body=shapes.NotificationSettingsIn
    )
    def put(self, request: Request) -> HttpResponse:
        """Replace the settings. Not for keys."""
        self.query()
        self.account()
        asked = self.decode(shapes.NotificationSettingsIn)
        wish = Wanted(frozenset(asked.kinds), asked.amounts, asked.quiet_from, asked.quiet_until)
        operations.choose(user=request.user, wish=wish)
        return self._told(request)

    def _told(self, request: Request) -> HttpResponse:
        wish = operations.wanted(request.user.pk)
        return answer(
            {
                "kinds": [kind for kind in kinds.KINDS if kind in wish.kinds],
                "amounts": wish.amounts,
                "quiet_from": wish.quiet_from,
                "quiet_until": wish.quiet_until,
                "public_key": webpush.public_key(),
            }
        )


class Devices(_Mine):
    """My devices that are told."""

    @describe("My devices that are told", shapes.PushDevicePage, tag="me")
    def get(self, request: Request) -> HttpResponse:
        """Return them, oldest first; never their addresses."""
        self.query()
        self.account()
        return answer({"results": [_device(row) for row in operations.devices_of(request.user)], "next": None})

    @describe("Tell a device of mine", shapes.PushDevice, tag="me", body=shapes.PushDeviceIn, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Take a browser's push subscription; the same one again replaces it. Not for keys."""
        self.query()
        self.account()
        asked = self.decode(shapes.PushDeviceIn)
        row = operations.add_device(
            user=request.user, endpoint=asked.endpoint, p256dh=asked.p256dh, auth=asked.auth, name=asked.name,
            now=timezone.now(),
        )  # fmt: skip
        response = answer(_device(row), 201)
        # By this the browser is told no more once its person signs out, whatever became of the session it asked in.
        response.set_cookie(
            operations.THIS_DEVICE, str(row.pk), max_age=COOKIE_S, httponly=True, samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )  # fmt: skip
        return response


class OneDevice(_Mine):
    """One of them."""

    @describe("Tell a device no more", shapes.PushDevicePage, tag="me")
    def delete(self, request: Request, device: int) -> HttpResponse:
        """Forget a device; return those that are left. Safe to repeat. Not for keys."""
        self.query()
        self.account()
        operations.remove_device(user=request.user, device=min(device, 2**53))
        return answer({"results": [_device(row) for row in operations.devices_of(request.user)], "next": None})


def _device(row: PushDevice) -> dict[str, Any]:
    return {"id": row.pk, "name": row.name, "since": at_text(round(row.since.timestamp() * 1000))}
