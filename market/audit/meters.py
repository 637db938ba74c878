"""Settlement again: what the ledger's readings, tallies and tariffs make of an area, compared with the rows it was paid by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from market.audit.signatures import Claim, is_sha256
from market.engine.accounts import MEMBER
from market.engine.commands import SettleRow
from market.engine.engine import Engine
from market.engine.entries import settle_row
from market.engine.settling import QUALITIES
from market.settlement.rules import ESTIMATED, MEASURED, Metered, Tariff, settle_account

# A reading counts once its entry is there. Settlement may have been worked out just before it came in: for so many blocks,
# a second each, a row without it is let pass and counted.
GRACE_BLOCKS = 120

_READING_FIELDS = frozenset(("account", "contract", "import_wh", "export_wh", "quality", "salt"))
_SIGNED_FIELDS = _READING_FIELDS | {"source"}
_ROW_FIELDS = frozenset((*SettleRow._fields, "salt"))

Fields = Mapping[str, Any]


class Reading(NamedTuple):
    """One reading of an account, and the block its entry is in."""

    import_wh: int
    export_wh: int
    quality: str  # as settlement names it
    height: int


class Meters:
    """Keeps the readings of contracts that are not settled yet; ``rows`` and ``passed_over`` count what was settled."""

    def __init__(self) -> None:
        self.readings = 0
        self.rows = 0  # settled
        self.passed_over = 0  # rows without a reading that had only just come in
        self.unseen = 0  # readings entries without rows
        self.claims: list[Claim] = []  # readings that a device has signed, to be held against what it signed
        self._found: dict[str, dict[int, list[Reading]]] = {}
        self._incomplete: set[tuple[str, str]] = (
            set()
        )  # contracts and areas with readings that this source does not have

    def take(self, entry: Fields, rows: Sequence[Fields] | None, engine: Engine) -> str:
        """Keep the readings an entry commits to; return what is wrong with them, "" if nothing."""
        contract = str(entry.get("contract"))
        if rows is None:
            self.unseen += 1
            self._incomplete.add((contract, str(entry.get("area"))))
            return ""
        kept = self._found.setdefault(contract, {})
        seen: set[int] = set()
        for number, row in enumerate(rows):
            problem = self._reading_problem(row, entry, engine, seen)
            if problem:
                return f"row {number}: {problem}"
            account = row["account"]
            seen.add(account)
            if "source" in row:
                energies = row["import_wh"], row["export_wh"]
                self.claims.append(Claim(row["source"], engine.accounts[account].id, contract, *energies, engine.seq))
            quality = ESTIMATED if row["quality"] == ESTIMATED else MEASURED
            kept.setdefault(account, []).append(Reading(row["import_wh"], row["export_wh"], quality, engine.height))
        for name in ("import_wh", "export_wh"):
            total = sum(row[name] for row in rows)
            if entry.get(name) != total:
                return f"{name}: expected {total} (the sum of its rows), was {entry.get(name)}"
        self.readings += len(rows)
        return ""

    @staticmethod
    def _reading_problem(row: Fields, entry: Fields, engine: Engine, seen: set[int]) -> str:
        if "source" in row and not is_sha256(row["source"]):
            return f"source: expected the SHA-256 of a signed batch, was {row['source']!r:.40}"
        if row.keys() != _READING_FIELDS and row.keys() != _SIGNED_FIELDS:
            return f"expected the fields {', '.join(sorted(_READING_FIELDS))}, was {', '.join(sorted(row))}"
        if row["contract"] != entry.get("contract"):
            return f"contract: expected {entry.get('contract')}, was {row['contract']}"
        account = row["account"]
        if type(account) is not int or not 0 <= account < len(engine.accounts) or account in seen:
            return f"account: expected a member once, was {account}"
        if engine.accounts[account].kind != MEMBER or engine.accounts[account].area != entry.get("area"):
            return f"account: expected a member in {entry.get('area')}, was {account}"
        for name in ("import_wh", "export_wh"):
            if type(row[name]) is not int or row[name] < 0:
                return f"{name}: expected Wh, was {row[name]!r:.40}"
        if row["quality"] not in QUALITIES:
            return f"quality: expected one of {', '.join(QUALITIES)}, was {row['quality']!r:.40}"
        return ""

    def settle(self, entry: Fields, rows: Sequence[Fields], engine: Engine) -> str:
        """Settle each account of the entry's area again; return the first row that comes out differently, "" if none."""
        contract = engine.contracts.get(str(entry.get("contract")))
        if contract is None:
            return ""  # the engine refuses it
        readings = self._found.get(contract.name, {})
        known = (contract.name, str(entry.get("area"))) not in self._incomplete
        tariff = Tariff(contract.topup_e4, contract.spill_e4)
        seen: set[int] = set()
        for number, fields in enumerate(rows):
            if fields.keys() != _ROW_FIELDS:
                return f"row {number}: expected the fields {', '.join(sorted(_ROW_FIELDS))}, was {', '.join(sorted(fields))}"
            row = settle_row(fields)
            seen.add(row.account)
            if not known:
                continue  # the engine still holds the row against tally and tariff
            tally = contract.tallies.get(row.account)
            problem = self._row_problem(row, tally, readings.get(row.account, []), tariff, engine.height)
            if problem:
                return f"row {number} (account {row.account}): {problem}"
        area = entry.get("area")
        for account, found in readings.items():
            if account not in seen and engine.accounts[account].area == area:
                if found[0].height + GRACE_BLOCKS < engine.height:
                    return f"rows: expected one of account {account}, which has a reading, was none"
                self.passed_over += 1
        self.rows += len(rows)
        return ""

    def _row_problem(self, row: SettleRow, tally: Any, readings: Sequence[Reading], tariff: Tariff, height: int) -> str:
        wanted: SettleRow | None = None
        for age, reading in enumerate([*reversed(readings), None]):
            metered = None if reading is None else Metered(*reading[:3])
            settled = settle_account(row.account, tally, metered, tariff)
            if row == settled:
                self.passed_over += age > 0
                return ""
            wanted = wanted or settled
            if reading is not None and reading.height + GRACE_BLOCKS < height:
                break
        assert wanted is not None
        pairs = zip(SettleRow._fields, wanted, row, strict=True)
        return next(f"{name}: expected {value}, was {was}" for name, value, was in pairs if value != was)

    def forget(self, contract: str) -> None:
        """A contract is settled."""
        self._found.pop(contract, None)
        self._incomplete = {place for place in self._incomplete if place[0] != contract}

    def values(self) -> list[Any]:
        """Return everything as JSON can hold it."""
        found = [
            [contract, [[account, [list(one) for one in readings]] for account, readings in kept.items()]]
            for contract, kept in self._found.items()
        ]
        return [self.readings, self.rows, self.passed_over, self.unseen, found, sorted(self._incomplete)]

    @classmethod
    def restore(cls, values: list[Any]) -> Meters:
        """Return what ``values`` wrote."""
        meters = cls()
        meters.readings, meters.rows, meters.passed_over, meters.unseen, found, incomplete = values
        for contract, kept in found:
            meters._found[contract] = {account: [Reading(*one) for one in readings] for account, readings in kept}
        meters._incomplete = {(contract, area) for contract, area in incomplete}
        return meters
