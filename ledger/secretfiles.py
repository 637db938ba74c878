"""Secrets as files of 32 bytes in hex that only their owner can read."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

SECRET_BYTES = 32
MAX_SECRETS = 16
MAX_FILE_CHARS = 4 * SECRET_BYTES * MAX_SECRETS


class KeyFileError(Exception):
    """A secret's file is not as it must be; the message names it. Nothing was signed."""


def load_or_make(path: Path) -> bytes:
    """Return the secret in the file, making it at the first call (mode 0600, complete or not at all).

    Raises ``KeyFileError`` when others may read the file or it holds anything but 64 hex digits.
    """
    found = load_all(path)
    if len(found) != 1:
        raise KeyFileError(f"{path}: expected {2 * SECRET_BYTES} hex digits, was {len(found)} secrets")
    return found[0]


def load_all(path: Path) -> list[bytes]:
    """Return the secrets in the file, one a line, making one at the first call; raise ``KeyFileError``."""
    if not path.exists():
        _make(path)
    handle = os.open(path, os.O_RDONLY)
    with os.fdopen(handle) as file:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        text = file.read(MAX_FILE_CHARS)
    if mode & 0o077:
        raise KeyFileError(f"{path}: expected mode 0600, was {mode:04o}: a key that others can read must be replaced")
    lines = text.removesuffix("\n").split("\n")
    try:
        secrets_ = [bytes.fromhex(line) for line in lines]
    except ValueError:
        secrets_ = []
    if not 0 < len(secrets_) <= MAX_SECRETS or any(len(secret) != SECRET_BYTES for secret in secrets_):
        raise KeyFileError(f"{path}: expected {2 * SECRET_BYTES} hex digits a line, of at most {MAX_SECRETS} secrets")
    return secrets_


def rewrite(path: Path, kept: Sequence[bytes]) -> None:
    """Put other secrets in the place of those in the file: on the disk on return, all of them or none."""
    draft = _draft(path, kept)
    draft.replace(path)
    _sync_folder(path.parent)


def _make(path: Path) -> None:
    """Put a new secret at the path unless somebody else was faster; a crash leaves no half-written file there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, [secrets.token_bytes(SECRET_BYTES)])
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it never replaces a key that is there
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def _draft(path: Path, kept: Sequence[bytes]) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("".join(f"{secret.hex()}\n" for secret in kept))
        file.flush()
        os.fsync(handle)
    return draft


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
