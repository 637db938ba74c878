"""The log's signing keys and salt secret, as the settings name them."""

from __future__ import annotations

import hmac
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from ledger.secretfiles import KeyFileError as KeyFileError
from ledger.secretfiles import load_or_make as load_or_make
from ledger.signing import FileKeys, SigningKeys, SocketKeys

SALT_BYTES = 16
UNIX = "unix:"


def signing_keys() -> SigningKeys:
    """Return the log's signing keys: in ``LEDGER_KEY_FILE``, or held by the signer that ``LEDGER_SIGNER`` names.

    Raises ``KeyFileError``.
    """
    signer = settings.LEDGER_SIGNER
    if not signer:
        return FileKeys(settings.LEDGER_ORIGIN, Path(settings.LEDGER_KEY_FILE))
    if not signer.startswith(UNIX):
        raise KeyFileError(f"LEDGER_SIGNER: expected unix:PATH, was {signer!r:.80}")
    return SocketKeys(settings.LEDGER_ORIGIN, Path(signer.removeprefix(UNIX)))


def verifier_key() -> str:
    """Return the verifier key of the first signing key: the one that a log is founded with."""
    return signing_keys().vkeys()[0]


def salt_secret() -> bytes:
    """Return the secret all salts are derived from (setting ``LEDGER_SALT_FILE``)."""
    return _salt_secret(Path(settings.LEDGER_SALT_FILE))


@lru_cache(maxsize=8)
def _salt_secret(path: Path) -> bytes:
    return load_or_make(path)


def salt(secret: bytes, seq: int) -> str:
    """Return an entry's salt: HMAC-SHA256(secret, seq in decimal digits), its first 16 bytes in hex."""
    return hmac.digest(secret, b"%d" % seq, "sha256")[:SALT_BYTES].hex()
