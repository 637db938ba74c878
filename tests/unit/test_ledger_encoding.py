"""Leaves: what may enter, and that there is one way to write it."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import Any

import pytest

from ledger.core.encoding import MAX_INTEGER, EncodingError, decode, decode_many, encode
from ledger.core.entries import EntryError, check_entries, is_time

SALT = "0" * 32


class Side(IntEnum):
    BUY = 1


class Text(str):
    __slots__ = ()


def entry(number: int, **fields: Any) -> dict[str, Any]:
    made = {"v": 1, "seq": number, "type": "order", "at": "2026-06-06T12:15:00.000Z", "salt": SALT, **fields}
    return {key: value for key, value in made.items() if value is not None}


def test_an_entry_has_one_encoding() -> None:
    leaf = encode({"type": "fee", "seq": 7, "v": 1, "area": "LV1.101", "fee_e4": -3})
    assert leaf == b'{"area":"LV1.101","fee_e4":-3,"seq":7,"type":"fee","v":1}'
    assert decode(leaf) == {"v": 1, "seq": 7, "type": "fee", "area": "LV1.101", "fee_e4": -3}


def test_escapes_are_those_of_jcs() -> None:
    assert encode({"t": '\x00\x08\t\n\x0c\r\x1f "\\/\x7f'}) == (b'{"t":"\\u0000\\b\\t\\n\\f\\r\\u001f \\"\\\\/\x7f"}')


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("price", 1.5),
        ("price", 1.0),
        ("price", float("nan")),
        ("on", True),
        ("on", None),
        ("rows", []),
        ("row", {}),
        ("text", "grün"),
        ("text", "\ud800"),
        ("n", MAX_INTEGER + 1),
        ("n", -MAX_INTEGER - 1),
        ("n", 2**64),
        ("side", Side.BUY),
        ("text", Text("a")),
        ("text", b"a"),
    ],
)
def test_what_is_outside_the_subset_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(EncodingError) as caught:
        encode({"a": 1, key: value, "z": "z"})
    assert caught.value.key == key


def test_strange_keys_and_containers_are_refused() -> None:
    for fields in ({"grün": 1}, {1: 1}, {None: 1}, MappingProxyType({"a": 1}), [("a", 1)], "a", None):
        with pytest.raises(EncodingError):
            encode(fields)  # type: ignore[arg-type]


def test_the_largest_integers_and_leaves_pass() -> None:
    assert decode(encode({"n": MAX_INTEGER, "m": -MAX_INTEGER})) == {"n": MAX_INTEGER, "m": -MAX_INTEGER}
    assert len(encode({"t": "x" * (65_535 - 8)})) == 65_535
    with pytest.raises(EncodingError, match="65535 bytes"):
        encode({"t": "x" * (65_536 - 8)})


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"{}x",
        b'{"b":1,"a":2}',  # keys out of order
        b'{"a":1,"a":1}',  # the same key twice
        b'{"a":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":01}',
        b'{"a":-0}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":1E400}',
        b'{"a":9007199254740992}',
        b'{"a":18446744073709551616}',
        b'{"a":true}',
        b'{"a":null}',
        b'{"a":[]}',
        b'{"a":{"b":1}}',
        b'{"a":"\\u0041"}',  # A, escaped without need
        b'{"a":"\\/"}',
        b'{"a":"\\u001F"}',  # capital digits
        b'{"a":"\\u000a"}',  # has a short escape
        b'{"a":"\x1f"}',  # raw control character
        b'{"a":"\\ud83d"}',
        b'{"\xc3\xbc":1}',
        b'{"a":"\xc3\xbc"}',
        b'{"a":"\xff"}',
        b"[]",
        b'"a"',
        b"1",
        b"null",
        b"\xef\xbb\xbf{}",
    ],
)
def test_bytes_that_do_not_encode_to_themselves_are_refused(leaf: bytes) -> None:
    with pytest.raises(EncodingError):
        decode(leaf)
    with pytest.raises(EncodingError):
        decode_many([b'{"a":1}', leaf])


def test_many_leaves_decode_as_one_by_one() -> None:
    leaves = [encode({"n": n, "t": str(n)}) for n in range(300)]
    assert decode_many(leaves) == [decode(leaf) for leaf in leaves]
    assert decode_many([]) == []


def test_entries_in_order_pass_and_give_the_last_time() -> None:
    entries = [entry(5), entry(6, at="2026-06-06T12:15:00.000Z"), entry(7, at="2026-06-06T12:15:00.001Z")]
    assert check_entries(entries, 5, "") == "2026-06-06T12:15:00.001Z"
    assert check_entries([], 5, "2026") == "2026"


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"v": 2}, "v: expected 1"),
        ({"v": None}, "v: expected 1"),
        ({"seq": 7}, "seq: expected 6"),
        ({"seq": None}, "seq: expected 6"),
        ({"type": "gift"}, "known type"),
        ({"type": None}, "known type"),
        ({"at": None}, "expected a time"),
        ({"at": 5}, "expected a time"),
        ({"at": "2026-06-06T12:15:00Z"}, "expected a time"),
        ({"at": "2026-06-06T12:15:00.000+"}, "expected a time"),
        ({"at": "2026-02-30T12:15:00.000Z"}, "expected a time"),
        ({"at": "2026-06-06T24:15:00.000Z"}, "expected a time"),
        ({"at": "2026-06-06T12:14:59.999Z"}, "or later"),
        ({"salt": None}, "salt"),
        ({"salt": 5}, "salt"),
        ({"salt": "0" * 31}, "salt"),
        ({"salt": "0" * 33}, "salt"),
        ({"salt": "0" * 31 + "A"}, "salt"),
    ],
)
def test_the_first_wrong_entry_is_named(bad: dict[str, Any], what: str) -> None:
    for rest in ([], [entry(7)], [entry(7), entry(9)]):
        with pytest.raises(EntryError, match=what) as caught:
            check_entries([entry(5), entry(6, **bad), *rest], 5, "2026-06-06T12:15:00.000Z")
        assert caught.value.seq == 6


def test_two_wrong_salts_that_are_right_together_are_refused() -> None:
    with pytest.raises(EntryError, match="salt"):
        check_entries([entry(0, salt="0" * 31), entry(1, salt="0" * 33)], 0, "")


def test_one_entry_with_a_time_of_another_form_is_refused() -> None:
    for at in ("2026-06-06T12:15:00Z", "2026-02-30T12:15:00.000Z", ""):
        with pytest.raises(EntryError, match="expected a time"):
            check_entries([entry(5, at=at)], 5, "")


def test_leaves_that_no_bundle_can_hold_are_refused() -> None:
    long = b'{"t":"%s"}' % (b"x" * (65_536 - 8))
    for read in (decode, lambda leaf: decode_many([leaf])):
        with pytest.raises(EncodingError, match="65535 bytes"):
            read(long)


def test_time_does_not_run_back_between_bundles() -> None:
    with pytest.raises(EntryError, match="or later") as caught:
        check_entries([entry(5), entry(6)], 5, "2026-06-06T12:15:00.001Z")
    assert caught.value.seq == 5


def test_leap_days_are_times() -> None:
    assert is_time("2028-02-29T00:00:00.000Z")
    assert not is_time("2026-02-29T00:00:00.000Z")
    assert not is_time("2026-W01-1T00:00:00.000Z")
