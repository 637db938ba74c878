"""Settle what has been delivered: area by area, each as soon as its meters have answered, or after a short deadline.

What a deadline settled on estimates is provisional: ``adjust_due`` corrects it as readings come in, ``finalise_due`` ends
that. Each of the three can be called at any time, by one caller at a time, and be killed at any point: what it has done is on
the ledger, and what it has not done is due again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from ledger.core.rows import rows_root
from market.engine.commands import Adjust, AdjustRow, Final, Settle, SettleRow, Share
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome
from market.metering import estimation, marks
from market.metering import operations as metering_operations
from market.metering import queries as metering
from market.metering.models import Quality
from market.metering.operations import ReadingIn
from market.metering.recovery import catch_up
from market.metering.rowbytes import row_salt, secret
from market.settlement import queries, rules, waiting
from market.settlement.rowbytes import adjust_bytes, settle_bytes, share_bytes

log = logging.getLogger(__name__)

MAX_CONTRACTS_A_CALL = 16  # delivered contracts looked at in one call; the rest waits for the next
MAX_AREAS_A_CALL = 1_000  # settle commands of one call
MAX_IN_FLIGHT = 16  # settle commands that wait for their answers; the queue belongs to the orders
COMMIT_TIMEOUT_S = 60.0
MAX_FINALS_A_CALL = 200  # contracts that become final in one call: two days of quarter hours
# After its time a contract waits so long (market time) for readings that are being stored when it ends.
FINAL_GRACE_MS = 10 * 60_000

# Readings of homes whose meters are silent when their area is settled, by account, from (contract, area, accounts).
# They are recorded as readings of the quality "estimated" before anything is settled by them, so that they are on the ledger
# like all others. A home that is left out is taken to have done what it traded (``rules.estimated``).
Estimate = Callable[[str, str, Sequence[int]], Mapping[int, estimation.Estimate]]  # see ``estimates.estimator``


class Due(NamedTuple):
    """A delivered contract as settlement found it."""

    contract: str
    start_ms: int
    end_ms: int
    deadline_ms: int  # after its end; then its areas wait for no meter any more
    tariff: rules.Tariff
    areas: Sequence[str]  # that are not settled yet
    tallies: Mapping[str, Mapping[int, rules.Tally]]  # of these
    members: waiting.Members  # of all areas


class Settlement(NamedTuple):
    """What one call settled."""

    areas: int  # (area, contract) pairs
    accounts: int
    estimated: int  # accounts without a reading
    waiting: int  # pairs that wait for readings
    refused: int  # pairs the engine did not take


class Corrections(NamedTuple):
    """What one call corrected."""

    areas: int  # (area, contract) pairs
    accounts: int
    unchanged: int  # pairs with new readings that change nothing
    refused: int  # corrections the engine did not take; without the account it names the rest is tried again


def settle_due(*, exchange: Exchange, now_ms: int, estimate: Estimate | None = None) -> Settlement:
    """Settle every area of every delivered contract whose readings are all there or whose deadline has passed.

    Nobody waits for a meter that is known to be silent (``waiting.silent``). Calling it again is harmless: an area that is
    settled is not due. One area's failure leaves the others alone.
    Bounded by ``MAX_AREAS_A_CALL``. Raises what ``Exchange.submit`` raises (``Overloaded``: call again later).
    """
    catch_up(exchange=exchange)
    areas = accounts = estimated = open_areas = refused = 0
    pending: list[tuple[str, str, tuple[SettleRow, ...], Future[Outcome]]] = []
    seen: list[marks.Marked] = []

    def collect() -> None:
        nonlocal areas, accounts, estimated, refused
        contract, area, rows, future = pending.pop(0)
        outcome = future.result(COMMIT_TIMEOUT_S)
        if outcome.refused is None:
            areas += 1
            accounts += len(rows)
            estimated += sum(row.quality == rules.ESTIMATED for row in rows)
            if (contract, area) in known:
                seen.append(known[contract, area])
        elif outcome.refused.code != "already_settled":
            refused += 1
            log.error("settling %s in %s was refused: %s", contract, area, outcome.refused)

    key = secret()
    sent = 0
    known: dict[tuple[str, str], marks.Marked] = {}
    for due in exchange.read(find_due):
        # Before the readings are read: whatever comes in from here on marks its area anew.
        found = marks.marked(start_ms=due.start_ms)
        known |= {(due.contract, mark.area): mark for mark in found}
        late = now_ms >= due.end_ms + due.deadline_ms
        readings = metering.readings_of(due.contract, list(due.areas))
        missing = _missing(due, readings)
        ready = [area for area in due.areas if late or not missing[area]]
        if not late and due.deadline_ms == waiting.DEADLINE_MS:
            ready += _without_silent(due, missing, readings)
        ready = ready[: MAX_AREAS_A_CALL - sent]
        open_areas += len(due.areas) - len(ready)
        if estimate is not None:
            readings |= _estimated(exchange, due, {area: missing[area] for area in ready}, estimate, now_ms)
        for area in ready:
            rows, salted = area_rows(due, area, readings.get(area, {}), key)
            command = Settle(due.contract, area, rows, rows_root(salted).hex())
            pending.append((due.contract, area, rows, exchange.submit(command, rows=salted)))
            sent += 1
            if len(pending) > MAX_IN_FLIGHT:
                collect()
    while pending:
        collect()
    marks.looked_at(seen)
    return Settlement(areas, accounts, estimated, open_areas, refused)


def _missing(due: Due, readings: Mapping[str, Mapping[int, metering.Metered]]) -> dict[str, list[int]]:
    """Return the homes of each area that have no reading."""
    homes = waiting.homes(due.members, due.areas, due.start_ms)
    return {
        area: [account for account in some if account not in readings.get(area, {})] for area, some in homes.items()
    }


def _without_silent(
    due: Due, missing: Mapping[str, Sequence[int]], readings: Mapping[str, Mapping[int, metering.Metered]]
) -> list[str]:
    """Return the areas in which somebody has answered and none is missing but those whose meters are known to be silent."""
    held = {area: some for area, some in missing.items() if some and readings.get(area)}
    silent = waiting.silent(
        due.contract, {account for some in held.values() for account in some}, due.end_ms - due.start_ms
    )
    return [area for area, some in held.items() if silent.issuperset(some)]


def _estimated(
    exchange: Exchange, due: Due, missing: Mapping[str, Sequence[int]], estimate: Estimate, now_ms: int
) -> dict[str, dict[int, metering.Metered]]:
    """Record estimates for homes without a reading, and return the readings of their areas as they are then."""
    batches: dict[str, list[ReadingIn]] = {}
    for area, accounts in missing.items():
        found = estimate(due.contract, area, accounts) if accounts else {}
        if found:
            batches[area] = [
                ReadingIn(
                    account,
                    found[account].import_wh,
                    found[account].export_wh,
                    quality=Quality.ESTIMATED.value,
                    reason=found[account].basis,
                )
                for account in sorted(found)
            ]
    if not batches:
        return {}
    metering_operations.record_batches(
        exchange=exchange, contract=due.contract, batches=batches, now_ms=now_ms, only_new=True
    )
    return metering.readings_of(due.contract, list(batches))


# --- corrections -----------------------------------------------------------------------------------------------------


class _Open(NamedTuple):
    """A provisional settlement as the engine knows it."""

    tariff: rules.Tariff
    newest: Mapping[str, int]  # by area: the entry that settled or corrected it last
    due: Collection[str]  # areas that are still to be settled


def adjust_due(*, exchange: Exchange) -> Corrections:
    """Correct every settled area whose readings are others now than those it was settled by, as long as it is not final.

    Looks only where readings came in (``metering.marks``), at most ``marks.MAX_MARKS`` areas; corrects ``MAX_AREAS_A_CALL``
    at most. Calling it again is harmless. Raises what ``Exchange.submit`` raises.
    """
    catch_up(exchange=exchange)
    waiting = marks.marked()
    by_contract: dict[str, list[marks.Marked]] = {}
    for mark in waiting:
        by_contract.setdefault(contract_name(mark.start_ms), []).append(mark)
    areas = accounts = unchanged = refused = sent = 0
    seen: list[marks.Marked] = []
    pending: list[tuple[marks.Marked, Adjust, Future[Outcome]]] = []
    key = secret()

    def collect() -> None:
        nonlocal areas, accounts, refused
        mark, command, future = pending.pop(0)
        outcome = future.result(COMMIT_TIMEOUT_S)
        if outcome.refused is None:
            areas += 1
            accounts += len(command.rows)
            seen.append(mark)
        elif outcome.refused.code != "not_newest":  # somebody else was faster: look again
            refused += 1
            log.error("correcting %s in %s was refused: %s", command.contract, command.area, outcome.refused)
            stranger = dict(outcome.refused.detail).get("account")
            rest = tuple(change for change in command.rows if change.row.account != stranger)
            if rest and len(rest) < len(command.rows):
                command, salted = correction(command.contract, command.area, command.corrects, rest, key)
                pending.append((mark, command, exchange.submit(command, rows=salted)))
            else:  # it would be refused again, and the contract would never be final
                seen.append(mark)

    for name, marked in by_contract.items():
        if sent >= MAX_AREAS_A_CALL:
            break
        found = exchange.read(lambda engine, name=name: _open(engine, name))  # type: ignore[misc]
        if found is None:  # it waits to be settled, or nothing of it can be changed any more
            if not exchange.read(lambda engine, name=name: name in engine.contracts):  # type: ignore[misc]
                seen += marked
            continue
        settled = [mark for mark in marked if mark.area in found.newest][: MAX_AREAS_A_CALL - sent]
        # Where nobody lived at delivery nothing is or will be settled.
        seen += [mark for mark in marked if mark.area not in found.newest and mark.area not in found.due]
        names = [mark.area for mark in settled]
        rows = queries.newest_rows(name, {area: found.newest[area] for area in names})
        readings = metering.readings_of(name, names) if names else {}
        for mark in settled:
            changes = rules.changes(rows.get(mark.area, {}), _metered(readings.get(mark.area, {})), found.tariff)
            if not changes:
                unchanged += 1
                seen.append(mark)
                continue
            command, salted = correction(name, mark.area, found.newest[mark.area], changes, key)
            pending.append((mark, command, exchange.submit(command, rows=salted)))
            sent += 1
            if len(pending) > MAX_IN_FLIGHT:
                collect()
    while pending:
        collect()
    marks.looked_at(seen)
    return Corrections(areas, accounts, unchanged, refused)


def _open(engine: Engine, name: str) -> _Open | None:
    """Return what may be corrected of a contract, None when nothing is; runs inside ``Exchange.read``."""
    found = engine.provisional.get(name)
    if found is None:
        return None
    areas = engine.grid.areas
    newest = {areas[number].name: seq for number, seq in enumerate(found.newest) if seq}
    contract = engine.contracts.get(name)
    due = () if contract is None else frozenset(contract.areas_due - contract.settled_areas)
    return _Open(rules.Tariff(found.topup_e4, found.spill_e4), newest, due)


def _metered(readings: Mapping[int, metering.Metered]) -> dict[int, rules.Metered]:
    return {account: rules.Metered(*reading) for account, reading in readings.items()}


def correction(
    contract: str, area: str, corrects: int, changes: tuple[AdjustRow, ...], key: bytes
) -> tuple[Adjust, list[bytes]]:
    """Return the command that corrects rows of an area, and the salted bytes the ledger commits to."""
    salted = [
        adjust_bytes(change, row_salt(key, f"adjust:{contract}:{corrects}:{change.row.account}")) for change in changes
    ]
    return Adjust(contract, area, corrects, changes, rows_root(salted).hex()), salted


# --- sharing ---------------------------------------------------------------------------------------------------------


def share_due(*, exchange: Exchange) -> int:
    """Share out what is left over in contracts with private agreements that are settled everywhere; return how many.

    So it is done again after a correction. Bounded by ``MAX_CONTRACTS_A_CALL``; calling it again is harmless. Raises what
    ``Exchange.submit`` raises.
    """
    key = secret()
    done = 0
    for due in exchange.read(_to_share):
        rows: dict[int, SettleRow] = {}
        for found in queries.newest_rows(due.contract, due.newest).values():
            rows |= found
        shares = rules.shared(due.agreements, rows, queries.shared_before(due.corrects))
        salted = [
            share_bytes(row, row_salt(key, f"share:{due.contract}:{due.corrects}:{row.agreement}")) for row in shares
        ]
        command = Share(due.contract, due.corrects, shares, rows_root(salted).hex())
        outcome = exchange.submit(command, rows=salted).result(COMMIT_TIMEOUT_S)
        if outcome.refused is None:
            done += 1
        elif outcome.refused.code not in ("not_newest", "nothing_to_change"):
            log.error("sharing out %s was refused: %s", due.contract, outcome.refused)
    return done


class _ToShare(NamedTuple):
    """A contract in which agreements are to be worked out."""

    contract: str
    corrects: int
    agreements: Sequence[rules.Agreement]
    newest: Mapping[str, int]  # of the parties' areas


def _to_share(engine: Engine) -> list[_ToShare]:
    """Return contracts to share out, oldest first; runs inside ``Exchange.read``."""
    names = sorted(name for name in engine.provisional if engine.share_is_due(name))
    found = []
    for name in names[:MAX_CONTRACTS_A_CALL]:
        agreements = engine.agreements_of(name)
        newest = engine.provisional[name].newest
        nodes = {engine.accounts[index].node for one in agreements for index in (one.giver, one.receiver)}
        settled = {engine.grid.areas[node].name: newest[node] for node in nodes if node < len(newest) and newest[node]}
        found.append(_ToShare(name, engine.provisional[name].shared, agreements, settled))
    return found


def finalise_due(*, exchange: Exchange, now_ms: int) -> int:
    """End the corrections of every contract whose time is over and whose readings are all settled; return how many.

    Bounded by ``MAX_FINALS_A_CALL``; calling it again is harmless. Raises what ``Exchange.submit`` raises.
    """
    names = exchange.read(lambda engine: _ending(engine, now_ms - FINAL_GRACE_MS))
    names = [name for name in names if not marks.marked(start_ms=contract_start_ms(name), limit=1)]
    outcomes = [exchange.submit(Final(name)) for name in names]
    final = 0
    for name, future in zip(names, outcomes, strict=True):
        outcome = future.result(COMMIT_TIMEOUT_S)
        if outcome.refused is None:
            final += 1
        elif outcome.refused.code not in ("already_final", "not_shared"):
            log.error("ending the corrections of %s was refused: %s", name, outcome.refused)
    return final


def _ending(engine: Engine, until_ms: int) -> list[str]:
    """Return contracts that are settled and may become final, oldest first; runs inside ``Exchange.read``."""
    found = [
        name
        for name, open_ in engine.provisional.items()
        if open_.final_ms <= until_ms and name not in engine.contracts
    ]
    return sorted(found)[:MAX_FINALS_A_CALL]


def run_due(*, exchange: Exchange, now_ms: int, estimate: Estimate | None = None) -> Settlement:
    """Settle, correct, share out and end what is due, in this order; what ``settle_due`` did is returned."""
    settled = settle_due(exchange=exchange, now_ms=now_ms, estimate=estimate)
    adjust_due(exchange=exchange)
    share_due(exchange=exchange)
    finalise_due(exchange=exchange, now_ms=now_ms)
    return settled


# --- what one area comes to ------------------------------------------------------------------------------------------


def area_rows(
    due: Due, area: str, readings: Mapping[int, metering.Metered], key: bytes
) -> tuple[tuple[SettleRow, ...], list[bytes]]:
    """Return an area's settlement rows and the salted bytes the ledger commits to."""
    rows = rules.settle_area(due.tallies.get(area, {}), _metered(readings), due.tariff)
    salted = [settle_bytes(row, row_salt(key, f"settle:{due.contract}:{row.account}")) for row in rows]
    return rows, salted


def find_due(engine: Engine) -> list[Due]:
    """Return the delivered contracts that have unsettled areas, oldest first; runs inside ``Exchange.read``.

    Tallies are handed out as they are: nothing trades in a contract once its gate has closed.
    """
    names = sorted(name for name, contract in engine.contracts.items() if contract.state == "delivered")
    if not names:
        return []
    members = waiting.members(engine)
    found = []
    for name in names[:MAX_CONTRACTS_A_CALL]:
        contract = engine.contracts[name]
        tallies: dict[str, dict[int, rules.Tally]] = {}
        for index, tally in contract.tallies.items():
            area = engine.accounts[index].area
            if area not in contract.settled_areas:
                tallies.setdefault(area, {})[index] = tally
        open_areas = sorted(contract.areas_due - contract.settled_areas)
        if open_areas:
            tariff = rules.Tariff(contract.topup_e4, contract.spill_e4)
            deadline_ms = waiting.deadline_ms(engine, name)
            found.append(
                Due(
                    name, contract_start_ms(name), contract.end_ms, deadline_ms, tariff, open_areas, tallies, members
                )
            )  # fmt: skip
    return found
