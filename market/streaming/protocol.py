"""The messages of the stream (``docs/protocol.md``): parse what a client says, encode what the server says. Pure.

State is a mapping of keys to values, whatever the channel. A delta names the keys that changed with their absolute
value, ``None`` for a key that is gone; so two deltas merge by taking the later value of each key, and a reader that
missed a hundred flushes is brought up to date by one message.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import orjson

SUBPROTOCOL: Final = "market.v1"
HEARTBEAT_MS: Final = 15_000
MAX_MESSAGE_BYTES: Final = 1_024  # the longest legal client message has about 200
MAX_CHANNEL_LENGTH: Final = 160
MAX_SEQ: Final = 2**53 - 1  # what a browser can hold

K = TypeVar("K")
V = TypeVar("V")

_EPOCH = re.compile(r"[0-9a-f]{1,32}", re.ASCII)


class BadMessage(Exception):
    """A client message that breaks the protocol. ``code`` is stable."""

    def __init__(self, code: str, channel: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.channel = channel


class Subscribe(NamedTuple):
    """A client wants a channel; ``epoch`` and ``seq`` (both or neither) say where it stopped."""

    channel: str
    epoch: str | None
    seq: int | None


class Unsubscribe(NamedTuple):
    channel: str


class Pong(NamedTuple):
    n: int


ClientMessage = Subscribe | Unsubscribe | Pong

_FIELDS: Final = {
    "subscribe": ({"type", "channel"}, {"type", "channel", "epoch", "seq"}),
    "unsubscribe": ({"type", "channel"}, {"type", "channel"}),
    "pong": ({"type", "n"}, {"type", "n"}),
}


def parse(text: str | bytes) -> ClientMessage:
    """Return the message in a client's text frame; raise ``BadMessage`` on anything the protocol does not know."""
    if len(text) > MAX_MESSAGE_BYTES:
        raise BadMessage("message_too_big")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadMessage("bad_json") from error
    if not isinstance(message, dict):
        raise BadMessage("bad_message")
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise BadMessage("unknown_type")
    required, allowed = _FIELDS[kind]
    if not required <= message.keys() <= allowed:
        raise BadMessage("bad_message")
    if kind == "pong":
        return Pong(_integer(message["n"]))
    channel = message["channel"]
    if not isinstance(channel, str) or not 0 < len(channel) <= MAX_CHANNEL_LENGTH:
        raise BadMessage("unknown_channel")
    if kind == "unsubscribe":
        return Unsubscribe(channel)
    epoch, seq = message.get("epoch"), message.get("seq")
    if epoch is None and seq is None:
        return Subscribe(channel, None, None)
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        raise BadMessage("bad_message", channel)
    return Subscribe(channel, epoch, _integer(seq, channel, least=-1))


def _integer(value: object, channel: str | None = None, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SEQ:
        raise BadMessage("bad_message", channel)
    return value


# --- server messages: the bytes of one unmasked text frame each, the same for every client ---------------------------


def frame(payload: bytes) -> bytes:
    """Return the payload as one unfragmented, unmasked, uncompressed WebSocket text frame (RFC 6455)."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", 0x81, length) + payload
    if length < 65_536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


def payloads(frames: bytes) -> Iterator[bytes]:
    """Yield the payloads of whole frames made by ``frame``, joined: for a server that frames by itself."""
    at = 0
    while at < len(frames):
        length, start = frames[at + 1], at + 2
        if length == 126:
            length, start = struct.unpack_from("!H", frames, start)[0], start + 2
        elif length == 127:
            length, start = struct.unpack_from("!Q", frames, start)[0], start + 8
        at = start + length
        assert at <= len(frames), "frames are whole"
        yield frames[start:at]


def _message(**fields: object) -> bytes:
    return frame(orjson.dumps(fields))


def welcome(*, server_time: str, epoch: str) -> bytes:
    """The first message on every socket. ``server_time`` is market time."""
    return _message(type="welcome", server_time=server_time, heartbeat_ms=HEARTBEAT_MS, epoch=epoch)


def snapshot(channel: str, seq: int, data: object) -> bytes:
    """The whole of a channel as of ``seq``."""
    return _message(type="snapshot", channel=channel, seq=seq, data=data)


def delta(channel: str, prev: int, seq: int, data: object) -> bytes:
    """What changed after ``prev`` up to ``seq``."""
    assert prev < seq, "a delta goes forward"
    return _message(type="delta", channel=channel, prev=prev, seq=seq, data=data)


def resumed(channel: str, seq: int) -> bytes:
    """The client's ``seq`` is known: what it missed follows as deltas from there."""
    return _message(type="resumed", channel=channel, seq=seq)


def resync(channel: str, seq: int, reason: str) -> bytes:
    """A log channel lost its place: read ``/api/v1/events?after=`` up to ``seq``; deltas go on from ``seq``."""
    return _message(type="resync", channel=channel, seq=seq, reason=reason)


def ping(n: int, heads: Mapping[str, int]) -> bytes:
    """Heartbeat. ``heads`` is the newest seq this socket has been sent, by channel."""
    return _message(type="ping", n=n, heads=heads)


def error(code: str, *, channel: str | None = None, retry: int | None = None) -> bytes:
    """``retry``: seconds after which the same message may succeed; ``None`` means never."""
    if channel is None:
        return _message(type="error", code=code, retry=retry)
    return _message(type="error", code=code, channel=channel, retry=retry)


# --- states ----------------------------------------------------------------------------------------------------------


def diff(old: Mapping[K, V], new: Mapping[K, V], scope: Iterable[K] | None = None) -> dict[K, V | None]:
    """Return the keys whose value differs, with the new value or ``None``.

    ``new`` is complete for the keys in ``scope`` (``None`` = for all keys); others are left alone.
    """
    changes: dict[K, V | None] = {key: value for key, value in new.items() if old.get(key) != value}
    for key in tuple(old) if scope is None else scope:
        if key in old and key not in new:
            changes[key] = None
    return changes


def apply(state: dict[K, V], changes: Mapping[K, V | None]) -> None:
    """Apply ``diff``'s answer to a state, in place."""
    for key, value in changes.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


def apply_book(book: dict[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client's book after a delta: levels are absolute, 0 removes, bids fall and asks rise in price."""
    after = dict(book)
    for side, falling in (("bids", True), ("asks", False)):
        levels = {level[0]: level for level in book[side]}
        for level in data[side]:
            if level[1] == 0:
                levels.pop(level[0], None)
            else:
                levels[level[0]] = level
        # Decimal texts with four digits each: the longer is the larger, equal lengths compare as text.
        after[side] = sorted(levels.values(), key=lambda level: (len(level[0]), level[0]), reverse=falling)
    return after


def apply_ticker(ticker: dict[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client's ticker after a delta: a contract's line is absolute, ``null`` removes it."""
    contracts = dict(ticker["contracts"])
    apply(contracts, data["contracts"])
    return {**ticker, "contracts": contracts}
