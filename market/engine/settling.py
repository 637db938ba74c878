"""Readings and settlement: the engine applies the transfers and refuses any that do not follow from its own tallies."""

from __future__ import annotations

from typing import Any

from market.engine import contracts as states
from market.engine import events as ev
from market.engine.accounts import BILLING_INDEX, MAX_INT, MEMBER, OPERATOR_INDEX, SUPPLIER_INDEX
from market.engine.commands import NO_QUALITY, Adjust, AdjustRow, CommitReadings, Final, Settle, SettleRow
from market.engine.contracts import MINUTE_MS, Contract, Provisional, Tally
from market.engine.governing import Governing
from market.engine.state import SETTLED_KEPT
from market.engine.trading import is_hex

QUALITIES = ("measured", "estimated", "corrected")
MAX_ROWS = 100_000  # accounts of one area: three times the homes of a city in a single street's area
_NO_TALLY = Tally()
_FIRST_DERIVED = SettleRow._fields.index("position_wh")  # this and all after it follow from tally, reading and tariff


class Settling(Governing):
    """From meter to money (rulebook, chapter on settlement)."""

    def readings_problem(self, name: str) -> str:
        """Return the code that refuses readings for a contract now, "" where they are taken.

        They are taken from delivery until the settlement is final.
        """
        contract = self.contracts.get(name)
        if contract is not None:
            return "" if contract.state == states.DELIVERED else "contract_state"
        found = self.provisional.get(name)
        if found is not None:
            return "" if self.at_ms < found.final_ms else "already_final"
        return self._gone(name)

    def _gone(self, name: str) -> str:
        """Return why a contract that may not be corrected is not known."""
        if name in self.finals:
            return "already_final"
        return "already_settled" if name in self.settled else "unknown_contract"

    def _commit_readings(self, command: CommitReadings) -> list[Any]:
        if problem := self.readings_problem(command.contract):
            return self.refuse(problem, "contract")
        if command.area not in self.grid:
            return self.refuse("unknown_area", "area")
        for field in ("count", "import_wh", "export_wh"):
            value = getattr(command, field)
            if type(value) is not int or not 0 <= value <= MAX_INT:
                return self.refuse("invalid_value", field)
        if not is_hex(command.root, 64):
            return self.refuse("invalid_value", "root")
        return self._one(ev.ReadingsCommitted, *command)

    def _settle(self, command: Settle) -> list[Any]:
        contract = self.contracts.get(command.contract)
        if contract is None:
            if command.contract in self.settled:
                return self.refuse("already_settled", "contract")
            return self.refuse("unknown_contract", "contract")
        if contract.state != states.DELIVERED:
            return self.refuse("contract_state", "contract")
        if command.area not in self.grid:
            return self.refuse("unknown_area", "area")
        if command.area in contract.settled_areas:
            return self.refuse("already_settled", "area")
        if command.area not in contract.areas_due:
            return self.refuse("unknown_area", "area")
        if not is_hex(command.root, 64):
            return self.refuse("invalid_value", "root")
        if len(command.rows) > MAX_ROWS:
            return self.refuse("invalid_value", "rows")
        problem = self._rows_problem(contract, command)
        if problem:
            return self.refuse("conservation", problem[0], account=problem[1])
        return self._book_rows(contract, command)

    def _rows_problem(self, contract: Contract, command: Settle) -> tuple[str, int] | None:
        """Return field and account of the first row that does not follow from the tallies."""
        accounts = self.accounts
        seen: set[int] = set()
        for row in command.rows:
            index = row.account
            if type(index) is not int or not 0 <= index < len(accounts) or index in seen:
                return "account", index
            seen.add(index)
            if accounts[index].kind != MEMBER or accounts[index].area != command.area:
                return "account", index
            field = row_problem(row, contract.tallies.get(index, _NO_TALLY), contract.topup_e4, contract.spill_e4)
            if field:
                return field, index
        with_tally = len(seen & contract.tallies.keys())
        if with_tally == self._tallies_in(contract).get(command.area, 0):
            return None
        missing = (index for index in sorted(contract.tallies) if index not in seen)
        return "account", next(index for index in missing if accounts[index].area == command.area)

    def _tallies_in(self, contract: Contract) -> dict[str, int]:
        """Return how many accounts of each area traded; counted once, for nothing trades in a delivered contract."""
        counts = contract.tallies_in
        if not counts:
            for index in contract.tallies:
                area = self.accounts[index].area
                counts[area] = counts.get(area, 0) + 1
        return counts

    def _book_rows(self, contract: Contract, command: Settle) -> list[Any]:
        accounts = self.accounts
        payout_e7 = fee_e7 = short_e7 = topup_e7 = spill_e7 = 0
        for row in command.rows:
            payout_e7 += row.payout_e7
            fee_e7 += row.fee_e7
            short_e7 += row.short_e7
            topup_e7 += row.topup_e7
            spill_e7 += row.spill_e7
            if accounts[row.account].cash_e7 + row.payout_e7 + row.spill_e7 > MAX_INT:
                return self.refuse("invalid_value", "rows", account=row.account)
        moves = {
            contract.account: -payout_e7 - fee_e7 - short_e7,
            OPERATOR_INDEX: fee_e7,
            SUPPLIER_INDEX: short_e7 + topup_e7 - spill_e7,
            BILLING_INDEX: -topup_e7,
        }
        if max(topup_e7, spill_e7) > MAX_INT or any(
            abs(accounts[index].cash_e7 + amount_e7) > MAX_INT for index, amount_e7 in moves.items()
        ):
            return self.refuse("invalid_value", "rows")
        if accounts[contract.account].cash_e7 + moves[contract.account] < 0:
            return self.refuse("insufficient_clearing", "rows")
        for row in command.rows:
            credit_e7 = row.payout_e7 + row.spill_e7
            if credit_e7:
                accounts[row.account].receive(credit_e7)
                self._dirty.add(row.account)
        for index, amount_e7 in moves.items():
            if amount_e7:
                accounts[index].cash_e7 += amount_e7
                self._dirty.add(index)
        contract.settled_areas.add(command.area)
        self._keep_provisional(contract, command.area)
        complete = contract.settled_areas >= contract.areas_due
        events = self._one(
            ev.Settled, contract.name, command.area, len(command.rows), payout_e7, fee_e7, short_e7, topup_e7,
            spill_e7, command.root, command.rows, int(complete),
        )  # fmt: skip
        if complete:
            self._retire(contract)
        return events

    def _keep_provisional(self, contract: Contract, area: str) -> None:
        """Remember which entry, the next one, settles an area, as long as it may be corrected."""
        found = self.provisional.get(contract.name)
        if found is None:
            final_min = self._params.final_after_min
            if not final_min:
                return
            found = self.provisional[contract.name] = Provisional(
                contract.topup_e4, contract.spill_e4, contract.end_ms + final_min * MINUTE_MS, len(self.grid.areas)
            )
        number = self.grid.index[area]
        found.newest.extend([0] * (number + 1 - len(found.newest)))  # an area that is younger than the first settlement
        found.newest[number] = self.seq

    # --- corrections -----------------------------------------------------------------------------------------------

    def _adjust(self, command: Adjust) -> list[Any]:
        name, area, corrects, rows, root = command
        found = self.provisional.get(name)
        if found is None:
            return self.refuse("contract_state" if name in self.contracts else self._gone(name), "contract")
        newest = self._newest(found, area)
        if not newest:
            return self.refuse("unknown_area" if area not in self.grid else "not_settled", "area")
        if type(corrects) is not int or corrects != newest:
            return self.refuse("not_newest", "corrects", newest=newest)
        if not is_hex(root, 64):
            return self.refuse("invalid_value", "root")
        if not 0 < len(rows) <= MAX_ROWS:
            return self.refuse("invalid_value", "rows")
        seen: set[int] = set()
        for row in rows:
            index = row.row.account
            problem = self._stranger(index, area, seen) or adjust_problem(row, found.topup_e4, found.spill_e4)
            if problem:
                return self.refuse("conservation", problem, account=index)
        return self._book_changes(found, command)

    def _newest(self, found: Provisional, area: str) -> int:
        """Return the newest entry that settled or corrected an area, 0 where there is none."""
        number = self.grid.index.get(area, -1)
        return found.newest[number] if 0 <= number < len(found.newest) else 0

    def _stranger(self, index: object, area: str, seen: set[int]) -> str:
        """Return "account" unless a row's is a member of the area that was not named before."""
        if type(index) is not int or not 0 <= index < len(self.accounts) or index in seen:
            return "account"
        seen.add(index)
        account = self.accounts[index]
        return "" if account.kind == MEMBER and account.area == area else "account"

    def _book_changes(self, found: Provisional, command: Adjust) -> list[Any]:
        accounts = self.accounts
        changes: list[tuple[int, int]] = []
        short_e7 = topup_e7 = spill_e7 = 0
        for row, was in command.rows:
            more_short_e7, more_spill_e7 = row.short_e7 - was.short_e7, row.spill_e7 - was.spill_e7
            short_e7 += more_short_e7
            spill_e7 += more_spill_e7
            topup_e7 += row.topup_e7 - was.topup_e7
            change_e7 = more_spill_e7 - more_short_e7
            account = accounts[row.account]
            if account.cash_e7 + change_e7 > MAX_INT or account.arrears_e7 - change_e7 > MAX_INT:
                return self.refuse("invalid_value", "rows", account=row.account)
            if change_e7:
                changes.append((row.account, change_e7))
        moves = {SUPPLIER_INDEX: short_e7 + topup_e7 - spill_e7, BILLING_INDEX: -topup_e7}
        sums = (short_e7, topup_e7, spill_e7, *(accounts[index].cash_e7 + moves[index] for index in moves))
        if any(abs(amount_e7) > MAX_INT for amount_e7 in sums):
            return self.refuse("invalid_value", "rows")
        arrears_e7 = 0
        for index, change_e7 in changes:
            if change_e7 > 0:
                arrears_e7 -= accounts[index].receive(change_e7)
            else:
                arrears_e7 += accounts[index].owe(-change_e7)
            self._dirty.add(index)
        for index, amount_e7 in moves.items():
            if amount_e7:
                accounts[index].cash_e7 += amount_e7
                self._dirty.add(index)
        found.newest[self.grid.index[command.area]] = self.seq
        return self._one(
            ev.Adjusted, command.contract, command.area, command.corrects, len(command.rows), short_e7, topup_e7,
            spill_e7, arrears_e7, command.root, command.rows,
        )  # fmt: skip

    def _final(self, command: Final) -> list[Any]:
        name = command.contract
        found = self.provisional.get(name)
        if found is None:
            return self.refuse("contract_state" if name in self.contracts else self._gone(name), "contract")
        if name in self.contracts or self.at_ms < found.final_ms:
            return self.refuse("contract_state", "contract")
        del self.provisional[name]
        self.finals.append(name)
        del self.finals[:-SETTLED_KEPT]
        self.forget_agreements()
        return self._one(ev.Finalized, name)


def row_problem(row: SettleRow, tally: Tally, topup_e4: int, spill_e4: int) -> str:
    """Return the first field of a row that is not what the rulebook makes of tally, readings and tariff; "" if none."""
    gross_e7 = tally.proceeds_e7 + tally.margin_e7
    return _problem(row, tally.bought_wh - tally.sold_wh, gross_e7, tally.fee_e7, topup_e4, spill_e4)


def adjust_problem(change: AdjustRow, topup_e4: int, spill_e4: int) -> str:
    """Return the first field of a correction's row that does not follow from the other fields, ``was_…`` of what it was.

    What an account traded is in its old row: position, fees, and payout + short, which is proceeds + margins (rulebook, 8.7).
    Whether that row is the newest one the engine does not know; the entry that it corrects is.
    """
    row, was = change
    if was.account != row.account:
        return "account"
    if was.quality == NO_QUALITY:
        if was != SettleRow(was.account, 0, 0, NO_QUALITY, *[0] * len(_DERIVED)):
            return "was_quality"
    elif any(type(value) is not int for value in (was.payout_e7, was.short_e7, was.fee_e7, was.position_wh)):
        return "was_payout_e7"
    gross_e7 = was.payout_e7 + was.short_e7
    if was.quality != NO_QUALITY:
        problem = _problem(was, was.position_wh, gross_e7, was.fee_e7, topup_e4, spill_e4)
        if problem or was.payout_e7 < 0 or was.fee_e7 < 0:
            return f"was_{problem or 'payout_e7'}"
    if problem := _problem(row, was.position_wh, gross_e7, was.fee_e7, topup_e4, spill_e4):
        return problem
    if row.payout_e7 < 0:
        return "payout_e7"
    return "" if row != was else "import_wh"


_DERIVED = SettleRow._fields[_FIRST_DERIVED:]


def _problem(row: SettleRow, position_wh: int, gross_e7: int, fee_e7: int, topup_e4: int, spill_e4: int) -> str:
    """Return the first field of a row that does not follow from its readings and what was traded, "" if none.

    imbalance = import - export - position; short = min(imbalance+, (-position)+) (rulebook, 8.1 to 8.3).
    """
    if type(row.import_wh) is not int or not 0 <= row.import_wh <= MAX_INT:
        return "import_wh"
    if type(row.export_wh) is not int or not 0 <= row.export_wh <= MAX_INT:
        return "export_wh"
    if row.quality not in QUALITIES:
        return "quality"
    imbalance_wh = row.import_wh - row.export_wh - position_wh
    short_wh = topup_wh = left_over_wh = 0
    if imbalance_wh > 0:
        short_wh = min(imbalance_wh, -position_wh) if position_wh < 0 else 0
        topup_wh = imbalance_wh - short_wh
    else:
        left_over_wh = -imbalance_wh
    short_e7 = short_wh * topup_e4
    expected = (
        position_wh,
        short_wh,
        topup_wh,
        left_over_wh,
        gross_e7 - short_e7,
        fee_e7,
        short_e7,
        topup_wh * topup_e4,
        left_over_wh * spill_e4,
    )
    was = tuple(row[_FIRST_DERIVED:])
    if was == expected and all(type(value) is int for value in was):
        return ""
    pairs = zip(_DERIVED, expected, was, strict=True)
    return next(field for field, value, given in pairs if given != value or type(given) is not int)
