"""The bytes of a ledger entry: RFC 8785 (JCS) of a flat JSON object of ASCII strings and integers, and nothing else.

One object has one encoding, so the stored bytes can be hashed, signed and compared by anybody. ``orjson`` with sorted
keys writes these bytes for such objects (keys are ASCII, so byte order is the order of UTF-16 units JCS asks for); the
tests hold it against the ``rfc8785`` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import orjson

MAX_INTEGER = 2**53 - 1  # what a JSON reader that knows only doubles can hold exactly
MAX_LEAF_BYTES = 65_535  # an entry bundle prefixes each leaf with an unsigned 16-bit length

OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_ALLOWED = frozenset((int, str))  # exact types: a bool is an int to Python but not to JSON


class EncodingError(ValueError):
    """The fields or bytes lie outside the ledger's subset of JSON. ``key`` names the field at fault, "" = the whole."""

    def __init__(self, key: str, message: str):
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


def encode(fields: Mapping[str, int | str]) -> bytes:
    """Return the canonical bytes of the fields; raise ``EncodingError`` naming the key that is outside the subset."""
    if type(fields) is dict and _ALLOWED.issuperset(map(type, fields.values())):
        try:
            leaf = orjson.dumps(fields, option=OPTIONS)
        except (TypeError, ValueError):
            pass
        else:
            if leaf.isascii() and len(leaf) <= MAX_LEAF_BYTES:
                return leaf
    raise _fault(fields)


def decode(leaf: bytes) -> dict[str, int | str]:
    """Return the fields of a leaf; raise ``EncodingError`` unless encoding them again gives the same bytes."""
    try:
        fields = orjson.loads(leaf)
    except ValueError as error:
        raise EncodingError("", f"expected JSON, was unreadable: {error}") from None
    if type(fields) is not dict:
        raise EncodingError("", f"expected a JSON object, was {type(fields).__name__}")
    again = encode(fields)
    if again != leaf:
        raise EncodingError("", f"expected the canonical bytes {_shown(again)}, was {_shown(leaf)}")
    return fields


def decode_many(leaves: list[bytes]) -> list[dict[str, int | str]]:
    """Return ``[decode(leaf) for leaf in leaves]``, checking all at once: half the time for a bundle of 256."""
    try:
        objects = list(map(orjson.loads, leaves))
        if (
            {dict}.issuperset(map(type, objects))
            and _ALLOWED.issuperset(map(type, chain.from_iterable(map(dict.values, objects))))
            and [orjson.dumps(fields, option=OPTIONS) for fields in objects] == leaves
            and all(map(bytes.isascii, leaves))
            and max(map(len, leaves), default=0) <= MAX_LEAF_BYTES
        ):
            return objects
    except (TypeError, ValueError):
        pass  # one of them is at fault; the slow way says which and why
    return [decode(leaf) for leaf in leaves]


def _fault(fields: Mapping[str, int | str]) -> EncodingError:
    """Return the error that says which key is outside the subset."""
    if not isinstance(fields, Mapping):
        return EncodingError("", f"expected an object, was {type(fields).__name__}")
    for key, value in fields.items():
        if type(key) is not str or not key.isascii():
            return EncodingError(repr(key), "expected a key of ASCII characters")
        if type(value) is str:
            if not value.isascii():
                return EncodingError(key, f"expected ASCII characters, was {value!r:.80}")
        elif type(value) is not int:
            return EncodingError(key, f"expected an integer or a string, was {type(value).__name__}")
        elif not -MAX_INTEGER <= value <= MAX_INTEGER:
            return EncodingError(key, f"expected an integer within ±(2^53-1), was {value}")
    if type(fields) is not dict:
        return EncodingError("", f"expected a dict, was {type(fields).__name__}")
    return EncodingError("", f"expected at most {MAX_LEAF_BYTES} bytes")


def _shown(leaf: bytes) -> str:
    return repr(leaf[:120])[1:] + ("…" if len(leaf) > 120 else "")
