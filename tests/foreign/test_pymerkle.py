"""Our roots and proofs as pymerkle sees them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree, InvalidProof, verify_consistency, verify_inclusion

from ledger.core.merkle import inclusion_path, leaf_hashes, nodes_of, root_of
from tests.unit.ledger_logs import make_log

LEAVES = make_log((3, 250, 5)).leaves


def tree_of(leaves: list[bytes]) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    return tree


TREE = tree_of(LEAVES)


@given(st.integers(1, len(LEAVES)))
@settings(max_examples=100, deadline=None)
def test_roots_of_every_size(size: int) -> None:
    assert TREE.get_root(size) == root_of(leaf_hashes(LEAVES[:size]))


@given(st.integers(1, len(LEAVES)), st.data())
@settings(max_examples=100, deadline=None)
def test_proofs(size: int, data: st.DataObject) -> None:
    """It accepts our roots with its proofs, and its inclusion proof is ours behind the leaf's own hash."""
    hashes = leaf_hashes(LEAVES[:size])
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion = TREE.prove_inclusion(index + 1, size)
    verify_inclusion(hashes[index], root_of(hashes), inclusion)
    ours = [hashes[index], *inclusion_path(index, size, nodes_of(hashes))]
    assert [bytes.fromhex(hash_) for hash_ in inclusion.serialize()["path"]] == ours
    verify_consistency(root_of(hashes[:old]), root_of(hashes), TREE.prove_consistency(old, size))
    with pytest.raises(InvalidProof):
        verify_inclusion(hashes[index], root_of([*hashes, hashes[0]]), inclusion)
