"""Following a log somebody else writes: each new head must be signed, be a continuation, and be made of its files.

What the entries mean is none of this module's business, so it reads any C2SP tiled log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledger.core.merkle import EMPTY_ROOT, ProofError, consistency_path, leaf_hashes, range_root, verify_growth
from ledger.core.note import Checkpoint, VerifierKey, open_checkpoint
from ledger.core.source import Source
from ledger.core.tiles import TILE_WIDTH, entries_path, node_reader, parse_bundle, split_hashes, tile_path, widths


class Follower:
    """Holds the newest head that was accepted of one log."""

    def __init__(self, origin: str, keys: Sequence[VerifierKey]):
        self._keys = list(keys)
        self.head = Checkpoint(origin, 0, EMPTY_ROOT)

    def advance(self, note: bytes, read: Source) -> Checkpoint:
        """Accept a signed head and return it; it stays unchanged when that fails.

        ``read`` gets tiles at the new head's widths. Raises ``NoteError``, ``ProofError``, ``Missing`` or
        ``ValueError`` (a tile of another shape).
        """
        head = open_checkpoint(note, self._keys, extensions=True)
        if head.origin != self.head.origin:
            raise ProofError(f"expected the log {self.head.origin}, was {head.origin}")
        if head.size < self.head.size:
            raise ProofError(f"expected at least {self.head.size} entries, was {head.size}: the log has shrunk")
        node = node_reader(head.size, lambda level, number, width: read(tile_path(level, number, width)))
        if head.size and range_root(0, head.size, node) != head.root:
            raise ProofError(f"the tiles at {head.size} entries do not have the signed root")
        path = consistency_path(self.head.size, head.size, node) if self.head.size else []
        verify_growth(self.head.size, head.size, self.head.root, head.root, path)
        self.head = head
        return head

    def entries(self, read: Source, first: int = 0) -> Iterator[bytes]:
        """Yield the leaves of the accepted head from ``first`` on, bundle by bundle, checked against the tiles.

        Raises ``ProofError`` naming the first entry that does not hash to its place.
        """
        skip = first % TILE_WIDTH
        full, partial = widths(self.head.size, 0)
        for number in range(first // TILE_WIDTH, full + (partial > 0)):
            width = TILE_WIDTH if number < full else partial
            bundle = parse_bundle(read(entries_path(number, width)))
            hashes = split_hashes(read(tile_path(0, number, width)))
            was = leaf_hashes(bundle)
            if len(bundle) != width or len(hashes) != width:
                raise ProofError(f"{entries_path(number, width)}: expected {width} entries, was {len(bundle)}")
            for at, (one, other) in enumerate(zip(hashes, was, strict=True)):
                if one != other:
                    raise ProofError(f"entry {number * TILE_WIDTH + at}: does not hash to its tile")
            yield from bundle[skip:]
            skip = 0
