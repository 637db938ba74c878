"""A market's whole log made without a database: commands through an engine, its entries, seals as the exchange writes them.

``Liar`` is the same log in the hands of an operator who has the key: entries changed, then hashed, chained and signed anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ledger.core.accounts import AccountVector, account_leaf
from ledger.core.blocks import first_prev, totals_text
from ledger.core.encoding import decode, encode
from ledger.core.merkle import leaf_hashes
from ledger.core.note import Signer, body_hash
from ledger.core.rows import join_rows, rows_root
from ledger.core.tiles import TILE_WIDTH, TileTree, encode_bundle, entries_path, levels, tile_path, widths
from market.engine import commands as c
from market.engine.engine import Engine
from market.engine.entries import signed_fields, to_leaf
from market.engine.events import Refused
from market.settlement import rules
from market.settlement.rowbytes import adjust_bytes, settle_bytes, share_bytes

ORIGIN = "sunledger.example/audit"
SEED = bytes(range(32))
RULEBOOK = b"# Rules\n\nAs the engine plays them.\n"
RULES = hashlib.sha256(RULEBOOK).hexdigest()
SIGNER = Signer(ORIGIN, SEED)
Fields = dict[str, Any]


def salt(seq: int) -> str:
    """Return a salt that only has to look like one."""
    return f"{(seq * 0x9E3779B97F4A7C15 + 0x1234567) % 2**128:032x}"


def signed_files(entries: Sequence[Fields], rows: dict[int, list[bytes]], signer: Signer = SIGNER) -> dict[str, bytes]:
    """Return the files of a log with these entries: chained from seal to seal, hashed and signed at the last one."""
    tree, tiles, leaves = TileTree(), [], []
    pending: list[bytes] = []
    prev, size = first_prev(signer.name), 0
    for fields in entries:
        if fields["type"] == "seal":
            tiles += tree.extend(leaf_hashes(pending))
            pending = []
            leaf = encode({**fields, "prev": prev, "root_before": tree.root().hex()})
            tiles += tree.extend(leaf_hashes([leaf]))
            size = tree.size
            prev = body_hash(signer.name, size, tree.root()).hex()
        else:
            leaf = encode(fields)
            pending.append(leaf)
        leaves.append(leaf)
    assert not pending, "a log ends with a seal"
    files = {"checkpoint": signer.sign_checkpoint(size, tree.root()).encode(), f"rulebook/{RULES}": RULEBOOK}
    files |= {f"rows/{seq}": join_rows(found) for seq, found in rows.items()}
    files |= {tile_path(tile.level, tile.number): tile.data for tile in tiles}
    for level in range(levels(size)):
        full, partial = widths(size, level)
        if partial:
            files[tile_path(level, full, partial)] = b"".join(tree.edges[level])
    full, partial = widths(size, 0)
    for number in range(full + (partial > 0)):
        first, width = number * TILE_WIDTH, TILE_WIDTH if number < full else partial
        files[entries_path(number, width)] = encode_bundle(leaves[first : first + width])
    return files


class MarketLog:
    """Applies commands and keeps what the exchange would write: ``entries`` (decoded leaves) and ``rows`` by entry."""

    def __init__(self, at_ms: int, signer: Signer = SIGNER):
        self.engine = Engine()
        self.signer = signer
        self.at_ms = at_ms
        self.entries: list[Fields] = []
        self.rows: dict[int, list[bytes]] = {}
        self.rules = RULES  # the rulebook in force
        self._vector = AccountVector()
        self.settled: dict[tuple[str, str], dict[int, c.SettleRow]] = {}  # rows as they stand, by contract and area

    def do(self, command: Any, at_ms: int = 0) -> list[Any]:
        """Apply a command that must be accepted, now or at a later time, and return its events."""
        self.at_ms = max(self.at_ms, at_ms)
        first = len(self.entries)
        events = self.engine.apply(command, self.at_ms)
        assert not (events and isinstance(events[0], Refused)), (command, events[0])
        self.keep(events)
        if isinstance(command, c.SignedOrder):
            self.entries[first] |= signed_fields(command)
        elif isinstance(command, c.PublishRulebook):
            self.rules = command.sha256
        return events

    def keep(self, events: Iterable[Any]) -> None:
        """Write events down."""
        self.entries += [{**to_leaf(event), "salt": salt(event.seq)} for event in events]

    def found(self, currency: str = "EUR") -> None:
        """Found the market."""
        self.do(c.Found(self.signer.name, currency, 15, self.signer.vkey, 2, RULES))

    def due(self, at_ms: int) -> None:
        """Do what the clock asks for at a time."""
        self.at_ms = max(self.at_ms, at_ms)
        while commands := self.engine.schedule(self.at_ms):
            for command in commands:
                self.do(command)

    def readings(self, contract: str, area: str, found: dict[int, tuple[int, int]], quality: str = "measured") -> int:
        """Commit readings (import and export in Wh by account) and return the entry's index."""
        seq = self.engine.seq
        rows = [
            encode(
                {
                    "account": account, "contract": contract, "import_wh": import_wh, "export_wh": export_wh,
                    "quality": quality, "salt": salt(account),
                }
            )
            for account, (import_wh, export_wh) in found.items()
        ]  # fmt: skip
        sums = [sum(values[side] for values in found.values()) for side in (0, 1)]
        self.do(c.CommitReadings(contract, area, len(rows), *sums, rows_root(rows).hex()))
        self.rows[seq] = rows
        return seq

    def settle(self, contract: str, area: str, metered: dict[int, rules.Metered]) -> int:
        """Settle an area with what its meters say, and return the entry's index."""
        seq, found = self.engine.seq, self.engine.contracts[contract]
        tallies = {n: tally for n, tally in found.tallies.items() if self.engine.accounts[n].area == area}
        settled = rules.settle_area(tallies, metered, rules.Tariff(found.topup_e4, found.spill_e4))
        rows = [settle_bytes(row, salt(row.account)) for row in settled]
        self.do(c.Settle(contract, area, settled, rows_root(rows).hex()))
        self.rows[seq] = rows
        self.settled[contract, area] = {row.account: row for row in settled}
        return seq

    def adjust(self, contract: str, area: str, metered: dict[int, rules.Metered]) -> int:
        """Correct an area by later readings, and return the entry's index."""
        found = self.engine.provisional[contract]
        tariff = rules.Tariff(found.topup_e4, found.spill_e4)
        return self.adjust_rows(contract, area, rules.changes(self.settled[contract, area], metered, tariff))

    def adjust_rows(self, contract: str, area: str, changes: tuple[c.AdjustRow, ...]) -> int:
        """Correct an area by these rows."""
        seq, found = self.engine.seq, self.engine.provisional[contract]
        rows = [adjust_bytes(change, salt(change.row.account)) for change in changes]
        newest = found.newest[self.engine.grid.index[area]]
        self.do(c.Adjust(contract, area, newest, changes, rows_root(rows).hex()))
        self.rows[seq] = rows
        self.settled[contract, area] |= {change.row.account: change.row for change in changes}
        return seq

    def share(self, contract: str) -> int:
        """Share out what is left over in a contract, and return the entry's index."""
        known: dict[int, c.SettleRow] = {}
        for (name, _), found in self.settled.items():
            known |= found if name == contract else {}
        corrects = self.engine.provisional[contract].shared
        before = {} if not corrects else {fields["agreement"]: fields["energy_wh"] for fields in self.decoded(corrects)}
        return self.share_rows(contract, rules.shared(self.engine.agreements_of(contract), known, before))

    def decoded(self, seq: int) -> list[Fields]:
        """Return the rows of an entry."""
        return [decode(row) for row in self.rows[seq]]

    def share_rows(self, contract: str, shares: tuple[c.ShareRow, ...]) -> int:
        """Share out a contract by these rows."""
        seq = self.engine.seq
        rows = [share_bytes(row, salt(row.agreement)) for row in shares]
        self.do(c.Share(contract, self.engine.provisional[contract].shared, shares, rows_root(rows).hex()))
        self.rows[seq] = rows
        return seq

    def snapshot(self) -> None:
        """Commit to the state as it is."""
        self.do(c.CommitSnapshot(hashlib.sha256(self.engine.dump()).hexdigest()))

    def seal(self) -> None:
        """Close the block with the root over all accounts; the chain is made when the files are."""
        accounts = self.engine.accounts
        for index in sorted(self.engine.take_dirty()):
            account = accounts[index]
            leaf = account_leaf(index, account.id, account.cash_e7, account.held_e7, account.arrears_e7)
            self._vector.set(index, leaf)
        self.do(c.Seal())
        self.entries[-1] |= {
            "prev": "", "root_before": "", "state": self._vector.root().hex(),
            "totals": totals_text({"EUR": 0, "Wh": 0}), "rules": self.rules,
        }  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """Return the log's files."""
        return signed_files(self.entries, self.rows, self.signer)


def lie(log: MarketLog, change: Callable[[list[Fields], dict[int, list[bytes]]], object]) -> dict[str, bytes]:
    """Return the files of a copy of the log after somebody with its key has changed entries or rows in place."""
    entries = [dict(fields) for fields in log.entries]
    rows = {seq: list(found) for seq, found in log.rows.items()}
    change(entries, rows)
    return signed_files(entries, rows, log.signer)
