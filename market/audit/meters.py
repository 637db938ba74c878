"""Settlement again: what the ledger's readings, tallies and tariffs make of an area, compared with the rows it was paid by.

So are corrections, from the newest row of each account and the readings that came in later. Of a row that was settled only a
digest is kept: a city's day has three million.
"""

from __future__ import annotations

import re
from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from market.audit.signatures import Claim, is_sha256
from market.engine.accounts import MEMBER
from market.engine.commands import NO_QUALITY, SettleRow, ShareRow
from market.engine.engine import Engine
from market.engine.entries import WAS_FIELDS, adjust_row, settle_row, share_row
from market.engine.settling import QUALITIES
from market.settlement.rules import ESTIMATED, MEASURED, Metered, Tariff, corrected, nothing_settled, settle_account

# A reading counts once its entry is there. Settlement may have been worked out just before it came in: for so many blocks,
# a second each, a row without it is let pass and counted.
GRACE_BLOCKS = 120

_READING_FIELDS = frozenset(("account", "contract", "import_wh", "export_wh", "quality", "salt"))
_TOLD_FIELDS = frozenset(("reason", "revision", "source"))  # where there is one
_CODE = re.compile("[a-z_]{1,16}")
_ROW_FIELDS = frozenset((*SettleRow._fields, "salt"))
_ADJUST_FIELDS = _ROW_FIELDS | frozenset(WAS_FIELDS)
_SHARE_FIELDS = frozenset((*ShareRow._fields, "salt"))
_DIGEST = 16  # bytes

Fields = Mapping[str, Any]


class Reading(NamedTuple):
    """One reading of an account, and the block its entry is in."""

    import_wh: int
    export_wh: int
    quality: str  # as settlement names it
    height: int


def digest_of(row: SettleRow) -> bytes:
    """Return what is kept of a row."""
    return sha256(repr(tuple(row)).encode()).digest()[:_DIGEST]


class Newest:
    """Digests of the rows of one area in one contract as they stand: 24 bytes a home, and more only where one changed."""

    def __init__(self, rows: Iterable[SettleRow] = ()):
        ordered = sorted(rows)
        self._accounts = array("q", (row.account for row in ordered))
        self._digests = b"".join(map(digest_of, ordered))
        self._changed: dict[int, bytes] = {}

    def find(self, account: int) -> bytes | None:
        """Return the digest of an account's row, None where it has none."""
        changed = self._changed.get(account)
        if changed is not None:
            return changed
        at = bisect_left(self._accounts, account)
        if at == len(self._accounts) or self._accounts[at] != account:
            return None
        return self._digests[at * _DIGEST : (at + 1) * _DIGEST]

    def change(self, row: SettleRow) -> None:
        """A row has become this one."""
        self._changed[row.account] = digest_of(row)

    def values(self) -> list[Any]:
        """Return everything as JSON can hold it."""
        changed = [[account, digest.hex()] for account, digest in self._changed.items()]
        return [list(self._accounts), b64encode(self._digests).decode("ascii"), changed]

    @classmethod
    def restore(cls, accounts: list[int], digests: str, changed: list[tuple[int, str]]) -> Newest:
        """Return what ``values`` wrote."""
        newest = cls()
        newest._accounts = array("q", accounts)
        newest._digests = b64decode(digests)
        newest._changed = {account: bytes.fromhex(digest) for account, digest in changed}
        return newest


class Meters:
    """Keeps readings that no settlement has used, and what was settled, until the contract is settled and final.

    ``rows`` and ``passed_over`` count what was settled.
    """

    def __init__(self) -> None:
        self.readings = 0
        self.rows = 0  # settled
        self.corrected = 0  # rows corrected
        self.passed_over = 0  # rows without a reading that had only just come in
        self.unseen = 0  # readings entries without rows
        self.claims: list[Claim] = []  # readings that a device has signed, to be held against what it signed
        self._found: dict[str, dict[int, list[Reading]]] = {}
        self._incomplete: set[tuple[str, str]] = (
            set()
        )  # contracts and areas with readings that this source does not have
        # Of parties to agreements: what is missing and left over, by contract and account; what agreements moved so far.
        self._energies: dict[str, dict[int, tuple[int, int]]] = {}
        self._shared: dict[str, dict[int, int]] = {}
        self._begun: set[str] = set()  # contracts of which an area was settled before this audit begins
        self._newest: dict[str, dict[str, Newest]] = {}  # rows of provisional settlements, by contract and area

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
        if "reason" in row and not (isinstance(row["reason"], str) and _CODE.fullmatch(row["reason"])):
            return f"reason: expected a code, was {row['reason']!r:.40}"
        if "revision" in row and not (type(row["revision"]) is int and row["revision"] > 0):
            return f"revision: expected a number from 1, was {row['revision']!r:.40}"
        if row.keys() - _TOLD_FIELDS != _READING_FIELDS:
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
        settled: list[SettleRow] = []
        for number, fields in enumerate(rows):
            if fields.keys() != _ROW_FIELDS:
                return f"row {number}: expected the fields {', '.join(sorted(_ROW_FIELDS))}, was {', '.join(sorted(fields))}"
            row = settle_row(fields)
            seen.add(row.account)
            settled.append(row)
            if not known:
                continue  # the engine still holds the row against tally and tariff
            found = readings.get(row.account, [])
            wanted = self._wanted(found, engine.height)
            tally = contract.tallies.get(row.account)
            problem = self._row_problem(row, [settle_account(row.account, tally, one, tariff) for one in wanted], found)
            if problem:
                return f"row {number} (account {row.account}): {problem}"
            if not found:
                readings.pop(row.account, None)
        area = entry.get("area")
        for account, found in readings.items():
            if account not in seen and engine.accounts[account].area == area:
                if found[0].height + GRACE_BLOCKS < engine.height:
                    return f"rows: expected one of account {account}, which has a reading, was none"
                self.passed_over += 1
        self.rows += len(rows)
        if contract.name in engine.provisional or engine.params.final_after_min:
            self._keep_energies(contract.name, settled, engine)
            self._newest.setdefault(contract.name, {})[str(area)] = Newest(settled)
        return ""

    def _keep_energies(self, contract: str, rows: Iterable[SettleRow], engine: Engine) -> None:
        agreements = engine.agreements_of(contract)
        if not agreements:
            return
        kept = self._energies.setdefault(contract, {})
        parties = {index for one in agreements for index in (one.giver, one.receiver)}
        kept.update((row.account, (row.topup_wh, row.spill_wh)) for row in rows if row.account in parties)

    @staticmethod
    def _wanted(readings: Sequence[Reading], height: int, *, without: bool = True) -> list[Metered | None]:
        """Return the readings a row may follow from, the newest first; None: none at all (``without``).

        Only what had just come in may be passed over.
        """
        found: list[Metered | None] = []
        for reading in reversed(readings):
            found.append(Metered(*reading[:3]))
            if reading.height + GRACE_BLOCKS < height:
                return found
        return [*found, None] if without else found

    def _row_problem(self, row: SettleRow, wanted: Sequence[SettleRow], readings: list[Reading]) -> str:
        """Return what is wrong with a row, "" if it is one of those; readings it has used are used up."""
        for age, settled in enumerate(wanted):
            if row == settled:
                self.passed_over += age > 0
                del readings[: len(readings) - age]
                return ""
        pairs = zip(SettleRow._fields, wanted[0], row, strict=True)
        return next(f"{name}: expected {value}, was {was}" for name, value, was in pairs if value != was)

    def adjust(self, entry: Fields, rows: Sequence[Fields], engine: Engine) -> str:
        """Correct each row of the entry again; return the first that comes out differently, "" if none.

        That nothing is corrected twice over, or once it is final, the engine sees itself.
        """
        name, area = str(entry.get("contract")), str(entry.get("area"))
        provisional = engine.provisional.get(name)
        if provisional is None:
            return ""  # the engine refuses it
        newest = self._newest.get(name, {}).get(area)  # none: it was settled before this audit begins
        readings = self._found.get(name, {})
        tariff = Tariff(provisional.topup_e4, provisional.spill_e4)
        for number, fields in enumerate(rows):
            if fields.keys() != _ADJUST_FIELDS:
                expected = ", ".join(sorted(_ADJUST_FIELDS))
                return f"row {number}: expected the fields {expected}, was {', '.join(sorted(fields))}"
            row, was = adjust_row(fields)
            place = f"row {number} (account {row.account})"
            if newest is not None:
                digest = newest.find(row.account)
                if digest is None and was != nothing_settled(row.account):
                    return f"{place}: was_quality: expected {NO_QUALITY} (it has no row), was {was.quality}"
                if digest is not None and digest != digest_of(was):
                    return f"{place}: expected the account's newest row in was_…, was another"
            if newest is not None and (name, area) not in self._incomplete:
                later = readings.get(row.account, [])
                if not later:
                    return f"{place}: expected a reading that came in later, was none"
                wanted = self._wanted(later, engine.height, without=False)
                problem = self._row_problem(row, [corrected(was, one, tariff) for one in wanted if one], later)
                if problem:
                    return f"{place}: {problem}"
                if not later:
                    del readings[row.account]
            if newest is not None:
                newest.change(row)
                self._keep_energies(name, (row,), engine)
        self.corrected += len(rows)
        return ""

    def share(self, entry: Fields, rows: Sequence[Fields], engine: Engine) -> str:
        """Hold what agreements move against the parties' newest rows; return the first that is wrong, "" if none.

        Which agreements apply, in which order, and what follows from those figures the engine sees itself.
        """
        name = str(entry.get("contract"))
        before = self._shared.get(name, {})
        kept = self._energies.get(name, {})
        now: dict[int, int] = {}
        for number, fields in enumerate(rows):
            if fields.keys() != _SHARE_FIELDS:
                expected = ", ".join(sorted(_SHARE_FIELDS))
                return f"row {number}: expected the fields {expected}, was {', '.join(sorted(fields))}"
            row = share_row(fields)
            now[row.agreement] = row.energy_wh
            agreement = engine.agreements.get(row.agreement)
            if agreement is None or name in self._begun:
                continue  # the engine refuses it; or not all of its parties' rows are known
            missing_wh, left_wh = kept.get(agreement.receiver, (0, 0))[0], kept.get(agreement.giver, (0, 0))[1]
            for field, wanted, was in (
                ("left_wh", left_wh, row.left_wh),
                ("missing_wh", missing_wh, row.missing_wh),
                ("was_wh", before.get(row.agreement, 0), row.was_wh),
            ):
                if wanted != was:
                    return f"row {number} (agreement {row.agreement}): {field}: expected {wanted}, was {was}"
        self._shared[name] = now
        return ""

    def begin(self, contracts: Iterable[str]) -> None:
        """The audit begins after areas of these were settled: their rows, and which readings they used, are not known."""
        self._begun.update(contracts)

    def forget(self, contract: str) -> None:
        """A contract is settled, and final."""
        # What came in too late to be settled; what came in at the last moment may have been.
        self.passed_over += sum(map(len, self._found.pop(contract, {}).values())) if contract in self._newest else 0
        self._found.pop(contract, None)
        for kept in (self._newest, self._energies, self._shared):
            kept.pop(contract, None)
        self._begun.discard(contract)
        self._incomplete = {place for place in self._incomplete if place[0] != contract}

    def values(self) -> list[Any]:
        """Return everything as JSON can hold it."""
        found = [
            [contract, [[account, [list(one) for one in readings]] for account, readings in kept.items()]]
            for contract, kept in self._found.items()
        ]
        newest = [
            [contract, [[area, *kept.values()] for area, kept in areas.items()]]
            for contract, areas in self._newest.items()
        ]
        return [
            self.readings, self.rows, self.corrected, self.passed_over, self.unseen, found, sorted(self._incomplete),
            newest,
            [[contract, [[account, *kept] for account, kept in found.items()]] for contract, found in self._energies.items()],
            [[contract, list(found.items())] for contract, found in self._shared.items()],
            sorted(self._begun),
        ]  # fmt: skip

    @classmethod
    def restore(cls, values: list[Any]) -> Meters:
        """Return what ``values`` wrote."""
        meters = cls()
        meters.readings, meters.rows, meters.corrected, meters.passed_over, meters.unseen, *rest = values
        found, incomplete, newest, energies, shared, begun = rest
        meters._begun = set(begun)
        meters._energies = {
            contract: {account: (topup, spill) for account, topup, spill in kept} for contract, kept in energies
        }
        meters._shared = {contract: dict(kept) for contract, kept in shared}
        for contract, kept in found:
            meters._found[contract] = {account: [Reading(*one) for one in readings] for account, readings in kept}
        meters._incomplete = {(contract, area) for contract, area in incomplete}
        meters._newest = {
            contract: {area: Newest.restore(*kept) for area, *kept in areas} for contract, areas in newest
        }
        return meters
