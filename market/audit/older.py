"""What somebody kept from earlier: a checkpoint, with or without cosignatures, or a receipt. The log must still hold it.

This is what finds an operator who changes history and redoes all its consequences: the log is then right in itself, but it
is not the one that was signed before. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.core.findings import Bad
from ledger.core.merkle import ProofError, consistency_path, verify_growth
from ledger.core.note import Checkpoint, NoteError, VerifierKey, open_checkpoint
from ledger.core.receipt import HEADER, Receipt, parse_receipt, verify_receipt
from ledger.core.source import Missing, Source
from ledger.core.tiles import TILE_WIDTH, entries_path, node_reader, parse_bundle, tile_path, widths


class Unusable(ValueError):
    """What was kept proves nothing: it is unreadable, or nobody who is trusted has signed it."""


class Kept:
    """One thing that was kept; ``name`` is what the user calls it."""

    def __init__(self, name: str, data: bytes):
        self.name = name
        self.receipt: Receipt | None = None
        self._note = data
        if data.startswith(HEADER.encode()):
            try:
                self.receipt = parse_receipt(data.decode())
            except (ProofError, UnicodeDecodeError) as error:
                raise Unusable(f"{name}: {error}") from None
            self._note = self.receipt.checkpoint.encode()

    def opened(self, keys: Sequence[VerifierKey]) -> Checkpoint:
        """Return its checkpoint, signed by one of the keys; raise ``Unusable``."""
        try:
            return open_checkpoint(self._note, keys)
        except NoteError as error:
            raise Unusable(f"{self.name}: {error}") from None

    def check(self, source: Source, head: Checkpoint, keys: Sequence[VerifierKey]) -> None:
        """Raise ``Bad`` unless the log with this head begins as the checkpoint says and holds the receipt's entry.

        Both are proofs under signed roots: they hold whatever the source answers.
        """
        old = self.opened(keys)
        if old.origin != head.origin:
            raise Unusable(f"{self.name}: expected a checkpoint of {head.origin}, was of {old.origin}")
        if old.size > head.size:
            raise Bad(self.name, f"expected a log of at least {old.size} entries, was {head.size}")
        node = node_reader(head.size, lambda *place: source(tile_path(*place)))
        try:
            path = consistency_path(old.size, head.size, node) if old.size else []
            verify_growth(old.size, head.size, old.root, head.root, path)
        except (ProofError, ValueError, Missing) as error:
            what = f"expected the log to begin with the {old.size} entries that were signed then, was another history"
            raise Bad(self.name, f"{what} ({error})") from None
        if self.receipt is not None:
            self._check_entry(self.receipt, source, head, keys)

    def _check_entry(self, receipt: Receipt, source: Source, head: Checkpoint, keys: Sequence[VerifierKey]) -> None:
        number, at = divmod(receipt.seq, TILE_WIDTH)
        full, partial = widths(head.size, 0)
        try:
            leaf = parse_bundle(source(entries_path(number, TILE_WIDTH if number < full else partial)))[at]
            verify_receipt(receipt, leaf, keys)
        except (ProofError, ValueError, IndexError, Missing) as error:
            raise Bad(
                self.name, f"expected entry {receipt.seq} as it was when its receipt was given: {error}"
            ) from None
