"""Tiles and entry bundles as https://c2sp.org/tlog-tiles lays them out: 256 hashes a tile, eight heights a level."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ledger.core.encoding import MAX_LEAF_BYTES
from ledger.core.merkle import HASH_BYTES, Frontier, NodeReader, pair_up

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_LEAF_BYTES)  # each entry behind its length
MAX_LEVEL = 7  # 256 ** 8 leaves are all that 64 bits can count

_PATH = re.compile(r"tile/(entries|[0-9])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)

TileReader = Callable[[int, int, int], bytes]  # (level, index, width) -> the tile's bytes


class Tile(NamedTuple):
    """A full tile: its place, its 256 hashes in one, and the root over them (= its hash in the level above)."""

    level: int
    number: int
    data: bytes
    root: bytes


class Place(NamedTuple):
    """What a path names. ``level`` is -1 for an entry bundle."""

    level: int
    number: int
    width: int


def index_path(index: int) -> str:
    """Return a tile's number as path elements: 1234067 is ``x001/x234/067``."""
    if index < 0:
        raise ValueError(f"expected a tile number from 0, was {index}")
    path = f"{index % 1000:03d}"
    while index := index // 1000:
        path = f"x{index % 1000:03d}/{path}"
    return path


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a hash tile below the log's prefix."""
    return f"tile/{level}/{index_path(index)}{_suffix(width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of an entry bundle below the log's prefix."""
    return f"tile/entries/{index_path(index)}{_suffix(width)}"


def _suffix(width: int) -> str:
    if not 0 < width <= TILE_WIDTH:
        raise ValueError(f"expected a width from 1 to {TILE_WIDTH}, was {width}")
    return "" if width == TILE_WIDTH else f".p/{width}"


def parse_path(path: str) -> Place:
    """Return what a tile's or bundle's path names; raise ``ValueError`` unless it is written in the one right way."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"expected the path of a tile, was {path!r:.80}")
    what, number, width_text = match.groups()
    index = int(number.replace("x", "").replace("/", ""))
    width = int(width_text) if width_text else TILE_WIDTH
    place = Place(-1 if what == "entries" else int(what), index, width)
    if place.level > MAX_LEVEL:
        raise ValueError(f"expected a level up to {MAX_LEVEL}, was {place.level}")
    right = entries_path(index, width) if place.level < 0 else tile_path(place.level, index, width)
    if right != path:
        raise ValueError(f"expected the path {right}, was {path!r:.80}")
    return place


def widths(size: int, level: int) -> tuple[int, int]:
    """Return how many full tiles a log of ``size`` entries has at a level, and the partial one's width (0: none)."""
    hashes = size >> (TILE_HEIGHT * level)
    return hashes >> TILE_HEIGHT, hashes & (TILE_WIDTH - 1)


def levels(size: int) -> int:
    """Return how many levels of tiles a log of ``size`` entries has."""
    count = 0
    while size:
        size >>= TILE_HEIGHT
        count += 1
    return count


def covers(size: int, place: Place) -> bool:
    """Return whether a log of ``size`` entries has all the hashes (or entries) of this tile (or bundle)."""
    hashes = size >> (TILE_HEIGHT * max(place.level, 0))
    return place.number * TILE_WIDTH + place.width <= hashes


def split_hashes(data: bytes) -> list[bytes]:
    """Return the hashes of a tile; raise ``ValueError`` unless it is a whole number of them."""
    if not data or len(data) % HASH_BYTES or len(data) > TILE_WIDTH * HASH_BYTES:
        raise ValueError(f"expected 1 to {TILE_WIDTH} hashes of {HASH_BYTES} bytes, was {len(data)} bytes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Return the entry bundle of these leaves: each with its length as 16 bits, big-endian, before it."""
    for leaf in leaves:
        if len(leaf) > MAX_LEAF_BYTES:
            raise ValueError(f"expected a leaf of at most {MAX_LEAF_BYTES} bytes, was {len(leaf)}")
    return b"".join([part for leaf in leaves for part in (len(leaf).to_bytes(2), leaf)])


def parse_bundle(data: bytes) -> list[bytes]:
    """Return the leaves of an entry bundle; raise ``ValueError`` on a length that does not fit or more than 256."""
    leaves: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 2
        at = start + (data[start - 2] << 8) + data[start - 1] if start <= end else end + 1
        if at > end:
            raise ValueError(f"expected {at - end} more bytes for its entry {len(leaves)}")
        leaves.append(data[start:at])
        if len(leaves) > TILE_WIDTH:
            raise ValueError(f"expected at most {TILE_WIDTH} entries")
    return leaves


class TileTree:
    """A growing log tree that hands out each tile when it is full. It keeps the partial tile of each level only."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self.edges: list[list[bytes]] = []  # by level: the hashes of its partial tile

    @classmethod
    def restore(cls, size: int, edges: Sequence[Sequence[bytes]]) -> TileTree:
        """Return the tree of ``size`` entries whose partial tiles these are; ``ValueError`` when they do not fit."""
        tree = cls()
        tree.edges = [list(edge) for edge in edges]
        expected = [widths(size, level)[1] for level in range(levels(size))]
        if [len(edge) for edge in tree.edges] != expected:
            raise ValueError(f"expected partial tiles of {expected} hashes, was {[len(edge) for edge in edges]}")
        nodes: list[bytes | None] = []
        for edge in tree.edges:
            row: list[bytes] = edge
            for _ in range(TILE_HEIGHT):
                nodes.append(row[-1] if len(row) & 1 else None)
                row = pair_up(row)
        tree._frontier = Frontier.of(size, nodes)
        return tree

    @property
    def size(self) -> int:
        """How many entries the tree has."""
        return self._frontier.size

    def root(self) -> bytes:
        """Return the root over all entries so far."""
        return self._frontier.root()

    def extend(self, hashes: Sequence[bytes]) -> list[Tile]:
        """Add leaf hashes; return the tiles this filled, lower levels first."""
        start = self._frontier.size
        made = self._frontier.extend(hashes)
        full: list[Tile] = []
        for level, height in enumerate(range(0, len(made), TILE_HEIGHT)):
            if level == len(self.edges):
                self.edges.append([])
            edge = self.edges[level]
            edge += made[height]
            index = start >> (height + TILE_HEIGHT)
            roots = made[height + TILE_HEIGHT] if height + TILE_HEIGHT < len(made) else ()
            for number, root in enumerate(roots):
                at = number * TILE_WIDTH
                full.append(Tile(level, index + number, b"".join(edge[at : at + TILE_WIDTH]), root))
            del edge[: len(roots) * TILE_WIDTH]
        return full


def node_reader(size: int, read: TileReader) -> NodeReader:
    """Return a reader of the nodes of the log of ``size`` entries from its tiles, for making proofs.

    ``read`` is asked for tiles at the width they have at this size; ``ValueError`` when one has another width.
    """
    seen: dict[tuple[int, int], list[bytes]] = {}

    def hashes(level: int, index: int) -> list[bytes]:
        found = seen.get((level, index))
        if found is None:
            full, partial = widths(size, level)
            width = TILE_WIDTH if index < full else partial
            found = seen[level, index] = split_hashes(read(level, index, width))
            if len(found) != width:
                raise ValueError(f"{tile_path(level, index, width)}: expected {width} hashes, was {len(found)}")
        return found

    def node(height: int, index: int) -> bytes:
        level, within = divmod(height, TILE_HEIGHT)
        first = index << within
        tile, offset = first >> TILE_HEIGHT, first & (TILE_WIDTH - 1)
        row = hashes(level, tile)[offset : offset + (1 << within)]
        if len(row) != 1 << within:
            raise ValueError(f"a log of {size} entries has no complete node {index} of height {height}")
        while len(row) > 1:
            row = pair_up(row)
        return row[0]

    return node
