"""Reads of the stored log: entries, rows, tiles, checkpoints, blocks, proofs and receipts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import import_module
from typing import NamedTuple

import orjson
from django.conf import settings
from django.db import connection

from ledger import cosigning, loading
from ledger.core.encoding import decode
from ledger.core.keyring import Keyring
from ledger.core.merkle import NodeReader, consistency_path, inclusion_path, leaf_hash
from ledger.core.note import MAX_SIZE, parse_note
from ledger.core.receipt import format_receipt
from ledger.core.rows import join_rows
from ledger.core.tiles import Place, covers, encode_bundle, entries_path, node_reader, tile_path
from ledger.core.verify import Head
from ledger.loading import LogDamaged as LogDamaged
from ledger.models import Checkpoint, Entry, Evidence, HashTile, KeyEntry, Row, Rulebook

MAX_ENTRIES = 10_000  # of one page
MAX_BLOCKS = 1_000
MAX_HASHED = 10_000_000  # newest entries among which a hash is looked for: 320 MB of hashes
WIDTH = 256  # hashes of a full tile
ITERATION = 5_000  # entries of one read while iterating


class NotThere(LookupError):
    """The log has no such entry, tile, checkpoint or text (yet)."""


class Block(NamedTuple):
    """A sealed run of entries: ``first`` to ``size`` (half-open), and the checkpoint that covers it."""

    height: int
    first: int
    count: int
    size: int
    root: str
    at_ms: int


class InclusionProof(NamedTuple):
    """The proof that an entry is in the tree of a checkpoint; hashes in hex, leaf to root."""

    seq: int
    size: int
    root: str
    leaf_hash: str
    hashes: list[str]
    checkpoint: str


def size() -> int:
    """Return the number of stored entries, sealed or not."""
    last = Entry.objects.order_by("-seq").values_list("seq", flat=True).first()
    return 0 if last is None else last + 1


def sealed_size() -> int:
    """Return the number of entries the newest checkpoint covers."""
    return Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0


def leaf(seq: int) -> bytes:
    """Return an entry's stored bytes; raise ``NotThere``."""
    found = Entry.objects.filter(seq=seq).values_list("leaf", flat=True).first() if 0 <= seq <= MAX_SIZE else None
    if found is None:
        raise NotThere(f"entry {seq}")
    return bytes(found)


def entry(seq: int) -> dict[str, int | str]:
    """Return an entry's fields; raise ``NotThere``."""
    return decode(leaf(seq))


def seq_of_hash(digits: str) -> int | None:
    """Return the entry whose leaf hash (hex) this is, None when it is not among the newest ``MAX_HASHED``.

    No index: it would cost every entry that is written. The full tiles are looked through by the database, 8 KB for 256
    entries; what is not in a full tile yet is hashed here.
    """
    wanted = bytes.fromhex(digits)
    whole = size()
    first = whole - whole % WIDTH
    for seq, data in enumerate(leaves(first, WIDTH), first):
        if leaf_hash(data) == wanted:
            return seq
    return _seq_in_tiles(wanted, max(0, (whole - MAX_HASHED) // WIDTH))


def _seq_in_tiles(wanted: bytes, oldest: int) -> int | None:
    at = "position(%s in data)" if connection.vendor == "postgresql" else "instr(data, %s)"
    sql = f"SELECT number, {at} FROM ledger_hashtile WHERE level = 0 AND number >= %s AND {at} > 0"  # noqa: S608 (ours)
    with connection.cursor() as cursor:
        cursor.execute(sql, [wanted, oldest, wanted])
        for number, place in cursor.fetchall():
            if (place - 1) % len(wanted) == 0:  # else the end of one hash and the beginning of the next
                return int(number) * WIDTH + (int(place) - 1) // len(wanted)
    return None


def leaves(first: int, limit: int) -> list[bytes]:
    """Return the stored bytes of at most ``limit`` (bounded by ``MAX_ENTRIES``) entries from ``first`` on."""
    found = Entry.objects.filter(seq__gte=first).order_by("seq").values_list("leaf", flat=True)
    return [bytes(data) for data in found[: min(limit, MAX_ENTRIES)]]


def leaves_of(seqs: Collection[int]) -> list[tuple[int, bytes]]:
    """Return (sequence, stored bytes) of these entries (at most some hundreds), in order."""
    found = Entry.objects.filter(seq__in=seqs).order_by("seq").values_list("seq", "leaf")
    return [(seq, bytes(data)) for seq, data in found]


def entries(first: int, limit: int) -> list[dict[str, int | str]]:
    """Return the fields of at most ``limit`` entries from ``first`` on."""
    return [orjson.loads(data) for data in leaves(first, limit)]


def iter_leaves(first: int = 0) -> Iterator[bytes]:
    """Yield the stored bytes of all entries from ``first`` on, in order, as many as there are when it gets there."""
    while page := leaves(first, ITERATION):
        yield from page
        first += len(page)


def rows(seq: int) -> list[bytes]:
    """Return the salted rows that an entry commits to, [] when none are kept."""
    if not 0 <= seq <= MAX_SIZE:
        return []
    found = Row.objects.filter(seq=seq).order_by("number").values_list("data", flat=True)
    return [bytes(data) for data in found]


def seqs_with_rows(first: int) -> Iterator[int]:
    """Yield the sequence numbers of the entries from ``first`` on that have rows, in order."""
    yield from Row.objects.filter(seq__gte=first, number=0).order_by("seq").values_list("seq", flat=True).iterator()


def evidence(sha256: str) -> bytes:
    """Return what rows name by this SHA-256; raise ``NotThere``."""
    data = Evidence.objects.filter(sha256=sha256).values_list("data", flat=True).first()
    if data is None:
        raise NotThere(f"evidence {sha256}")
    return bytes(data)


def evidence_of(names: Collection[str]) -> dict[str, bytes]:
    """Return what rows name by these SHA-256 (at most some hundreds); what is not there is left out."""
    found = Evidence.objects.filter(sha256__in=names).values_list("sha256", "data")
    return {sha256: bytes(data) for sha256, data in found}


def rows_file(seq: int, covered: int | None = None) -> bytes:
    """Return the rows of an entry, one a line; raise ``NotThere`` when none are kept, or the newest checkpoint lacks it.

    ``covered`` spares the look-up of the newest checkpoint's size.
    """
    found = rows(seq) if seq < (sealed_size() if covered is None else covered) else []
    if not found:
        raise NotThere(f"rows of entry {seq}")
    return join_rows(found)


def snapshot_sha256(seq: int) -> str | None:
    """Return the SHA-256 that the snapshot entry ``seq`` commits to, None when it is no such entry."""
    data = Entry.objects.filter(seq=seq).values_list("leaf", flat=True).first()
    fields = {} if data is None else orjson.loads(bytes(data))
    return fields["sha256"] if fields.get("type") == "snapshot" else None


def snapshots() -> list[str]:
    """Return the SHA-256 of each stored snapshot that the newest checkpoint covers, newest first."""
    module = getattr(settings, "LEDGER_SNAPSHOTS", "")
    return list(import_module(module).names(sealed_size())) if module else []


def snapshot(sha256: str) -> bytes:
    """Return the state a covered snapshot entry commits to; raise ``NotThere`` when it is not kept (any more)."""
    module = getattr(settings, "LEDGER_SNAPSHOTS", "")
    found: bytes | None = import_module(module).content(sha256, sealed_size()) if module else None
    if found is None:
        raise NotThere(f"snapshot {sha256:.64}")
    return found


def rulebook(sha256: str) -> str:
    """Return the text of the rulebook with this SHA-256; raise ``NotThere``."""
    text = Rulebook.objects.filter(sha256=sha256).values_list("text", flat=True).first()
    if text is None:
        raise NotThere(f"rulebook {sha256}")
    return text


def newest() -> Checkpoint | None:
    """Return the newest checkpoint's row, None before the first seal."""
    return Checkpoint.objects.order_by("-size").first()


def checkpoint(size: int | None = None) -> str:
    """Return the newest signed checkpoint with its cosignatures, or the one at exactly ``size`` entries; raise ``NotThere``."""
    found = Checkpoint.objects.order_by("-size")
    if size is not None:
        found = found.filter(size=size)
    head = found.first()
    if head is None:
        raise NotThere("checkpoint")
    return cosigned(head)


def witnessed_checkpoint() -> str:
    """Return the newest checkpoint with a quorum of the policy in force, cosignatures included; raise ``NotThere``."""
    size = cosigning.witnessed_size()
    if not size:
        raise NotThere("checkpoint with a quorum of witnesses")
    return checkpoint(size)


def cosigned(head: Checkpoint) -> str:
    """Return a checkpoint's note with the signature lines of its witnesses."""
    return cosigning.with_cosignatures(head.size, head.note)


def _keyring() -> Keyring | None:
    first = Entry.objects.filter(seq=0).values_list("leaf", flat=True).first()
    return None if first is None else loading.load_keyring(str(decode(bytes(first))["origin"]))


def key_entries() -> bytes:
    """Return the genesis and key entries as they are served, one a line; raise ``NotThere`` before the founding."""
    seqs = KeyEntry.objects.order_by("seq").values_list("seq", flat=True)[:MAX_ENTRIES]
    found = Entry.objects.filter(seq__in=list(seqs)).order_by("seq").values_list("leaf", flat=True)
    if not found:
        raise NotThere("keys")
    return b"".join([bytes(leaf) + b"\n" for leaf in found])


def valid_keys() -> list[str]:
    """Return the verifier keys that the log's entries name as valid now, oldest first; [] before the founding."""
    keyring = _keyring()
    return [] if keyring is None else list(keyring.valid)


def known_keys() -> list[str]:
    """Return all verifier keys that the log's entries have ever named, revoked ones too, oldest first."""
    keyring = _keyring()
    return [] if keyring is None else list(keyring.known)


def key_of(note: str) -> str:
    """Return the newest key of the log that a note has a signature line of, "" for none: pages check it with that."""
    lines = {f"{line.name}+{line.key_id.hex()}" for line in parse_note(note.encode()).signatures}
    return next((vkey for vkey in reversed(known_keys()) if "+".join(vkey.split("+", 2)[:2]) in lines), "")


def heads(after: int, until: int) -> list[Head]:
    """Return at most ``MAX_BLOCKS`` checkpoint rows by size: ``after < size <= until``."""
    found = Checkpoint.objects.filter(size__gt=after, size__lte=until).order_by("size")
    return [Head(*row) for row in found.values_list("size", "height", "first", "root", "note")[:MAX_BLOCKS]]


def _block(row: Checkpoint) -> Block:
    return Block(row.height, row.first, row.size - row.first, row.size, row.root, row.at_ms)


def blocks(limit: int, before: int | None = None) -> list[Block]:
    """Return at most ``limit`` blocks, newest first; ``before`` (a height) goes on from the last page's last block."""
    found = Checkpoint.objects.order_by("-height")
    if before is not None:
        found = found.filter(height__lt=max(0, min(before, MAX_SIZE)))
    return [_block(row) for row in found[: min(limit, MAX_BLOCKS)]]


def block(height: int) -> Block:
    """Return the block of this height; raise ``NotThere``."""
    row = Checkpoint.objects.filter(height=height).first() if 0 <= height <= MAX_SIZE else None
    if row is None:
        raise NotThere(f"block {height}")
    return _block(row)


def block_of(seq: int) -> Block:
    """Return the block an entry lies in; raise ``NotThere`` while it is not sealed."""
    row = Checkpoint.objects.filter(size__gt=seq).order_by("size").first() if 0 <= seq <= MAX_SIZE else None
    if row is None:
        raise NotThere(f"sealed entry {seq}")
    return _block(row)


def tile(place: Place, covered: int | None = None) -> bytes:
    """Return a hash tile or (level -1) an entry bundle; raise ``NotThere`` unless the newest checkpoint covers it.

    ``covered`` spares the look-up of the newest checkpoint's size.
    """
    if not covers(sealed_size() if covered is None else covered, place):
        path = entries_path if place.level < 0 else lambda *rest: tile_path(place.level, *rest)
        raise NotThere(path(place.number, place.width))
    if place.level < 0:
        return encode_bundle(loading.cut_leaves(place.number, place.width))
    stored = HashTile.objects.filter(level=place.level, number=place.number).values_list("data", flat=True).first()
    if stored is not None:
        return bytes(stored)[: place.width * 32]
    return b"".join(loading.cut_hashes(place.level, place.number, place.width))


def nodes(size: int) -> NodeReader:
    """Return a reader of the stored tree's nodes at a size, for proofs."""
    return node_reader(size, lambda level, number, width: tile(Place(level, number, width), size))


def inclusion(seq: int) -> InclusionProof:
    """Return the proof that an entry is under the newest checkpoint; raise ``NotThere`` while it is not sealed."""
    witnessed = cosigning.witnessed_size() or 0
    head = Checkpoint.objects.filter(size=witnessed).first() if 0 <= seq < witnessed else newest()
    if head is None or not 0 <= seq < head.size:
        raise NotThere(f"sealed entry {seq}")
    node = nodes(head.size)
    path = [hash_.hex() for hash_ in inclusion_path(seq, head.size, node)]
    return InclusionProof(seq, head.size, head.root, node(0, seq).hex(), path, cosigned(head))


def consistency(old_size: int, size: int) -> list[bytes]:
    """Return the proof that the log at ``size`` entries begins with the log at ``old_size``."""
    return consistency_path(old_size, size, nodes(size))


def receipt(seq: int) -> str:
    """Return an entry's receipt (https://c2sp.org/tlog-proof); raise ``NotThere`` while it is not sealed.

    It ends with the newest checkpoint that has a quorum of witnesses, when that covers the entry; else with the newest.
    """
    return receipt_of(inclusion(seq))


def receipt_of(proof: InclusionProof) -> str:
    """Return the receipt that an inclusion proof makes."""
    return format_receipt(proof.seq, [bytes.fromhex(hash_) for hash_ in proof.hashes], proof.checkpoint)
