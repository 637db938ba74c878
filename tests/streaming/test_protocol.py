"""The messages: what is refused, what is written, what a delta means."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.streaming import protocol
from market.streaming.protocol import BadMessage, Pong, Subscribe, Unsubscribe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"subscribe","channel":"trades"}', Subscribe("trades", None, None)),
        ('{"type":"subscribe","channel":"trades","epoch":"7c1","seq":4120}', Subscribe("trades", "7c1", 4120)),
        ('{"type":"subscribe","channel":"me","epoch":"0","seq":-1}', Subscribe("me", "0", -1)),
        ('{"type":"unsubscribe","channel":"me"}', Unsubscribe("me")),
        ('{"type":"pong","n":17}', Pong(17)),
    ],
)
def test_parse(text: str, message: object) -> None:
    assert protocol.parse(text) == message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_json"),
        ("{", "bad_json"),
        ('{"type":"pong","n":NaN}', "bad_json"),
        ("[]", "bad_message"),
        ("null", "bad_message"),
        ("{}", "unknown_type"),
        ('{"type":["pong"]}', "unknown_type"),
        ('{"type":"order"}', "unknown_type"),
        ('{"type":"pong"}', "bad_message"),
        ('{"type":"pong","n":"17"}', "bad_message"),
        ('{"type":"pong","n":true}', "bad_message"),
        ('{"type":"pong","n":1.0}', "bad_message"),
        ('{"type":"pong","n":-1}', "bad_message"),
        ('{"type":"pong","n":9007199254740992}', "bad_message"),
        ('{"type":"pong","n":1,"m":2}', "bad_message"),
        ('{"type":"subscribe"}', "bad_message"),
        ('{"type":"subscribe","channel":7}', "unknown_channel"),
        ('{"type":"subscribe","channel":""}', "unknown_channel"),
        ('{"type":"subscribe","channel":"' + "x" * 161 + '"}', "unknown_channel"),
        ('{"type":"subscribe","channel":"trades","epoch":"7c1"}', "bad_message"),
        ('{"type":"subscribe","channel":"trades","seq":7}', "bad_message"),
        ('{"type":"subscribe","channel":"trades","epoch":"7C1","seq":7}', "bad_message"),
        ('{"type":"subscribe","channel":"trades","epoch":"7c1","seq":-2}', "bad_message"),
        ('{"type":"subscribe","channel":"trades","extra":1}', "bad_message"),
        ('{"type":"unsubscribe","channel":"trades","seq":7}', "bad_message"),
        ('{"type":"pong","n":1}' + " " * 1_024, "message_too_big"),
    ],
)
def test_parse_refuses(text: str, code: str) -> None:
    with pytest.raises(BadMessage) as refused:
        protocol.parse(text)
    assert refused.value.code == code


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_parse_never_breaks(text: str | bytes) -> None:
    try:
        protocol.parse(text)
    except BadMessage as refused:
        assert refused.code


@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]), max_size=5))
def test_frames_hold_their_payloads(lengths: list[int]) -> None:
    wanted = [b"x" * length for length in lengths]
    assert list(protocol.payloads(b"".join(map(protocol.frame, wanted)))) == wanted


def test_frame_is_a_plain_text_frame() -> None:
    assert protocol.frame(b"hi") == b"\x81\x02hi"


def test_messages_read_as_documented() -> None:
    def said(frames: bytes) -> dict[str, object]:
        (payload,) = protocol.payloads(frames)
        return orjson.loads(payload)  # type: ignore[no-any-return]

    assert said(protocol.welcome(server_time="2026-06-06T12:00:00.000Z", epoch="7c1")) == {
        "type": "welcome",
        "server_time": "2026-06-06T12:00:00.000Z",
        "heartbeat_ms": 15000,
        "epoch": "7c1",
    }
    assert said(protocol.delta("trades", 1, 2, {"items": []})) == {
        "type": "delta",
        "channel": "trades",
        "prev": 1,
        "seq": 2,
        "data": {"items": []},
    }
    assert said(protocol.error("unknown_channel", channel="x")) == {
        "type": "error",
        "code": "unknown_channel",
        "channel": "x",
        "retry": None,
    }


KEYS = st.dictionaries(st.integers(0, 9), st.integers(1, 5))


@given(KEYS, KEYS)
def test_diff_then_apply_is_the_new_state(old: dict[int, int], new: dict[int, int]) -> None:
    state = dict(old)
    changes = protocol.diff(old, new)
    protocol.apply(state, changes)
    assert state == new
    assert all(old.get(key) != value for key, value in changes.items()), "a delta names only what changed"


@given(KEYS, KEYS, st.sets(st.integers(0, 9)))
def test_diff_leaves_alone_what_is_out_of_scope(old: dict[int, int], new: dict[int, int], scope: set[int]) -> None:
    part = {key: value for key, value in new.items() if key in scope}
    state = dict(old)
    protocol.apply(state, protocol.diff(old, part, scope))
    assert state == {key: value for key, value in old.items() if key not in scope} | part


def test_apply_book() -> None:
    book = {
        "contract": "c",
        "area": "a",
        "bids": [["0.2850", 1200, "0.0100"], ["0.2800", 10, "0.0000"]],
        "asks": [["9.0000", 5, "0.0000"], ["10.0000", 5, "0.0000"]],
    }
    delta = {
        "contract": "c",
        "area": "a",
        "bids": [["0.2850", 0, "0.0000"], ["0.2900", 7, "0.0000"]],
        "asks": [["9.5000", 1, "0.0100"]],
    }
    after = protocol.apply_book(book, delta)
    assert after["bids"] == [["0.2900", 7, "0.0000"], ["0.2800", 10, "0.0000"]]
    assert after["asks"] == [["9.0000", 5, "0.0000"], ["9.5000", 1, "0.0100"], ["10.0000", 5, "0.0000"]]
    assert book["bids"][0] == ["0.2850", 1200, "0.0100"], "the book before is as it was"
