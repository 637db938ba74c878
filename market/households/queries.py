"""What may be asked about people, homes, accounts and keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth import get_user
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string

from market.households import keys
from market.households.commitments import commitment_of, opens
from market.households.identities import CACHE, KEY_TTL_S, Identity
from market.households.models import Account, AccountRequest, ApiKey, Consent, Home, Renewal, Role, User

MAX_LIST = 500  # rows of a staff list; the oldest come first, so that nothing is overlooked

MAX_EARLIER = 3  # former numbers of an account that are looked at


class AccountInfo(NamedTuple):
    """An account and who stands behind it. ``home`` is the network's name of the connection, "" without one."""

    index: int
    account_id: str
    area: str
    user_id: int | None
    home: str
    automatic: bool
    closed: bool


# --- accounts --------------------------------------------------------------------------------------------------------
def _info(account: Account) -> AccountInfo:
    return AccountInfo(
        index=account.index,
        account_id=account.account_id,
        area=account.area,
        user_id=account.user_id,
        home=account.home.code if account.home is not None else "",
        automatic=account.automatic,
        closed=account.closed_at is not None,
    )


def account_of(user: User) -> AccountInfo | None:
    """Return a person's oldest open account, or None."""
    account = (
        Account.objects.filter(user_id=user.pk, closed_at=None).select_related("home").order_by("index").first()
        if user.pk is not None
        else None
    )
    return None if account is None else _info(account)


def account_at(index: int) -> AccountInfo | None:
    """Return the account with this index, or None."""
    account = Account.objects.filter(index=index).select_related("home").first()
    return None if account is None else _info(account)


def account_indexes(user_id: int) -> list[int]:
    """Return all accounts a person ever had, closed ones included."""
    return list(Account.objects.filter(user_id=user_id).order_by("index").values_list("index", flat=True))


def earlier_accounts(user: User) -> list[AccountInfo]:
    """Return a person's closed accounts, newest first."""
    rows = Account.objects.filter(user=user).exclude(closed_at=None).select_related("home")
    return [_info(account) for account in rows.order_by("-index")[:MAX_LIST]]


def same_connection(indexes: Collection[int]) -> dict[int, list[int]]:
    """Return what the accounts were before they had a new number: closed ones of the same person and connection.

    The ``MAX_EARLIER`` newest of each, newest first; accounts without any are left out.
    """
    rows = Account.objects.filter(index__in=indexes).exclude(user=None).exclude(connection="")
    now = {(user, name): index for index, user, name in rows.values_list("index", "user_id", "connection")}
    closed = Account.objects.filter(user_id__in={user for user, _ in now}).exclude(closed_at=None)
    found: dict[int, list[int]] = {}
    for index, user, name in closed.order_by("-index").values_list("index", "user_id", "connection"):
        present = now.get((user, name))
        if present is not None and len(found.setdefault(present, [])) < MAX_EARLIER:
            found[present].append(index)
    return found


def erasure_requests() -> list[User]:
    """Return those who wait to be erased, oldest request first."""
    return list(User.objects.exclude(erasure_requested_at=None).order_by("erasure_requested_at")[:MAX_LIST])


def commitment_holds(account_index: int, commitment: str) -> bool | None:
    """Return whether an account's record and salt give the commitment on the ledger; None when they were erased."""
    account = Account.objects.filter(index=account_index).select_related("user", "home").first()
    if account is None:
        return None
    if account.identity:
        return opens(account.identity, commitment)
    if account.salt and account.home is not None:
        record = {"area": account.area, "home": account.home.code}
        return commitment_of(bytes(account.salt), record) == commitment
    return None


def accounts_by_id(user_id: int) -> dict[str, int]:
    """Return the open accounts of a person: id on the ledger -> index."""
    return dict(Account.objects.filter(user_id=user_id, closed_at=None).values_list("account_id", "index"))


def accounts(indexes: Iterable[int] | None = None) -> list[AccountInfo]:
    """Return accounts by index, or all of them, in the order of their index."""
    rows = Account.objects.select_related("home").order_by("index")
    if indexes is not None:
        rows = rows.filter(index__in=list(indexes))
    return [_info(account) for account in rows]


def automatic_accounts() -> list[AccountInfo]:
    """Return the open accounts that an agent trades for."""
    rows = Account.objects.filter(automatic=True, closed_at=None).select_related("home").order_by("index")
    return [_info(account) for account in rows]


def free_accounts(*, limit: int = MAX_LIST) -> list[AccountInfo]:
    """Return open accounts of homes that no person has taken."""
    rows = Account.objects.filter(user=None, closed_at=None).exclude(home=None).select_related("home")
    return [_info(account) for account in rows.order_by("index")[:limit]]


def homes_by_area(*, opened_before: int | None = None) -> dict[str, int]:
    """Return how many open accounts each area has; ``opened_before``: only those opened before that ledger sequence."""
    rows = Account.objects.filter(closed_at=None).values("area")
    if opened_before is not None:
        rows = rows.filter(Q(opened_seq__lt=opened_before) | Q(opened_seq=None))
    return dict(rows.annotate(homes=Count("pk")).values_list("area", "homes"))


def home_of(index: int) -> Home | None:
    """Return the home behind an account, or None."""
    return Home.objects.filter(account__index=index).first()


def homes() -> QuerySet[Home]:
    """Return all homes in the order of their code."""
    return Home.objects.order_by("code")


class Periods(NamedTuple):
    """Accounts that were opened, and that were closed, after a time."""

    joined: frozenset[int]
    left: frozenset[int]


def periods_since(at_ms: int) -> Periods:
    """Return which accounts were opened and which closed after a time (market time, ms).

    What begins at an interval's start is there in it, what ends there is not (``devices.account_at``).
    """
    at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    rows = Account.objects.filter(Q(opened_at__gt=at) | Q(closed_at__gt=at))
    joined, left = set(), set()
    for index, opened_at, closed_at in rows.values_list("index", "opened_at", "closed_at"):
        if opened_at > at:
            joined.add(index)
        elif closed_at is not None:
            left.add(index)
    return Periods(frozenset(joined), frozenset(left))


def renewal_entries(account: int) -> set[int]:
    """Return the ledger entries that moved money between a person's one account number and another."""
    rows = Renewal.objects.filter(Q(old__index=account) | Q(new__index=account)).values_list("out_seq", "in_seq")
    return {seq for pair in rows for seq in pair if seq is not None}


def area_sizes() -> dict[str, int]:
    """Return the number of open accounts in each area that has one; public data names no area with fewer than ten."""
    sizes: dict[str, int] = {}
    for area in Account.objects.filter(closed_at=None).values_list("area", flat=True):
        sizes[area] = sizes.get(area, 0) + 1
    return sizes


# --- identities ------------------------------------------------------------------------------------------------------
def identity_of(user: User, *, key: ApiKey | None = None) -> Identity:
    """Return the identity of a person, limited to what its key may do when one is used."""
    account = (
        Account.objects.filter(user_id=user.pk, closed_at=None).order_by("index").values_list("index", "area").first()
    )
    allowed = keys.allowed_scopes(user.role)
    if key is not None and key.device_id is not None:
        allowed = frozenset((keys.READINGS_WRITE,))  # an operator's substation meter, too
    return Identity(
        user_id=user.pk,
        role=user.role,
        account_index=None if account is None else account[0],
        scopes=allowed if key is None else allowed.intersection(key.scopes.split()),
        area="" if account is None else account[1],
        language=user.language,
        key_id=None if key is None else key.pk,
        key_used_at=None if key is None else key.last_used_at,
        device=None if key is None else key.device_id,
        consent=None if key is None else Consent.objects.filter(key=key).values_list("pk", flat=True).first(),
        expires_at=None if key is None else key.expires_at,
    )


def known_key(token: str) -> tuple[bool, Identity | None]:
    """Return (remembered, identity) without touching the database; for event loops."""
    if len(token) > keys.MAX_TOKEN_LENGTH or not token.startswith(keys.PREFIX):
        return True, None
    return CACHE.get(keys.digest(token))


def identify_key(token: str) -> Identity | None:
    """Return the identity behind an API key, or None when it is not valid. Remembered for a few seconds."""
    remembered, identity = known_key(token)
    if remembered:
        return identity
    generation = CACHE.generation()
    digest = keys.digest(token)
    now = timezone.now()
    key = (
        ApiKey.objects.filter(digest=digest, revoked_at=None, user__is_active=True)
        .filter(Q(expires_at=None) | Q(expires_at__gt=now))
        .select_related("user")
        .first()
    )
    identity = None if key is None else identity_of(key.user, key=key)
    # A key that ends is not remembered beyond its end.
    left_s = KEY_TTL_S if key is None or key.expires_at is None else (key.expires_at - now).total_seconds()
    CACHE.put(digest, identity, generation, ttl_s=left_s)
    return identity


def identify_session(session_key: str) -> Identity | None:
    """Return the identity behind a session cookie, or None. Not remembered: signing out must count at once."""
    user = session_user(session_key)
    return None if user is None else identity_of(user)


def session_user(session_key: str) -> User | None:
    """Return the person behind a session cookie with all of Django's checks, or None."""
    request = HttpRequest()
    request.session = import_string(f"{settings.SESSION_ENGINE}.SessionStore")(session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active and not lacks_factor(user) else None


def lacks_factor(user: User) -> bool:
    """Return whether somebody in office has to set up a second factor before anything else (``STAFF_SECOND_FACTOR``)."""
    if not settings.STAFF_SECOND_FACTOR or user.role == Role.HOUSEHOLD:
        return False
    return not Authenticator.objects.filter(user_id=user.pk).exclude(type=Authenticator.Type.RECOVERY_CODES).exists()


def user_with_key(identity: Identity) -> User | None:
    """Return the active person an identity stands for."""
    return User.objects.filter(pk=identity.user_id, is_active=True).first()


# --- lists for people -------------------------------------------------------------------------------------------------
def keys_of(user: User) -> QuerySet[ApiKey]:
    """Return a person's keys, newest first, revoked ones included; those of devices and third parties stand beside them."""
    return ApiKey.objects.filter(user=user, device=None, consent=None).order_by("-created_at", "-pk")[:MAX_LIST]


def request_of(user: User) -> AccountRequest | None:
    """Return a person's request for an account, or None."""
    return AccountRequest.objects.filter(user=user).first()


def open_request(request_id: int) -> AccountRequest | None:
    """Return a request that waits for a decision, or None."""
    return AccountRequest.objects.filter(pk=request_id, decided_at=None).select_related("user").first()


def open_requests() -> QuerySet[AccountRequest]:
    """Return requests for accounts that wait for a decision, oldest first."""
    return AccountRequest.objects.filter(decided_at=None).select_related("user").order_by("requested_at")[:MAX_LIST]


def people(role: Role) -> list[User]:
    """Return the active people in a role, by name."""
    return sorted(User.objects.filter(role=role, is_active=True), key=lambda person: person.username)
