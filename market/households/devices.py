"""Devices: who may send readings for a home, and how each shows that it is the one.

A device has an API key of its own, good for its readings and nothing else, or a registered Ed25519 key with which it signs
its batches. Revoking takes effect at once in this process and within ``identities.KEY_TTL_S`` in others.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from ledger.core.note import NoteError, check_public_key, fits
from market.engine.accounts import MAX_CONNECTION_W
from market.households import endings, keys
from market.households.identities import CACHE
from market.households.models import DEVICE_NAME_LENGTH, Account, ApiKey, Device, DeviceKind, Role, User
from market.households.operations import HouseholdError

ID_BYTES = 16
ID_LENGTH = 2 * ID_BYTES
MAX_DEVICES = 50  # live devices of one person; a house has a dozen
MAX_AREA_DEVICES = 2_000  # live substation meters one operator has registered
MAX_WAITING = 500  # inverters of the operator's list, the oldest first
MAX_ONCE = 64
IN_ONE_QUERY = 1_000  # accounts
MAX_REGISTER_DIGITS = 15
READINGS_DOMAIN = b"sunledger/readings/v1\n"
KEY_DOMAIN = b"sunledger/device-key/v1\n"
HOUSEHOLD_KINDS = (DeviceKind.METER, DeviceKind.INVERTER, DeviceKind.BATTERY, DeviceKind.CHARGER)


class Registered(NamedTuple):
    """A device; ``token`` is its secret, "" where it signs or the same request came before: it is shown once."""

    device: Device
    token: str


class Period(NamedTuple):
    """An account number of a person and when it was theirs, market time (ms); ``until_ms`` None: it still is."""

    account: int
    from_ms: int
    until_ms: int | None


def account_at(periods: Sequence[Period], at_ms: int) -> int:
    """Return the number a person had at a time (ms), -1 where they had none; of two (while one follows the other) the first."""
    for account, from_ms, until_ms in periods:
        if from_ms <= at_ms and (until_ms is None or at_ms < until_ms):
            return account
    return -1


class DeviceInfo(NamedTuple):
    """A device as readings see it. ``account`` -1: of an area, or its owner has no open account now.

    ``periods``: the numbers its owner has had, by number. What was measured belongs to the one of its time.
    """

    pk: int
    device_id: str
    user_id: int
    account: int
    account_id: str
    area: str
    kind: str
    rating_w: int
    register_digits: int
    public_key: str
    opened_ms: int
    revoked_ms: int | None
    periods: tuple[Period, ...] = ()


def readings_text(device_id: str, body: bytes) -> bytes:
    """Return what a device signs for a batch: the domain, its id and a newline, the very bytes it sends."""
    return READINGS_DOMAIN + device_id.encode("ascii") + b"\n" + body


def key_text(account_id: str, public_key: str) -> bytes:
    """Return what shows possession of a key (hex) that is registered for a device of this account."""
    return KEY_DOMAIN + f"{account_id}\n{public_key}\n".encode("ascii")


# --- registering -----------------------------------------------------------------------------------------------------
def register(
    *,
    user: User,
    kind: str,
    name: str,
    rating_w: int,
    now: datetime,
    now_ms: int,
    register_digits: int = 0,
    public_key: str = "",
    proof: str = "",
    area: str = "",
    once: str = "",
) -> Registered:
    """Register a device of a household or, of kind substation, of an area by the grid operator; ``now_ms`` market time.

    With ``public_key`` and ``proof`` (hex; the signature of ``key_text``) it signs, else it gets an API key. ``once``: the same
    request again gives the same device, without its secret, and another one under it a conflict. Raise ``HouseholdError``.
    """
    account = _check(user, kind, name, rating_w, register_digits, area, once)
    if public_key:
        _check_key(account.account_id if account is not None else area, public_key, proof)
    content = {
        "kind": kind,
        "name": name.strip(),
        "rating_w": rating_w,
        "register_digits": register_digits,
        "public_key": public_key,
        "area": area,
    }
    if (known := _registered_before(user, once, content)) is not None:
        return Registered(known, "")
    limit = MAX_AREA_DEVICES if kind == DeviceKind.SUBSTATION else MAX_DEVICES
    if Device.objects.filter(user=user, revoked_ms=None).count() >= limit:
        raise HouseholdError("too_many_devices", "device", _("You have too many devices; revoke one first."))
    try:
        with transaction.atomic():
            device = Device.objects.create(
                device_id=secrets.token_hex(ID_BYTES),
                user=user,
                once=once,
                registered_at=now,
                opened_ms=now_ms,
                **content,
            )
            return Registered(device, "" if public_key else _issue(device))
    except IntegrityError as error:
        known = _registered_before(user, once, content)
        if known is not None:  # the same request twice at the same moment
            return Registered(known, "")
        raise HouseholdError("key_taken", "public_key", _("This key belongs to another device.")) from error


def _registered_before(user: User, once: str, content: Mapping[str, str | int]) -> Device | None:
    """Return the device that the same request registered; raise ``HouseholdError`` where it asked for another one."""
    known = Device.objects.filter(user=user, once=once).first() if once else None
    if known is None:
        return None
    for field, value in content.items():
        if getattr(known, field) != value:
            raise HouseholdError("idempotency_conflict", field, _("This was sent before with another value."))
    return known


def _check(
    user: User, kind: str, name: str, rating_w: int, register_digits: int, area: str, once: str
) -> Account | None:
    """Raise ``HouseholdError`` unless a device can be registered; return the account it belongs to."""
    if kind == DeviceKind.SUBSTATION:
        if user.role not in (Role.OPERATOR, Role.STAFF):
            raise HouseholdError("invalid_value", "kind", _("Only the grid operator registers substation meters."))
        if not area:
            raise HouseholdError("unknown_area", "area", _("There is no such area."))
    elif kind not in HOUSEHOLD_KINDS or area:
        raise HouseholdError("invalid_value", "kind", _("Choose what the device is."))
    if not name.strip() or len(name.strip()) > DEVICE_NAME_LENGTH or "\0" in name:
        raise HouseholdError("invalid_value", "name", _("Give the device a name of at most 80 characters."))
    if type(rating_w) is not int or not 0 < rating_w <= MAX_CONNECTION_W:
        raise HouseholdError("invalid_value", "rating_w", _("Say the most it can take or give, in W."))
    if type(register_digits) is not int or not 0 <= register_digits <= MAX_REGISTER_DIGITS:
        raise HouseholdError("invalid_value", "register_digits", _("A counter has at most 15 digits."))
    if len(once) > MAX_ONCE or not ((once.isascii() and once.isprintable()) or not once):
        raise HouseholdError("invalid_value", "once", _("This form is broken. Load the page again."))
    if kind == DeviceKind.SUBSTATION:
        return None
    account = Account.objects.filter(user=user, closed_at=None).order_by("index").first()
    if account is None:
        raise HouseholdError("no_account", "account", _("You have no open account yet."))
    return account


def _check_key(owner: str, public_key: str, proof: str) -> None:
    try:
        # Its canonical form: two spellings of one key must not be two keys.
        if public_key != public_key.lower():
            raise ValueError(public_key)
        check_public_key(bytes.fromhex(public_key))
    except (ValueError, NoteError) as error:
        raise HouseholdError("invalid_value", "public_key", _("This key cannot be used.")) from error
    if not fits(public_key, proof, key_text(owner, public_key)):
        raise HouseholdError("signature_invalid", "proof", _("The signature does not fit."))


def _issue(device: Device) -> str:
    token = keys.new_token()
    ApiKey.objects.create(
        user=device.user,
        device=device,
        name=device.name,
        prefix=token[: keys.SHOWN_LENGTH],
        digest=keys.digest(token),
        scopes=keys.READINGS_WRITE,
    )
    CACHE.forget(keys.digest(token))
    return token


def rekey(*, user: User, device_id: str, now: datetime, public_key: str = "", proof: str = "") -> Registered:
    """Give a live device a new API key, or another Ed25519 key; what it had is void. Raise ``HouseholdError``."""
    device = _live(user, device_id)
    if public_key:
        account = Account.objects.filter(user=user, closed_at=None).order_by("index").first()
        owner = device.area if device.kind == DeviceKind.SUBSTATION or account is None else account.account_id
        _check_key(owner, public_key, proof)
    try:
        with transaction.atomic():
            _void_keys(device, now)
            device.public_key = public_key
            Device.objects.filter(pk=device.pk).update(public_key=public_key)
            return Registered(device, "" if public_key else _issue(device))
    except IntegrityError as error:
        raise HouseholdError("key_taken", "public_key", _("This key belongs to another device.")) from error


def revoke(*, user: User, device_id: str, now: datetime, now_ms: int) -> Device:
    """Revoke a lost or removed device: from now on nothing of it is taken. Raise ``HouseholdError`` where there is none."""
    return _revoke(_live(user, device_id), now, now_ms)


def revoke_substation(*, device_id: str, now: datetime, now_ms: int) -> Device:
    """Revoke a substation meter, whichever operator registered it. Raise ``HouseholdError`` where there is none."""
    device = Device.objects.filter(device_id=device_id, kind=DeviceKind.SUBSTATION, revoked_ms=None).first()
    if device is None:
        raise HouseholdError("unknown_device", "device", _("There is no such device, or it has been revoked before."))
    return _revoke(device, now, now_ms)


def _revoke(device: Device, now: datetime, now_ms: int) -> Device:
    with transaction.atomic():
        Device.objects.filter(pk=device.pk, revoked_ms=None).update(revoked_ms=now_ms)
        _void_keys(device, now)
    device.refresh_from_db()
    return device


def _live(user: User, device_id: str) -> Device:
    device = Device.objects.filter(user=user, device_id=device_id, revoked_ms=None).first()
    if device is None:
        raise HouseholdError("unknown_device", "device", _("There is no such device, or it has been revoked before."))
    return device


def _void_keys(device: Device, now: datetime) -> None:
    if ApiKey.objects.filter(device=device, revoked_at=None).update(revoked_at=now):
        endings.ended(device.user_id)


# --- what may be given -----------------------------------------------------------------------------------------------
def inverter(*, device_id: str) -> tuple[Device, int, int]:
    """Return an inverter that waits or is confirmed, its account, and what the connection may give once it is (W).

    Raise ``HouseholdError``.
    """
    rows = Device.objects.filter(device_id=device_id, kind=DeviceKind.INVERTER, revoked_ms=None)
    device = rows.exclude(confirmed=False).select_related("user").first()
    if device is None:
        raise already_decided()
    account = Account.objects.filter(user=device.user, closed_at=None).order_by("index").first()
    if account is None:
        raise HouseholdError("no_account", "account", _("There is no such account."))
    others = Device.objects.filter(user=device.user, kind=DeviceKind.INVERTER, confirmed=True, revoked_ms=None)
    others_w = sum(others.exclude(pk=device.pk).values_list("rating_w", flat=True))
    return device, account.index, min(MAX_CONNECTION_W, others_w + device.rating_w)


def decide(*, device_id: str, by: User, confirmed: bool, now: datetime) -> Device:
    """Note the grid operator's decision about an inverter, once. Raise ``HouseholdError`` where there is one."""
    waits = Device.objects.filter(device_id=device_id, kind=DeviceKind.INVERTER, decided_at=None, revoked_ms=None)
    if not waits.update(decided_at=now, decided_by=by, confirmed=confirmed):
        raise already_decided()
    return Device.objects.get(device_id=device_id)


def already_decided() -> HouseholdError:
    """Return what says that nobody waits for a decision about a device."""
    return HouseholdError("already_decided", "device", _("This device has been decided already."))


# --- questions -------------------------------------------------------------------------------------------------------
def devices_of(user: User) -> list[Device]:
    """Return a person's devices, newest first, revoked ones included."""
    return list(Device.objects.filter(user=user).order_by("-registered_at", "-pk")[:MAX_AREA_DEVICES])


def waiting() -> list[tuple[Device, int, str]]:
    """Return the inverters that wait for the grid operator, oldest first, each with account and area."""
    rows = Device.objects.filter(kind=DeviceKind.INVERTER, decided_at=None, revoked_ms=None)
    found = list(rows.select_related("user").order_by("registered_at", "pk")[:MAX_WAITING])
    owners = _owners({device.user_id for device in found})
    return [
        (device, owner.account, owner.area)
        for device in found
        if (owner := owners.get(device.user_id, _NOBODY)).account >= 0
    ]


class _Owner(NamedTuple):
    """A person's open account (-1: none) and all numbers they have had."""

    account: int
    area: str
    account_id: str
    periods: tuple[Period, ...]


_NOBODY = _Owner(-1, "", "", ())


def _owners(users: set[int]) -> dict[int, _Owner]:
    rows = Account.objects.filter(user_id__in=users).order_by("index")
    found: dict[int, _Owner] = {}
    for user, index, area, id, opened_at, closed_at in rows.values_list(
        "user", "index", "area", "account_id", "opened_at", "closed_at"
    ):
        owner = found.get(user, _NOBODY)
        period = Period(index, _ms(opened_at), None if closed_at is None else _ms(closed_at))
        if closed_at is None and owner.account < 0:
            owner = owner._replace(account=index, area=area, account_id=id)
        found[user] = owner._replace(periods=(*owner.periods, period))
    return found


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def periods_of(user_id: int) -> tuple[Period, ...]:
    """Return the account numbers a person has had, by number."""
    return _owners({user_id}).get(user_id, _NOBODY).periods


def live(*, pk: int | None = None, device_id: str = "") -> DeviceInfo | None:
    """Return a device that is not revoked, by number or id, or None."""
    found = {"pk": pk} if pk is not None else {"device_id": device_id}
    device = Device.objects.filter(**found, revoked_ms=None, user__is_active=True).first()
    return None if device is None else _infos([device])[0]


def of_account(account: int) -> list[DeviceInfo]:
    """Return all devices of the person behind an account, revoked ones included, oldest first."""
    rows = Device.objects.filter(user__accounts__index=account).exclude(kind=DeviceKind.SUBSTATION)
    return [one for one in _infos(list(rows.order_by("pk"))) if one.account == account]


def beside(pks: set[int]) -> dict[int, list[DeviceInfo]]:
    """Return all devices of the people who own these, revoked ones included, oldest first, by owner."""
    found: dict[int, dict[int, DeviceInfo]] = {}
    names = sorted(pks)
    for at in range(0, len(names), IN_ONE_QUERY):
        # What devices are called is sealed; opening it takes longer than all the rest of them.
        rows = Device.objects.defer("name").filter(user__devices__in=names[at : at + IN_ONE_QUERY])
        for one in _infos(list(rows.exclude(kind=DeviceKind.SUBSTATION).distinct().order_by("pk"))):
            found.setdefault(one.user_id, {})[one.pk] = one
    return {user: list(some.values()) for user, some in found.items()}


def by_ids(device_ids: set[str]) -> dict[str, DeviceInfo]:
    """Return live devices by their ids."""
    rows = Device.objects.defer("name").filter(device_id__in=device_ids, revoked_ms=None, user__is_active=True)
    return {one.device_id: one for one in _infos(list(rows))}


def by_tokens(tokens: set[str]) -> dict[str, DeviceInfo]:
    """Return live devices by their API keys: many at once, for a gateway."""
    digests = {keys.digest(token): token for token in tokens if len(token) <= keys.MAX_TOKEN_LENGTH}
    rows = ApiKey.objects.filter(digest__in=list(digests), revoked_at=None, device__revoked_ms=None)
    rows = rows.filter(user__is_active=True).select_related("device").defer("name", "device__name")
    found = {key.device: digests[key.digest] for key in rows}
    some = [device for device in found if device is not None]
    return {found[device]: info for device, info in zip(some, _infos(some), strict=True)}


def substations(area: str = "") -> list[DeviceInfo]:
    """Return the substation meters of an area, or of all, revoked ones included."""
    rows = Device.objects.filter(kind=DeviceKind.SUBSTATION)
    return _infos(list((rows.filter(area=area) if area else rows).order_by("pk")[:MAX_AREA_DEVICES]))


def names(pks: list[int]) -> dict[int, str]:
    """Return what devices are called by their owners."""
    return dict(Device.objects.filter(pk__in=pks).values_list("pk", "name"))


def has_meter(account: int) -> bool:
    """Return whether a live meter is registered for the person behind an account."""
    return Device.objects.filter(user__accounts__index=account, kind=DeviceKind.METER, revoked_ms=None).exists()


def seen(pks: set[int], now_ms: int) -> None:
    """Remember when devices were last heard, to the hour: more would be a write for every batch."""
    hour = now_ms - now_ms % 3_600_000
    Device.objects.filter(pk__in=pks).exclude(last_seen_ms__gte=hour).update(last_seen_ms=hour)


def _infos(devices: list[Device]) -> list[DeviceInfo]:
    owners = _owners({device.user_id for device in devices if device.kind != DeviceKind.SUBSTATION})
    infos = []
    for one in devices:
        account, area, account_id, periods = owners.get(one.user_id, _NOBODY)
        if one.kind == DeviceKind.SUBSTATION:
            account, area, account_id, periods = _NOBODY._replace(area=one.area)
        infos.append(
            DeviceInfo(
                one.pk, one.device_id, one.user_id, account, account_id, area, one.kind, one.rating_w,
                one.register_digits, one.public_key, one.opened_ms, one.revoked_ms, periods,
            )
        )  # fmt: skip
    return infos
