"""A log's tiles and entries under one signed root, each held against that root before anything is done with it.

A full tile is proven by its root in the tile above it, the partial tiles of the right edge all together by the root itself.
So any part of a log of any length is proven by a handful of tiles, and nothing unproven needs to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ledger.core.merkle import ProofError, leaf_hashes, pair_up
from ledger.core.note import Checkpoint
from ledger.core.source import Missing, Source
from ledger.core.tiles import TILE_WIDTH, entries_path, parse_bundle, split_hashes, tile_path, widths


class Unproven(ProofError):
    """A file is not what the signed root says. ``path`` names it, ``data`` is what was there instead."""

    def __init__(self, path: str, what: str, data: bytes):
        super().__init__(f"{path}: {what}")
        self.path = path
        self.data = data


class Proven:
    """Reads a log under ``head``. ``edge``: its partial tiles by path, already proven by its root (``Follower.advance``).

    Each of ``sources`` is asked in turn; what one of them lacks, or has other than it must be, the next one may have.
    """

    def __init__(self, head: Checkpoint, edge: Mapping[str, bytes], sources: Sequence[Source]):
        self.head = head
        self._edge = edge
        self._sources = sources
        self._last: dict[int, tuple[int, list[bytes]]] = {}  # by level: the full tile that was read last

    def tile(self, level: int, number: int) -> list[bytes]:
        """Return the hashes of a tile at the width it has under the head; raise ``Unproven`` or ``Missing``."""
        full, partial = widths(self.head.size, level)
        if number == full and partial:
            return split_hashes(self._edge[tile_path(level, number, partial)])
        known, hashes = self._last.get(level, (-1, []))
        if known != number:
            path = tile_path(level, number)
            hashes = split_hashes(self._first(path, lambda data: self._check_tile(path, data, level, number)))
            self._last[level] = number, hashes
        return hashes

    def bundle(self, number: int) -> tuple[str, bytes, list[bytes]]:
        """Return an entry bundle's path, bytes and leaves; raise ``Unproven`` or ``Missing``."""
        full, partial = widths(self.head.size, 0)
        width = TILE_WIDTH if number < full else partial
        path = entries_path(number, width)
        data = self._first(path, lambda data: self._check_bundle(path, data, number, width))
        return path, data, parse_bundle(data)

    def _first(self, path: str, check: Callable[[bytes], None]) -> bytes:
        failed: Missing | Unproven | None = None
        for source in self._sources:
            try:
                data = source(path)
                check(data)
            except (Missing, Unproven) as error:
                failed = error
            else:
                return data
        assert failed is not None
        raise failed

    def _check_tile(self, path: str, data: bytes, level: int, number: int) -> None:
        try:
            hashes = split_hashes(data)
        except ValueError as error:
            raise Unproven(path, str(error), data) from None
        self._check_root(path, data, hashes, level, number)

    def _check_root(self, path: str, data: bytes, hashes: list[bytes], level: int, number: int) -> None:
        """Compare the root over a full tile with its hash in the tile above."""
        if len(hashes) != TILE_WIDTH:
            raise Unproven(path, f"expected {TILE_WIDTH}, was {len(hashes)}", data)
        expected = self.tile(level + 1, number // TILE_WIDTH)[number % TILE_WIDTH]
        row = hashes
        while len(row) > 1:
            row = pair_up(row)
        if row[0] != expected:
            raise Unproven(path, f"expected the root {expected.hex()} under the signed one, was {row[0].hex()}", data)

    def _check_bundle(self, path: str, data: bytes, number: int, width: int) -> None:
        try:
            hashes = leaf_hashes(parse_bundle(data))
        except ValueError as error:
            raise Unproven(path, str(error), data) from None
        if width == TILE_WIDTH:
            self._check_root(path, data, hashes, 0, number)
        elif hashes != self.tile(0, number):
            raise Unproven(path, "its entries do not hash to the signed root", data)
