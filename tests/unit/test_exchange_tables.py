"""COPY text and multi-row inserts: what goes in comes out, whatever the values hold."""

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from market.exchange import models
from market.exchange.tables import Table

MIXED = Table("mixed", ["n", "name", "data"], ["int", "text", "bytes"])
TEXTS = Table("texts", ["n", "name"], ["int", "text"])
LEAVES = Table("leaves", ["seq", "leaf"], ["int", "bytes"])

INTEGERS = st.integers(-(2**63), 2**63 - 1)
SPECIAL = st.text(st.sampled_from("a\\\t\n\r.é\x01\"'N"), max_size=8)
ROWS = st.lists(st.tuples(INTEGERS, SPECIAL, st.binary(max_size=8)), max_size=5)


def unescape(text: str) -> str:
    """Undo COPY's escapes as PostgreSQL does for the ones written here."""
    out, escaped = [], False
    for character in text:
        if escaped:
            out.append({"t": "\t", "n": "\n", "r": "\r"}.get(character, character))
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            out.append(character)
    return "".join(out)


def parse(data: bytes) -> list[list[str]]:
    """Read COPY text back: raw tabs and newlines separate, nothing else does."""
    return [[unescape(value) for value in line.split("\t")] for line in data.decode().split("\n")[:-1]]


def binary(text: str) -> bytes:
    """Read a bytea: hex form, or plain characters that stand for themselves."""
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode("latin-1")


@given(ROWS)
def test_copy_text_of_texts_and_binaries(rows: list[tuple[int, str, bytes]]) -> None:
    read = [(int(n), name, binary(data)) for n, name, data in parse(MIXED.copy_text(rows))]
    assert read == rows


@given(st.lists(st.tuples(INTEGERS, SPECIAL), max_size=5))
def test_copy_text_of_texts(rows: list[tuple[int, str]]) -> None:
    assert [(int(n), name) for n, name in parse(TEXTS.copy_text(rows))] == rows


@given(st.lists(st.tuples(INTEGERS, st.one_of(st.binary(max_size=8), SPECIAL.map(str.encode))), max_size=5))
def test_copy_text_of_leaves(rows: list[tuple[int, bytes]]) -> None:
    assert [(int(n), binary(leaf)) for n, leaf in parse(LEAVES.copy_text(rows))] == rows


def test_plain_leaves_go_the_fast_way() -> None:
    assert LEAVES.copy_text([(7, b'{"seq":7}'), (8, b'{"seq":8}')]) == b'7\t{"seq":7}\n8\t{"seq":8}\n'


def test_a_leaf_that_begins_like_hex_is_not_taken_for_hex() -> None:
    assert binary(parse(LEAVES.copy_text([(1, b"\\x41")]))[0][1]) == b"\\x41"


def test_insert_takes_rows_of_a_model() -> None:
    table = Table.of(models.Transfer)
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE TABLE exchange_transfer ({', '.join(table.columns)})")
    row = (1 << 20, 5, "fund", 0, 4, 100)
    database.execute(table.insert_sql(2), row + row)
    assert database.execute("SELECT * FROM exchange_transfer").fetchall() == [row, row]
