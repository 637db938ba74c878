"""What the one writer does to the log. It commits the rows itself, in the transaction that holds everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db import models

from ledger import keys, loading
from ledger.core.blocks import first_prev, seal_fields
from ledger.core.keyring import KeyringError
from ledger.core.merkle import leaf_hashes
from ledger.core.note import body_hash, checkpoint_body, parse_vkey, signature_line
from ledger.core.tiles import MAX_LEAF_BYTES
from ledger.models import Checkpoint, Entry, Evidence, HashTile, KeyEntry, Row, Rulebook
from ledger.signing import SigningKeys

LogRows = list[tuple[type[models.Model], list[tuple[object, ...]]]]


class SignedHead(NamedTuple):
    """A checkpoint that was just signed; it counts once the rows of ``Log.take_rows`` are durable."""

    size: int
    root: bytes
    note: str


class Log:
    """The writer's view of the log, in memory: it numbers, hashes and signs, and hands out rows to be stored.

    It runs ahead of the database by what has not been taken and committed. When a transaction fails, this object is
    worth nothing any more: load another one. One thread at a time.
    """

    def __init__(self, state: loading.LogState, signing: SigningKeys):
        self._signing = signing
        self._held = signing.vkeys()
        self.keyring = state.keyring
        self._key_entries: list[tuple[object, ...]] = []
        self._tree = state.tree
        self._pending: list[bytes] = []  # leaves that are not in the tree yet: hashing many at once is cheaper
        self._entries: list[tuple[object, ...]] = []
        self._tiles: list[tuple[object, ...]] = []
        self._checkpoints: list[tuple[object, ...]] = []
        self._rows: list[tuple[object, ...]] = []
        self.origin = signing.origin
        self.sealed_size = state.sealed_size
        self.height = state.height  # blocks so far
        self._prev = first_prev(self.origin)
        if state.sealed_size:
            self._prev = body_hash(self.origin, state.sealed_size, state.sealed_root).hex()

    @classmethod
    def load(cls, signing: SigningKeys | None = None) -> Log:
        """Return the log as the database has it; raise ``loading.LogDamaged`` when its parts contradict each other.

        Reads the newest checkpoint and the right edge of the tiles, not every entry. ``signing``: by default the keys of
        the settings. Raises ``keys.KeyFileError`` when none of them is valid on the log.
        """
        signing = signing or keys.signing_keys()
        log = cls(loading.load_state(signing.origin), signing)
        if log.size and not log.signs_with():
            names = ", ".join(log.keyring.valid)
            raise keys.KeyFileError(f"none of the signing keys is valid on the log, which names {names}")
        return log

    @property
    def size(self) -> int:
        """Entries so far, those included that were only appended."""
        return self._tree.size + len(self._pending)

    @property
    def vkey(self) -> str:
        """The verifier key of the newest valid signing key; before the founding, of the first one."""
        return (self.signs_with() or self._held)[-1] if self.keyring.valid else self._held[0]

    def signs_with(self) -> list[str]:
        """Return the verifier keys that the next head is signed with: valid on the log, and held; oldest first."""
        return [vkey for vkey in self.keyring.valid if vkey in self._held]

    def key_problem(self, action: str, vkey: str, possession: str, approval: str) -> str:
        """Return the field at fault when a ``key`` entry with these fields could not be appended, "" when it can."""
        trial = self.keyring.copy()
        try:
            trial.change({"action": action, "vkey": vkey, "possession": possession, "approval": approval})
        except KeyringError as error:
            return error.field
        # The head that covers the entry must be signed by a key that is valid then.
        return "" if any(one in self._signing.vkeys() for one in trial.valid) else "vkey"

    def signs_for(self, origin: str, vkey: str) -> bool:
        """Return whether a log of this name could be founded with this key: it is one that signs here."""
        return origin == self.origin and vkey in self._held

    def note_founder(self, vkey: str) -> None:
        """Take the key that the genesis entry, the first one, names."""
        self.keyring.found(vkey)
        self._key_entries.append((0,))

    def note_key(self, seq: int, action: str, vkey: str, possession: str, approval: str) -> None:
        """Take the ``key`` entry ``seq``, for which ``key_problem`` found nothing: it counts from the next head on."""
        self.keyring.change({"action": action, "vkey": vkey, "possession": possession, "approval": approval})
        self._held = self._signing.vkeys()
        self._key_entries.append((seq,))

    def append(self, leaf: bytes) -> None:
        """Add the next entry: canonical bytes of at most 65,535 (``core.encoding.encode`` makes no others)."""
        self._pending.append(leaf)

    def add_rows(self, seq: int, rows: Sequence[bytes]) -> None:
        """Keep the salted rows that the entry ``seq`` commits to."""
        self._rows += [(seq, number, row) for number, row in enumerate(rows)]

    def root(self) -> bytes:
        """Return the root over all entries so far."""
        self._hash_pending()
        return self._tree.root()

    def root_at(self, size: int) -> bytes:
        """Return the root the stored log had at an earlier size; raise ``loading.LogDamaged`` when it is shorter."""
        return loading.root_at(size)

    def seal_fields(self, *, state: bytes, totals: Mapping[str, int], rules: str) -> dict[str, str]:
        """Return the fields that the seal about to be appended needs beside the engine's.

        ``state``: root of the account vector; ``totals``: sum of all balances by asset, each 0 (the market's currency
        must be one of them); ``rules``: SHA-256 of the rulebook in force, hex.
        """
        return seal_fields(prev=self._prev, root_before=self.root(), state=state, totals=totals, rules=rules)

    def sign(self, *, height: int, at_ms: int) -> SignedHead:
        """Sign the log as it is, the seal being its last entry; its row is among the next ``take_rows``."""
        if height != self.height + 1 or self.size <= self.sealed_size:
            raise ValueError(f"expected to seal block {self.height + 1} after {self.sealed_size} entries, was {height}")
        root = self.root()
        size = self.size
        body = checkpoint_body(self.origin, size, root)
        signing = self.signs_with()
        if not signing:
            raise keys.KeyFileError("none of the signing keys is valid on the log")
        lines = [self._line(vkey, body) for vkey in signing]
        note = f"{body}\n{''.join(lines)}"
        self._checkpoints.append((size, height, self.sealed_size, at_ms, root.hex(), note))
        self._prev = body_hash(self.origin, size, root).hex()
        self.sealed_size, self.height = size, height
        return SignedHead(size, root, note)

    def _line(self, vkey: str, body: str) -> str:
        key = parse_vkey(vkey)
        return signature_line(key.name, key.key_id, self._signing.sign(vkey, body))

    def take_rows(self) -> LogRows:
        """Return what has to be stored since the last call: (model, rows with the columns in the model's order)."""
        self._hash_pending()
        taken: LogRows = [
            (Entry, self._entries),
            (HashTile, self._tiles),
            (Checkpoint, self._checkpoints),
            (Row, self._rows),
            (KeyEntry, self._key_entries),
        ]
        self._entries, self._tiles, self._checkpoints, self._rows, self._key_entries = [], [], [], [], []
        return [(model, rows) for model, rows in taken if rows]

    def _hash_pending(self) -> None:
        if not self._pending:
            return
        leaves = self._pending
        if max(map(len, leaves)) > MAX_LEAF_BYTES:
            raise ValueError(f"expected leaves of at most {MAX_LEAF_BYTES} bytes")
        first = self._tree.size
        self._tiles += self._tree.extend(leaf_hashes(leaves))
        self._entries += enumerate(leaves, first)
        self._pending = []


def verifier_key() -> str:
    """Return the verifier key that a log is founded with, making the key at the first call."""
    return keys.verifier_key()


def publish_rulebook(text: str) -> str:
    """Keep a text of the rulebook for good and return its SHA-256 in hex, by which entries name it."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    Rulebook.objects.get_or_create(sha256=sha256, defaults={"text": text})
    return sha256


def keep_evidence(data: bytes) -> str:
    """Keep what rows will name by its SHA-256, and return that (hex). Keeping it again changes nothing."""
    sha256 = hashlib.sha256(data).hexdigest()
    Evidence.objects.get_or_create(sha256=sha256, defaults={"data": data})
    return sha256
