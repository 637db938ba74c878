"""Settle what has been delivered: area by area, each as soon as its meters have answered or its deadline has passed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import NamedTuple

from ledger.core.rows import rows_root
from market.engine.commands import Settle, SettleRow
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome
from market.metering import queries as metering
from market.metering.rowbytes import row_salt, secret
from market.settlement import rules
from market.settlement.rowbytes import settle_bytes

log = logging.getLogger(__name__)

DEADLINE_MS = 60 * 60_000  # market time after delivery; then a silent meter is estimated and stalls nobody else
MAX_CONTRACTS_A_CALL = 16  # delivered contracts looked at in one call; the rest waits for the next
MAX_AREAS_A_CALL = 1_000  # settle commands of one call
MAX_IN_FLIGHT = 16  # settle commands that wait for their answers; the queue belongs to the orders
COMMIT_TIMEOUT_S = 60.0


class Due(NamedTuple):
    """A delivered contract as settlement found it."""

    contract: str
    end_ms: int
    tariff: rules.Tariff
    homes: Mapping[str, int]  # open member accounts of each area that is not settled yet
    tallies: Mapping[str, Mapping[int, rules.Tally]]  # the same areas


class Settlement(NamedTuple):
    """What one call settled."""

    areas: int  # (area, contract) pairs
    accounts: int
    estimated: int  # accounts without a reading
    waiting: int  # pairs that wait for readings
    refused: int  # pairs the engine did not take


def settle_due(*, exchange: Exchange, now_ms: int, deadline_ms: int = DEADLINE_MS) -> Settlement:
    """Settle every area of every delivered contract whose readings are all there or whose deadline has passed.

    Calling it again is harmless: an area that is settled is not due. One area's failure leaves the others alone.
    Bounded by ``MAX_AREAS_A_CALL``. Raises what ``Exchange.submit`` raises (``Overloaded``: call again later).
    """
    areas = accounts = estimated = waiting = refused = 0
    pending: list[tuple[str, str, tuple[SettleRow, ...], Future[Outcome]]] = []

    def collect() -> None:
        nonlocal areas, accounts, estimated, refused
        contract, area, rows, future = pending.pop(0)
        outcome = future.result(COMMIT_TIMEOUT_S)
        if outcome.refused is None:
            areas += 1
            accounts += len(rows)
            estimated += sum(row.quality == rules.ESTIMATED for row in rows)
        elif outcome.refused.code != "already_settled":
            refused += 1
            log.error("settling %s in %s was refused: %s", contract, area, outcome.refused)

    key = secret()
    sent = 0
    for due in exchange.read(find_due):
        late = now_ms >= due.end_ms + deadline_ms
        counts = metering.counts(due.contract)
        ready = [area for area in due.homes if late or counts.get(area, 0) >= due.homes[area]]
        waiting += len(due.homes) - len(ready)
        readings = metering.readings_of(due.contract, ready) if ready else {}
        for area in ready:
            if sent >= MAX_AREAS_A_CALL:
                break
            rows, salted = area_rows(due, area, readings.get(area, {}), key)
            command = Settle(due.contract, area, rows, rows_root(salted).hex())
            pending.append((due.contract, area, rows, exchange.submit(command, rows=salted)))
            sent += 1
            if len(pending) > MAX_IN_FLIGHT:
                collect()
    while pending:
        collect()
    return Settlement(areas, accounts, estimated, waiting, refused)


def area_rows(
    due: Due, area: str, readings: Mapping[int, metering.Metered], key: bytes
) -> tuple[tuple[SettleRow, ...], list[bytes]]:
    """Return an area's settlement rows and the salted bytes the ledger commits to."""
    metered = {account: rules.Metered(*reading) for account, reading in readings.items()}
    rows = rules.settle_area(due.tallies.get(area, {}), metered, due.tariff)
    salted = [settle_bytes(row, row_salt(key, f"settle:{due.contract}:{row.account}")) for row in rows]
    return rows, salted


def find_due(engine: Engine) -> list[Due]:
    """Return the delivered contracts that have unsettled areas, oldest first; runs inside ``Exchange.read``.

    Tallies are handed out as they are: nothing trades in a contract once its gate has closed.
    """
    names = sorted(name for name, contract in engine.contracts.items() if contract.state == "delivered")
    if not names:
        return []
    found = []
    for name in names[:MAX_CONTRACTS_A_CALL]:
        contract = engine.contracts[name]
        tallies: dict[str, dict[int, rules.Tally]] = {}
        for index, tally in contract.tallies.items():
            area = engine.accounts[index].area
            if area not in contract.settled_areas:
                tallies.setdefault(area, {})[index] = tally
        open_areas = {
            area: engine.members_by_area.get(area, 0) for area in sorted(contract.areas_due - contract.settled_areas)
        }
        if open_areas:
            tariff = rules.Tariff(contract.topup_e4, contract.spill_e4)
            found.append(Due(name, contract.end_ms, tariff, open_areas, tallies))
    return found
