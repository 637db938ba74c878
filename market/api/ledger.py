"""`GET /api/v1/ledger/…`: blocks for everybody, entries, proofs and receipts for those whom they concern."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request

from ledger import cosigning
from ledger import queries as ledger
from ledger.core.merkle import leaf_hash
from market.api import cursors, shapes
from market.api.openapi import PAGE, describe, query, ref
from market.api.problems import Problem
from market.api.views import OFFICIALS, ApiView, answer
from market.exchange import receipts
from market.exchange.concerns import accounts_named, concerns
from market.exchange.units import at_text
from market.households import accesslog, keys
from market.households import queries as household_queries
from market.households.identities import Identity
from market.households.queries import identify_key

MAX_SEQ = 2**53 - 1
MAX_ACCOUNT_DIGITS = 9


def may_read_ledger(identity: Identity | None) -> bool:
    """Whether all entries are open to the caller: to officials, and to keys with ``ledger:read``."""
    if identity is None:
        return False
    if keys.LEDGER_READ in identity.scopes:
        return True
    return identity.role in OFFICIALS and keys.READ in identity.scopes


def key_may_read(request: HttpRequest) -> bool | None:
    """Whether a request carries a key to all entries, None without a valid key.

    The setting ``LEDGER_ACCESS``: asked by the log's own paths.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    identity = identify_key(token) if scheme.lower() == "bearer" and token else None
    return None if identity is None else may_read_ledger(identity)


def note_read(request: HttpRequest) -> None:
    """Note that somebody in office reads entries and rows of everybody. The setting ``LEDGER_NOTED``."""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        reader, role = user.pk, user.role
    else:
        identity = identify_key(request.headers.get("Authorization", "").partition(" ")[2].strip())
        if identity is None:
            return
        reader, role = identity.user_id, identity.role
    accesslog.note(reader=reader, role=role, kind=accesslog.LEDGER, now=timezone.now(), everybody=True)


class _EntryView(ApiView):
    """What ``Entry`` and ``Proof`` share: they exist only for those who may see the entry."""

    public = True

    def leaf(self, seq: int, *known: str) -> bytes:
        """Return the entry's bytes; raise ``Problem`` 404 where there is none to be seen. ``known``: query fields."""
        self.query(*known)
        if self.identity is None and not settings.LEDGER_OPEN:
            raise Problem(401, "not_authenticated", headers=(("WWW-Authenticate", "Bearer"),))
        try:
            leaf = ledger.leaf(seq) if seq <= MAX_SEQ else None
        except ledger.NotThere:
            leaf = None
        if leaf is None:
            raise Problem(404, "not_found", "seq")
        entry = orjson.loads(leaf)
        if not (settings.LEDGER_OPEN or may_read_ledger(self.identity)) and not self._own(entry):
            raise Problem(404, "not_found", "seq")
        self.note(accesslog.ENTRIES, lambda: accounts_named([entry]))
        return leaf

    def _own(self, entry: dict[str, Any]) -> bool:
        identity = self.identity
        if identity is None or keys.READ not in identity.scopes:
            return False
        own = household_queries.account_indexes(identity.user_id)  # earlier numbers of the same person, too
        return bool(own) and concerns(entry, own)


class Blocks(ApiView):
    """The sealed runs of entries. Their roots are what the public checkpoints sign."""

    public = True

    @describe("Blocks", shapes.BlockPage, tag="ledger", parameters=PAGE)
    def get(self, request: Request) -> HttpResponse:
        """Return blocks, newest first."""
        query = self.query("limit", "cursor")
        limit = cursors.limit_of(query)
        rows = ledger.blocks(limit + 1, before=cursors.number_cursor(query))
        witnessed = cosigning.witnessed_size()
        return answer(cursors.page(rows, limit, lambda row: row.height, lambda row: _block(row, witnessed)))


def _block(row: ledger.Block, witnessed: int | None) -> dict[str, Any]:
    return {
        "height": row.height,
        "first": row.first,
        "count": row.count,
        "size": row.size,
        "root": row.root,
        "at": at_text(row.at_ms),
        "state": cosigning.state_of(row.size - 1, row.size, witnessed),
    }


class Entry(_EntryView):
    """One entry. A household sees its own; officials and keys with ``ledger:read`` see all."""

    @describe("An entry", shapes.Entry, tag="ledger")
    def get(self, request: Request, seq: int) -> HttpResponse:
        """Return an entry's fields and the bytes that are hashed."""
        leaf = self.leaf(seq)
        return answer(
            {
                "seq": seq,
                "entry": orjson.loads(leaf),
                "leaf": base64.b64encode(leaf).decode(),
                "leaf_hash": leaf_hash(leaf).hex(),
                "state": cosigning.state_of(seq, ledger.sealed_size(), cosigning.witnessed_size()),
            }
        )


class Proof(_EntryView):
    """An entry's receipt: the path to the root that the newest checkpoint signs."""

    @describe("An entry's receipt", shapes.Proof, tag="ledger")
    def get(self, request: Request, seq: int) -> HttpResponse:
        """Return the inclusion proof of an entry, 409 while it is not sealed yet (a second or two)."""
        self.leaf(seq)
        try:
            proof = ledger.inclusion(seq)
        except ledger.NotThere:
            raise Problem(409, "not_sealed", "seq", headers=(("Retry-After", "1"),)) from None
        return answer(
            {
                "seq": seq,
                "size": proof.size,
                "leaf_hash": proof.leaf_hash,
                "hashes": proof.hashes,
                "root": proof.root,
                "checkpoint": proof.checkpoint,
                "state": cosigning.state_of(seq, proof.size, cosigning.witnessed_size()),
                "receipt": ledger.receipt_of(proof),
            }
        )


class Receipt(_EntryView):
    """An entry's receipt as a file that holds what it proves; with ``account`` that of a row of a settlement."""

    @extend_schema(
        summary="An entry's receipt as a file",
        tags=["ledger"],
        parameters=[
            query("account", "of a settle or adjust entry: the receipt of this account's row", int),
            query("agreement", "with account: of several private agreements in the entry, the row of this one", int),
        ],
        responses={(200, "text/plain"): str, "default": OpenApiResponse(ref(shapes.Problem))},
    )
    def get(self, request: Request, seq: int) -> HttpResponse:
        """Return a c2sp.org/tlog-proof@v1 file that carries the entry, 409 while it is not sealed yet."""
        self.leaf(seq, "account", "agreement")
        asked = self.query("account", "agreement")
        account = asked.get("account")
        agreement = cursors.integer(asked, "agreement", low=1, high=MAX_SEQ) or 0
        if account is None:
            return self._file(f"entry-{seq}", lambda: receipts.entry_receipt(seq))
        if not (account.isascii() and account.isdigit() and len(account) <= MAX_ACCOUNT_DIGITS):
            raise Problem(400, "invalid_value", "account")
        index = int(account)
        identity = self.identity
        mine = identity is not None and index in household_queries.account_indexes(identity.user_id)
        if not (mine or settings.LEDGER_OPEN or may_read_ledger(identity)):
            raise Problem(404, "not_found", "account")
        if not receipts.has_row(seq, index):
            raise Problem(404, "not_found", "account")
        self.note(accesslog.ENTRIES, lambda: [index])
        return self._file(f"entry-{seq}-account-{index}", lambda: receipts.row_receipt(seq, index, agreement))

    @staticmethod
    def _file(name: str, make: Callable[[], str]) -> HttpResponse:
        try:
            text = make()
        except ledger.NotThere:
            raise Problem(409, "not_sealed", "seq", headers=(("Retry-After", "1"),)) from None
        response = HttpResponse(text, content_type="text/plain; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{name}.tlog-proof"'
        response["Cache-Control"] = "no-store"
        return response
