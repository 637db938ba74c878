"""Readings come in: checked, committed to the ledger, kept. Duplicates are harmless, corrections are new versions.

The ledger comes first and the table second, one call at a time. What a crash in between left on the ledger only is put
into the table before anything else is recorded or settled (``recovery``), so that both always say the same; a sender that
was never told, and sends again, is told of duplicates.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from ledger.core.rows import rows_root
from market.engine.commands import CommitReadings
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.events import ReadingsCommitted
from market.exchange.exchange import Exchange
from market.exchange.figures import figures as cache
from market.exchange.outcomes import Outcome
from market.metering import news, rowbytes, storage, validation
from market.metering.models import Quality, Reading
from market.metering.queries import OUTLOOK_KEPT_S, OUTLOOK_KEY, POWER_KEPT_S, POWER_KEY, Outlook, Power
from market.metering.recovery import alone, answer, keep

MAX_READING_WH = 10_000_000  # 40 MW for a quarter of an hour: above any connection of the grid's lowest level
MAX_BATCH = 10_000  # readings of one area and contract at once; more are a mistake of the sender
MAX_VERSIONS = 1_000  # of one home's reading: whoever corrects more often has gone mad; the column takes 32,767
MAX_OWN = 200  # contracts a household reports at once: two days of quarter hours
MAX_IN_FLIGHT = 64  # readings commands that wait for their answers; the queue belongs to the orders
COMMIT_TIMEOUT_S = 60.0
QUALITIES = frozenset(Quality.values)

log = logging.getLogger(__name__)


class ReadingIn(NamedTuple):
    """One reading as it arrives; Wh over the whole interval. ``produced_wh``/``used_wh`` where they are known."""

    account: int
    import_wh: int
    export_wh: int
    produced_wh: int | None = None
    used_wh: int | None = None
    quality: str = Quality.MEASURED.value
    reason: str = ""
    source: str = ""  # hex SHA-256 of the evidence, where a device signed it
    revision: int = 0  # the sender's count of corrections: a lower one never replaces a higher one


class Recorded(NamedTuple):
    """What became of a batch."""

    accepted: int
    corrected: int  # accepted as a new version of a value that was there
    duplicates: int  # the same value was there, or one that is not replaced: of a higher revision, or decided
    seq: int | None  # ledger sequence of the readings entry, of the last one of several; None = nothing new


class InvalidReading(Exception):
    """A reading can't be right. ``code``/``field`` as in refusals; ``item`` is its place in the batch, -1 for all."""

    def __init__(self, code: str, field: str, item: int = -1):
        super().__init__(f"reading {item}: {code} ({field})")
        self.code = code
        self.field = field
        self.item = item


class ReadingsRefused(Exception):
    """The market did not take a batch that was well formed."""

    def __init__(self, code: str, field: str):
        super().__init__(f"readings refused: {code} ({field})")
        self.code = code
        self.field = field


def record_readings(
    *, exchange: Exchange, contract: str, area: str, readings: Sequence[ReadingIn], now_ms: int
) -> Recorded:
    """Record readings of one area for one delivered contract; errors as ``record_batches``."""
    return record_batches(exchange=exchange, contract=contract, batches={area: readings}, now_ms=now_ms)


def record_own(*, exchange: Exchange, account: int, readings: Mapping[str, ReadingIn], now_ms: int) -> Recorded:
    """Record readings of one account by contract name (the REST call of a household); errors as ``record_batches``."""
    area = exchange.read(lambda engine: _area_of(engine, account))
    if area is None:
        raise InvalidReading("unknown_account", "account")
    if len(readings) > MAX_OWN:
        raise InvalidReading("too_many_readings", "readings")
    for item, (contract, reading) in enumerate(readings.items()):
        if reading.account != account:
            raise InvalidReading("unknown_account", "account", item)
        _check_values(reading, item)
        try:
            _check_contract(exchange, contract)
        except InvalidReading as error:
            raise InvalidReading(error.code, error.field, item) from None
    results = []
    for contract, reading in readings.items():
        results.append(
            record_readings(exchange=exchange, contract=contract, area=area, readings=[reading], now_ms=now_ms)
        )
    return Recorded(
        sum(result.accepted for result in results),
        sum(result.corrected for result in results),
        sum(result.duplicates for result in results),
        max((result.seq for result in results if result.seq is not None), default=None),
    )


@alone
def record_batches(
    *,
    exchange: Exchange,
    contract: str,
    batches: Mapping[str, Sequence[ReadingIn]],
    now_ms: int,
    as_given: bool = False,
    only_new: bool = False,
) -> Recorded:
    """Record the readings of several areas for one delivered contract; all are checked before any is recorded.

    A value other than the known one is a correction; ``as_given``: its quality is what it says, whatever was known before.
    ``only_new``: nothing is corrected, who has a reading keeps it. What was decided (``validation.DECIDED``) is replaced by
    another decision only.

    Raises ``InvalidReading`` (nothing was recorded), ``ReadingsRefused`` (areas before the refused one may be; send the
    whole again once the cause is gone), and what ``Exchange.submit`` raises.
    """
    start_ms = _check_contract(exchange, contract)
    _check_accounts(exchange, batches)
    known = _known(start_ms, batches)
    _check_versions(known, batches, as_given)
    secret = rowbytes.secret()
    duplicates = corrected = 0
    pending: list[tuple[str, list[tuple[ReadingIn, int]], Future[Outcome]]] = []
    rows: list[storage.ReadingRow] = []
    last_seq: int | None = None

    def collect() -> None:
        nonlocal last_seq
        area, kept, future = pending.pop(0)
        last_seq = _committed_seq(answer(exchange, future, COMMIT_TIMEOUT_S))
        for n, (reading, version) in enumerate(kept):
            account, import_wh, export_wh, produced_wh, used_wh, quality, reason, source, revision = reading
            rows.append(
                storage.ReadingRow(
                    start_ms, account, version, area, import_wh, export_wh, produced_wh, used_wh, quality,
                    now_ms, last_seq, n, reason, source, revision,
                )
            )  # fmt: skip

    try:
        for area, readings in batches.items():
            kept: list[tuple[ReadingIn, int]] = []
            for reading in readings:
                before = known.get(reading.account)
                if before is None:
                    kept.append((_numbered(reading), 0))
                elif only_new or _is_known(reading, before, as_given):
                    duplicates += 1
                elif before.reason == validation.DECIDED and reading.reason != validation.DECIDED:
                    duplicates += 1
                    log.warning(
                        "account %d: %s says other than what was decided, which stays", reading.account, contract
                    )
                else:
                    corrected += 1
                    if not as_given:
                        reading = reading._replace(quality=Quality.CORRECTED.value)
                    kept.append((reading, before.version + 1))
            if kept:
                pending.append((area, kept, _commit(exchange, contract, area, kept, secret)))
            if len(pending) > MAX_IN_FLIGHT:
                collect()
        while pending:
            collect()
    finally:
        # What the ledger has is kept, whatever happened to the rest.
        while pending:
            with contextlib.suppress(Exception):
                collect()
        keep(exchange, rows)
    return Recorded(len(rows), corrected, duplicates, last_seq)


def note_power(*, powers: Mapping[int, Power]) -> None:
    """Note what some homes make and use at this moment, by account: a gauge for their screens, not a record."""
    cache.set_many({POWER_KEY % account: tuple(power) for account, power in powers.items()}, POWER_KEPT_S)
    news.tell(powers=powers)


def note_outlook(*, outlooks: Mapping[int, Outlook]) -> None:
    """Note what some homes are expected to make and use, by account: for their screens, not a record."""
    cache.set_many({OUTLOOK_KEY % account: tuple(found) for account, found in outlooks.items()}, OUTLOOK_KEPT_S)


# --- checks ----------------------------------------------------------------------------------------------------------
def _check_contract(exchange: Exchange, contract: str) -> int:
    try:
        start_ms = contract_start_ms(contract)
    except ValueError:
        raise InvalidReading("unknown_contract", "contract") from None
    problem = exchange.read(lambda engine: engine.readings_problem(contract))
    if problem:
        raise InvalidReading(problem, "contract")
    return start_ms


def _check_accounts(exchange: Exchange, batches: Mapping[str, Sequence[ReadingIn]]) -> None:
    seen: set[int] = set()
    for readings in batches.values():
        if len(readings) > MAX_BATCH:
            raise InvalidReading("too_many_readings", "readings")
        for item, reading in enumerate(readings):
            _check_values(reading, item)
            if reading.account in seen:
                raise InvalidReading("duplicate_reading", "account", item)
            seen.add(reading.account)

    def strangers(engine: Engine) -> tuple[int, str] | None:
        accounts = engine.accounts
        count = len(accounts)
        for area, readings in batches.items():
            for item, reading in enumerate(readings):
                if reading.account >= count or accounts[reading.account].kind != "member":
                    return item, "account"
                if accounts[reading.account].area != area:
                    return item, "area"
        return None

    stranger = exchange.read(strangers)
    if stranger is not None:
        raise InvalidReading("unknown_account", stranger[1], stranger[0])


def _check_versions(known: Mapping[int, _Before], batches: Mapping[str, Sequence[ReadingIn]], as_given: bool) -> None:
    full = {account: before for account, before in known.items() if before.version >= MAX_VERSIONS - 1}
    if not full:
        return
    for readings in batches.values():
        for item, reading in enumerate(readings):
            if reading.account in full and not _is_known(reading, full[reading.account], as_given):
                raise InvalidReading("too_many_versions", "account", item)


def _check_values(reading: ReadingIn, item: int) -> None:
    account, import_wh, export_wh, produced_wh, used_wh, quality = reading[:6]
    if type(account) is not int or account < 0:
        raise InvalidReading("unknown_account", "account", item)
    for field, value in (("import_wh", import_wh), ("export_wh", export_wh)):
        if type(value) is not int or not 0 <= value <= MAX_READING_WH:
            raise InvalidReading("energy_out_of_range", field, item)
    for field, value in (("produced_wh", produced_wh), ("used_wh", used_wh)):
        if value is not None and (type(value) is not int or not 0 <= value <= MAX_READING_WH):
            raise InvalidReading("energy_out_of_range", field, item)
    if quality not in QUALITIES:
        raise InvalidReading("invalid_value", "quality", item)


def _area_of(engine: Engine, account: int) -> str | None:
    if not 0 <= account < len(engine.accounts) or engine.accounts[account].kind != "member":
        return None
    return engine.accounts[account].area


# --- recording -------------------------------------------------------------------------------------------------------
class _Before(NamedTuple):
    """The newest version of a reading."""

    version: int
    import_wh: int
    export_wh: int
    quality: str
    revision: int
    source: str
    reason: str
    produced_wh: int | None
    used_wh: int | None


def _numbered(reading: ReadingIn) -> ReadingIn:
    """A revision that comes before what it corrects is a correction all the same."""
    if reading.revision and reading.quality == Quality.MEASURED.value:
        return reading._replace(quality=Quality.CORRECTED.value)
    return reading


def _is_known(reading: ReadingIn, before: _Before, as_given: bool) -> bool:
    if reading.revision != before.revision:
        return reading.revision < before.revision and not as_given
    same = (reading.import_wh, reading.export_wh) == (before.import_wh, before.export_wh)
    if before.quality == Quality.ESTIMATED.value and reading.quality != before.quality:
        return False  # now it is measured, even where the estimate was right
    if not as_given or not same:
        return same
    return (reading.quality, reading.reason, reading.source, reading.produced_wh, reading.used_wh) == (
        before.quality, before.reason, before.source, before.produced_wh, before.used_wh,
    )  # fmt: skip


def _known(start_ms: int, batches: Mapping[str, Sequence[ReadingIn]]) -> dict[int, _Before]:
    """Return the newest reading of each account that has one."""
    accounts = [reading.account for readings in batches.values() for reading in readings]
    if not accounts:
        return {}
    found = Reading.objects.filter(
        start_ms=start_ms, account__gte=min(accounts), account__lte=max(accounts)
    ).values_list("account", *_Before._fields)
    known: dict[int, _Before] = {}
    for account, *values in found.iterator():
        if account not in known or known[account].version < values[0]:
            known[account] = _Before(*values)
    return known


def _commit(
    exchange: Exchange, contract: str, area: str, kept: list[tuple[ReadingIn, int]], secret: bytes
) -> Future[Outcome]:
    rows = [
        rowbytes.reading_bytes(
            account=reading.account,
            contract=contract,
            import_wh=reading.import_wh,
            export_wh=reading.export_wh,
            quality=reading.quality,
            salt=rowbytes.row_salt(secret, f"reading:{contract}:{reading.account}:{version}"),
            source=reading.source,
            reason=reading.reason,
            revision=reading.revision,
        )
        for reading, version in kept
    ]
    command = CommitReadings(
        contract,
        area,
        len(rows),
        sum(reading.import_wh for reading, _ in kept),
        sum(reading.export_wh for reading, _ in kept),
        rows_root(rows).hex(),
    )
    return exchange.submit(command, key=f"readings:{contract}:{area}:{command.root[:32]}", rows=rows)


def _committed_seq(outcome: Outcome) -> int:
    if outcome.refused is not None:
        raise ReadingsRefused(outcome.refused.code, outcome.refused.field)
    event = outcome.events[0]
    assert isinstance(event, ReadingsCommitted), f"expected ReadingsCommitted, was {event!r}"
    return event.seq
