"""RFC 6962 Merkle trees over SHA-256: hashes, roots, and proofs made and checked.

A *node* is named by its height and its index in the row of complete subtrees of that height: node (0, i) is leaf i,
node (h, i) covers leaves ``i << h`` to ``(i + 1) << h``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
MAX_HEIGHT = 63  # of a tree whose size fits a signed 64-bit integer; no honest proof is longer

LEAF = b"\x00"
NODE = b"\x01"

NodeReader = Callable[[int, int], bytes]  # (height, index) -> hash of that complete subtree


class ProofError(ValueError):
    """A proof does not show what it claims."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf's bytes."""
    return sha256(LEAF + leaf).digest()


def leaf_hashes(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the hash of each leaf."""
    return [sha256(LEAF + leaf).digest() for leaf in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with these children."""
    return sha256(NODE + left + right).digest()


def pair_up(row: Sequence[bytes]) -> list[bytes]:
    """Return the parents of a row of nodes; a last one without a partner has none."""
    nodes = iter(row)
    return [sha256(NODE + left + right).digest() for left, right in zip(nodes, nodes, strict=False)]


class Frontier:
    """A growing tree of which only the right edge is kept: at most one node a height."""

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[bytes | None] = []  # by height: the complete subtree that still waits for its right sibling

    @classmethod
    def of(cls, size: int, nodes: Sequence[bytes | None]) -> Frontier:
        """Return a frontier of ``size`` leaves from its nodes by height; ``ValueError`` when they do not fit."""
        frontier = cls()
        frontier.size = size
        frontier._nodes = list(nodes)
        if [node is not None for node in frontier._nodes] != [bool(size >> h & 1) for h in range(len(nodes))]:
            raise ValueError(f"expected one node for each bit of the size {size}")
        if size >> len(nodes):
            raise ValueError(f"expected nodes up to the height of the size {size}, was {len(nodes)}")
        return frontier

    def copy(self) -> Frontier:
        """Return an independent frontier of the same tree."""
        return Frontier.of(self.size, self._nodes)

    def append(self, hash_: bytes) -> None:
        """Add one leaf hash."""
        self.extend([hash_])

    def extend(self, hashes: Sequence[bytes]) -> list[Sequence[bytes]]:
        """Add leaf hashes; return by height the nodes that this made complete (height 0: the hashes themselves)."""
        nodes = self._nodes
        made: list[Sequence[bytes]] = []
        row: Sequence[bytes] = hashes
        height = 0
        while row:
            made.append(row)
            if height == len(nodes):
                nodes.append(None)
            waiting = nodes[height]
            if waiting is not None:
                row = [waiting, *row]
            nodes[height] = row[-1] if len(row) & 1 else None
            row = pair_up(row)
            height += 1
        self.size += len(hashes)
        return made

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        root: bytes | None = None
        for node in self._nodes:
            if node is not None:
                root = node if root is None else sha256(NODE + node + root).digest()
        return EMPTY_ROOT if root is None else root


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over these leaf hashes."""
    frontier = Frontier()
    frontier.extend(hashes)
    return frontier.root()


def nodes_of(hashes: Sequence[bytes]) -> NodeReader:
    """Return a reader over these leaf hashes, for making proofs."""
    rows: list[Sequence[bytes]] = [hashes]
    while len(rows[-1]) > 1:
        rows.append(pair_up(rows[-1]))
    return lambda height, index: rows[height][index]


def range_root(start: int, end: int, node: NodeReader) -> bytes:
    """Return the root over leaves ``start`` to ``end``; ``start`` must begin a subtree of that width."""
    if end <= start:
        raise ValueError(f"expected a range of leaves, was {start} to {end}")
    parts = []
    while start < end:
        height = (end - start).bit_length() - 1
        if start & ((1 << height) - 1):
            raise ValueError(f"expected a range that begins at a subtree, was {start} to {end}")
        parts.append(node(height, start >> height))
        start += 1 << height
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root


def _split(count: int) -> int:
    """Return the largest power of two below ``count`` (two or more)."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the proof, leaf to root, that leaf ``index`` is in the tree of ``size`` leaves (RFC 6962 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"expected an index below the size {size}, was {index}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    return path[::-1]


def consistency_path(old_size: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the proof that the tree of ``size`` leaves begins with that of ``old_size`` (RFC 6962 2.1.2)."""
    if not 0 < old_size <= size:
        raise ValueError(f"expected an old size from 1 to {size}, was {old_size}")
    path = []
    start, end = 0, size
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    if start:
        path.append(range_root(start, end, node))
    return path[::-1]


def root_from_inclusion(index: int, size: int, hash_: bytes, path: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to (RFC 9162 2.1.3.2); raise ``ProofError`` when it cannot fit."""
    if not 0 <= index < size:
        raise ProofError(f"expected an index below the size {size}, was {index}")
    _check_hashes([hash_, *path])
    node, last, root = index, size - 1, hash_
    for sibling in path:
        if last == 0:
            raise ProofError(f"expected a shorter proof for leaf {index} of {size}, was {len(path)} hashes")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofError(f"expected a longer proof for leaf {index} of {size}, was {len(path)} hashes")
    return root


def verify_inclusion(index: int, size: int, hash_: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Raise ``ProofError`` unless the path shows the leaf hash at ``index`` of the tree with this size and root."""
    if root_from_inclusion(index, size, hash_, path) != root:
        raise ProofError(f"the proof of leaf {index} of {size} leads to another root")


def verify_consistency(old_size: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]) -> None:
    """Raise ``ProofError`` unless the path shows that the old tree is the beginning of the new one (RFC 9162 2.1.4.2).

    Nothing can be shown about an old tree of size 0, so that is refused; ``verify_growth`` takes it as a witness does.
    """
    if not 0 < old_size <= size:
        raise ProofError(f"expected an old size from 1 to {size}, was {old_size}")
    if old_size == size:
        if path or old_root != root:
            raise ProofError(f"expected the same root and an empty proof between two trees of size {size}")
        return
    _check_hashes([old_root, root, *path])
    if not path:
        raise ProofError(f"expected a proof from size {old_size} to {size}, was empty")
    proof = list(path) if old_size & (old_size - 1) else [old_root, *path]
    node, last = old_size - 1, size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = proof[0]
    for sibling in proof[1:]:
        if last == 0:
            raise ProofError(f"expected a shorter proof from size {old_size} to {size}, was {len(path)} hashes")
        if node & 1 or node == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofError(f"expected a longer proof from size {old_size} to {size}, was {len(path)} hashes")
    if old != old_root:
        raise ProofError(f"the proof leads to another old root at size {old_size}")
    if new != root:
        raise ProofError(f"the proof leads to another new root at size {size}")


def verify_growth(old_size: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]) -> None:
    """Like ``verify_consistency``, but every tree has grown from the empty one: old size 0 needs an empty proof."""
    if old_size:
        verify_consistency(old_size, size, old_root, root, path)
    elif path or old_root != EMPTY_ROOT or (size == 0 and root != EMPTY_ROOT) or size < 0:
        raise ProofError("expected the empty tree's root and an empty proof for an old size of 0")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > 2 * MAX_HEIGHT:
        raise ProofError(f"expected at most {2 * MAX_HEIGHT} hashes, was {len(hashes)}")
    if any(len(hash_) != HASH_BYTES for hash_ in hashes):
        raise ProofError(f"expected hashes of {HASH_BYTES} bytes")
