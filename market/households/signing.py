"""An account's own key: registered by who shows that it has it, checked with every order before it enters the market."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from ledger.core.note import NoteError, check_public_key, fits
from market.engine import signing
from market.engine.commands import SignedOrder
from market.engine.engine import Engine
from market.exchange import operations as exchange_operations
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome
from market.households.models import Account
from market.households.operations import HouseholdError, Refusal

SIGNATURE_DIGITS = 128
KEY_DIGITS = 64


class Signing(NamedTuple):
    """What is needed to sign for an account. ``public_key`` is "" while its orders need no signature."""

    account_id: str
    public_key: str
    rules: str  # hex SHA-256 of the rulebook in force
    origin: str  # the log's name
    changes: int  # how often the key was changed by who had it, or by a reset

    def key_text(self, public_key: str) -> bytes:
        """Return what a new key (hex, "" for none) and the one so far sign."""
        return signing.key_text(
            self.account_id,
            public_key,
            before=self.public_key,
            changes=self.changes,
            origin=self.origin,
            rules=self.rules,
        )


def signing_of(exchange: Exchange, *, account: int, rules: str) -> Signing:
    """Return what is needed to sign for an account."""

    def look(engine: Engine) -> tuple[str, str, int]:
        found = engine.accounts[account]
        return found.id, found.key, found.key_changes

    account_id, public_key, changes = exchange.read(look)
    return Signing(account_id, public_key, rules, settings.LEDGER_ORIGIN, changes)


def is_signed(exchange: Exchange, *, account: int) -> bool:
    """Return whether an account's orders need a signature."""
    return exchange.read(lambda engine: bool(engine.accounts[account].key))


def sign_with(order: signing.Order, *, signature: str, key: str, known: Signing) -> SignedOrder | None:
    """Return a verified signed order, None when the signature does not fit. ``key``: the Idempotency-Key it came with."""
    nonce = hashlib.sha256(key.encode()).hexdigest()
    if not known.public_key or len(signature) != SIGNATURE_DIGITS:
        return None
    if not fits(known.public_key, signature, signing.text(order, known.account_id, nonce, known.rules)):
        return None
    return SignedOrder(order.account, order, signature, nonce, known.rules)


def register(
    exchange: Exchange,
    *,
    account: int,
    public_key: str,
    proof: str,
    known: Signing,
    approval: str = "",
    reason: str = "",
) -> Outcome:
    """Have an account's orders signed with a key from here on.

    ``proof`` and, where there is a key, ``approval`` are signatures (hex) of ``Signing.key_text`` by the new key and by the
    one so far. Without ``approval`` that one is reset, for a ``reason`` of ``signing.RESETS`` that the ledger keeps. An agent
    cannot sign, so it stops trading for the account. Raise ``HouseholdError``, ``Refusal``.
    """
    try:
        check_public_key(bytes.fromhex(public_key))
    except (ValueError, NoteError) as error:
        raise HouseholdError("invalid_value", "public_key", _("This key cannot be used.")) from error
    if not fits(public_key, proof, known.key_text(public_key)):
        raise HouseholdError("signature_invalid", "proof", _("The signature does not fit."))
    outcome = _change(exchange, account, public_key, proof, approval, reason, known)
    Account.objects.filter(index=account).update(automatic=False)
    return outcome


def remove(exchange: Exchange, *, account: int, known: Signing, approval: str = "", reason: str = "") -> Outcome:
    """Have an account's orders need no signature any more; as ``register``. Raise ``HouseholdError``, ``Refusal``."""
    return _change(exchange, account, "", "", approval, reason, known)


def _change(
    exchange: Exchange, account: int, public_key: str, proof: str, approval: str, reason: str, known: Signing
) -> Outcome:
    if known.public_key not in ("", public_key):
        if approval and not fits(known.public_key, approval, known.key_text(public_key)):
            raise HouseholdError("signature_invalid", "approval", _("The signature does not fit."))
        if not approval and not reason:
            raise HouseholdError("signature_required", "approval", _("The key so far has to sign this, or be reset."))
    else:
        approval = reason = ""  # there is nothing to let go of
    outcome = exchange_operations.set_account_key(
        exchange,
        account=account,
        public_key=public_key,
        proof=proof,
        approval=approval,
        rules=known.rules if proof or approval else "",
        reason="" if approval else reason,
        changes=known.changes,
    )
    if outcome.refused is not None and outcome.refused.code != "nothing_to_change":
        raise Refusal(outcome.refused)
    return outcome
