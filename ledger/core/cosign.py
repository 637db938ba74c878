"""Cosignatures of witnesses (https://c2sp.org/tlog-cosignature), the Ed25519 kind: a dated signature of a checkpoint.

A witness that has cosigned a head says: at that time this was the largest head of this log I had seen, and it goes on
from every smaller one I have cosigned.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.core.note import (
    COSIGNATURE,
    SIGNATURE_BYTES,
    Note,
    NoteError,
    check_name,
    format_vkey,
    key_id,
    signature_line,
    split_vkey,
    verifies,
)

TIME_BYTES = 8
MAX_TIME_S = 2**63 - 1
HEADER = "cosignature/v1"


class WitnessKey(NamedTuple):
    """Which witness may cosign under which name."""

    name: str
    key_id: bytes
    public_key: bytes

    def __str__(self) -> str:
        """Return the key's text form, ``name+id+base64``."""
        return format_vkey(self.name, self.public_key, COSIGNATURE)


class Cosignature(NamedTuple):
    """A witness' signature that was checked: who, when (seconds since 1970 UTC), and the line as it stands in a note."""

    key: WitnessKey
    at_s: int
    line: str

    def told(self) -> str:
        """Return who has signed and when, for people; a witness may name a time that no calendar has."""
        try:
            at = f"{datetime.fromtimestamp(self.at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
        except (ValueError, OverflowError, OSError):
            at = f"{self.at_s} s after 1970"
        return f"{self.key.name} ({at})"


def parse_witness_key(text: str) -> WitnessKey:
    """Return the witness key a text stands for; raise ``NoteError`` on anything unusual about it."""
    return WitnessKey(*split_vkey(text, COSIGNATURE))


def cosigned_message(text: str, at_s: int) -> bytes:
    """Return the bytes a witness signs for a checkpoint's text at a time."""
    if not 0 <= at_s <= MAX_TIME_S:
        raise ValueError(f"expected a time from 0 to {MAX_TIME_S}, was {at_s}")
    return f"{HEADER}\ntime {at_s}\n{text}".encode()


class Cosigner:
    """A witness' signing key. ``seed`` is the 32-byte Ed25519 secret."""

    def __init__(self, name: str, seed: bytes):
        check_name(name)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = self._key.public_key().public_bytes_raw()
        self.key = WitnessKey(name, key_id(name, public_key, COSIGNATURE), public_key)

    def cosign(self, text: str, at_s: int) -> str:
        """Return the signature line for a checkpoint's text. Whether it may be signed is the caller's business."""
        signature = self._key.sign(cosigned_message(text, at_s))
        return signature_line(self.key.name, self.key.key_id, at_s.to_bytes(TIME_BYTES) + signature)


def find_cosignature(note: Note, key: WitnessKey) -> Cosignature | None:
    """Return a witness' cosignature of a note, None when there is none.

    Raises ``NoteError`` when a line names the witness and does not fit. Of several the newest one is returned.
    """
    found: Cosignature | None = None
    for name, id_, data in note.signatures:
        if (name, id_) != (key.name, key.key_id):
            continue
        if len(data) != TIME_BYTES + SIGNATURE_BYTES:
            raise NoteError(f"expected a time and a signature by {name}+{id_.hex()}, was {len(data)} bytes")
        at_s = int.from_bytes(data[:TIME_BYTES])
        if at_s > MAX_TIME_S or not verifies(key.public_key, data[TIME_BYTES:], cosigned_message(note.text, at_s)):
            raise NoteError(f"the cosignature by {name}+{id_.hex()} does not fit the text")
        if found is None or at_s > found.at_s:
            found = Cosignature(key, at_s, signature_line(name, id_, data))
    return found
