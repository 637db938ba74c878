"""What may be done with people, homes, accounts and keys.

Time comes in as ``now`` (an aware datetime). What concerns the ledger is sent to the exchange first and noted here once
it is durable: a crash in between leaves an account on the ledger that nobody owns, never an owner without an account.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple
from zoneinfo import available_timezones

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from market.engine.commands import OpenAccount
from market.engine.events import AccountOpened, Refused
from market.exchange import operations as exchange_operations
from market.exchange.exchange import Exchange
from market.households import accesslog, endings, keys, keystore
from market.households.commitments import commitment_of, identity_text
from market.households.identities import CACHE, Identity
from market.households.models import (
    KEY_NAME_LENGTH,
    Account,
    AccountRequest,
    ApiKey,
    Colours,
    Connection,
    Home,
    Role,
    User,
)

SALT_BYTES = 32
CONNECTION_BYTES = 32
MAX_KEYS = 20  # live keys of one person; devices have keys of their own beside these
REGIONS = (
    "Africa/", "America/", "Antarctica/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/",
)  # fmt: skip
OPEN_BATCH = 1_000  # accounts opened together: the exchange's largest batch


class HouseholdError(Exception):
    """Nothing was changed. ``code`` is stable, ``field`` names the input at fault, ``sentence`` says it to a person."""

    def __init__(self, code: str, field: str, sentence: object):
        super().__init__(f"{code}: {field}")
        self.code = code
        self.field = field
        self.sentence = sentence


class Refusal(HouseholdError):
    """The exchange refused what the operation needs."""

    def __init__(self, refused: Refused):
        super().__init__(refused.code, refused.field, _("The exchange refused this."))
        self.refused = refused


class NewKey(NamedTuple):
    """A key that was just made; ``token`` is the secret and is never shown again."""

    token: str
    key: ApiKey


# --- people ----------------------------------------------------------------------------------------------------------
def create_person(
    *, username: str, password: str | None, role: Role = Role.HOUSEHOLD, email: str = "", language: str = ""
) -> User:
    """Create a person; without a password nobody can sign in with one. Raise ``HouseholdError``."""
    if User.objects.filter(username__iexact=username).exists():
        raise HouseholdError("name_taken", "username", _("This name is taken."))
    user = User(username=username, email=email, role=role, language=language)
    if password is not None:
        try:
            validate_password(password, user)
        except ValidationError as error:
            raise HouseholdError("weak_password", "password", " ".join(error.messages)) from error
    user.set_password(password)
    try:
        User.username_validator(username)
        user.clean_fields()
    except ValidationError as error:
        raise HouseholdError("invalid_name", "username", " ".join(error.messages)) from error
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError as error:  # two at the same moment
        raise HouseholdError("name_taken", "username", _("This name is taken.")) from error
    return user


def sign_up(
    *,
    username: str,
    password: str,
    area: str,
    address: str,
    meter_number: str,
    email: str = "",
    language: str = "",
) -> User:
    """Register a household that then waits for the market operator to open its account. Raise ``HouseholdError``."""
    for field, value in (("area", area), ("address", address), ("meter_number", meter_number)):
        limit = AccountRequest._meta.get_field(field).max_length
        if not value.strip() or (limit is not None and len(value) > limit) or "\0" in value:
            raise HouseholdError("invalid_value", field, _("Please fill this in."))
    with transaction.atomic():
        user = create_person(username=username, password=password, email=email, language=language)
        AccountRequest.objects.create(user=user, area=area, address=address.strip(), meter_number=meter_number.strip())
    return user


def set_profile(
    *, user: User, first_name: str, email: str | None = None, time_zone: str | None = None, colours: str | None = None
) -> None:
    """Remember how a person is called and reached, and how pages look to them; None leaves a thing as it is.

    ``time_zone``: an IANA name, "" for the market's. Raise ``HouseholdError`` (invalid_value).
    """
    if time_zone and time_zone not in time_zones():
        raise HouseholdError("invalid_value", "time_zone", _("There is no such time zone."))
    if colours is not None and colours not in Colours.values:
        raise HouseholdError("invalid_value", "colours", _("There are no such colours."))
    user.first_name = first_name
    user.email = user.email if email is None else email
    user.time_zone = user.time_zone if time_zone is None else time_zone
    user.colours = user.colours if colours is None else colours
    user.save(update_fields=["first_name", "email", "time_zone", "colours"])


@cache
def time_zones() -> tuple[str, ...]:
    """Return the names of time zones a person may choose: those of places, and UTC."""
    return ("UTC", *sorted(name for name in available_timezones() if name.startswith(REGIONS)))


def set_language(*, user: User, language: str) -> None:
    """Remember the language a person reads."""
    user.language = language
    user.save(update_fields=["language"])
    CACHE.forget_user(user.pk)


def set_role(*, user: User, role: Role, now: datetime) -> None:
    """Change what a person comes to do; keys keep no scope the new role does not allow, and consents end in office."""
    with transaction.atomic():
        user.role = role
        user.save(update_fields=["role"])
        if role != Role.HOUSEHOLD:
            ApiKey.objects.filter(user=user, revoked_at=None).exclude(consent=None).update(revoked_at=now)
        endings.ended(user.pk)


def deactivate(*, user: User, now: datetime) -> None:
    """Shut a person out: no sign-in, and all keys revoked."""
    with transaction.atomic():
        user.is_active = False
        user.save(update_fields=["is_active"])
        ApiKey.objects.filter(user=user, revoked_at=None).update(revoked_at=now)
        endings.ended(user.pk)


# --- accounts --------------------------------------------------------------------------------------------------------
def _home_connection(home: Home) -> str:
    """Return what the ledger calls a home's connection: what its account or its meter has already, else random."""
    named = Account.objects.filter(home=home).exclude(connection="").values_list("connection", flat=True).first()
    if named is None:
        lookup = keystore.lookup("meter", home.code)
        named = Connection.objects.filter(lookup=lookup).values_list("name", flat=True).first()
    return named or secrets.token_hex(CONNECTION_BYTES)


def _meter_connection(meter: str) -> str:
    """Return what the ledger calls the connection of a meter: the same under every account, and random.

    What was random means nothing any more once its row is erased.
    """
    home = Home.objects.filter(code=meter).first()  # the network may know the connection by this number
    name = secrets.token_hex(CONNECTION_BYTES) if home is None else _home_connection(home)
    return Connection.objects.get_or_create(lookup=keystore.lookup("meter", meter), defaults={"name": name})[0].name


def group_of(user: User | None) -> str:
    """Return what the ledger calls the group of a person's accounts; "" for nobody."""
    # All accounts of one person are one group: they never trade with each other.
    return "" if user is None else salted_hmac("households.group", str(user.pk), algorithm="sha256").hexdigest()[:32]


def opening(*, user: User | None, home: Home | None, area: str, record: dict[str, str]) -> tuple[bytes, OpenAccount]:
    """Return a fresh salt and the command that opens an account with a commitment to ``record``."""
    salt = secrets.token_bytes(SALT_BYTES)
    meter = record.get("meter_number", "")
    if meter:
        connection = _meter_connection(meter)
    else:
        connection = _home_connection(home) if home is not None else ""
    command = OpenAccount(
        account_id=exchange_operations.new_account_id(),
        area=area,
        group=group_of(user),
        connection=connection,
        commitment=commitment_of(salt, record),
    )
    return salt, command


def open_account(
    exchange: Exchange,
    *,
    now: datetime,
    user: User | None = None,
    home: Home | None = None,
    area: str = "",
    address: str = "",
    meter_number: str = "",
) -> Account:
    """Open an account for a person, a home or both, on the ledger and here; the area defaults to the home's.

    A person's account is not automatic: an agent trades only for who asks for it. Raises ``Refusal``.
    """
    area = area or (home.area if home is not None else "")
    record = {"area": area}
    if user is not None:
        record |= {"user": user.username, "address": address, "meter_number": meter_number}
    if home is not None:
        record["home"] = home.code
    salt, command = opening(user=user, home=home, area=area, record=record)
    outcome = exchange.call(command)
    if outcome.refused is not None:
        raise Refusal(outcome.refused)
    account = Account.objects.create(
        index=exchange_operations.opened_account(outcome),
        account_id=command.account_id,
        user=user,
        home=home,
        area=area,
        salt=salt if user is None else b"",
        identity="" if user is None else identity_text(record, salt),
        connection=command.connection,
        automatic=user is None,
        opened_at=now,
        opened_seq=outcome.events[0].seq,  # type: ignore[union-attr]
    )
    if user is not None:
        CACHE.forget_user(user.pk)
    return account


def open_accounts(exchange: Exchange, *, homes: Sequence[Home], now: datetime) -> list[Account]:
    """Open accounts for many homes that nobody has taken, in the order given; an agent trades for them.

    Raises ``Refusal`` at the first one the exchange refuses; those of earlier batches of 1,000 stay open.
    """
    opened: list[Account] = []
    for start in range(0, len(homes), OPEN_BATCH):
        batch = homes[start : start + OPEN_BATCH]
        made = [opening(user=None, home=h, area=h.area, record={"area": h.area, "home": h.code}) for h in batch]
        outcomes = exchange.submit_many([(command, None) for _salt, command in made]).result(60)
        rows = []
        for home, (salt, command), outcome in zip(batch, made, outcomes, strict=True):
            if outcome.refused is not None:
                raise Refusal(outcome.refused)
            event = next(e for e in outcome.events if isinstance(e, AccountOpened))
            rows.append(
                Account(
                    index=event.account,
                    account_id=command.account_id,
                    home=home,
                    area=home.area,
                    salt=salt,
                    connection=command.connection,
                    automatic=True,
                    opened_at=now,
                    opened_seq=event.seq,
                )
            )
        opened += Account.objects.bulk_create(rows)
    return opened


def create_homes(homes: Iterable[Home]) -> list[Home]:
    """Store homes of a network."""
    return Home.objects.bulk_create(list(homes), batch_size=OPEN_BATCH)


def accept_request(exchange: Exchange, *, request_id: int, now: datetime, area: str = "") -> Account:
    """Open the account a household asked for, in the area it named or in the right one.

    Raise ``HouseholdError`` when that is decided already, or ``Refusal``.
    """
    # Claimed first: two members of staff who click at once must not open two accounts.
    claimed = AccountRequest.objects.filter(pk=request_id, decided_at=None).update(decided_at=now)
    if not claimed:
        raise HouseholdError("already_decided", "request", _("This request has been decided already."))
    request = AccountRequest.objects.select_related("user").get(pk=request_id)
    try:
        account = open_account(
            exchange,
            now=now,
            user=request.user,
            area=area or request.area,
            address=request.address,
            meter_number=request.meter_number,
        )
    except BaseException:
        AccountRequest.objects.filter(pk=request_id).update(decided_at=None)
        raise
    AccountRequest.objects.filter(pk=request_id).update(accepted=True, area=account.area)
    return account


def decline_request(*, request_id: int, now: datetime) -> None:
    """Turn a household's request down. Raise ``HouseholdError`` when it is decided already."""
    done = AccountRequest.objects.filter(pk=request_id, decided_at=None).update(decided_at=now, accepted=False)
    if not done:
        raise HouseholdError("already_decided", "request", _("This request has been decided already."))


def close_account(exchange: Exchange, *, account_index: int, now: datetime) -> None:
    """Close an account: its open orders are cancelled, what was traded is still settled. Raise ``Refusal``."""
    outcome = exchange_operations.close_account(exchange, account=account_index)
    if outcome.refused is not None and outcome.refused.code != "account_closed":
        raise Refusal(outcome.refused)
    account = Account.objects.filter(index=account_index).first()
    if account is not None and account.closed_at is None:
        with transaction.atomic():
            account.closed_at = now
            account.save(update_fields=["closed_at"])
            if account.user_id is not None:
                endings.ended(account.user_id)


def claim_account(*, user: User, account_index: int) -> bool:
    """Give a free account to a person, and its trading with it; return whether it was free."""
    with transaction.atomic():
        free = Account.objects.filter(index=account_index, user=None, closed_at=None)
        if not free.update(user=user, automatic=False):
            return False
        account = Account.objects.select_related("user", "home").get(index=account_index)
        record = {"area": account.area} | ({} if account.home is None else {"home": account.home.code})
        account.identity, account.salt = identity_text(record, bytes(account.salt)), b""
        account.save(update_fields=["identity", "salt"])
    CACHE.forget_user(user.pk)
    return True


def set_automatic(*, account_index: int, automatic: bool) -> None:
    """Let an agent trade for the account, or stop it."""
    Account.objects.filter(index=account_index).update(automatic=automatic)


# --- keys ------------------------------------------------------------------------------------------------------------
def issue_key(
    *, user: User, name: str, scopes: Iterable[str], now: datetime, expires_at: datetime | None = None
) -> NewKey:
    """Make an API key and return its secret, once. Raise ``HouseholdError`` (invalid_value, scope_not_allowed, ...)."""
    wanted = set(scopes)
    name = name.strip()
    if not name or len(name) > KEY_NAME_LENGTH or "\0" in name:
        raise HouseholdError("invalid_value", "name", _("Give the key a name of at most 80 characters."))
    if not wanted:
        raise HouseholdError("invalid_value", "scopes", _("Choose what the key may do."))
    if not wanted <= keys.allowed_scopes(user.role):
        raise HouseholdError("scope_not_allowed", "scopes", _("A key of yours cannot be allowed this."))
    if expires_at is not None and expires_at <= now:
        raise HouseholdError("invalid_value", "expires_at", _("This lies in the past."))
    if ApiKey.objects.filter(user=user, device=None, consent=None, revoked_at=None).count() >= MAX_KEYS:
        raise HouseholdError("too_many_keys", "name", _("You have too many keys; revoke one first."))
    return new_key(user=user, name=name, scopes=wanted, expires_at=expires_at)


def new_key(*, user: User, name: str, scopes: Collection[str], expires_at: datetime | None) -> NewKey:
    """Store a fresh key; who calls has checked what it may do."""
    token = keys.new_token()
    key = ApiKey.objects.create(
        user=user,
        name=name,
        prefix=token[: keys.SHOWN_LENGTH],
        digest=keys.digest(token),
        scopes=" ".join(scope for scope in keys.SCOPES if scope in scopes),
        expires_at=expires_at,
    )
    CACHE.forget(key.digest)
    return NewKey(token, key)


def revoke_key(*, user: User, key_id: int, now: datetime) -> bool:
    """Revoke a key of this person; return whether there was one. It is refused from now on, and its sockets close."""
    key = ApiKey.objects.filter(pk=key_id, user=user, device=None, revoked_at=None).first()
    if key is None:
        return False
    with transaction.atomic():
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=now)
        endings.ended(user.pk)
    return True


def note_key_use(*, identity: Identity, now: datetime) -> None:
    """Remember when a key was last used, to the hour: more would be a write for every request."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    if identity.key_id is not None and (identity.key_used_at is None or identity.key_used_at < hour):
        ApiKey.objects.filter(pk=identity.key_id).exclude(last_used_at__gte=hour).update(last_used_at=hour)
        if identity.consent is not None:
            accesslog.note_consent(user_id=identity.user_id, consent=identity.consent, now=now)
