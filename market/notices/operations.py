"""Marking notices as read; saying which devices are told what."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from market.exchange.figures import figures as cache
from market.households import keystore
from market.households.models import User
from market.households.operations import HouseholdError
from market.notices import addresses, kinds
from market.notices.models import DEVICE_NAME_LENGTH, PushDevice, PushSettings, ReadMark
from market.notices.queries import unread_key

THIS_DEVICE: Final = "push_device"  # the cookie by which a browser is known to be one of the devices
MAX_DEVICES: Final = 10  # of one person
MAX_DIGITS: Final = 15  # of a device's number
POINT_BYTES: Final = 65  # an uncompressed point of P-256
AUTH_BYTES: Final = 16


class Wanted(NamedTuple):
    """What a person's devices are told, and when not: hours of the day in the market's zone, both or neither."""

    kinds: frozenset[str]
    amounts: bool = False
    quiet_from: int | None = None
    quiet_until: int | None = None

    def quiet_at(self, hour: int) -> bool:
        """Whether devices stay silent in this hour."""
        if self.quiet_from is None or self.quiet_until is None or self.quiet_from == self.quiet_until:
            return False
        if self.quiet_from < self.quiet_until:
            return self.quiet_from <= hour < self.quiet_until
        return hour >= self.quiet_from or hour < self.quiet_until


# What happens every quarter of an hour by itself is in the list and rings nobody.
DEFAULTS: Final = Wanted(frozenset({kinds.SOLD, kinds.CORRECTION, kinds.OBJECTION, kinds.CONNECTION}))


class NoticeError(HouseholdError):
    """Nothing was changed. ``code`` is stable, ``field`` names the input at fault, ``sentence`` says it to a person."""


def read_up_to(*, user: User, mark: str) -> None:
    """Note that a person has seen everything up to a mark; an older one changes nothing. Raise ``NoticeError``."""
    try:
        at_ms, seq = kinds.mark_of(mark)
    except ValueError:
        raise NoticeError("invalid_value", "mark", _("This is no place in the list of notifications.")) from None
    with transaction.atomic():
        row = ReadMark.objects.select_for_update().filter(user=user).first()
        if row is None:
            ReadMark.objects.get_or_create(user=user, defaults={"at_ms": at_ms, "seq": seq})
        elif (row.at_ms, row.seq) < (at_ms, seq):
            row.at_ms, row.seq = at_ms, seq
            row.save(update_fields=["at_ms", "seq"])
    cache.delete(unread_key(user.pk))


def wanted(user_id: int) -> Wanted:
    """Return what a person's devices are told."""
    row = PushSettings.objects.filter(user_id=user_id).first()
    if row is None:
        return DEFAULTS
    return Wanted(frozenset(row.kinds.split()), row.amounts, row.quiet_from, row.quiet_until)


def choose(*, user: User, wish: Wanted) -> None:
    """Say what a person's devices are told from now on. Raise ``NoticeError``."""
    unknown = wish.kinds - set(kinds.KINDS)
    if unknown:
        raise NoticeError("invalid_value", "kinds", _("There is no such kind of notification."))
    hours = (wish.quiet_from, wish.quiet_until)
    if (hours[0] is None) != (hours[1] is None):
        raise NoticeError("invalid_value", "quiet_until", _("Quiet hours need a beginning and an end."))
    if any(hour is not None and not 0 <= hour < 24 for hour in hours):
        raise NoticeError("invalid_value", "quiet_from", _("Expected an hour from 0 to 23."))
    values = {
        "kinds": " ".join(kind for kind in kinds.KINDS if kind in wish.kinds), "amounts": wish.amounts,
        "quiet_from": wish.quiet_from, "quiet_until": wish.quiet_until,
    }  # fmt: skip
    PushSettings.objects.update_or_create(user=user, defaults=values)


def devices_of(user: User) -> list[PushDevice]:
    """Return the devices that are told, oldest first."""
    return list(PushDevice.objects.filter(user=user).select_related("user").order_by("pk")[:MAX_DEVICES])


def add_device(*, user: User, endpoint: str, p256dh: str, auth: str, name: str, now: datetime) -> PushDevice:
    """Tell a device from now on; one that was told before belongs to who asks last. Raise ``NoticeError``."""
    if not addresses.allowed(endpoint):
        raise NoticeError("invalid_endpoint", "endpoint", _("This is no push service that we send to."))
    _check_key(p256dh)
    if len(decoded(auth) or b"") != AUTH_BYTES:
        raise NoticeError("invalid_value", "auth", _("This is no key of a browser."))
    digest = keystore.lookup("push", endpoint)
    try:
        with transaction.atomic():
            PushDevice.objects.filter(digest=digest).delete()
            if PushDevice.objects.filter(user=user).count() >= MAX_DEVICES:
                sentence = _("%(count)s devices are told already. Remove one first.") % {"count": MAX_DEVICES}
                raise NoticeError("too_many_devices", "endpoint", sentence)
            return PushDevice.objects.create(
                user=user, digest=digest, endpoint=endpoint, p256dh=p256dh, auth=auth, since=now,
                name="".join(c for c in name if c.isprintable())[:DEVICE_NAME_LENGTH],
            )  # fmt: skip
    except IntegrityError:  # the same browser at the same moment
        return PushDevice.objects.get(digest=digest)


def remove_device(*, user: User, device: int) -> bool:
    """Tell a device no more; return whether it was told. Safe to repeat."""
    return bool(PushDevice.objects.filter(user=user, pk=device).delete()[0])


def told_here(*, user: User, cookie: str) -> int | None:
    """Return the device of a person that the cookie of a browser names; None when it is none of theirs."""
    if not (cookie.isascii() and cookie.isdigit()) or len(cookie) > MAX_DIGITS:
        return None
    return PushDevice.objects.filter(user=user, pk=int(cookie)).values_list("pk", flat=True).first()


def read_mark(*, user: User) -> dict[str, int] | None:
    """Return time (ms) and entry of the newest notice that a person has read; None when there is none."""
    return ReadMark.objects.filter(user=user).values("at_ms", "seq").first()


def decoded(text: str) -> bytes | None:
    """Return the bytes of a base64url text, padded or not; None when it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None


def _check_key(text: str) -> None:
    raw = decoded(text)
    try:
        if raw is None or len(raw) != POINT_BYTES:
            raise ValueError("expected a point")
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    except ValueError:
        raise NoticeError("invalid_value", "p256dh", _("This is no key of a browser.")) from None
