"""Private agreements: energy that is left over goes to a named neighbour, before the supplier of last resort is asked."""

from __future__ import annotations

from typing import Any

from market.engine import events as ev
from market.engine.accounts import (
    BILLING_INDEX,
    MAX_INT,
    OPERATOR_INDEX,
    SHARING_AREA,
    SHARING_CITY,
    SHARING_SUBSTATION,
    SUPPLIER_INDEX,
    Account,
)
from market.engine.commands import Agree, Final, Propose, Revoke, Share, ShareRow
from market.engine.contracts import Agreement, Provisional, contract_start_ms
from market.engine.settling import Settling
from market.engine.trading import is_hex

MAX_AGREEMENTS = 100  # of one account that are not revoked, proposals included


class Sharing(Settling):
    """Agreements between two accounts, and what they move (rulebook, chapter on sharing)."""

    def _propose(self, command: Propose) -> list[Any]:
        index, giver, receiver, price_e4, start = command
        for field, other in (("giver", giver), ("receiver", receiver)):
            if self._member_problem(other):
                return self.refuse(self._member_problem(other)[0].code, field)
        if index not in (giver, receiver):
            return self.refuse("not_your_account", "account")
        if giver == receiver:
            return self.refuse("invalid_value", "receiver")
        if not self._near(self.accounts[giver], self.accounts[receiver]):
            return self.refuse("outside_sharing", "receiver")
        if type(price_e4) is not int or not 0 <= price_e4 <= self._params.max_price_e4:
            return self.refuse("price_out_of_range", "price", max_price_e4=self._params.max_price_e4)
        try:
            start_ms = contract_start_ms(start)
        except (ValueError, TypeError):
            return self.refuse("invalid_value", "start")
        if start_ms % self.interval_ms:
            return self.refuse("invalid_value", "start")
        for other in (giver, receiver):
            standing = sum(other in (one.giver, one.receiver) for one in self.agreements.values() if not one.revoked_ms)
            if standing >= MAX_AGREEMENTS:
                return self.refuse("too_many_agreements", "account", most=MAX_AGREEMENTS)
        fee_e4 = self.grid.topology().fee_e4(self.accounts[giver].node, self.accounts[receiver].node)
        self.agreements[self.seq] = Agreement(self.seq, index, giver, receiver, price_e4, fee_e4, start_ms)
        return self._one(ev.AgreementProposed, index, giver, receiver, price_e4, fee_e4, start)

    def _near(self, one: Account, other: Account) -> bool:
        """Return whether the market lets these two share."""
        scope, areas = self._params.sharing_scope, self.grid.areas
        if scope == SHARING_AREA:
            return one.node == other.node
        if scope == SHARING_SUBSTATION:
            return one.node == other.node or areas[one.node].parent == areas[other.node].parent
        return scope == SHARING_CITY

    def _own_agreement(self, index: int, id: int) -> Agreement | list[Any]:
        """Return the agreement a party may answer or end, or the refusal."""
        agreement = self.agreements.get(id) if type(id) is int else None
        if agreement is None or agreement.revoked_ms:
            return self.refuse("unknown_agreement", "agreement")
        if index not in (agreement.giver, agreement.receiver):
            return self.refuse("not_your_account", "account")
        return agreement

    def _agree(self, command: Agree) -> list[Any]:
        index, id = command
        agreement = self._own_agreement(index, id)
        if isinstance(agreement, list):
            return agreement
        if agreement.accepted_ms or index == agreement.proposer:
            return self.refuse("nothing_to_change", "agreement")
        for other in (agreement.giver, agreement.receiver):
            if problem := self._member_problem(other):
                return problem
        if not self._near(self.accounts[agreement.giver], self.accounts[agreement.receiver]):
            return self.refuse("outside_sharing", "agreement")
        agreement.accepted_ms = self.at_ms
        return self._one(ev.AgreementAccepted, id, index, agreement.giver, agreement.receiver)

    def _revoke(self, command: Revoke) -> list[Any]:
        index, id = command
        agreement = self._own_agreement(index, id)
        if isinstance(agreement, list):
            return agreement
        agreement.revoked_ms = self.at_ms
        events = self._one(ev.AgreementRevoked, id, index, agreement.giver, agreement.receiver)
        self.forget_agreements()
        return events

    def agreements_of(self, contract: str) -> list[Agreement]:
        """Return the agreements that apply to a contract, in the order of their numbers.

        Those that were accepted by both before it started, begin with it or earlier, and were not revoked before it started.
        """
        start_ms = contract_start_ms(contract)
        return [one for _, one in sorted(self.agreements.items()) if one.applies(start_ms)]

    def share_is_due(self, name: str) -> bool:
        """Return whether a contract is settled everywhere, was settled or corrected since it was shared out, and is shared."""
        found = self.provisional.get(name)
        if found is None or name in self.contracts or not self.agreements or max(found.newest) <= found.shared:
            return False
        start_ms = contract_start_ms(name)
        return any(one.applies(start_ms) for one in self.agreements.values())

    def _final(self, command: Final) -> list[Any]:
        if self.share_is_due(command.contract):
            return self.refuse("not_shared", "contract")
        return super()._final(command)

    # --- what they move --------------------------------------------------------------------------------------------

    def _share(self, command: Share) -> list[Any]:
        name, corrects, rows, root = command
        found = self.provisional.get(name)
        if found is None:
            return self.refuse("contract_state" if name in self.contracts else self._gone(name), "contract")
        if name in self.contracts:
            return self.refuse("not_settled", "contract")
        if type(corrects) is not int or corrects != found.shared:
            return self.refuse("not_newest", "corrects", newest=found.shared)
        if not is_hex(root, 64):
            return self.refuse("invalid_value", "root")
        agreements = self.agreements_of(name)
        if [row.agreement for row in rows] != [one.id for one in agreements]:
            return self.refuse("conservation", "agreement")
        for row, agreement, energy_wh in zip(rows, agreements, shared_wh(rows, agreements), strict=True):
            if any(type(value) is not int or not 0 <= value <= MAX_INT for value in row):
                return self.refuse("conservation", "energy_wh", agreement=agreement.id)
            if row.energy_wh != energy_wh or (row.was_wh and not corrects):
                field = "energy_wh" if row.energy_wh != energy_wh else "was_wh"
                return self.refuse("conservation", field, agreement=agreement.id)
        if not self.share_is_due(name):
            return self.refuse("nothing_to_change", "contract")
        return self._book_shares(found, command, agreements)

    def _book_shares(self, found: Provisional, command: Share, agreements: list[Agreement]) -> list[Any]:
        accounts = self.accounts
        changes: dict[int, int] = {}
        energy_wh = price_e7 = fee_e7 = 0
        for row, agreement in zip(command.rows, agreements, strict=True):
            more_wh = row.energy_wh - row.was_wh
            energy_wh += more_wh
            price_e7 += agreement.price_e4 * more_wh
            fee_e7 += agreement.fee_e4 * more_wh
            change_e7 = (agreement.price_e4 - found.spill_e4) * more_wh
            changes[agreement.giver] = changes.get(agreement.giver, 0) + change_e7
        topup_e7, spill_e7 = found.topup_e4 * energy_wh, found.spill_e4 * energy_wh
        moves = {
            SUPPLIER_INDEX: spill_e7 - topup_e7,
            BILLING_INDEX: topup_e7 - price_e7 - fee_e7,
            OPERATOR_INDEX: fee_e7,
        }
        sums = [price_e7, fee_e7, topup_e7, spill_e7]
        sums += [accounts[index].cash_e7 + amount_e7 for index, amount_e7 in moves.items()]
        sums += [abs(change_e7) + accounts[i].cash_e7 + accounts[i].arrears_e7 for i, change_e7 in changes.items()]
        if any(abs(amount_e7) > MAX_INT for amount_e7 in sums):
            return self.refuse("invalid_value", "rows")
        arrears_e7 = 0
        for index, change_e7 in changes.items():
            if change_e7 > 0:
                arrears_e7 -= accounts[index].receive(change_e7)
            elif change_e7:
                arrears_e7 += accounts[index].owe(-change_e7)
            self._dirty.add(index)
        for index, amount_e7 in moves.items():
            accounts[index].cash_e7 += amount_e7
            self._dirty.add(index)
        found.shared = self.seq
        parties = tuple((one.giver, one.receiver, one.price_e4, one.fee_e4) for one in agreements)
        return self._one(
            ev.Shared, command.contract, command.corrects, len(command.rows), energy_wh, price_e7, fee_e7, topup_e7,
            spill_e7, arrears_e7, command.root, command.rows, parties, found.topup_e4, found.spill_e4,
        )  # fmt: skip


def shared_wh(rows: tuple[ShareRow, ...], agreements: list[Agreement]) -> list[int]:
    """Return what each agreement moves, -1 where rows tell two things of one account.

    In the order of the agreements: the lesser of what its giver has left over and what its receiver is missing, after those
    before it. ``rows`` belong to the agreements one by one.
    """
    left_wh: dict[int, int] = {}
    missing_wh: dict[int, int] = {}
    told: dict[tuple[int, bool], int] = {}
    found: list[int] = []
    for row, agreement in zip(rows, agreements, strict=True):
        giver, receiver = agreement.giver, agreement.receiver
        if told.setdefault((giver, True), row.left_wh) != row.left_wh:
            found.append(-1)
            continue
        if told.setdefault((receiver, False), row.missing_wh) != row.missing_wh:
            found.append(-1)
            continue
        left_wh.setdefault(giver, row.left_wh)
        missing_wh.setdefault(receiver, row.missing_wh)
        energy_wh = min(left_wh[giver], missing_wh[receiver])
        left_wh[giver] -= energy_wh
        missing_wh[receiver] -= energy_wh
        found.append(energy_wh)
    return found
