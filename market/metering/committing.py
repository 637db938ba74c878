"""From what devices said to readings of homes on the ledger: interval by interval, area by area. Safe to repeat.

Only the process that has the exchange does this. A batch is done once every delivered interval its values touch has been
made anew of all values there are; what came out as it was before is a duplicate and costs nothing. A crash in between leaves
the batch waiting, and doing it again gives the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.households import devices
from market.households.devices import DeviceInfo
from market.metering import intake, operations, validation
from market.metering.formats.values import Value
from market.metering.models import Batch, DeviceValue
from market.metering.operations import InvalidReading, ReadingIn, ReadingsRefused, Recorded
from market.metering.proofs import Made, Proofs

MAX_BATCHES = 50_000  # of one call; a gateway takes a message of each home at once
MAX_CALL_VALUES = 50_000  # after which a call takes no further batch
MINUTE_MS = 60_000
LOCK_TIMEOUT_S = 30.0
IN_ONE_QUERY = 1_000  # devices

RETRY_MS = 1_000  # market time: how soon a batch is looked at again whose interval should be delivered already

log = logging.getLogger(__name__)
_committing = threading.Lock()


class Committed(NamedTuple):
    """What a call did. ``waiting``: batches with intervals that are not delivered yet."""

    batches: int
    readings: int
    seq: int | None
    waiting: int


def commit_due(
    *, exchange: Exchange, now_ms: int, only: Sequence[int] | None = None, timeout_s: float = LOCK_TIMEOUT_S
) -> Committed:
    """Put the readings of waiting batches on the ledger, oldest first, or of these only.

    One call at a time: another one waits ``timeout_s`` and then leaves it to the first. Raises what ``record_batches`` raises.
    """
    if not _committing.acquire(timeout=timeout_s):
        return Committed(0, 0, None, 0)
    try:
        return _commit(exchange, now_ms, only)
    finally:
        _committing.release()


def _commit(exchange: Exchange, now_ms: int, only: Sequence[int] | None) -> Committed:
    rows = Batch.objects.filter(committed_ms=None).order_by("pk")
    rows = rows.filter(due_ms__lte=now_ms) if only is None else rows.filter(pk__in=only)
    numbers: list[int] = []
    total = 0
    for pk, count in rows.values_list("pk", "count")[:MAX_BATCHES]:
        if numbers and total + count > MAX_CALL_VALUES:
            break
        numbers.append(pk)
        total += count
    if not numbers:
        return Committed(0, 0, None, 0)
    touched = _touched(numbers)
    people = devices.beside({device for _batch, device, _start, _end, _register in touched}).values()
    periods = {one.pk: one.periods for some in people for one in some}
    length_ms, known = exchange.read(_contracts)
    due, waits = _due(touched, periods, length_ms, known)
    accounts = {account for some in due.values() for account in some}
    areas = exchange.read(lambda engine: _areas(engine, accounts))
    recorded, seq = 0, None
    homes = {period.account: some for some in people for period in some[0].periods}
    proofs = Proofs(exchange, length_ms)
    for start_ms in sorted(due):
        names = [account for account in sorted(due[start_ms]) if account in areas]
        done = _record(exchange, start_ms, start_ms + length_ms, names, homes, areas, proofs, now_ms)
        recorded += done.accepted
        seq = done.seq if done.seq is not None else seq
    finished = [number for number in numbers if number not in waits]
    for some in _some(finished):
        Batch.objects.filter(pk__in=some).update(committed_ms=now_ms)
    later: dict[int, list[int]] = {}
    for number, until_ms in waits.items():
        later.setdefault(max(until_ms, now_ms + RETRY_MS), []).append(number)
    for due_ms, waiting in later.items():
        for some in _some(waiting):
            Batch.objects.filter(pk__in=some).update(due_ms=due_ms)
    return Committed(len(finished), recorded, seq, len(waits))


def _some(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[at : at + IN_ONE_QUERY] for at in range(0, len(numbers), IN_ONE_QUERY))


def _touched(numbers: Sequence[int]) -> list[tuple[int, int, int, int, bool]]:
    """Return (batch, device, start, end, register) of the values of homes in these batches, once each."""
    fields = ("batch", "device", "start_ms", "duration_ms", "register")
    return [
        (batch, device, start_ms, start_ms + duration_ms, register)
        for some in _some(numbers)
        for batch, device, start_ms, duration_ms, register in DeviceValue.objects.filter(batch__in=some, account__gte=0)
        .values_list(*fields)
        .iterator()
    ]


def _contracts(engine: Engine) -> tuple[int, dict[str, bool]]:
    """Return the interval's length and the contracts that take readings now or will: whether now."""
    known = {name: not engine.readings_problem(name) for name in engine.contracts}
    known |= {name: True for name in engine.provisional if not engine.readings_problem(name)}
    return engine.interval_min * MINUTE_MS, known


def _areas(engine: Engine, accounts: set[int]) -> dict[int, str]:
    found = {}
    for index in accounts:
        if index < len(engine.accounts) and engine.accounts[index].kind == "member":
            found[index] = engine.accounts[index].area
    return found


def _due(
    touched: Sequence[tuple[int, int, int, int, bool]],
    periods: Mapping[int, Sequence[devices.Period]],
    length_ms: int,
    known: Mapping[str, bool],
) -> tuple[dict[int, set[int]], dict[int, int]]:
    """Return the accounts of each interval to be made anew, and until when (ms) batches must wait that touch later ones.

    An interval belongs to the number the home had when it began (``periods``, by device): what is settled under one number is
    corrected under it, and nobody is paid for what was before they joined.
    """
    due: dict[int, set[int]] = {}
    waits: dict[int, int] = {}
    takes: dict[int, bool | None] = {}
    around = _neighbours(touched)
    for batch, device, start_ms, end_ms, register in touched:
        if register:
            start_ms, end_ms = around[device, start_ms]
        for at in range(start_ms - start_ms % length_ms, max(end_ms, start_ms + 1), length_ms):
            if at not in takes:
                takes[at] = known.get(contract_name(at))
            if takes[at] is None:
                continue  # before the market began, or final
            account = devices.account_at(periods.get(device, ()), at)
            if account < 0:
                continue  # before the home was here, or after it left
            if takes[at]:
                due.setdefault(at, set()).add(account)
            else:
                waits[batch] = max(waits.get(batch, 0), at + length_ms)
    return due, waits


def _neighbours(touched: Iterable[tuple[int, int, int, int, bool]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return, for each reading of a counter, when the counter was read before and after it."""
    wanted: dict[int, list[int]] = {}
    for _batch, device, start_ms, _end_ms, register in touched:
        if register:
            wanted.setdefault(device, []).append(start_ms)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for device, starts in wanted.items():
        low, high = min(starts) - validation.MAX_SPAN_MS, max(starts) + validation.MAX_SPAN_MS
        rows = DeviceValue.objects.filter(device=device, register=True, start_ms__gte=low, start_ms__lte=high)
        times = sorted(set(rows.values_list("start_ms", flat=True)))
        for place, at in enumerate(times):
            found[device, at] = times[max(0, place - 1)], times[min(len(times) - 1, place + 1)]
    return found


def _record(
    exchange: Exchange,
    start_ms: int,
    end_ms: int,
    accounts: Sequence[int],
    homes: Mapping[int, list[DeviceInfo]],
    areas: Mapping[int, str],
    proofs: Proofs,
    now_ms: int,
) -> Recorded:
    """Make the readings of homes in one interval of all values there are, and record those that are complete."""
    said = readings_of(homes, accounts, start_ms=start_ms, end_ms=end_ms)
    made: dict[int, Made] = {}
    for account, (home, only_batch) in said.items():
        if isinstance(home.metered, validation.Metered) and home.metered.quality != validation.ESTIMATED:
            made[account] = Made(only_batch, home.metered.import_wh, home.metered.export_wh)
    sources = proofs.sources(start_ms, made)
    batches: dict[str, list[ReadingIn]] = {}
    for account, (home, _only_batch) in said.items():
        metered = home.metered
        if isinstance(metered, validation.Missing):
            continue
        batches.setdefault(areas[account], []).append(
            ReadingIn(
                account, metered.import_wh, metered.export_wh, home.produced_wh, home.used_wh, metered.quality,
                metered.reason, sources.get(account, ""),
            )
        )  # fmt: skip
    contract = contract_name(start_ms)
    try:
        return operations.record_batches(
            exchange=exchange, contract=contract, batches=batches, now_ms=now_ms, as_given=True
        )
    except InvalidReading as error:
        if error.field == "contract":  # settled since it was looked at
            return Recorded(0, 0, 0, None)
    except ReadingsRefused:
        log.exception("readings of %s were refused", contract)
    # One home must not keep the others out.
    done = Recorded(0, 0, 0, None)
    for area, readings in batches.items():
        done = added(done, _record_good(exchange, contract, area, readings, now_ms))
    return done


def _record_good(exchange: Exchange, contract: str, area: str, readings: list[ReadingIn], now_ms: int) -> Recorded:
    """Record the readings of an area that can be; leave out and log those that cannot."""
    left = list(readings)
    while left:
        try:
            return operations.record_batches(
                exchange=exchange, contract=contract, batches={area: left}, now_ms=now_ms, as_given=True
            )
        except InvalidReading as error:
            if error.item < 0:
                log.error("readings of %s in %s are left out: %s", area, contract, error)
                break
            log.error("a reading of account %s in %s is left out: %s", left[error.item].account, contract, error)
            del left[error.item]
        except ReadingsRefused:
            log.exception("readings of %s in %s were refused", area, contract)
            break
    return Recorded(0, 0, 0, None)


def added(one: Recorded, other: Recorded) -> Recorded:
    """Return what became of two batches together; ``seq`` is the later one's."""
    return Recorded(
        one.accepted + other.accepted,
        one.corrected + other.corrected,
        one.duplicates + other.duplicates,
        other.seq if other.seq is not None else one.seq,
    )


class Said(NamedTuple):
    """What a home's devices say. ``only_batch``: the one batch that all of it is in, 0 where there are several."""

    home: validation.Home
    only_batch: int


def readings_of(
    homes: Mapping[int, list[DeviceInfo]], accounts: Sequence[int], *, start_ms: int, end_ms: int
) -> dict[int, Said]:
    """Return what the devices of homes say of an interval, of all values there are.

    Looked up first: what lies within the interval. Only where that leaves a gap, what reaches over its edges.
    """
    counting = {account: _counting(homes.get(account, ()), start_ms) for account in accounts}
    values = _values([one.pk for some in counting.values() for one in some], start_ms, end_ms)
    said = {account: _home(some, values, start_ms, end_ms) for account, some in counting.items()}
    gaps = [account for account, one in said.items() if isinstance(one.home.metered, validation.Missing)]
    if gaps:
        span = validation.MAX_SPAN_MS
        pks = [one.pk for account in gaps for one in counting[account]]
        wide = _values(pks, start_ms - span, end_ms + span)
        said |= {account: _home(counting[account], wide, start_ms, end_ms) for account in gaps}
    return said


def _counting(some: Sequence[DeviceInfo], start_ms: int) -> list[DeviceInfo]:
    """Return the devices that were not revoked before the interval; what is registered later may tell of earlier."""
    return [one for one in some if one.revoked_ms is None or one.revoked_ms > start_ms]


class _Stored(NamedTuple):
    """What is known of a device around an interval."""

    values: list[Value]
    batches: set[int]


def _values(pks: Sequence[int], first_ms: int, last_ms: int) -> dict[int, _Stored]:
    found: dict[int, _Stored] = {}
    for at in range(0, len(pks), IN_ONE_QUERY):
        for pk, batch, value in intake.stored(pks[at : at + IN_ONE_QUERY], first_ms, last_ms):
            device = found.get(pk)
            if device is None:
                device = found[pk] = _Stored([], set())
            if value.register or value.start_ms < last_ms:
                device.values.append(value)
                device.batches.add(batch)
    return found


_NOTHING = _Stored([], set())


def _home(some: Sequence[DeviceInfo], found: Mapping[int, _Stored], start_ms: int, end_ms: int) -> Said:
    kinds: dict[str, dict[int, validation.DeviceValues]] = {"meter": {}, "inverter": {}, "battery": {}, "charger": {}}
    batches: set[int] = set()
    for one in some:
        stored = found.get(one.pk, _NOTHING)
        kinds[one.kind][one.pk] = validation.DeviceValues(one.rating_w, one.register_digits, stored.values)
        if one.kind == "meter":
            batches |= stored.batches
    home = validation.of_home(kinds["meter"], kinds["inverter"], kinds["battery"], start_ms=start_ms, end_ms=end_ms)
    return Said(home, batches.pop() if len(batches) == 1 else 0)
