"""What all REST framework views here have in common: identity and scopes, strict query strings and bodies, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from market.api import orders_in
from market.api.http import is_json_type
from market.api.problems import Problem, shorten
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.households import accesslog, keys, queries
from market.households.identities import Identity
from market.households.models import Role
from market.streaming.access import ANYBODY, Viewer
from market.surveillance import looks

T = TypeVar("T")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OFFICIALS = frozenset({Role.OPERATOR.value, Role.REGULATOR.value, Role.STAFF.value})
CONTRACT_LENGTH = orders_in.CONTRACT_LENGTH
MAX_NAME = 64


class ApiView(APIView):
    """A resource. ``identity`` is None where ``public`` and nobody is signed in.

    ``write_scope`` is what a key (or, ``people_only``, a session) needs for anything but reading; ``roles`` limits who may
    come at all.
    """

    public = False
    write_scope = ""
    roles: frozenset[str] = frozenset()
    identity: Identity | None = None
    schema_tag = ""
    for_devices = False  # whether the key of a device opens it
    for_parties = False  # whether a third party's key may change something: what it leaves behind outlives its consent
    private = (
        False  # whether third parties may not even read it: names of others who act here, numbers of bank accounts
    )
    fresh: frozenset[str] = frozenset()  # methods for which somebody signed in must have shown just now who they are
    people_only = False  # whether changes are for people who are signed in: what a stolen key must not do

    def get_permissions(self) -> list[Any]:
        return [AllowAny()] if self.public else super().get_permissions()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not request.user.is_authenticated:
            return
        identity = request.auth if isinstance(request.auth, Identity) else queries.identity_of(request.user)
        self.identity = identity
        if identity.key_id is None and identity.device is None and queries.lacks_factor(request.user):
            raise Problem(403, "second_factor_required")
        if self.public and request.method in SAFE_METHODS:
            return
        if identity.device is not None and not self.for_devices:
            raise Problem(403, "forbidden")
        if self.private and identity.consent is not None:
            raise Problem(403, "forbidden")
        if request.method not in SAFE_METHODS and (
            (self.people_only and identity.key_id is not None)
            or (not self.for_parties and identity.consent is not None)
        ):
            raise Problem(403, "forbidden")
        if self.roles and identity.role not in self.roles:
            raise Problem(403, "forbidden")
        needed = keys.READ if request.method in SAFE_METHODS else self.write_scope
        if needed and needed not in identity.scopes:
            raise Problem(403, "missing_scope", params={"scope": needed})
        if request.method in self.fresh:
            self.need_fresh()

    def need_fresh(self) -> None:
        """Raise ``Problem`` when it is long ago that whoever is signed in showed who they are; keys are not asked."""
        identity = self.identity
        session = identity is not None and identity.key_id is None and identity.device is None
        if session and is_reauthentication_required(self.request._request, app="allauth.account"):
            raise Problem(403, "reauthentication_required")

    def account(self) -> int:
        """Return the caller's account; raise ``Problem`` when it has none."""
        if self.identity is None or self.identity.account_index is None:
            raise Problem(403, "no_account")
        return self.identity.account_index

    def official(self) -> bool:
        """Whether the caller runs or watches the market (and its key, if it is one, may read)."""
        return self.identity is not None and self.identity.role in OFFICIALS and keys.READ in self.identity.scopes

    def viewer(self) -> Viewer:
        """Return who is asking, as the streams know it."""
        identity = self.identity
        if identity is None:
            return ANYBODY
        return Viewer(identity.user_id, identity.role, identity.account_index, identity.area, True)

    def note(
        self, kind: str, accounts: Callable[[], Iterable[int]] = tuple, *, everybody: bool = False, what: str = "",
        query: str | None = None, sha256: str = "",
    ) -> None:  # fmt: skip
        """Note whom somebody in office is shown here (``accesslog``), and for those who watch the market what they looked at.

        ``accounts`` is only asked for them. ``what`` and ``query`` are the kind and the query string by default.
        """
        identity = self.identity
        if identity is None or identity.role not in OFFICIALS:
            return
        now, who = timezone.now(), {"reader": identity.user_id, "role": identity.role}
        accesslog.note(**who, kind=kind, now=now, accounts=accounts(), everybody=everybody)
        request = self.request._request
        asked = request.META.get("QUERY_STRING", "") if query is None else query
        looks.note(**who, what=what or kind, path=request.path, query=asked, now=now, sha256=sha256)

    def query(self, *known: str) -> dict[str, str]:
        """Return the query string's fields; raise ``Problem`` on unknown or repeated ones: no filter is ignored."""
        found: dict[str, str] = {}
        for name, values in self.request.query_params.lists():
            if name not in known:
                raise Problem(400, "unknown_field", shorten(name), params={"name": shorten(name)})
            if len(values) != 1 or "\0" in values[0]:
                raise Problem(400, "invalid_value", name)
            found[name] = values[0]
        return found

    def decode(self, kind: type[T]) -> T:
        """Return the JSON body as ``kind``; raise ``Problem``: 415, 413, 400 naming the field."""
        if not is_json_type(self.request.META.get("CONTENT_TYPE", "")):
            raise Problem(415, "unsupported_media_type", "Content-Type")
        body = self.request._request.body
        try:
            return msgspec.json.decode(body, type=kind, strict=True)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise orders_in.problem_of(error, body) from None

    def idempotency_key(self) -> str | None:
        """Return the Idempotency-Key header; raise ``Problem`` when it is none of ours."""
        return orders_in.idempotency_key(self.request.META.get("HTTP_IDEMPOTENCY_KEY"))

    @staticmethod
    def exchange() -> Exchange:
        """Return the running exchange; ``NotRunning`` becomes 503."""
        return gateway.current()


def answer(body: Mapping[str, Any] | msgspec.Struct, status: int = 200) -> HttpResponse:
    """Return a JSON answer."""
    response = HttpResponse(msgspec.json.encode(body), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def contract_of(text: str, *, status: int = 404) -> str:
    """Return a contract's name that may exist; raise ``Problem``."""
    if len(text) != CONTRACT_LENGTH or not text.isascii() or not text.isprintable():
        raise Problem(status, "unknown_contract", "contract")
    return text


def area_of(text: str, *, status: int = 404) -> str:
    """Return an area's name that may exist; raise ``Problem``."""
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise Problem(status, "unknown_area", "area")
    return text
