"""A follower: keeps a verified copy of somebody else's ledger and plays its market along.

Each new head goes through four steps. Its files are fetched and proven (``ledger.mirror``), the copy is verified as any
ledger is and judged as an audit does, the head is accepted, the read model moves on. What fails in the first step for
want of an answer is tried again; anything that is answered and wrong is a ``Mismatch``.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ledger.core.encoding import decode
from ledger.core.findings import Bad, Bundle, Position
from ledger.core.keyring import Keyring
from ledger.core.merkle import ProofError
from ledger.core.note import Checkpoint, NoteError, VerifierKey, parse_checkpoint, parse_note, parse_vkey, verify_note
from ledger.core.policy import Policy
from ledger.core.proven import Unproven
from ledger.core.quorum import NoQuorum, find
from ledger.core.rows import split_rows
from ledger.core.source import Missing, Source
from ledger.core.tiles import TILE_WIDTH, entries_path, parse_bundle, widths
from ledger.core.verify import verify_log
from ledger.mirror import CHECKPOINT, Mirror, SnapshotEntry, check_sha256, stated
from market.audit import resume
from market.audit.judge import NO_READINGS, Judge, Wrong
from market.engine.engine import Engine
from market.follow.evidence import Mismatch
from market.follow.model import Model

logger = logging.getLogger(__name__)

MARK_EVERY = 500_000  # entries between two states that are kept while catching up
STATE_S = 60.0  # between two that are kept while following: a restart replays what came after
PATIENCE = 5  # times in a row a log may lack what its head promises, or show an older head, before that is a mismatch
KEYS = "keys"  # the log's entries that say who may sign
NEWEST = "newest"  # snapshot: whichever the log still has
_ENTRY = re.compile(r"entr(?:y|ies) (\d+)")


class Withheld(Exception):
    """The log does not show what it must have. A cache, a restart or a proxy can be the reason, for a while."""


class Unusable(Exception):
    """There is nothing to begin with: another follower works in this folder, or the snapshot given is none."""


class Follower:
    """Follows one log into one folder. ``step`` is what is done each time; nothing happens in between.

    ``snapshot``: "" replays from the first entry; ``NEWEST`` or the path of a file starts from a state that the ledger
    commits to. The hashes of all entries are verified either way. ``policy``: heads without a quorum of it are not taken.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        vkeys: list[VerifierKey],
        snapshot: str = "",
        policy: Policy | None = None,
    ):
        self.mirror = Mirror(folder)
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Unusable(f"{folder}: another follower works here") from None
        self.mirror.sweep()
        self.source = source
        self.served = b""  # the checkpoint that was offered last
        self._given = vkeys
        self._policy = policy
        self._snapshot = snapshot
        self._withheld = 0
        self._saved_s = 0.0
        self.model = Model(folder)
        self._judge: Judge | None = None
        self._position: Position | None = None
        self._first = 0  # entry from which the replay sees the log
        self._load()

    @property
    def kept(self) -> bytes:
        """The newest checkpoint under which anything was accepted."""
        notes = self.mirror.note(), self.model.saved().note
        return max(notes, key=lambda note: stated(note).size)

    @property
    def engine(self) -> Engine | None:
        """The market's state as far as it was followed."""
        return None if self._judge is None else self._judge.engine

    def close(self) -> None:
        """Keep where it stands and let go of the folder."""
        try:
            judge, position = self._judge, self._position
            if judge is not None and position is not None and judge.engine.seq == position.size and not judge.wrong:
                self._save(self.kept)
            self.model.close()
        finally:
            os.close(self._lock)

    def _load(self) -> None:
        saved = self.model.saved()
        if saved.state:
            try:
                self._position, self._judge = resume.read(saved.state, self.model.take)
            except resume.Refused as error:
                logger.warning("the state that was kept cannot be used, the copy is replayed again: %s", error)
        if self._judge is None:
            self.model.reset()

    # --- one step ----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take in what is new, and return whether there was anything; raise ``Mismatch`` or ``SourceFailed``.

        ``Withheld`` and ``NoQuorum``: try again later.
        """
        if self._judge is None or (
            self._position is not None and self._position.size < stated(self.mirror.note()).size
        ):
            self._catch_up()
        try:
            self.served = note = self._offered()
            moved = self._advance(note)
        except (Missing, Withheld) as error:
            self._withheld += 1
            if self._withheld >= PATIENCE:
                raise Mismatch("", f"{error}, {self._withheld} times in a row", {}) from error
            raise Withheld(str(error)) from error
        self._withheld = 0
        self.mirror.keep_key(self._keys())
        return moved

    def _offered(self) -> bytes:
        return self.source(CHECKPOINT) if self._policy is None else find(self.source, self._policy).note

    def _catch_up(self) -> None:
        """Replay what the copy already has, after a stop in between or when the read model is to be made again."""
        note = self.mirror.note()
        if note:
            head = stated(note)
            self._replay(note, head, self._keys())
            self._move_on(note, head)

    def _advance(self, note: bytes) -> bool:
        kept_note = self.kept
        if note == kept_note and note == self.mirror.note():
            return False
        kept = stated(kept_note)
        try:
            text = parse_checkpoint(parse_note(note).text, extensions=True)
        except NoteError as error:
            raise Withheld(f"{CHECKPOINT}: expected a signed checkpoint: {error}") from error
        keys = self._keys() or self._founder(text)
        kept = kept._replace(origin=kept.origin or text.origin)
        try:
            if not any((line.name, line.key_id) == key[:2] for line in parse_note(note).signatures for key in keys):
                keys += self._approved(text.origin, keys)
            verify_note(parse_note(note), keys)
            if text.origin != kept.origin:
                raise ProofError(f"expected the log {kept.origin}, was {text.origin}")
            if text.size <= kept.size and text.size <= stated(self.mirror.note()).size:
                self._compare_older(text)
            if text.size < kept.size and self._policy is not None:
                raise NoQuorum(f"no quorum yet: it has cosigned {text.size} entries, and {kept.size} are here already")
            if text.size < kept.size:
                raise Withheld(f"{CHECKPOINT}: expected at least {kept.size} entries, was {text.size}")
            head = self.mirror.fetch(note, kept, keys, self.source)
        except Unproven as error:
            raise Mismatch(error.path, str(error), {error.path: error.data}) from error
        except (NoteError, ProofError, ValueError) as error:
            raise Mismatch(CHECKPOINT, str(error), {CHECKPOINT: note}) from error
        self._replay(note, head, keys)
        self.mirror.accept(note, stated(self.mirror.note()), head)
        self._move_on(note, head)
        return True

    def _compare_older(self, text: Checkpoint) -> None:
        was = self.mirror.root_at(text.size)
        if was != text.root:
            what = f"expected the root {was.hex()} at {text.size} entries, was {text.root.hex()}: another history"
            raise ProofError(what)

    def _keys(self) -> list[VerifierKey]:
        """Return the keys a head may be signed with: those given, and those that the followed log has named since."""
        named = [] if self._position is None else [parse_vkey(text) for text in self._position.keys]
        return list(dict.fromkeys((*self._given, *named)))

    def _approved(self, origin: str, keys: list[VerifierKey]) -> list[VerifierKey]:
        """Return the keys that followed while nobody looked, each approved of by one before it.

        Approvals are signatures, so it does not matter who tells of them; that they are entries of the log is verified with
        all others.
        """
        try:
            lines = self.source(KEYS).splitlines()
            ring = Keyring(origin, keys)
            ring.found(str(decode(lines[0])["vkey"]))
            for line in lines[1:]:
                ring.change(decode(line))
        except (Missing, ValueError, KeyError, IndexError) as error:
            logger.warning("what the log says of its keys cannot be used: %s", error)
            return []
        return [key for key in ring.believed() if key not in keys]

    def _founder(self, text: Checkpoint) -> list[VerifierKey]:
        """Return the key in the log's first entry: trusted on first use."""
        path = entries_path(0, min(text.size, TILE_WIDTH))
        data = self.source(path)
        try:
            return [parse_vkey(str(decode(parse_bundle(data)[0])["vkey"]))]
        except (ValueError, KeyError, IndexError) as error:
            raise Mismatch("entry 0", f"expected a verifier key: {error!r:.200}", {path: data}) from error

    # --- replay ------------------------------------------------------------------------------------------------------

    def _replay(self, note: bytes, head: Checkpoint, keys: list[VerifierKey]) -> None:
        """Verify and judge the copy from where the state stands up to a head whose files are all there."""
        read = self.mirror.read

        def files(path: str) -> bytes:
            return note if path == CHECKPOINT else read(path)

        if self._judge is None:
            self._begin(head)
        judge = self._judge
        assert judge is not None
        try:
            verify_log(
                files, keys, each=lambda bundle: self._take(bundle, note, judge), start=self._position,
                mark_every=MARK_EVERY,
            )  # fmt: skip
            if judge.engine.seq != head.size:
                raise Wrong(f"entry {head.size - 1}", f"expected {judge.engine.seq} entries, was {head.size}")
        except (Bad, Wrong) as error:
            self.model.rollback()
            raise Mismatch(error.place, str(error), self._bytes_at(error.place, head)) from error
        except BaseException:
            self.model.rollback()
            raise

    def _begin(self, head: Checkpoint) -> None:
        """Begin the replay: with nothing, or with a snapshot of the state that the log commits to."""
        self.model.reset()
        self._position, self._first = None, 0
        if self._snapshot:
            found = self._find_snapshot(head)
            if found is not None:
                engine = found
                self._first = engine.seq
                genesis = self._entry(0, head)
                self._judge = Judge.begin(
                    engine, str(genesis.get("currency", "")), self._rules_before(engine, head),
                    self._readings_before(engine, head), self._signed_before(engine, head),
                    self.model.take, str(genesis.get("origin", "")),
                )  # fmt: skip
                self.model.seed(engine)
                return
        self._judge = Judge(each=self.model.take)

    def _find_snapshot(self, head: Checkpoint) -> Engine | None:
        """Return the state of the snapshot asked for, None when the log has none any more."""
        if self._snapshot != NEWEST:
            try:
                data = Path(self._snapshot).read_bytes()
                engine = Engine.load(data)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise Unusable(f"{self._snapshot}: expected a snapshot: {error!r:.200}") from error
            entry = self._entry(engine.seq, head) if engine.seq < head.size else {}
            was = hashlib.sha256(data).hexdigest()
            if entry.get("type") != "snapshot" or entry.get("sha256") != was:
                what = f"expected a snapshot that entry {engine.seq} commits to, was {was}"
                raise Mismatch(self._snapshot, what, {"snapshot.sha256": was.encode()})
            return engine
        for seq, sha256 in reversed(self._snapshots(head)):
            path = f"snapshot/{sha256}"
            try:
                data = self.source(path)
            except Missing:
                continue
            try:
                check_sha256(data, sha256)
                engine = Engine.load(data)
            except (ValueError, KeyError, TypeError) as error:
                raise Mismatch(path, str(error), {path: data}) from error
            if engine.seq == seq:
                return engine
        logger.warning("the log has no snapshot to start from: replaying from its first entry")
        return None

    def _snapshots(self, head: Checkpoint) -> list[SnapshotEntry]:
        found = list(self.mirror.snapshots)
        if not found:  # the copy was fetched by an earlier run
            for number, data in self.mirror.bundles(0, head.size):
                for at, leaf in enumerate(parse_bundle(data)):
                    if b'"type":"snapshot"' in leaf:
                        found.append(SnapshotEntry(number * TILE_WIDTH + at, str(orjson.loads(leaf)["sha256"])))
        return [one for one in found if one.seq < head.size]

    def _rules_before(self, engine: Engine, head: Checkpoint) -> list[str]:
        """Return the hashes of the rulebooks that were published before a state, in order."""
        found = [str(self._entry(0, head).get("rulebook_sha256", ""))]
        for number, data in self.mirror.bundles(0, head.size):
            if number * TILE_WIDTH >= engine.seq:
                break
            if b'"type":"rulebook"' in data:
                entries = [orjson.loads(leaf) for leaf in parse_bundle(data) if b'"type":"rulebook"' in leaf]
                found += [str(entry["sha256"]) for entry in entries if entry["seq"] < engine.seq]
        return found

    def _readings_before(self, engine: Engine, head: Checkpoint) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
        """Yield the readings before a state of contracts it has still to settle, in order."""
        for entry in self._before(engine, head, b'"type":"readings"'):
            yield entry, self._rows(entry)

    def _signed_before(self, engine: Engine, head: Checkpoint) -> Iterator[dict[str, Any]]:
        """Yield the orders before a state that their owners signed, of contracts it has still to settle, in order."""
        yield from self._before(engine, head, b'"sig":"')

    def _before(self, engine: Engine, head: Checkpoint, what: bytes) -> Iterator[dict[str, Any]]:
        """Yield the entries with these bytes before a state that are about contracts it has still to settle, in order."""
        wanted = set(engine.contracts)
        first = engine.seq
        while wanted and first > 0:  # back to where the oldest of them was opened
            first -= 1
            if first % TILE_WIDTH == 0 or first == engine.seq - 1:
                for leaf in self._leaves(first // TILE_WIDTH, head):
                    if b'"type":"contract"' in leaf and b'"action":"opened"' in leaf:
                        wanted.discard(str(orjson.loads(leaf)["contract"]))
                first -= first % TILE_WIDTH
        for number in range(first // TILE_WIDTH, engine.seq // TILE_WIDTH + 1):
            for leaf in self._leaves(number, head):
                if what in leaf:
                    entry = orjson.loads(leaf)
                    if entry["seq"] < engine.seq and entry["contract"] in engine.contracts:
                        yield entry

    def _rows(self, entry: dict[str, Any]) -> list[bytes]:
        path = f"rows/{entry['seq']}"
        try:
            return split_rows(self.mirror.read(path)) if entry["count"] else []
        except Missing as error:
            raise Mismatch(path, NO_READINGS) from error

    def _leaves(self, number: int, head: Checkpoint) -> list[bytes]:
        full, partial = widths(head.size, 0)
        return parse_bundle(self.mirror.read(entries_path(number, TILE_WIDTH if number < full else partial)))

    def _entry(self, seq: int, head: Checkpoint) -> dict[str, Any]:
        return dict(orjson.loads(self._leaves(seq // TILE_WIDTH, head)[seq % TILE_WIDTH]))

    def _take(self, bundle: Bundle, note: bytes, judge: Judge) -> None:
        skip = self._first - bundle.first
        if skip > 0:  # before the snapshot that was begun with
            bundle = bundle._replace(first=bundle.first + skip, entries=bundle.entries[skip:])
        position = bundle.position
        if position is not None and position.size >= max(bundle.first, self._first) and bundle.entries:
            split = position.size - bundle.first
            self._give(bundle._replace(entries=bundle.entries[:split]), judge)
            self._position = position
            if position.size < bundle.size:
                self._save(note)
            bundle = bundle._replace(first=position.size, entries=bundle.entries[split:])
        self._give(bundle, judge)

    def _give(self, bundle: Bundle, judge: Judge) -> None:
        if bundle.entries:
            judge.take(bundle)
            if judge.wrong is not None:
                raise judge.wrong
            self.model.flush(judge.engine)

    def _move_on(self, note: bytes, head: Checkpoint) -> None:
        if time.monotonic() - self._saved_s >= STATE_S:
            self._save(note)
        else:
            self.model.commit(head.size, note)

    def _save(self, note: bytes) -> None:
        """Keep the state as it is, behind a seal, with the model that belongs to it."""
        judge, position = self._judge, self._position
        assert judge is not None and position is not None
        state = resume.written(position, judge)
        self.model.commit(position.size, note, state, judge.engine.state_hash())
        self._saved_s = time.monotonic()

    def _bytes_at(self, place: str, head: Checkpoint) -> dict[str, bytes]:
        """Return the files of the copy that hold the place a verdict names."""
        found = _ENTRY.match(place)
        paths = [place]
        if found:
            full, partial = widths(head.size, 0)
            number = min(int(found[1]), head.size - 1) // TILE_WIDTH
            paths = [entries_path(number, TILE_WIDTH if number < full else partial), f"rows/{found[1]}"]
        files = {}
        for path in paths:
            try:
                files[path] = self.mirror.read(path)
            except Missing:
                continue
        return files
