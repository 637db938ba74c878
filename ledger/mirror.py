"""A mirror of somebody else's log: plain files in the form of an export, of which none is written before it is proven."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ledger.core.encoding import decode
from ledger.core.follow import Follower
from ledger.core.merkle import EMPTY_ROOT, leaf_hashes, range_root
from ledger.core.note import Checkpoint, VerifierKey, parse_checkpoint, parse_note, verify_note
from ledger.core.proven import Proven, Unproven
from ledger.core.rows import check_rows, split_rows
from ledger.core.source import Missing, Source
from ledger.core.tiles import TILE_WIDTH, entries_path, levels, node_reader, parse_path, tile_path, widths
from ledger.files import FolderSource, put_file

CHECKPOINT = "checkpoint"
VKEY_FILE = "log.vkey"
COMMITMENTS = (b'"type":"readings"', b'"type":"settle"', b'"type":"adjust"')
RULEBOOKS = (b'"type":"genesis"', b'"type":"rulebook"')
SOURCE = re.compile(rb'"source":"([0-9a-f]{64})"')
SNAPSHOT = b'"type":"snapshot"'
MAX_SNAPSHOTS = 3  # newest ones remembered; a market keeps no more


class SnapshotEntry(NamedTuple):
    """Entry ``seq`` commits to the SHA-256 of the state before it."""

    seq: int
    sha256: str


class Mirror:
    """The files below a folder. One process at a time; its owner sees to that."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.read: Source = FolderSource(folder)
        self.snapshots: deque[SnapshotEntry] = deque(maxlen=MAX_SNAPSHOTS)  # seen by ``fetch``

    def note(self) -> bytes:
        """Return the newest checkpoint that was accepted, b"" before the first."""
        try:
            return self.read(CHECKPOINT)
        except Missing:
            return b""

    def root_at(self, size: int) -> bytes:
        """Return the root the mirrored log had at a size up to its own."""
        whole = stated(self.note()).size
        if size == 0:
            return EMPTY_ROOT
        return range_root(0, size, node_reader(whole, lambda *place: self.read(tile_path(*place))))

    def bundles(self, first: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of the bundles of a log of ``size`` entries from the one with entry ``first`` on."""
        full, partial = widths(size, 0)
        for number in range(first // TILE_WIDTH, full + (partial > 0)):
            yield number, self.read(entries_path(number, TILE_WIDTH if number < full else partial))

    def fetch(self, note: bytes, kept: Checkpoint, keys: list[VerifierKey], source: Source) -> Checkpoint:
        """Bring everything under a newer head into the folder, but the head itself (``accept``), and return it.

        The head must be signed by one of the keys and go on from ``kept``; each file is proven before it is written.
        Files of an earlier attempt are proven again instead of being fetched again. Raises ``NoteError``, ``ProofError``
        (``Unproven`` with the bytes at fault), ``Missing``, ``ValueError``, and what the source raises when it fails.
        """
        edge: dict[str, bytes] = {}

        def read(path: str) -> bytes:
            if path not in edge:
                edge[path] = source(path)
            return edge[path]

        follower = Follower(kept.origin, keys)
        follower.head = kept
        head = follower.advance(note, read)
        # Partial tiles were proven by the root just now; full ones that a consistency proof asked for were not.
        partial = {path: data for path, data in edge.items() if ".p/" in path}
        proven = Proven(head, partial, (self.read, source))
        full, rest = widths(head.size, 0)
        for number in range(kept.size // TILE_WIDTH, full + (rest > 0)):
            path, data, leaves = proven.bundle(number)
            for seq, leaf in enumerate(leaves, number * TILE_WIDTH):
                if seq >= kept.size:
                    self._fetch_beside(seq, leaf, source)
            self._put(tile_path(0, number, len(leaves)), b"".join(leaf_hashes(leaves)))
            self._put(path, data)
        for level in range(1, levels(head.size)):
            full, rest = widths(head.size, level)
            first = (kept.size >> 8 * level) // TILE_WIDTH
            for number in range(first, full + (rest > 0)):
                width = TILE_WIDTH if number < full else rest
                self._put(tile_path(level, number, width), b"".join(proven.tile(level, number)))
        return head

    def accept(self, note: bytes, kept: Checkpoint, head: Checkpoint) -> None:
        """Put the new head in its place, then drop the partial files that only others needed."""
        put_file(self.folder, CHECKPOINT, note)
        for level in range(-1, levels(head.size)):
            for number in range(widths(kept.size, max(level, 0))[0], widths(head.size, max(level, 0))[0] + 1):
                path = entries_path(number, 1) if level < 0 else tile_path(level, number, 1)
                self._drop_partials((self.folder / path).parent, head)

    def sweep(self) -> None:
        """Drop what a process that was killed may have left: drafts, and partial files of heads other than the newest."""
        head = stated(self.note())
        for path in self.folder.rglob("*"):
            if path.name.endswith(".p"):
                self._drop_partials(path, head)
            elif path.name.startswith(".") and path.name.endswith(".new"):
                path.unlink()

    def _drop_partials(self, partials: Path, head: Checkpoint) -> None:
        if not partials.is_dir():
            return
        for file in partials.iterdir():
            place = parse_path(str(file.relative_to(self.folder)))
            full, width = widths(head.size, max(place.level, 0))
            if (place.number, place.width) != (full, width):
                file.unlink()
        if not any(partials.iterdir()):
            partials.rmdir()

    def keep_key(self, keys: Sequence[VerifierKey]) -> None:
        """Write down by which of the keys that are trusted the accepted head is signed: the newest, as an export does."""
        note = self.note()
        if note:
            self._put(VKEY_FILE, f"{verify_note(parse_note(note), keys)[-1]}\n".encode())

    def _put(self, path: str, data: bytes) -> None:
        if not self._has(path, data):
            put_file(self.folder, path, data)

    def _has(self, path: str, data: bytes) -> bool:
        try:
            return self.read(path) == data
        except Missing:
            return False

    def _fetch_beside(self, seq: int, leaf: bytes, source: Source) -> None:
        """Fetch what lies beside the log and this entry commits to; raise ``Missing`` when the source lacks rows.

        Without rows nobody can tell what was settled by them, so their head is not accepted. A past rulebook may be missing.
        """
        if any(kind in leaf for kind in COMMITMENTS):
            fields = _decoded(leaf)
            count, root = fields.get("count"), fields.get("root")
            if type(count) is int and type(root) is str and count > 0:
                path = f"rows/{seq}"
                if not self._fetch_file(path, source, lambda data: _check_rows(data, count, root)):
                    raise Missing(path)
                self._fetch_evidence(seq, source)
        elif any(kind in leaf for kind in RULEBOOKS):
            fields = _decoded(leaf)
            sha256 = fields.get("rulebook_sha256" if fields.get("type") == "genesis" else "sha256")
            if is_sha256(sha256):
                self._fetch_file(f"rulebook/{sha256}", source, lambda data: check_sha256(data, str(sha256)))
        elif SNAPSHOT in leaf:
            fields = _decoded(leaf)
            if is_sha256(fields.get("sha256")):
                self.snapshots.append(SnapshotEntry(seq, str(fields["sha256"])))

    def _fetch_evidence(self, seq: int, source: Source) -> None:
        """Fetch the signed batches that rows of readings name."""
        try:
            found = SOURCE.findall(self.read(f"rows/{seq}"))
        except Missing:
            return
        for sha256 in dict.fromkeys(name.decode() for name in found):
            self._fetch_file(f"evidence/{sha256}", source, checker_of(sha256))

    def _fetch_file(self, path: str, source: Source, check: Callable[[bytes], None]) -> bool:
        """Put a file that is checked in its place and return whether there is one."""
        for read in (self.read, source):
            try:
                data = read(path)
                check(data)
            except Missing:
                continue
            except ValueError as error:
                if read is source:
                    raise Unproven(path, str(error), data) from None
                continue
            self._put(path, data)
            return True
        return False


def stated(note: bytes) -> Checkpoint:
    """Return what a note says that was verified before; an empty log's for b""."""
    if not note:
        return Checkpoint("", 0, EMPTY_ROOT)
    return parse_checkpoint(parse_note(note).text, extensions=True)


def is_sha256(value: object) -> bool:
    """Return whether a value is a SHA-256 in hex, so that it can stand in a path."""
    return type(value) is str and len(value) == 64 and all(digit in "0123456789abcdef" for digit in value)


def check_sha256(data: bytes, sha256: str) -> None:
    """Raise ``ValueError`` unless the bytes have this SHA-256."""
    was = hashlib.sha256(data).hexdigest()
    if was != sha256:
        raise ValueError(f"expected bytes with the SHA-256 {sha256}, was {was}")


def checker_of(sha256: str) -> Callable[[bytes], None]:
    """Return what holds bytes against a SHA-256."""
    return lambda data: check_sha256(data, sha256)


def _check_rows(data: bytes, count: int, root: str) -> None:
    check_rows(split_rows(data), count=count, root=root)


def _decoded(leaf: bytes) -> dict[str, object]:
    """Return an entry's fields; {} for one the verifier will refuse."""
    try:
        return dict(decode(leaf))
    except ValueError:
        return {}
