"""Signed notes and checkpoints (https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint) with Ed25519 keys.

A checkpoint is the signed head of the log: ``origin``, size and root, one a line. Whoever trusts a verifier key and has
seen a checkpoint can tell whether any entry under it was changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.core.merkle import HASH_BYTES

ED25519 = 0x01  # signature type of a log's own key
COSIGNATURE = 0x04  # signature type of a witness: Ed25519 over a time and the text (``cosign``)
KEYS_KEPT = 65_536  # some 30 MB of keys that were found good
KEY_BYTES = 32
KEY_ID_BYTES = 4
SIGNATURE_BYTES = 64
MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 64  # a note must take at least 16; bounded because every line may cost a verification
MAX_NAME_LENGTH = 255
MAX_SIZE = 2**63 - 1

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
# y coordinates of the points whose order divides 8: with such a key one signature fits every message.
_LOW_ORDER_Y = frozenset(
    (
        0,
        1,
        _P - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
        & (2**255 - 1),
    )
)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ValueError):
    """A key, a note or its signatures are not what they should be."""


class Checkpoint(NamedTuple):
    """The head of a log: its name, how many entries it has and the Merkle root over them."""

    origin: str
    size: int
    root: bytes


class Signature(NamedTuple):
    """A signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A signed text; nothing in it may be believed before ``verify_note`` has passed."""

    text: str
    signatures: tuple[Signature, ...]


class VerifierKey(NamedTuple):
    """Who may sign under which name."""

    name: str
    key_id: bytes
    public_key: bytes

    def __str__(self) -> str:
        """Return the key's text form, ``name+id+base64``."""
        return format_vkey(self.name, self.public_key)


def key_id(name: str, public_key: bytes, kind: int = ED25519) -> bytes:
    """Return the short id by which a signature line names an Ed25519 key. ``kind``: the type of its signatures."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:KEY_ID_BYTES]


def check_name(name: str) -> None:
    """Raise ``NoteError`` unless a key may have this name."""
    if not name or len(name) > MAX_NAME_LENGTH or "+" in name or not name.isprintable() or any(map(str.isspace, name)):
        raise NoteError(f"expected a key name without spaces and plus signs, was {name!r:.80}")


def check_public_key(public_key: bytes) -> None:
    """Raise ``NoteError`` unless this is a canonical Ed25519 key of large order.

    Libraries disagree on all others, and with a key of low order a signature fits more than one message.
    """
    if len(public_key) != KEY_BYTES:
        raise NoteError(f"expected an Ed25519 key of {KEY_BYTES} bytes, was {len(public_key)}")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _P:
        raise NoteError("expected a canonical Ed25519 key, its y is not reduced")
    if y in _LOW_ORDER_Y:
        raise NoteError("expected an Ed25519 key of large order, this one is weak")
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise NoteError("expected an Ed25519 key, this is no point of the curve")


@lru_cache(maxsize=KEYS_KEPT)
def _checked_key(public_key: bytes) -> Ed25519PublicKey:
    """Return a key that ``check_public_key`` has found good: a household has one key and many orders."""
    check_public_key(public_key)
    return Ed25519PublicKey.from_public_bytes(public_key)


def fits(public_key: str, signature: str, text: bytes) -> bool:
    """Return whether an Ed25519 signature of a text is by a key, both in small hex; False for anything malformed."""
    try:
        raw = bytes.fromhex(signature)
        _checked_key(bytes.fromhex(public_key)).verify(raw, text)
    except (ValueError, NoteError, InvalidSignature):
        return False
    return signature == raw.hex()


def format_vkey(name: str, public_key: bytes, kind: int = ED25519) -> str:
    """Return the text form of a verifier key: ``name+hex id+base64(type || key)``."""
    encoded = base64.b64encode(bytes([kind]) + public_key).decode()
    return f"{name}+{key_id(name, public_key, kind).hex()}+{encoded}"


def parse_vkey(text: str) -> VerifierKey:
    """Return the verifier key a text stands for; raise ``NoteError`` on anything unusual about it."""
    return VerifierKey(*split_vkey(text, ED25519))


def split_vkey(text: str, kind: int) -> tuple[str, bytes, bytes]:
    """Return name, id and public key of a verifier key of one kind; raise ``NoteError`` on anything unusual about it."""
    name, plus, rest = text.partition("+")
    id_text, second_plus, encoded = rest.partition("+")
    if not plus or not second_plus:
        raise NoteError(f"expected a verifier key name+id+base64, was {text!r:.80}")
    check_name(name)
    data = decode64(encoded, "the verifier key")
    if len(data) != 1 + KEY_BYTES or data[0] != kind:
        raise NoteError(f"expected an Ed25519 verifier key (type {kind:#04x}, {KEY_BYTES} bytes)")
    public_key = data[1:]
    check_public_key(public_key)
    expected = key_id(name, public_key, kind)
    if id_text != expected.hex():
        raise NoteError(f"expected the key id {expected.hex()}, was {id_text!r:.20}")
    return name, expected, public_key


def checkpoint_body(origin: str, size: int, root: bytes) -> str:
    """Return the text that is signed for a log's head."""
    if size < 0 or size > MAX_SIZE or len(root) != HASH_BYTES:
        raise ValueError(f"expected a size from 0 and a root of {HASH_BYTES} bytes, was {size} and {len(root)} bytes")
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def body_hash(origin: str, size: int, root: bytes) -> bytes:
    """Return the SHA-256 of a checkpoint's body: what the next seal names as ``prev``."""
    return hashlib.sha256(checkpoint_body(origin, size, root).encode()).digest()


def signature_line(name: str, id_: bytes, signature: bytes) -> str:
    """Return a note's signature line, newline included."""
    return f"— {name} {base64.b64encode(id_ + signature).decode()}\n"


class Signer:
    """The log's signing key. ``seed`` is the 32-byte Ed25519 secret."""

    def __init__(self, name: str, seed: bytes):
        check_name(name)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.name = name
        self.public_key = self._key.public_key().public_bytes_raw()
        self.key_id = key_id(name, self.public_key)

    @property
    def vkey(self) -> str:
        """The verifier key that belongs to it, as text."""
        return format_vkey(self.name, self.public_key)

    def sign(self, text: str) -> str:
        """Return the note: the text (which must end in a newline), an empty line and the signature line."""
        if not text.endswith("\n"):
            raise ValueError("expected a text that ends in a newline")
        return f"{text}\n{signature_line(self.name, self.key_id, self.sign_raw(text))}"

    def sign_raw(self, text: str) -> bytes:
        """Return the bare signature of a text, 64 bytes."""
        return self._key.sign(text.encode())

    def sign_checkpoint(self, size: int, root: bytes) -> str:
        """Return the signed checkpoint of this log at a size."""
        return self.sign(checkpoint_body(self.name, size, root))


def parse_note(data: bytes) -> Note:
    """Return a note's text and signature lines; raise ``NoteError`` unless it is well-formed."""
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"expected a note of at most {MAX_NOTE_BYTES} bytes, was {len(data)}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise NoteError(f"expected UTF-8: {error.reason} at byte {error.start}") from None
    if _CONTROL.search(whole):
        raise NoteError("expected no control characters but newlines")
    at = whole.rfind("\n\n")
    if at < 0:
        raise NoteError("expected a text, an empty line and signatures")
    text, lines = whole[: at + 1], whole[at + 2 :]
    if not lines.endswith("\n"):
        raise NoteError("expected signature lines that end in a newline")
    signatures = [_parse_signature(line) for line in lines[:-1].split("\n")]
    if len(signatures) > MAX_SIGNATURES:
        raise NoteError(f"expected at most {MAX_SIGNATURES} signatures, was {len(signatures)}")
    return Note(text, tuple(signatures))


def _parse_signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise NoteError(f"expected a signature line '— name base64', was {line!r:.80}")
    check_name(parts[1])
    data = decode64(parts[2], "a signature")
    if len(data) <= KEY_ID_BYTES:
        raise NoteError(f"expected a signature after the {KEY_ID_BYTES} bytes of its key's id")
    return Signature(parts[1], data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether this is the key's Ed25519 signature of a message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Return the given keys that have signed the note.

    Raise ``NoteError`` when none has, or when a line that names one of them does not fit. Other lines are ignored.
    """
    known = {(key.name, key.key_id): key for key in keys}
    signed: list[VerifierKey] = []
    for name, id_, signature in note.signatures:
        key = known.get((name, id_))
        if key is None:
            continue
        if key in signed:
            raise NoteError(f"expected one signature by {name}+{id_.hex()}, was more")
        if not verifies(key.public_key, signature, note.text.encode()):
            raise NoteError(f"the signature by {name}+{id_.hex()} does not fit the text")
        signed.append(key)
    if not signed:
        names = ", ".join(f"{name}+{id_.hex()}" for name, id_ in known)
        raise NoteError(f"expected a signature by {names or 'a trusted key'}, was none")
    return signed


def parse_checkpoint(text: str, *, extensions: bool = False) -> Checkpoint:
    """Return the head a note's text states; raise ``NoteError`` unless it is written in the one right way.

    Logs of others may add extension lines (``extensions``), which are ignored; ours has none.
    """
    if not text.endswith("\n"):
        raise NoteError("expected a checkpoint that ends in a newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3 or (len(lines) > 3 and not extensions):
        raise NoteError(f"expected the three lines origin, size and root, was {len(lines)} lines")
    if any(not line for line in lines):
        raise NoteError("expected no empty line in a checkpoint")
    origin, size_text, root_text = lines[:3]
    if _SIZE.fullmatch(size_text) is None or int(size_text) > MAX_SIZE:
        raise NoteError(f"expected a size in decimal digits without leading zeros, was {size_text!r:.40}")
    root = decode64(root_text, "the root")
    if len(root) != HASH_BYTES:
        raise NoteError(f"expected a root of {HASH_BYTES} bytes, was {len(root)}")
    return Checkpoint(origin, int(size_text), root)


def open_checkpoint(data: bytes, keys: Sequence[VerifierKey], *, extensions: bool = False) -> Checkpoint:
    """Return the head of a signed checkpoint whose origin is the name of a trusted key that signed it."""
    note = parse_note(data)
    signed = verify_note(note, keys)
    checkpoint = parse_checkpoint(note.text, extensions=extensions)
    if checkpoint.origin not in {key.name for key in signed}:
        raise NoteError(f"expected a signature under the name {checkpoint.origin}")
    return checkpoint


def decode64(text: str, what: str) -> bytes:
    """Return decoded standard base64; refuse every text but the one that encoding gives."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"expected base64 for {what}, was {text!r:.80}")
    return data
