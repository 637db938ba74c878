"""Readings and settlement: the engine applies the transfers and refuses any that do not follow from its own tallies."""

from __future__ import annotations

from typing import Any

from market.engine import contracts as states
from market.engine import events as ev
from market.engine.accounts import BILLING_INDEX, MAX_INT, MEMBER, OPERATOR_INDEX, SUPPLIER_INDEX
from market.engine.commands import CommitReadings, Settle, SettleRow
from market.engine.contracts import Contract, Tally
from market.engine.governing import Governing, is_hex

QUALITIES = ("measured", "estimated", "corrected")
MAX_ROWS = 100_000  # accounts of one area: three times the homes of a city in a single street's area
_NO_TALLY = Tally()
_FIRST_DERIVED = SettleRow._fields.index("position_wh")  # this and all after it follow from tally, reading and tariff


class Settling(Governing):
    """From meter to money (rulebook, chapter on settlement)."""

    def _commit_readings(self, command: CommitReadings) -> list[Any]:
        contract = self.contracts.get(command.contract)
        if contract is None:
            return self.refuse("unknown_contract", "contract")
        if contract.state != states.DELIVERED:
            return self.refuse("contract_state", "contract")
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
                accounts[row.account].cash_e7 += credit_e7
                self._dirty.add(row.account)
        for index, amount_e7 in moves.items():
            if amount_e7:
                accounts[index].cash_e7 += amount_e7
                self._dirty.add(index)
        contract.settled_areas.add(command.area)
        complete = contract.settled_areas >= contract.areas_due
        events = self._one(
            ev.Settled, contract.name, command.area, len(command.rows), payout_e7, fee_e7, short_e7, topup_e7,
            spill_e7, command.root, command.rows, int(complete),
        )  # fmt: skip
        if complete:
            self._retire(contract)
        return events


def row_problem(row: SettleRow, tally: Tally, topup_e4: int, spill_e4: int) -> str:
    """Return the first field of a row that is not what the rulebook makes of tally, readings and tariff; "" if none.

    imbalance = import - export - position; short = min(imbalance+, (-position)+) (rulebook, 8.1 to 8.3).
    """
    if type(row.import_wh) is not int or not 0 <= row.import_wh <= MAX_INT:
        return "import_wh"
    if type(row.export_wh) is not int or not 0 <= row.export_wh <= MAX_INT:
        return "export_wh"
    if row.quality not in QUALITIES:
        return "quality"
    position_wh = tally.bought_wh - tally.sold_wh
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
        tally.proceeds_e7 + tally.margin_e7 - short_e7,
        tally.fee_e7,
        short_e7,
        topup_wh * topup_e4,
        left_over_wh * spill_e4,
    )
    was = tuple(row[_FIRST_DERIVED:])
    if was == expected and all(type(value) is int for value in was):
        return ""
    pairs = zip(SettleRow._fields[_FIRST_DERIVED:], expected, was, strict=True)
    return next(field for field, value, given in pairs if given != value or type(given) is not int)
