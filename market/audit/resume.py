"""A place to go on from: what the verifier and the judge know behind a seal, as one file's bytes. Pure.

The hash finds damage. It is no signature: who can write this file can make an audit believe what it likes about the entries
before it, as who can write the program can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import orjson

from ledger.core.findings import Position
from market.audit.judge import Judge
from market.engine.engine import Engine

HEADER = b"sunledger audit 3\n"
_DIGITS = 64


class Refused(ValueError):
    """The bytes are not what an audit has written."""


def written(position: Position, judge: Judge) -> bytes:
    """Return the file for a position behind a seal that the judge has just seen."""
    values = {"position": list(position), "judge": judge.values(), "engine": judge.engine.dump().decode("ascii")}
    body = orjson.dumps(values)
    return HEADER + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def read(data: bytes, each: Callable[[Any], None] | None = None) -> tuple[Position, Judge]:
    """Return position and judge; raise ``Refused`` unless the file is whole and its parts fit together.

    ``each`` will see every event of the replay that goes on.
    """
    if not data.startswith(HEADER):
        raise Refused("expected a file that an audit of this version wrote")
    digest, _, body = data[len(HEADER) :].partition(b"\n")
    was = hashlib.sha256(body).hexdigest().encode()
    if len(digest) != _DIGITS or digest != was:
        raise Refused(f"expected content with the SHA-256 {digest[:_DIGITS]!r}, was {was!r}: it was changed")
    try:
        values: dict[str, Any] = orjson.loads(body)
        edges = tuple(tuple(edge) for edge in values["position"][3])
        parts: list[Any] = [tuple(part) if type(part) is list else part for part in values["position"]]
        position = Position(*parts)._replace(edges=edges)
        judge = Judge.restore(Engine.load(values["engine"].encode("ascii")), values["judge"], each)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"expected a file that an audit of this version wrote: {error!r:.200}") from None
    engine = judge.engine
    if engine.seq != position.size or engine.height != position.height or judge.state() != position.state:
        raise Refused(f"expected the state that the seal before entry {position.size} names, was another")
    return position, judge
