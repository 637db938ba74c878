"""An account's own key: registered by who shows that it has it, checked with every order before it enters the market."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

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


def signing_of(exchange: Exchange, *, account: int, rules: str) -> Signing:
    """Return what is needed to sign for an account."""

    def look(engine: Engine) -> tuple[str, str]:
        return engine.accounts[account].id, engine.accounts[account].key

    return Signing(*exchange.read(look), rules)


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


def register(exchange: Exchange, *, account: int, public_key: str, proof: str) -> Outcome:
    """Have an account's orders signed with a key from here on. ``proof``: signature of ``signing.key_text``, both hex.

    An agent cannot sign, so it stops trading for the account. Raise ``HouseholdError``, ``Refusal``.
    """
    try:
        check_public_key(bytes.fromhex(public_key))
    except (ValueError, NoteError) as error:
        raise HouseholdError("invalid_value", "public_key", _("This key cannot be used.")) from error
    account_id = exchange.read(lambda engine: engine.accounts[account].id)
    if not fits(public_key, proof, signing.key_text(account_id, public_key)):
        raise HouseholdError("signature_invalid", "proof", _("The signature does not fit."))
    outcome = _set(exchange, account, public_key)
    Account.objects.filter(index=account).update(automatic=False)
    return outcome


def remove(exchange: Exchange, *, account: int) -> Outcome:
    """Have an account's orders need no signature any more. Raise ``Refusal``."""
    return _set(exchange, account, "")


def _set(exchange: Exchange, account: int, public_key: str) -> Outcome:
    outcome = exchange_operations.set_account_key(exchange, account=account, public_key=public_key)
    if outcome.refused is not None and outcome.refused.code != "nothing_to_change":
        raise Refusal(outcome.refused)
    return outcome
