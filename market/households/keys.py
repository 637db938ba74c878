"""API keys as text: what one looks like, what it may do, how it is stored."""

from __future__ import annotations

import hashlib
import secrets

from market.households.models import Role

PREFIX = "sl_"  # lets secret scanners find a leaked key
SECRET_BYTES = 32
SHOWN_LENGTH = 10  # characters of a key that its owner sees again
MAX_TOKEN_LENGTH = 80  # a longer one is no key of ours and not worth hashing

TRADE = "trade"
READ = "read"
READINGS_WRITE = "readings:write"
LEDGER_READ = "ledger:read"
OPERATE = "operate"  # capacities, fees, halts: for the grid operator's own systems
SCOPES = (READ, TRADE, READINGS_WRITE, LEDGER_READ, OPERATE)

# The whole ledger shows what single homes did, so a household cannot give itself that scope.
_HOUSEHOLD_SCOPES = frozenset({READ, TRADE, READINGS_WRITE})
_OFFICIAL_SCOPES = frozenset({READ, LEDGER_READ, OPERATE})
ALLOWED_SCOPES: dict[str, frozenset[str]] = {
    Role.HOUSEHOLD.value: _HOUSEHOLD_SCOPES,
    Role.OPERATOR.value: _OFFICIAL_SCOPES,
    Role.REGULATOR.value: frozenset({READ, LEDGER_READ}),
    Role.STAFF.value: _OFFICIAL_SCOPES,
}


def new_token() -> str:
    """Return a fresh secret key."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest(token: str) -> str:
    """Return the hex SHA-256 under which a key is stored. A key has 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def allowed_scopes(role: str) -> frozenset[str]:
    """Return what a key, or a session, of a person in this role may do."""
    return ALLOWED_SCOPES.get(role, frozenset())
