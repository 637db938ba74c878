"""The vector of all accounts as a Merkle tree: its root, in every seal, says what everybody owned at that moment."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from ledger.core.merkle import EMPTY_ROOT, LEAF, NODE, inclusion_path


def account_leaf(index: int, id_: str, cash_e7: int, held_e7: int, arrears_e7: int) -> bytes:
    """Return the canonical bytes of one account's state. The id is hex, so no character needs an escape."""
    return (
        f'{{"arrears_e7":{arrears_e7},"cash_e7":{cash_e7},"held_e7":{held_e7},"id":"{id_}","index":{index}}}'
    ).encode()


class AccountVector:
    """The RFC 6962 tree over account leaves by dense index, whose ``root`` redoes only what changed."""

    def __init__(self) -> None:
        # rows[h] holds the nodes of height h; a last node without a partner is carried up unchanged, which gives the
        # same root as RFC 6962's split at powers of two.
        self._rows: list[list[bytes]] = [[]]
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        """Return the number of accounts."""
        return len(self._rows[0])

    def set(self, index: int, leaf: bytes) -> None:
        """Put an account's leaf in its place; ``IndexError`` unless it exists or is the next one."""
        hashes = self._rows[0]
        hash_ = sha256(LEAF + leaf).digest()
        if index == len(hashes):
            hashes.append(hash_)
        elif 0 <= index < len(hashes):
            hashes[index] = hash_
        else:
            raise IndexError(f"expected an account index up to {len(hashes)}, was {index}")
        self._dirty.add(index)

    def update(self, leaves: Iterable[tuple[int, bytes]]) -> None:
        """Put many leaves in their places; new accounts in the order of their indexes."""
        for index, leaf in leaves:
            self.set(index, leaf)

    def root(self) -> bytes:
        """Return the root over all accounts."""
        self._settle()
        return self._rows[-1][0] if self._rows[0] else EMPTY_ROOT

    def _settle(self) -> None:
        """Redo the nodes above the leaves that changed."""
        if not self._dirty:
            return
        changed = self._dirty
        height = 0
        while len(row := self._rows[height]) > 1:
            height += 1
            if height == len(self._rows):
                self._rows.append([])
            above = self._rows[height]
            count = (len(row) + 1) >> 1
            if len(above) < count:
                above += [b""] * (count - len(above))
            changed = {index >> 1 for index in changed}
            alone = len(row) >> 1 if len(row) & 1 else -1  # the parent of a last node without a partner
            for parent in changed:
                left = parent + parent
                if parent != alone:
                    above[parent] = sha256(NODE + row[left] + row[left + 1]).digest()
                else:
                    above[parent] = row[left]
        self._dirty = set()

    def path(self, index: int) -> list[bytes]:
        """Return the proof that the account at ``index`` is under ``root()``."""
        self._settle()
        rows = self._rows
        return inclusion_path(index, len(rows[0]), lambda height, at: rows[height][at])
