"""Trees, tiles, proofs, the account vector and the encoding against definitions written down naively."""

from __future__ import annotations

import contextlib
import hashlib
import json

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.accounts import AccountVector, account_leaf
from ledger.core.encoding import MAX_INTEGER, EncodingError, decode, encode
from ledger.core.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    consistency_path,
    inclusion_path,
    leaf_hash,
    leaf_hashes,
    node_hash,
    nodes_of,
    range_root,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from ledger.core.rows import check_rows, join_rows, row_path, rows_root, split_rows, verify_row
from ledger.core.tiles import (
    TILE_WIDTH,
    Place,
    TileTree,
    covers,
    encode_bundle,
    entries_path,
    levels,
    node_reader,
    parse_bundle,
    parse_path,
    tile_path,
    widths,
)

ASCII = st.text(st.characters(max_codepoint=0x7F), max_size=20)
INSIDE = st.dictionaries(ASCII, st.one_of(ASCII, st.integers(-MAX_INTEGER, MAX_INTEGER)), max_size=12)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HASHES = [hashlib.sha256(str(n).encode()).digest() for n in range(1200)]


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + mth(hashes[:split]) + mth(hashes[split:])).digest()


@given(INSIDE)
@settings(max_examples=500, deadline=None)
def test_inside_the_subset_our_bytes_are_those_of_rfc8785(fields: dict[str, int | str]) -> None:
    leaf = encode(fields)
    assert leaf == rfc8785.dumps(fields)
    assert decode(leaf) == fields


def is_inside(fields: dict) -> bool:
    """Whether an object lies in the ledger's subset, by its definition."""
    return all(
        key.isascii()
        and ((type(value) is str and value.isascii()) or (type(value) is int and abs(value) <= MAX_INTEGER))
        for key, value in fields.items()
    )


@given(st.dictionaries(st.text(max_size=5), ANY_JSON, min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_outside_the_subset_everything_is_refused(fields: dict) -> None:
    if is_inside(fields):
        assert encode(fields) == rfc8785.dumps(fields)
        return
    with pytest.raises(EncodingError):
        encode(fields)
    try:
        canonical = rfc8785.dumps(fields)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return
    if is_inside(json.loads(canonical)):  # JCS writes the float 1.0 as 1, and who reads that reads an integer
        assert encode(json.loads(canonical)) == canonical
    else:
        with pytest.raises(EncodingError):
            decode(canonical)


@given(INSIDE, st.data())
@settings(deadline=None)
def test_a_changed_byte_never_decodes_to_the_same_fields(fields: dict[str, int | str], data: st.DataObject) -> None:
    leaf = bytearray(encode(fields))
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(EncodingError):
        assert decode(bytes(leaf)) != fields


@given(st.lists(st.integers(0, 300), max_size=8))
@settings(deadline=None)
def test_a_frontier_has_the_root_of_the_definition(chunks: list[int]) -> None:
    frontier, size = Frontier(), 0
    for chunk in chunks:
        before = frontier.copy()
        frontier.extend(HASHES[size % 600 : size % 600 + chunk])
        assert before.size == size
        size += chunk
    hashes, size = [], 0
    for chunk in chunks:
        hashes += HASHES[size % 600 : size % 600 + chunk]
        size += chunk
    assert (frontier.size, frontier.root()) == (len(hashes), mth(hashes))


def test_small_trees_have_the_roots_of_the_definition() -> None:
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert leaf_hash(b"x") == hashlib.sha256(b"\0x").digest()
    frontier = Frontier()
    for size in range(1, 130):
        frontier.append(HASHES[size - 1])
        assert frontier.root() == mth(HASHES[:size]) == root_of(HASHES[:size])


@given(st.integers(1, 600), st.data())
@settings(deadline=None)
def test_proofs_that_are_made_verify_and_changed_ones_do_not(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    node, root, old_root = nodes_of(HASHES[:size]), mth(HASHES[:size]), mth(HASHES[:old])
    path = inclusion_path(index, size, node)
    verify_inclusion(index, size, HASHES[index], path, root)
    growth = consistency_path(old, size, node)
    verify_consistency(old, size, old_root, root, growth)
    for proof, check in (
        (path, lambda changed: verify_inclusion(index, size, HASHES[index], changed, root)),
        (growth, lambda changed: verify_consistency(old, size, old_root, root, changed)),
    ):
        with pytest.raises(ProofError):
            check([*proof, HASHES[0]])
        if proof:
            with pytest.raises(ProofError):
                check(proof[:-1])
            at = data.draw(st.integers(0, len(proof) - 1))
            with pytest.raises(ProofError):
                check([*proof[:at], node_hash(proof[at], proof[at]), *proof[at + 1 :]])
    with pytest.raises(ProofError):
        verify_inclusion(index, size, node_hash(root, root), path, root)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_tiles_hold_the_hashes_of_their_level_and_restore_the_tree(chunks: list[int]) -> None:
    """Every tile is what c2sp.org/tlog-tiles defines: MTH over 256**level entries for each of its hashes."""
    hashes = [hashlib.sha256(n.to_bytes(4)).digest() for n in range(sum(chunks))]
    tree, stored, done = TileTree(), {}, 0
    for chunk in chunks:
        for tile in tree.extend(hashes[done : done + chunk]):
            assert (tile.level, tile.number) not in stored
            stored[tile.level, tile.number] = tile
        done += chunk
        assert tree.root() == mth(hashes[:done])
        again = TileTree.restore(done, tree.edges)
        assert (again.size, again.root()) == (done, tree.root())
    size = len(hashes)
    expected = {(level, number) for level in range(levels(size)) for number in range(widths(size, level)[0])}
    assert set(stored) == expected
    for (level, number), tile in stored.items():
        span = TILE_WIDTH**level
        start = number * TILE_WIDTH * span
        for at in range(0, TILE_WIDTH, 51):
            assert tile.data[at * 32 : at * 32 + 32] == mth(hashes[start + at * span : start + (at + 1) * span])
        assert tile.root == mth(hashes[start : start + TILE_WIDTH * span])

    def read(level: int, number: int, width: int) -> bytes:
        tile = stored.get((level, number))
        return (tile.data if tile else b"".join(tree.edges[level]))[: width * 32]

    node = node_reader(size, read)
    assert range_root(0, size, node) == mth(hashes)
    for index in (0, size // 2, size - 1):
        verify_inclusion(index, size, hashes[index], inclusion_path(index, size, node), mth(hashes))


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    assert [widths(70_000, level) for level in range(levels(70_000))] == [(273, 112), (1, 17), (0, 1)]
    assert [widths(256, level) for level in range(levels(256))] == [(1, 0), (0, 1)]
    tree = TileTree()
    tiles = tree.extend([HASHES[n % 1200] for n in range(65_536)])
    assert [tile.level for tile in tiles].count(0) == 256
    assert (tiles[-1].level, tiles[-1].number, tiles[-1].root) == (1, 0, tree.root())


def test_a_tree_is_restored_from_fitting_parts_only() -> None:
    for size, nodes in ((4, [None, None]), (3, [HASHES[0], None]), (2, [HASHES[0], HASHES[1]]), (0, [HASHES[0]])):
        with pytest.raises(ValueError, match="expected"):
            Frontier.of(size, nodes)
    for size, edges in ((3, [HASHES[:2]]), (3, []), (256, [[]]), (3, [HASHES[:3], []])):
        with pytest.raises(ValueError, match="partial tiles"):
            TileTree.restore(size, edges)
    for start, end in ((0, 0), (1, 3), (2, 1)):
        with pytest.raises(ValueError, match="range"):
            range_root(start, end, nodes_of(HASHES[:4]))
    for build in (inclusion_path, consistency_path):
        with pytest.raises(ValueError, match="expected"):
            build(5, 4, nodes_of(HASHES[:4]))


def test_paths_are_those_of_the_specification() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(1, 0, 17) == "tile/1/000.p/17"
    assert entries_path(1000, 255) == "tile/entries/x001/000.p/255"
    assert parse_path("tile/0/x001/x234/067") == Place(0, 1234067, 256)
    for path in (
        "tile/0/67", "tile/0/0067", "tile/0/x000/067", "tile/00/067", "tile/-1/067", "tile/9/000", "tile/8/000",
        "tile/0/067.p/0", "tile/0/067.p/256", "tile/0/067.p/007", "tile/0/067.p/", "tile/0/067/", "tile/0/x067",
        "tile/0/x001/x234", "tile/entries/", "tile/data/000", "/tile/0/000", "tile/0/\u0660\u0660\u0660",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            parse_path(path)
    for width in (0, 257, -1):
        with pytest.raises(ValueError, match="width"):
            tile_path(0, 0, width)
    with pytest.raises(ValueError, match="number"):
        tile_path(0, -1)


@given(st.integers(0, 10**12), st.integers(0, 7), st.integers(1, 256))
@settings(deadline=None)
def test_paths_read_back(number: int, level: int, width: int) -> None:
    assert parse_path(tile_path(level, number, width)) == Place(level, number, width)
    assert parse_path(entries_path(number, width)) == Place(-1, number, width)


def test_a_log_covers_exactly_its_tiles() -> None:
    assert covers(256, Place(0, 0, 256)) and covers(256, Place(1, 0, 1)) and covers(256, Place(-1, 0, 256))
    assert not covers(256, Place(0, 1, 1)) and not covers(256, Place(1, 0, 2)) and not covers(255, Place(0, 0, 256))


@given(st.lists(st.binary(max_size=40), max_size=TILE_WIDTH))
@settings(deadline=None)
def test_bundles_read_back(leaves: list[bytes]) -> None:
    assert parse_bundle(encode_bundle(leaves)) == leaves


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_bundles_of_any_bytes_read_back_or_are_refused(data: bytes) -> None:
    try:
        leaves = parse_bundle(data)
    except ValueError:
        return
    assert encode_bundle(leaves) == data


def test_bundles_have_bounds() -> None:
    assert parse_bundle(encode_bundle([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(ValueError, match="at most 65535"):
        encode_bundle([b"x" * 65_536])
    with pytest.raises(ValueError, match="at most 256"):
        parse_bundle(bytes(2 * 257))
    for data in (b"\0", b"\0\1", b"\0\1aa"):
        with pytest.raises(ValueError, match="more bytes"):
            parse_bundle(data)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 5), st.booleans()), max_size=60))
@settings(deadline=None)
def test_the_account_vector_has_the_root_of_the_definition(steps: list[tuple[int, int, bool]]) -> None:
    vector, leaves = AccountVector(), []
    assert vector.root() == EMPTY_ROOT
    for number, (index, cash, look) in enumerate(steps):
        index = min(index, len(leaves))
        leaf = account_leaf(index, "ab" * 16, cash, 0, number)
        vector.update([(index, leaf)])
        leaves[index : index + 1] = [leaf]
        if look:
            assert vector.root() == mth(leaf_hashes(leaves))
    assert vector.root() == mth(leaf_hashes(leaves))
    assert len(vector) == len(leaves)
    for index, leaf in enumerate(leaves):
        verify_inclusion(index, len(leaves), leaf_hash(leaf), vector.path(index), vector.root())


def test_an_account_leaf_is_canonical() -> None:
    leaf = account_leaf(3, "0f" * 16, 10**12, -1, 0)
    assert decode(leaf) == {"index": 3, "id": "0f" * 16, "cash_e7": 10**12, "held_e7": -1, "arrears_e7": 0}
    vector = AccountVector()
    for index in (1, -1):
        with pytest.raises(IndexError):
            vector.set(index, leaf)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.data())
@settings(deadline=None)
def test_rows_read_back_and_each_has_a_receipt(values: list[int], data: st.DataObject) -> None:
    rows = [encode({"account": n, "import_wh": value, "salt": f"{n:032x}"}) for n, value in enumerate(values)]
    root = rows_root(rows)
    assert split_rows(join_rows(rows)) == rows
    check_rows(rows, count=len(rows), root=root.hex())
    at = data.draw(st.integers(0, len(rows) - 1))
    verify_row(rows[at], at, len(rows), row_path(rows, at), root)
    with pytest.raises(ProofError):
        verify_row(rows[at] + b" ", at, len(rows), row_path(rows, at), root)
    with pytest.raises(ValueError, match="expected"):
        check_rows(rows[:-1], count=len(rows), root=root.hex())
    changed = [*rows[:at], encode({"account": at, "import_wh": -1, "salt": "0" * 32}), *rows[at + 1 :]]
    with pytest.raises(ValueError, match="root"):
        check_rows(changed, count=len(rows), root=root.hex())


def test_rows_without_salt_or_in_another_form_are_refused() -> None:
    for row in (b'{"account":1}', b'{"account":1,"salt":"00"}', b'{"salt": "00000000000000000000000000000000"}'):
        with pytest.raises(ValueError, match="expected"):
            check_rows([row], count=1, root=rows_root([row]).hex())
    with pytest.raises(ValueError, match="newline"):
        split_rows(b"{}")
    assert split_rows(b"") == []
