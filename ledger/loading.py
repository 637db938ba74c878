"""How the log's state in memory is rebuilt from its rows: from the right edge of the tiles, not from every entry."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Max

from ledger.core.encoding import EncodingError, decode
from ledger.core.keyring import Keyring, KeyringError
from ledger.core.merkle import EMPTY_ROOT, leaf_hashes, range_root
from ledger.core.note import NoteError, parse_checkpoint, parse_note
from ledger.core.tiles import TILE_WIDTH, TileTree, levels, node_reader, widths
from ledger.models import Checkpoint, Entry, HashTile, KeyEntry


class LogDamaged(Exception):
    """The stored log contradicts itself; the message names the place. It must not be written to."""


class LogState(NamedTuple):
    """The log as the database has it: ``tree`` over all entries, where the newest checkpoint stands, who may sign."""

    tree: TileTree
    sealed_size: int
    sealed_root: bytes
    height: int
    keyring: Keyring


def load_state(origin: str) -> LogState:
    """Return the stored log's state; raise ``LogDamaged`` unless entries, tiles and newest checkpoint agree."""
    last = Entry.objects.aggregate(last=Max("seq"))["last"]
    size = 0 if last is None else last + 1
    newest = Checkpoint.objects.order_by("-size").first()
    if newest is None:
        return LogState(_tree(size), 0, EMPTY_ROOT, 0, load_keyring(origin))
    try:
        checkpoint = parse_checkpoint(parse_note(newest.note.encode()).text)
    except NoteError as error:
        raise LogDamaged(f"checkpoint of {newest.size} entries: {error}") from error
    if checkpoint.origin != origin:
        raise LogDamaged(f"checkpoint: expected the origin {origin} of the settings, was {checkpoint.origin}")
    if checkpoint.size != newest.size or checkpoint.size > size:
        raise LogDamaged(f"checkpoint: expected at most the {size} stored entries, was {checkpoint.size}")
    sealed = _tree(checkpoint.size)
    if sealed.root() != checkpoint.root:
        raise LogDamaged(f"checkpoint: the stored tiles do not have its root at {checkpoint.size} entries")
    tree = sealed if size == checkpoint.size else _tree(size)
    return LogState(tree, checkpoint.size, checkpoint.root, newest.height, load_keyring(origin))


def load_keyring(origin: str) -> Keyring:
    """Return the log's keys as its stored entries name them; raise ``LogDamaged`` when one of these is not right."""
    keyring = Keyring(origin)
    for seq in KeyEntry.objects.order_by("seq").values_list("seq", flat=True):
        leaf = Entry.objects.filter(seq=seq).values_list("leaf", flat=True).first()
        try:
            fields = {} if leaf is None else decode(bytes(leaf))
            if fields.get("type") == "genesis":
                keyring.found(str(fields.get("vkey")))
            else:
                keyring.change(fields)
        except (EncodingError, KeyringError) as error:
            raise LogDamaged(f"entry {seq}: {error}") from error
    return keyring


def _tree(size: int) -> TileTree:
    """Return the tree over the first ``size`` entries from stored tiles and the entries of the partial tile."""
    return TileTree.restore(size, [edge(size, level) for level in range(levels(size))])


def root_at(size: int) -> bytes:
    """Return the root the stored log had at ``size`` entries; raise ``LogDamaged`` when it has fewer."""
    if size == 0:
        return EMPTY_ROOT
    return range_root(
        0, size, node_reader(size, lambda level, number, width: b"".join(cut_hashes(level, number, width)))
    )


def edge(size: int, level: int) -> list[bytes]:
    """Return the hashes of the partial tile at a level of the log of ``size`` entries."""
    full, width = widths(size, level)
    return cut_hashes(level, full, width)


def cut_hashes(level: int, number: int, width: int) -> list[bytes]:
    """Return the first ``width`` hashes of a tile from what lies below it; raise ``LogDamaged`` when one is missing."""
    start = number * TILE_WIDTH
    if width == 0:
        return []
    if level == 0:
        hashes = leaf_hashes(cut_leaves(number, width))
    else:
        below = HashTile.objects.filter(level=level - 1, number__gte=start, number__lt=start + width)
        hashes = [bytes(root) for root in below.order_by("number").values_list("root", flat=True)]
    if len(hashes) != width:
        raise LogDamaged(f"tile {level}/{number}: expected {width} rows below it, was {len(hashes)}")
    return hashes


def cut_leaves(number: int, width: int) -> list[bytes]:
    """Return the first ``width`` leaves of an entry bundle; raise ``LogDamaged`` when one is missing."""
    start = number * TILE_WIDTH
    stored = Entry.objects.filter(seq__gte=start, seq__lt=start + width).order_by("seq").values_list("seq", "leaf")
    rows = list(stored)
    for expected, (seq, _) in enumerate(rows, start):
        if seq != expected:
            raise LogDamaged(f"entry {expected}: missing")
    if len(rows) != width:
        raise LogDamaged(f"entry {start + len(rows)}: missing")
    return [bytes(leaf) for _, leaf in rows]
