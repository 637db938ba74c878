"""The verifier: reads a whole log from its files and says which place is the first that is not as it must be.

It trusts one thing, a verifier key: every byte of entries and tiles is hashed up to the root that this key has signed.
Memory stays small however long the log is: one bundle at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from ledger.core.blocks import Chain, SealError
from ledger.core.encoding import EncodingError, decode, decode_many
from ledger.core.entries import EntryError, Fields, check_entries
from ledger.core.findings import Bad, Bundle, Doubt, Head, Position, Report
from ledger.core.findings import span as _span
from ledger.core.keyring import Keyring, KeyringError
from ledger.core.merkle import leaf_hashes, range_root
from ledger.core.note import Note, NoteError, VerifierKey, parse_checkpoint, parse_note, parse_vkey, verify_note
from ledger.core.rows import check_rows, split_rows
from ledger.core.source import Missing, Source
from ledger.core.tiles import (
    TILE_WIDTH,
    TileTree,
    entries_path,
    levels,
    node_reader,
    parse_bundle,
    split_hashes,
    tile_path,
    widths,
)

__all__ = ("Bad", "Bundle", "Head", "Position", "Report", "verify_log")

CHECKPOINT = "checkpoint"
COMMITMENTS = frozenset(("readings", "settle", "adjust"))  # entry types that commit to rows
WATCHED = frozenset(("genesis", "rulebook", "key", "seal")) | COMMITMENTS


def verify_log(
    source: Source,
    vkeys: Sequence[VerifierKey] = (),
    heads: Iterable[Head] | None = None,
    *,
    each: Callable[[Bundle], None] | None = None,
    start: Position | None = None,
    mark_every: int = 0,
) -> Report:
    """Verify a whole log; raise ``Bad`` at the first place that is wrong.

    ``vkeys`` are the keys that are trusted to sign its head, and to say which keys come after them. Without any the key
    in the log's first entry is taken, which only shows that the log agrees with itself. ``heads`` are the stored
    checkpoints by size, where there are such: each must be what its seal and the entries give.

    ``each`` sees the entries bundle by bundle. That they are what was signed is certain only when this function returns.
    With ``mark_every`` the position behind a seal goes along after so many entries, and behind the last one. ``start`` is
    such a position: what comes before it is not read again (nor compared with ``heads``), but must still be in the log.
    """
    return _Verifier(source, vkeys, heads, each, start, mark_every).run()


class _Verifier:
    def __init__(
        self,
        source: Source,
        vkeys: Sequence[VerifierKey],
        heads: Iterable[Head] | None,
        each: Callable[[Bundle], None] | None,
        start: Position | None,
        mark_every: int,
    ):
        self._read = source
        self._given = list(vkeys)
        self._each = each
        self._mark_every = mark_every
        self._marked = 0  # size at the last position that was handed on
        self._position: Position | None = None  # to be handed on with the running bundle
        self._bundle_rows: dict[int, list[bytes]] = {}
        self._start = start
        self._tree = TileTree()
        self._doubt: Doubt | None = None
        self._beside: Bad | None = None  # first bad file beside the log, for when the entry that names it is proven
        self._heads: Iterator[Head] | None = None if heads is None else iter(heads)
        self._head: Head | None = None  # the next one, when it was read too early
        self._chain = Chain("")
        self._ring = Keyring("", self._given)
        self._rules = ""
        self._last_at = ""
        self._rows = self._rows_missing = self._rulebooks = self._rulebooks_missing = 0

    def run(self) -> Report:
        data = self._fetch(CHECKPOINT)
        try:
            note = parse_note(data)
            checkpoint = parse_checkpoint(note.text)
            # Where none of the given keys has signed, one that they have approved may have: the entries say so.
            named = {(line.name, line.key_id) for line in note.signatures}
            if any((key.name, key.key_id) in named for key in self._given):
                verify_note(note, self._given)
        except NoteError as error:
            raise Bad(CHECKPOINT, str(error)) from None
        self._origin, self._size = checkpoint.origin, checkpoint.size
        if checkpoint.size == 0:
            raise Bad(CHECKPOINT, "expected at least one entry, was 0")
        if not self._given:
            self._check_founder(note)
        if self._start is not None:
            self._restore(self._start)
        full, partial = widths(checkpoint.size, 0)
        for number in range(self._tree.size // TILE_WIDTH, full + (partial > 0)):
            self._take_bundle(number, TILE_WIDTH if number < full else partial)
        self._check_edges()
        signed = self._check_signature(note)
        self._check_root(checkpoint.root)
        if self._chain.next != checkpoint.size:
            raise Bad(f"entry {checkpoint.size - 1}", "type: expected a seal at the end of a checkpoint, was none")
        if self._heads is not None:
            self._check_head_after(self._next_head())
        if self._beside is not None:
            raise self._beside
        return Report(
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
            blocks=self._chain.height,
            vkey=str(signed),
            trusted="given" if self._given else "genesis",
            rows=self._rows,
            rows_missing=self._rows_missing,
            rulebooks=self._rulebooks,
            rulebooks_missing=self._rulebooks_missing,
            keys=tuple(self._ring.known),
        )

    def _fetch(self, path: str) -> bytes:
        try:
            return self._read(path)
        except Missing as error:
            raise Bad(path, f"expected a file, was missing ({error})") from None

    # --- stopping and going on --------------------------------------------------------------------------------------
    def _restore(self, start: Position) -> None:
        """Go on from a position, if the log still is what it was there."""
        if start.origin != self._origin:
            raise Bad(CHECKPOINT, f"expected the log {start.origin} that was begun with, was {self._origin}")
        if start.size > self._size:
            raise Bad(CHECKPOINT, f"expected at least the {start.size} entries seen before, was {self._size}")
        node = node_reader(self._size, lambda *place: self._fetch(tile_path(*place)))
        try:
            was = range_root(0, start.size, node).hex()
        except ValueError as error:
            raise Bad(_span(0, start.size - 1), str(error)) from None
        if was != start.root:
            raise Bad(_span(0, start.size - 1), f"expected the root {start.root} seen before, was {was}")
        self._tree = TileTree.restore(start.size, [[bytes.fromhex(hash_) for hash_ in edge] for edge in start.edges])
        self._chain = Chain(self._origin, start.currency)
        self._chain.height, self._chain.next, self._chain.prev = start.height, start.size, start.prev
        self._ring = Keyring(self._origin, self._given)
        self._ring.restore(start.keys, dict(zip(start.named, start.approved, strict=True)))
        self._rules, self._last_at = start.rules, start.last_at
        self._rows, self._rows_missing, self._rulebooks, self._rulebooks_missing = start.counts
        self._marked = start.size

    def _mark(self, seal: Fields) -> None:
        """Note the position behind a seal when one is due; not once something is in doubt."""
        size = self._tree.size
        if size - self._marked < self._mark_every and size != self._size:
            return
        if self._doubt is not None or self._beside is not None:
            return
        self._marked = size
        self._position = Position(
            size, self._tree.root().hex(), str(seal["state"]),
            tuple(tuple(hash_.hex() for hash_ in edge) for edge in self._tree.edges),
            self._origin, self._chain.currency, self._chain.height, self._chain.prev, tuple(self._ring.valid),
            tuple(self._ring.approved), tuple(self._ring.approved.values()), self._rules, str(seal["at"]),
            (self._rows, self._rows_missing, self._rulebooks, self._rulebooks_missing),
        )  # fmt: skip

    # --- who signs --------------------------------------------------------------------------------------------------
    def _check_founder(self, note: Note) -> None:
        """Check the signature by the key the first entry names: a changed checkpoint is to be found before all else."""
        path = entries_path(0, min(self._size, TILE_WIDTH))
        try:
            data = self._read(path)
        except Missing:
            raise Bad(CHECKPOINT, f"its size {self._size} asks for {path}, which is missing") from None
        try:
            leaves = parse_bundle(data)
        except ValueError as error:
            raise Bad(path, str(error)) from None
        if not leaves:
            raise Bad(path, "expected entries, was empty")
        key = self._founding_key(self._decode(leaves[:1], 0)[0])
        if key.name != self._origin:
            raise Bad(CHECKPOINT, f"expected the origin {key.name} of the first entry, was {self._origin}")
        if any((line.name, line.key_id) == (key.name, key.key_id) for line in note.signatures):
            try:
                verify_note(note, [key])
            except NoteError as error:
                raise Bad(CHECKPOINT, str(error)) from None

    def _check_signature(self, note: Note) -> VerifierKey:
        """Return the key that signed: one that is trusted and, by the log's own entries, valid now."""
        believed = self._ring.believed()
        try:
            signed = verify_note(note, believed or self._given or list(self._ring.valid.values()))
        except NoteError as error:
            raise Bad(CHECKPOINT, str(error)) from None
        if signed[-1] in believed:
            return signed[-1]
        raise Bad(CHECKPOINT, f"expected a signature by a key the log itself names, was {signed[0]}")

    # --- entries ----------------------------------------------------------------------------------------------------
    def _take_bundle(self, number: int, width: int) -> None:
        path = entries_path(number, width)
        try:
            leaves = parse_bundle(self._fetch(path))
        except ValueError as error:
            raise Bad(path, str(error)) from None
        if len(leaves) != width:
            raise Bad(path, f"expected {width} entries, was {len(leaves)}")
        hashes = leaf_hashes(leaves)
        self._compare(0, number, width, hashes)
        first = number * TILE_WIDTH
        known = self._tree.size - first  # entries before the position that was begun from
        if known:
            first, leaves, hashes = self._tree.size, leaves[known:], hashes[known:]
            if not leaves:
                return
        entries = self._decode(leaves, first)
        try:
            self._last_at = check_entries(entries, first, self._last_at)
        except EntryError as error:
            self._blame_entries(error.seq)
            raise Bad(_span(error.first, error.seq), str(error)) from None
        if first == 0 and entries[0]["type"] != "genesis":
            raise Bad("entry 0", f"type: expected genesis, was {entries[0]['type']!r}")
        done = 0
        for at, entry in enumerate(entries):
            kind = entry["type"]
            if kind in WATCHED:
                if kind == "seal":
                    self._extend(hashes[done:at])
                    self._seal(entry, first + at)
                    self._extend(hashes[at : at + 1])
                    self._check_head(self._tree.size, self._chain.next, self._tree.root())
                    self._chain.advance(size=self._tree.size, root=self._tree.root())
                    done = at + 1
                    if self._mark_every:
                        self._mark(entry)
                else:
                    self._watch(entry, first + at)
        self._extend(hashes[done:])
        if self._each is not None:
            rows, self._bundle_rows = self._bundle_rows, {}
            position, self._position = self._position, None
            self._each(Bundle(first, leaves, entries, rows, self._size, position))

    def _decode(self, leaves: list[bytes], first: int) -> list[Fields]:
        try:
            return decode_many(leaves)
        except EncodingError:
            for seq, leaf in enumerate(leaves, first):
                try:
                    decode(leaf)
                except EncodingError as error:
                    raise Bad(f"entry {seq}", str(error)) from None
            raise

    def _extend(self, hashes: Sequence[bytes]) -> None:
        for tile in self._tree.extend(hashes):
            if tile.level:
                self._compare(tile.level, tile.number, TILE_WIDTH, split_hashes(tile.data))

    def _watch(self, entry: Fields, seq: int) -> None:
        """Take in an entry that others are checked against."""
        place, kind = f"entry {seq}", entry["type"]
        if (kind == "genesis") != (seq == 0):
            raise Bad(place, f"type: expected genesis in entry 0 and nowhere else, was {kind}")
        if kind == "genesis":
            key = self._founding_key(entry)
            if key.name != self._origin:
                raise Bad(CHECKPOINT, f"expected the origin {key.name} of the first entry, was {self._origin}")
            self._ring = Keyring(self._origin, self._given)
            self._ring.found(str(key))
            self._chain = Chain(self._origin, _text(entry, "currency", place))
            self._publish(_text(entry, "rulebook_sha256", place), place)
        elif kind == "rulebook":
            self._publish(_text(entry, "sha256", place), place)
        elif kind == "key":
            self._change_key(entry, place)
        else:
            self._check_rows(entry, seq)

    def _founding_key(self, entry: Fields) -> VerifierKey:
        if entry.get("type") != "genesis":
            raise Bad("entry 0", f"type: expected genesis, was {entry.get('type')!r:.60}")
        try:
            key = parse_vkey(_text(entry, "vkey", "entry 0"))
        except NoteError as error:
            raise Bad("entry 0", f"vkey: {error}") from None
        if entry.get("origin") != key.name:
            raise Bad("entry 0", f"origin: expected the key's name {key.name}, was {entry.get('origin')!r:.60}")
        return key

    def _change_key(self, entry: Fields, place: str) -> None:
        try:
            self._ring.change(entry)
        except KeyringError as error:
            raise Bad(place, str(error)) from None

    def _publish(self, sha256: str, place: str) -> None:
        """A rulebook is in force from here on; its text is checked when the source has it."""
        if len(sha256) != 64 or not all(digit in "0123456789abcdef" for digit in sha256):
            raise Bad(place, f"expected the SHA-256 of a rulebook, was {sha256!r:.80}")
        self._rules = sha256
        path = f"rulebook/{sha256}"
        try:
            text = self._read(path)
        except Missing:
            self._rulebooks_missing += 1
            return
        was = hashlib.sha256(text).hexdigest()
        if was != sha256:
            self._beside = self._beside or Bad(path, f"expected a text with this SHA-256, was {was}")
        self._rulebooks += 1

    def _check_rows(self, entry: Fields, seq: int) -> None:
        count, root = entry.get("count"), _text(entry, "root", f"entry {seq}")
        if type(count) is not int or count < 0:
            raise Bad(f"entry {seq}", f"count: expected a number of rows, was {count!r:.60}")
        if count == 0:
            return
        path = f"rows/{seq}"
        try:
            data = self._read(path)
        except Missing:
            self._rows_missing += 1
            return
        try:
            rows = split_rows(data)
            check_rows(rows, count=count, root=root)
        except ValueError as error:
            self._beside = self._beside or Bad(path, str(error))
        else:
            if self._each is not None:
                self._bundle_rows[seq] = rows
        self._rows += count

    def _seal(self, entry: Fields, seq: int) -> None:
        root, first = self._tree.root(), self._chain.next
        try:
            self._chain.check(entry, seq=seq, root_before=root, rules=self._rules)
        except SealError as error:
            self._blame_entries(seq)
            here = place = f"entry {seq}"
            if entry.get("root_before") != root.hex():
                # With another checkpoint before the block, the seal that ended that one was changed; with the same, only
                # what came after it can be. Tiles cut from the entries themselves know no better.
                if error.field == "prev" and first:
                    place = f"entry {first - 1}"
                elif error.field == "root_before" and first < seq:
                    place = _span(first, seq)
            raise Bad(place, str(error) if place == here else f"the seal in {here} differs: {error}") from None

    # --- stored checkpoints -----------------------------------------------------------------------------------------
    def _next_head(self) -> Head | None:
        head, self._head = self._head, None
        return head if head is not None or self._heads is None else next(self._heads, None)

    def _check_head(self, size: int, first: int, root: bytes) -> None:
        """Compare the stored checkpoint of a seal with what the entries give.

        Which of the two is wrong shows at the end, when the entries are proven: the first fault is kept until then.
        """
        if self._heads is None or self._beside is not None:
            return
        head = self._next_head()
        if head is None or head.size > size:
            self._beside, self._head = Bad(_row(size), "expected a stored checkpoint, was missing"), head
            return
        if head.size < size:
            self._beside = Bad(_row(head.size), "expected a checkpoint where a seal is, and none is there")
            return
        for field, value, was in (
            ("height", self._chain.height + 1, head.height),
            ("first", first, head.first),
            ("root", root.hex(), head.root),
        ):
            if was != value:
                self._beside = Bad(_row(size), f"{field}: expected {value}, was {was!r:.80}")
                return
        try:
            note = parse_note(head.note.encode())
            stated = parse_checkpoint(note.text)
            verify_note(note, list(self._ring.valid.values()))
        except (NoteError, UnicodeError) as error:
            self._beside = Bad(_row(size), f"note: {error}")
            return
        if (stated.origin, stated.size, stated.root) != (self._origin, size, root):
            what = f"expected {self._origin}, {size} entries and the root {root.hex()}"
            self._beside = Bad(_row(size), f"note: {what}, was {stated.origin}, {stated.size}, {stated.root.hex()}")

    def _check_head_after(self, head: Head | None) -> None:
        if head is not None and self._beside is None:
            self._beside = Bad(_row(head.size), f"expected no checkpoint behind {self._size} entries")

    # --- tiles ------------------------------------------------------------------------------------------------------
    def _compare(self, level: int, number: int, width: int, expected: Sequence[bytes]) -> None:
        """Compare a served tile with what the entries give."""
        path = tile_path(level, number, width)
        data = self._fetch(path)
        if self._doubt is not None or data == b"".join(expected):
            return
        try:
            served = split_hashes(data)
        except ValueError as error:
            raise Bad(path, str(error)) from None
        if len(served) != width:
            raise Bad(path, f"expected {width} hashes, was {len(served)}")
        at = next(at for at, (one, other) in enumerate(zip(expected, served, strict=True)) if one != other)
        self._doubt = Doubt(level, number, width, at, expected[at], served[at])

    def _check_edges(self) -> None:
        """Compare the partial tiles above level 0 (that one came with its bundle)."""
        for level in range(1, levels(self._size)):
            full, partial = widths(self._size, level)
            if partial:
                self._compare(level, full, partial, self._tree.edges[level])

    def _check_root(self, root: bytes) -> None:
        """Compare the root of all entries with the one that was signed, and judge a doubt by it."""
        doubt = self._doubt
        if self._tree.root() == root:
            if doubt is None:
                return
            what = f"hash {doubt.at}: expected {doubt.expected.hex()}, was {doubt.was.hex()}"
            raise Bad(tile_path(doubt.level, doubt.number, doubt.width), what)
        if doubt is not None:
            raise self._bad_entries(doubt)
        raise Bad(
            f"entry {self._size - 1}",
            f"expected the signed root {root.hex()} with this entry, was {self._tree.root().hex()}",
        )

    def _blame_entries(self, seq: int) -> None:
        """Something about entry ``seq`` is wrong: if an earlier one already differs from its tile, raise that."""
        doubt = self._doubt
        if doubt is not None and doubt.level == 0 and doubt.number * TILE_WIDTH + doubt.at <= seq:
            raise self._bad_entries(doubt) from None

    def _bad_entries(self, doubt: Doubt) -> Bad:
        """Return the error for entries that do not hash to their tile, while the signed root is not theirs either."""
        covered = TILE_WIDTH**doubt.level
        first = (doubt.number * TILE_WIDTH + doubt.at) * covered
        path = tile_path(doubt.level, doubt.number, doubt.width)
        return Bad(
            _span(first, first + covered - 1),
            f"expected the hash {doubt.was.hex()} of {path}, was {doubt.expected.hex()}",
        )


def _row(size: int) -> str:
    return f"stored checkpoint {size}"


def _text(entry: Fields, key: str, place: str) -> str:
    value = entry.get(key)
    if type(value) is not str or not value:
        raise Bad(place, f"{key}: expected a text, was {value!r:.60}")
    return value
