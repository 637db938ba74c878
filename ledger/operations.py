"""What the one writer does to the log. It commits the rows itself, in the transaction that holds everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db import models

from ledger import keys, loading
from ledger.core.blocks import first_prev, seal_fields
from ledger.core.merkle import leaf_hashes
from ledger.core.note import Signer, body_hash
from ledger.core.tiles import MAX_LEAF_BYTES
from ledger.models import Checkpoint, Entry, HashTile, Row, Rulebook

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

    def __init__(self, state: loading.LogState, signer: Signer):
        self._signer = signer
        self._tree = state.tree
        self._pending: list[bytes] = []  # leaves that are not in the tree yet: hashing many at once is cheaper
        self._entries: list[tuple[object, ...]] = []
        self._tiles: list[tuple[object, ...]] = []
        self._checkpoints: list[tuple[object, ...]] = []
        self._rows: list[tuple[object, ...]] = []
        self.origin = signer.name
        self.sealed_size = state.sealed_size
        self.height = state.height  # blocks so far
        self._prev = first_prev(self.origin)
        if state.sealed_size:
            self._prev = body_hash(self.origin, state.sealed_size, state.sealed_root).hex()

    @classmethod
    def load(cls, signer: Signer | None = None) -> Log:
        """Return the log as the database has it; raise ``loading.LogDamaged`` when its parts contradict each other.

        Reads the newest checkpoint and the right edge of the tiles, not every entry. ``signer``: by default the key of
        the settings.
        """
        signer = signer or keys.signer()
        return cls(loading.load_state(signer.name), signer)

    @property
    def size(self) -> int:
        """Entries so far, those included that were only appended."""
        return self._tree.size + len(self._pending)

    @property
    def vkey(self) -> str:
        """The verifier key that belongs to the signing key."""
        return self._signer.vkey

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
        note = self._signer.sign_checkpoint(size, root)
        self._checkpoints.append((size, height, self.sealed_size, at_ms, root.hex(), note))
        self._prev = body_hash(self.origin, size, root).hex()
        self.sealed_size, self.height = size, height
        return SignedHead(size, root, note)

    def take_rows(self) -> LogRows:
        """Return what has to be stored since the last call: (model, rows with the columns in the model's order)."""
        self._hash_pending()
        taken: LogRows = [
            (Entry, self._entries),
            (HashTile, self._tiles),
            (Checkpoint, self._checkpoints),
            (Row, self._rows),
        ]
        self._entries, self._tiles, self._checkpoints, self._rows = [], [], [], []
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
    """Return the verifier key that belongs to the log's signing key, making the key at the first call."""
    return keys.verifier_key()


def publish_rulebook(text: str) -> str:
    """Keep a text of the rulebook for good and return its SHA-256 in hex, by which entries name it."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    Rulebook.objects.get_or_create(sha256=sha256, defaults={"text": text})
    return sha256
