"""The log's signing key and salt secret: files of 32 bytes in hex that only their owner can read."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import stat
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from ledger.core.note import Signer

SECRET_BYTES = 32
SALT_BYTES = 16


class KeyFileError(Exception):
    """A secret's file is not as it must be; the message names it. Nothing was signed."""


def load_or_make(path: Path) -> bytes:
    """Return the secret in the file, making it at the first call (mode 0600, complete or not at all).

    Raises ``KeyFileError`` when others may read the file or it holds anything but 64 hex digits.
    """
    if not path.exists():
        _make(path)
    handle = os.open(path, os.O_RDONLY)
    with os.fdopen(handle) as file:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        text = file.read(4 * SECRET_BYTES)
    if mode & 0o077:
        raise KeyFileError(f"{path}: expected mode 0600, was {mode:04o}: a key that others can read must be replaced")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise KeyFileError(f"{path}: expected {2 * SECRET_BYTES} hex digits")
    return secret


def _make(path: Path) -> None:
    """Put a new secret at the path unless somebody else was faster; a crash leaves no half-written file there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it never replaces a key that is there
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def signer() -> Signer:
    """Return the log's signing key under the log's name (settings ``LEDGER_KEY_FILE`` and ``LEDGER_ORIGIN``)."""
    return Signer(settings.LEDGER_ORIGIN, load_or_make(Path(settings.LEDGER_KEY_FILE)))


def verifier_key() -> str:
    """Return the verifier key that belongs to the log's signing key."""
    return signer().vkey


def salt_secret() -> bytes:
    """Return the secret all salts are derived from (setting ``LEDGER_SALT_FILE``)."""
    return _salt_secret(Path(settings.LEDGER_SALT_FILE))


@lru_cache(maxsize=8)
def _salt_secret(path: Path) -> bytes:
    return load_or_make(path)


def salt(secret: bytes, seq: int) -> str:
    """Return an entry's salt: HMAC-SHA256(secret, seq in decimal digits), its first 16 bytes in hex."""
    return hmac.digest(secret, b"%d" % seq, "sha256")[:SALT_BYTES].hex()
