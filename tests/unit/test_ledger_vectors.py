"""Our formats against vectors that others published: tests/vectors/README.md says whose."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ledger.core.encoding import EncodingError, decode, encode
from ledger.core.follow import Follower
from ledger.core.merkle import EMPTY_ROOT, ProofError, verify_consistency, verify_growth, verify_inclusion
from ledger.core.note import NoteError, open_checkpoint, parse_vkey
from ledger.core.source import Missing

VECTORS = Path(__file__).parents[1] / "vectors"
TILE_LOG = VECTORS / "tile-log"
TILE_LOG_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def load(folder: str) -> list:
    """Return the vectors of a folder as pytest parameters, named by their files."""
    root = VECTORS / folder
    return [
        pytest.param(json.loads(path.read_text()), id=str(path.relative_to(root)))
        for path in sorted(root.rglob("*.json"))
    ]


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def hashes(texts: list[str] | None) -> list[bytes]:
    return [raw(text) for text in texts or []]


def read(path: str) -> bytes:
    try:
        return (TILE_LOG / path).read_bytes()
    except FileNotFoundError:
        raise Missing(path) from None


def test_there_are_as_many_vectors_as_were_copied() -> None:
    assert (len(load("merkle-inclusion")), len(load("merkle-consistency"))) == (98, 98)


@pytest.mark.parametrize("vector", load("merkle-inclusion"))
def test_inclusion_proofs(vector: dict) -> None:
    arguments = (
        vector["leafIdx"], vector["treeSize"], raw(vector["leafHash"]), hashes(vector["proof"]), raw(vector["root"]),
    )  # fmt: skip
    if vector["wantErr"]:
        with pytest.raises(ProofError):
            verify_inclusion(*arguments)
    else:
        verify_inclusion(*arguments)


@pytest.mark.parametrize("vector", load("merkle-consistency"))
def test_consistency_proofs(vector: dict) -> None:
    arguments = (
        vector["size1"], vector["size2"], raw(vector["root1"]), raw(vector["root2"]), hashes(vector["proof"]),
    )  # fmt: skip
    if vector["wantErr"]:
        with pytest.raises(ProofError):
            verify_consistency(*arguments)
    else:
        verify_consistency(*arguments)


def test_a_witness_lets_a_log_begin_at_size_zero() -> None:
    verify_growth(0, 1, EMPTY_ROOT, bytes(32), [])
    verify_growth(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    for arguments in (
        (0, 1, bytes(32), bytes(32), []),
        (0, 1, EMPTY_ROOT, bytes(32), [bytes(32)]),
        (0, 0, EMPTY_ROOT, bytes(32), []),
        (0, -1, EMPTY_ROOT, EMPTY_ROOT, []),
    ):
        with pytest.raises(ProofError):
            verify_growth(*arguments)


@pytest.mark.parametrize("path", sorted((VECTORS / "jcs-output").iterdir()), ids=lambda path: path.name)
def test_canonical_json_outside_our_subset_is_refused(path: Path) -> None:
    """All published JCS examples nest, hold floats or leave ASCII: canonical, but not ledger entries."""
    with pytest.raises(EncodingError):
        decode(path.read_bytes())


@pytest.mark.parametrize("path", sorted((VECTORS / "jcs-input").iterdir()), ids=lambda path: path.name)
def test_what_is_inside_our_subset_of_the_jcs_examples_encodes_as_published(path: Path) -> None:
    given, published = json.loads(path.read_text()), json.loads((VECTORS / "jcs-output" / path.name).read_text())
    assert given == published
    if not isinstance(given, dict):
        return
    inside = {
        key: value for key, value in given.items() if key.isascii() and isinstance(value, str) and value.isascii()
    }
    canonical = (VECTORS / "jcs-output" / path.name).read_bytes()
    for key, value in inside.items():
        assert encode({key: value})[1:-1] in canonical


def test_we_follow_a_log_that_nobody_here_wrote() -> None:
    follower = Follower("example.com/log/testdata", [parse_vkey(TILE_LOG_KEY)])
    for number in range(16):
        head = follower.advance((TILE_LOG / f"checkpoint.{number}").read_bytes(), read)
        assert head.size == number
        leaves = list(follower.entries(read))
        assert len(leaves) == number
    assert leaves[:3] == [b"one", b"two", b"three"]
    assert follower.advance((TILE_LOG / "checkpoint").read_bytes(), read).size == 15
    assert list(follower.entries(read, first=12)) == leaves[12:]


def test_following_refuses_another_history() -> None:
    follower = Follower("example.com/log/testdata", [parse_vkey(TILE_LOG_KEY)])
    follower.advance((TILE_LOG / "checkpoint.9").read_bytes(), read)
    with pytest.raises(ProofError, match="shrunk"):
        follower.advance((TILE_LOG / "checkpoint.8").read_bytes(), read)

    def forged(path: str) -> bytes:
        data = bytearray(read(path))
        data[3] ^= 1
        return bytes(data)

    with pytest.raises(ProofError, match="signed root"):
        follower.advance((TILE_LOG / "checkpoint.10").read_bytes(), forged)
    assert follower.head.size == 9
    with pytest.raises(ProofError, match="entry 0"):
        list(follower.entries(lambda path: forged(path) if "entries" in path else read(path)))
    follower.head = follower.head._replace(root=bytes(32))  # as if this log had shown us another tree of nine
    with pytest.raises(ProofError, match="another old root"):
        follower.advance((TILE_LOG / "checkpoint.10").read_bytes(), read)


def test_every_changed_byte_of_a_foreign_checkpoint_is_noticed() -> None:
    data = (TILE_LOG / "checkpoint.15").read_bytes()
    keys = [parse_vkey(TILE_LOG_KEY)]
    assert open_checkpoint(data, keys).size == 15
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(NoteError):
                open_checkpoint(bytes(changed), keys)
