"""The bytes the ledger commits to for each row of a ``readings`` entry: salted, canonical JSON (RFC 8785)."""

from __future__ import annotations

import hashlib

from ledger.keys import salt_secret

SALT_BYTES = 16


def secret() -> bytes:
    """Return the secret that the salts of rows are derived from; it never leaves this installation."""
    return salt_secret()


def row_salt(secret: bytes, purpose: str) -> str:
    """Return the salt of a row, hex. The same row gets the same salt: a batch sent again has the same root."""
    return hashlib.blake2b(purpose.encode(), key=secret, digest_size=SALT_BYTES).hexdigest()


def reading_bytes(
    *,
    account: int,
    contract: str,
    import_wh: int,
    export_wh: int,
    quality: str,
    salt: str,
    source: str = "",
    reason: str = "",
    revision: int = 0,
) -> bytes:
    """Return a reading as the ledger's rows hold it. Keys in code-point order, ASCII, integers: JCS by construction.

    ``source`` (hex SHA-256) names the evidence of a reading that a device signed, ``reason`` (a code) says why a value is not
    simply measured, ``revision`` which correction of its sender's it is; others have no such field.
    """
    why = f',"reason":"{reason}"' if reason else ""
    which = f',"revision":{revision}' if revision else ""
    signed = f',"source":"{source}"' if source else ""
    return (
        f'{{"account":{account},"contract":"{contract}","export_wh":{export_wh},"import_wh":{import_wh},'
        f'"quality":"{quality}"{why}{which},"salt":"{salt}"{signed}}}'
    ).encode()
