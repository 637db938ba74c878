"""Closing blocks: account vector, totals, the seal's leaf, the signed checkpoint, its publication."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import orjson

from ledger.core.accounts import AccountVector, account_leaf
from ledger.operations import Log
from market.engine.commands import Found, RegisterKey
from market.engine.engine import Engine
from market.engine.events import Founded, KeyRegistered, RulebookPublished, Sealed
from market.exchange.journal import Journal, Unbalanced
from market.exchange.leaves import Leaves
from market.exchange.outcomes import SealInfo

ENERGY = "Wh"
MAX_POSITIONS = 20_000  # looked at in one seal; contracts beyond that are looked at in the next ones


class Sealer:
    """Makes seals for the writer. Works on the state as it is after the last command of the block."""

    def __init__(self, engine: Engine, log: Log, journal: Journal, leaves: Leaves, published_file: Path):
        self._engine = engine
        self._log = log
        self._journal = journal
        self._leaves = leaves
        self._published_file = published_file
        self._currency = ""
        self._rules = ""  # SHA-256 of the rulebook in force
        self._vector = AccountVector()
        self._vector.update((account.index, self._account_leaf(account.index)) for account in engine.accounts)

    @property
    def size(self) -> int:
        """Entries under the last checkpoint."""
        return self._log.sealed_size

    @property
    def height(self) -> int:
        """Blocks so far."""
        return self._log.height

    def restore(self, unsealed: Iterable[bytes], first: bytes | None, seal: bytes | None) -> None:
        """Take currency and rulebook from the log: its first entry, its last seal and what came after that."""
        if first is not None:
            self._currency = orjson.loads(first)["currency"]
            self._rules = orjson.loads(first)["rulebook_sha256"]
        if seal is not None:
            self._rules = orjson.loads(seal)["rules"]
        for leaf in unsealed:
            if b'"type":"rulebook"' in leaf:
                self._rules = orjson.loads(leaf)["sha256"]

    def note(self, event: Founded | RulebookPublished | KeyRegistered) -> None:
        """Take note of what every seal from here on has to say, and of who signs for it."""
        if isinstance(event, Founded):
            self._currency, self._rules = event.currency, event.rulebook_sha256
            self._log.note_founder(event.vkey)
        elif isinstance(event, KeyRegistered):
            self._log.note_key(event.seq, *event[2:])
        else:
            self._rules = event.sha256

    def key_problem(self, command: Found | RegisterKey) -> str:
        """Return the field at fault when a command names a key that cannot sign for this log, "" when it can."""
        if isinstance(command, Found):
            return "" if self._log.signs_for(command.origin, command.vkey) else "vkey"
        return self._log.key_problem(*command)

    def _account_leaf(self, index: int) -> bytes:
        account = self._engine.accounts[index]
        return account_leaf(index, account.id, account.cash_e7, account.held_e7, account.arrears_e7)

    def seal(self, event: Sealed) -> SealInfo:
        """Append the seal's leaf and sign the checkpoint that ends with it; ``Unbalanced`` when a total is not 0."""
        self._journal.note_changes()
        changed = sorted(self._journal.unsealed_accounts)
        self._vector.update((index, self._account_leaf(index)) for index in changed)
        self._journal.unsealed_accounts.clear()
        totals = {self._currency: self._journal.money_total_e7(), ENERGY: self._energy_total_wh()}
        if any(totals.values()):
            raise Unbalanced(f"expected totals of 0, was {totals}")
        extra = self._log.seal_fields(state=self._vector.root(), totals=totals, rules=self._rules)
        self._log.append(self._leaves.leaf(event, extra))
        head = self._log.sign(height=event.height, at_ms=event.at_ms)
        return SealInfo(event.height, event.first, event.count, head.size, head.root.hex(), event.at_ms, head.note)

    def _energy_total_wh(self) -> int:
        """Return the sum of all positions in contracts that were traded since the last look, Wh."""
        touched = self._journal.unsealed_contracts
        total = looked_at = 0
        while touched and looked_at < MAX_POSITIONS:
            contract = self._engine.contracts.get(touched.pop())
            if contract is not None:
                looked_at += len(contract.tallies)
                total += sum(tally.bought_wh - tally.sold_wh for tally in contract.tallies.values())
        return total

    def publish(self, sealed: SealInfo) -> None:
        """Put a durable checkpoint where other programs, and the next start, find it: complete or not at all."""
        path = self._published_file
        draft = path.with_name(path.name + ".new")
        with draft.open("w") as file:
            file.write(sealed.note)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
