"""One call at a time between the ledger and the table of readings; what a crash left only on the ledger is made good.

The ledger comes first. Rows that it has and the table lacks are therefore the newest ones: whatever was to be written after
them waits here until they are in the table, too, and settlement looks here first. Only the process that has the exchange
does this.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary, WeakSet

import orjson
from django.db.models import Max

from ledger import queries as ledger
from market.engine.contracts import contract_start_ms
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome, Overloaded
from market.metering import news, storage
from market.metering.models import Reading

LOCK_TIMEOUT_S = 60.0  # real time; who waits longer is told to come back
RETRY_AFTER_S = 5
LATE_TIMEOUT_S = 60.0  # for the answer to what an earlier call gave up waiting for
IN_ONE_QUERY = 500  # accounts: SQLite takes 999 values

log = logging.getLogger(__name__)

_one_at_a_time = threading.Lock()
_level: WeakSet[Exchange] = (
    WeakSet()
)  # exchanges whose ledger and table have the same readings, for all this process knows
_late: WeakKeyDictionary[Exchange, list[Future[Outcome]]] = WeakKeyDictionary()  # commands that may still be committed

P = ParamSpec("P")
T = TypeVar("T")


def alone(call: Callable[P, T]) -> Callable[P, T]:
    """Let one call at a time look up, commit and keep readings, once the table has what the ledger has.

    ``call`` takes the exchange as ``exchange``. Raises ``Overloaded`` where others take too long, and what ``catch_up`` raises.
    """

    @wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        exchange = cast(Exchange, kwargs["exchange"])
        with _locked():
            _catch_up(exchange)
            return call(*args, **kwargs)

    return inner


def catch_up(*, exchange: Exchange) -> int:
    """Put readings into the table that only the ledger has, and return how many; at once where there can be none.

    Raises ``Overloaded``, ``TimeoutError`` and what the exchange and the database raise: then it is as it was.
    """
    if exchange in _level:
        return 0
    with _locked():
        return _catch_up(exchange)


def keep(exchange: Exchange, rows: Sequence[storage.ReadingRow]) -> None:
    """Put rows that the ledger has into the table; whatever is in the way, the next call finds them on the ledger."""
    try:
        storage.insert(rows)
    except BaseException:
        _level.discard(exchange)
        raise
    news.tell(readings={row.account: row.seq for row in rows})


def answer(exchange: Exchange, future: Future[Outcome], timeout_s: float) -> Outcome:
    """Return the answer to a command; where there is none in time, what it commits is looked for on the ledger later."""
    try:
        return future.result(timeout_s)
    except BaseException:
        _level.discard(exchange)
        _late.setdefault(exchange, []).append(future)
        raise


@contextmanager
def _locked() -> Iterator[None]:
    if not _one_at_a_time.acquire(timeout=LOCK_TIMEOUT_S):
        raise Overloaded(RETRY_AFTER_S)
    try:
        yield
    finally:
        _one_at_a_time.release()


def _catch_up(exchange: Exchange) -> int:
    if exchange in _level:
        return 0
    late = _late.get(exchange, [])
    while late:
        late[0].exception(LATE_TIMEOUT_S)  # committed or not, but no longer under way
        del late[0]
    exchange.read(lambda engine: engine.seq)  # raises where it is not certain what the ledger has
    added = sum(_add(exchange, seq) for seq in ledger.seqs_with_rows(_newest_seq() + 1))
    if added:
        log.warning("%d readings were on the ledger only, and are in the table now", added)
    _level.add(exchange)
    return added


def _newest_seq() -> int:
    """Return the last entry of the newest interval in the table: what the table lacks came after it. -1 = it is empty."""
    start_ms = Reading.objects.aggregate(Max("start_ms"))["start_ms__max"]
    if start_ms is None:
        return -1
    return int(Reading.objects.filter(start_ms=start_ms).aggregate(Max("seq"))["seq__max"])


def _add(exchange: Exchange, seq: int) -> int:
    """Put those rows of an entry into the table that say something newer than it has; return how many."""
    entry = ledger.entry(seq)
    if entry["type"] != "readings":
        return 0
    start_ms = contract_start_ms(str(entry["contract"]))
    rows = [orjson.loads(data) for data in ledger.rows(seq)]
    newest = _newest(start_ms, [row["account"] for row in rows])
    now_ms = exchange.now_ms()
    missing = []
    for n, row in enumerate(rows):
        version, known_seq = newest.get(row["account"], (-1, -1))
        if known_seq < seq:
            missing.append(_row(row, start_ms, version + 1, str(entry["area"]), now_ms, seq, n))
    storage.insert(missing)
    return len(missing)


def _row(
    row: dict[str, Any], start_ms: int, version: int, area: str, now_ms: int, seq: int, n: int
) -> storage.ReadingRow:
    # What went on behind the meter is no row's business: it comes with the next value of a device.
    return storage.ReadingRow(
        start_ms, row["account"], version, area, row["import_wh"], row["export_wh"], None, None, row["quality"],
        now_ms, seq, n, row.get("reason", ""), row.get("source", ""), row.get("revision", 0),
    )  # fmt: skip


def _newest(start_ms: int, accounts: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Return version and entry of the newest readings of accounts in an interval."""
    found: dict[int, tuple[int, int]] = {}
    for at in range(0, len(accounts), IN_ONE_QUERY):
        rows = Reading.objects.filter(start_ms=start_ms, account__in=accounts[at : at + IN_ONE_QUERY])
        for account, version, seq in rows.order_by("version").values_list("account", "version", "seq"):
            found[account] = version, max(seq, found.get(account, (0, -1))[1])
    return found
