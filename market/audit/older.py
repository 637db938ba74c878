"""What somebody kept from earlier: a checkpoint, with or without cosignatures, or a receipt. The log must still hold it.

This is what finds an operator who changes history and redoes all its consequences: the log is then right in itself, but it
is not the one that was signed before. With a policy of witnesses a quorum of their cosignatures is as good as the log's own
signature: it still speaks when the history was redone under another key. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.core.cosign import Cosignature, WitnessKey
from ledger.core.findings import Bad
from ledger.core.merkle import ProofError, consistency_path, leaf_hash, verify_growth, verify_inclusion
from ledger.core.note import Checkpoint, NoteError, VerifierKey, open_checkpoint, parse_checkpoint, parse_note
from ledger.core.policy import NONE, Group, Policy, Witness
from ledger.core.receipt import HEADER, Receipt, parse_receipt
from ledger.core.source import Missing, Source
from ledger.core.tiles import TILE_WIDTH, entries_path, node_reader, parse_bundle, tile_path, widths


class Unusable(ValueError):
    """What was kept proves nothing: it is unreadable, or nobody who is trusted has signed it."""


ANY = "any"


def any_of(keys: Sequence[WitnessKey]) -> Policy:
    """Return the policy by which each of these witnesses is a quorum by itself."""
    witnesses = tuple(Witness(str(key), key, "") for key in dict.fromkeys(keys))
    return Policy((), witnesses, {ANY: Group(1, tuple(witness.name for witness in witnesses))}, ANY)


class Kept:
    """One thing that was kept; ``name`` is what the user calls it.

    After ``opened`` or ``check``: ``cosignatures`` of the policy's witnesses that it has, and whether they are a ``quorum``.
    """

    def __init__(self, name: str, data: bytes):
        self.name = name
        self.cosignatures: tuple[Cosignature, ...] = ()
        self.quorum = False
        self.receipt: Receipt | None = None
        self._note = data
        if data.startswith(HEADER.encode()):
            try:
                self.receipt = parse_receipt(data.decode())
            except (ProofError, UnicodeDecodeError) as error:
                raise Unusable(f"{name}: {error}") from None
            self._note = self.receipt.checkpoint.encode()

    def opened(self, keys: Sequence[VerifierKey], policy: Policy | None = None) -> Checkpoint:
        """Return its checkpoint, signed by one of the keys or by a quorum of witnesses; raise ``Unusable``.

        A line that names one of the policy's witnesses and does not fit makes it unusable, too: somebody changed it.
        """
        try:
            note = parse_note(self._note)
            if policy is not None:
                found = policy.cosignatures(note)
                self.cosignatures = tuple(found.values())
                self.quorum = policy.quorum != NONE and policy.satisfied(set(found))
            return parse_checkpoint(note.text) if self.quorum else open_checkpoint(self._note, keys)
        except NoteError as error:
            raise Unusable(f"{self.name}: {error}") from None

    def check(
        self, source: Source, head: Checkpoint, keys: Sequence[VerifierKey], policy: Policy | None = None
    ) -> None:
        """Raise ``Bad`` unless the log with this head begins as the checkpoint says and holds the receipt's entry.

        Both are proofs under signed roots: they hold whatever the source answers.
        """
        old = self.opened(keys, policy)
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
            self._check_entry(self.receipt, old, source, head)

    def _check_entry(self, receipt: Receipt, old: Checkpoint, source: Source, head: Checkpoint) -> None:
        number, at = divmod(receipt.seq, TILE_WIDTH)
        full, partial = widths(head.size, 0)
        try:
            leaf = parse_bundle(source(entries_path(number, TILE_WIDTH if number < full else partial)))[at]
            verify_inclusion(receipt.seq, old.size, leaf_hash(leaf), receipt.path, old.root)
        except (ProofError, ValueError, IndexError, Missing) as error:
            raise Bad(
                self.name, f"expected entry {receipt.seq} as it was when its receipt was given: {error}"
            ) from None
