"""The same key twice: the first answer again, or the name of the field that differs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from market.engine.commands import Command, Leg, PlaceBasket, PlaceOrder, PublishRulebook, SignedOrder
from market.engine.events import Event, OrderPlaced, Refused
from market.engine.reasons import OPERATOR
from market.exchange.digests import Digests
from market.exchange.models import IdempotencyKey
from market.exchange.outcomes import Outcome
from market.exchange.stores import Statement, Store
from market.exchange.tables import Table

KEPT_MS = 48 * 3_600_000  # of market time, since the first use
IN_MEMORY = 65_536  # keys, about 60 MB; older ones are looked up in the database
LONG_FIELD = 200  # characters; a longer field is kept as its digest
FORGET_ROWS = 5_000  # at most so many old keys are dropped in one transaction
LOOKUP_KEYS = 500  # keys of one query
LOADED_AT_ONCE = 50_000  # digests of one query at the start

KEYS = Table.of(IdempotencyKey)
_new = tuple.__new__  # a NamedTuple without the cost of its keyword constructor
NEWEST = """
SELECT n, scope, key, lookup, at_ms, content, first_seq, count, refused FROM exchange_idempotencykey
ORDER BY n DESC LIMIT %s
"""
OLDER = "SELECT lookup, at_ms FROM exchange_idempotencykey WHERE n >= %s AND n < %s ORDER BY n"
FIND = """
SELECT scope, key, lookup, at_ms, content, first_seq, count, refused FROM exchange_idempotencykey
WHERE lookup IN (%s) ORDER BY n
"""

# What the client called the field, where it differs from the command's name.
REST_NAMES = {
    "price_e4": "price",
    "amount_e7": "amount",
    "expires_at_ms": "expires_at",
    "until_ms": "until",
    "collar_e4": "collar",
    "commitment": "text",
}


class Known(NamedTuple):
    """A key's first use. ``command`` and ``outcome`` are None when it was read back from the database."""

    lookup: int  # ``lookup_of`` its scope and key
    at_ms: int
    command: Command | None
    content: str  # of a command that was read back; "" = in the order's row
    outcome: Outcome | None
    first_seq: int
    entries: int
    refused: str


def content_of(command: Command) -> str:
    """Return the command's type and fields as JSON text; long fields as their digest."""
    if type(command) is PlaceOrder:
        # The hot type: texts are put in quotes by hand, and what would need an escape goes the long way round.
        account, contract, side, price_e4, energy_wh, time_in_force, expires_at_ms = command
        text = (
            f'["PlaceOrder",{account},"{contract}","{side}",{price_e4},{energy_wh},"{time_in_force}",{expires_at_ms}]'
        )
        if "\\" not in text and text.isascii() and text.isprintable() and text.count('"') == 8:
            return text
    if type(command) is SignedOrder:  # signed or not, it is the same order
        return content_of(command.order)
    values: list[Any] = [type(command).__name__]
    if type(command) is PlaceBasket:
        values += [command.account, [[_plain(value) for value in leg] for leg in command.legs]]
    else:
        values += map(_plain, command)
    try:
        return orjson.dumps(values).decode()
    except orjson.JSONEncodeError:  # lone surrogates: no such command is ever accepted, but its refusal is kept
        return orjson.dumps([value if isinstance(value, int) else ascii(value) for value in values]).decode()


def _plain(value: object) -> int | str:
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    plain = value if isinstance(value, str) else repr(value)
    long = len(plain) > LONG_FIELD
    return "sha256:" + hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest() if long else plain


def lookup_of(scope: int, key: str) -> int:
    """Return the 32-bit digest under which a key is found in the database; keys that share one are told apart there."""
    return crc32(f"{scope} {key}".encode())


def _read_back(lookup: int, at_ms: int, content: str, first_seq: int, count: int, refused: str) -> Known:
    return Known(lookup, at_ms, None, content, None, first_seq, count, refused)


def differing_field(content: str, command: Command) -> str | None:
    """Return the client's name of the first field in which ``command`` differs from ``content``; None when equal."""
    if type(command) is SignedOrder:
        command = command.order
    mine = content_of(command)
    if mine == content:
        return None
    before, now = orjson.loads(content), orjson.loads(mine)
    if before[0] != now[0]:
        return "type"
    if len(before) <= len(command):  # kept by a version whose commands had fewer fields: the others have their defaults
        later = type(command)._fields[len(before) - 1 :]
        before += list(type(command)._field_defaults.values())[len(before) - 1 - len(command) :]
        if "reason" in later:  # who gives none is given the operator's since there are reasons
            at = type(command)._fields.index("reason") + 1
            now[at] = before[at] if now[at] == OPERATOR else now[at]
        if before == now:
            return None
    for name, old, new in zip(type(command)._fields, before[1:], now[1:], strict=True):
        if old != new:
            nested = isinstance(old, list) and isinstance(new, list)
            if name == "commitment" and type(command) is PublishRulebook:
                return "words"  # its text is the rulebook's
            return _differing_leg(name, old, new) if nested else REST_NAMES.get(name, name)
    return "type"


def _differing_leg(name: str, before: list[list[int | str]], now: list[list[int | str]]) -> str:
    """Return where two lists of legs differ, as a client would point at it: ``legs[1].price``."""
    for place, (old, new) in enumerate(zip(before, now, strict=False)):
        for field, was, value in zip(Leg._fields, old, new, strict=True):
            if was != value:
                return f"{name}[{place}].{REST_NAMES.get(field, field)}"
    return name


def refused_text(refused: Refused | None) -> str:
    """Return a refusal as JSON text, "" for none."""
    if refused is None:
        return ""
    return orjson.dumps([refused.code, refused.field, [list(pair) for pair in refused.detail]], default=str).decode()


def refused_of(text: str) -> Refused | None:
    """Return the refusal of ``refused_text``."""
    if not text:
        return None
    code, field, detail = orjson.loads(text)
    return Refused(code, field, tuple((name, value) for name, value in detail))


class Keys:
    """The keys of the last 48 h of market time: the newest in memory, the others in the database."""

    def __init__(self, store: Store, events_between: Callable[[int, int], tuple[Event, ...]]):
        self._store = store
        self._events_between = events_between  # (first_seq, count) -> the events, rebuilt from the database
        self._known: OrderedDict[tuple[int, str], Known] = OrderedDict()
        self._elsewhere = Digests(KEPT_MS)  # of keys that only the database has
        self._lookups: dict[tuple[int, str], int] = {}  # of the running batch
        self._next = 0
        self._oldest: tuple[int, int] | None = None  # n and at_ms of the oldest row; None = look it up
        self._rows: list[tuple[Any, ...]] = []

    def load(self) -> None:
        """Read the newest keys from the database."""
        rows = self._store.fetch(NEWEST, [IN_MEMORY + 1])
        self._next = rows[0][0] + 1 if rows else 0
        for _, scope, key, *rest in reversed(rows[:IN_MEMORY]):
            self._known[scope, key] = _read_back(*rest)
        self._oldest = self._find_oldest()
        if len(rows) > IN_MEMORY and self._oldest is not None:
            for start in range(self._oldest[0], rows[-1][0] + 1, LOADED_AT_ONCE):
                end = min(start + LOADED_AT_ONCE, rows[-1][0] + 1)
                for digest, at_ms in self._store.fetch(OLDER, [start, end]):
                    self._elsewhere.add(digest, at_ms)

    def prefetch(self, pairs: Iterable[tuple[int, str]]) -> None:
        """Bring keys of a coming batch into memory that only the database knows."""
        self._lookups = {pair: lookup_of(*pair) for pair in pairs if pair not in self._known}
        missing = self._elsewhere.held(self._lookups.values())
        for start in range(0, len(missing), LOOKUP_KEYS):
            part = missing[start : start + LOOKUP_KEYS]
            marks = ",".join(["%s"] * len(part))
            # Another key with the same digest may come along: it is what it is, under its own name.
            for scope, key, *rest in self._store.fetch(FIND % marks, part):
                self._known[scope, key] = _read_back(*rest)

    def find(self, scope: int, key: str, command: Command, at_ms: int) -> Outcome | None:
        """Return the answer a used key gives, or None for a new one."""
        known = self._known.get((scope, key))
        if known is None or known.at_ms + KEPT_MS <= at_ms:
            return None
        if known.command is not None:
            same = known.command == command and type(known.command) is type(command)
            differs = None if same else differing_field(content_of(known.command), command)
        else:
            differs = differing_field(known.content or content_of(self._order_at(known.first_seq)), command)
        if differs is not None:
            return Outcome((), conflict=differs)
        outcome = known.outcome
        if outcome is None:
            events = self._events_between(known.first_seq, known.entries) if known.entries else ()
            outcome = Outcome(events, refused_of(known.refused))
        return outcome._replace(repeated=True)

    def _order_at(self, seq: int) -> PlaceOrder:
        """Return the command of an accepted order; its row has everything a client sent."""
        event = self._events_between(seq, 1)[0]
        assert type(event) is OrderPlaced
        _, _, account, _, contract, side, price_e4, energy_wh, time_in_force, expires_at_ms = event
        return PlaceOrder(account, contract, side, price_e4, energy_wh, time_in_force, expires_at_ms)

    def remember(self, scope: int, key: str, command: Command, outcome: Outcome, at_ms: int) -> None:
        """Note a key's first use for the running batch."""
        events = outcome.events
        first_seq = events[0].seq if events else -1
        refused = "" if outcome.refused is None else refused_text(outcome.refused)
        content = "" if events and type(events[0]) is OrderPlaced else content_of(command)
        pair, entries = (scope, key), len(events)
        lookup = self._lookups.get(pair) or lookup_of(scope, key)
        self._rows.append((self._next, at_ms, lookup, scope, key, content, first_seq, entries, refused))
        self._next += 1
        self._known[pair] = _new(Known, (lookup, at_ms, command, "", outcome, first_seq, entries, refused))
        while len(self._known) > IN_MEMORY:
            oldest = self._known.popitem(last=False)[1]
            self._elsewhere.add(oldest.lookup, oldest.at_ms)

    def take(self, at_ms: int) -> tuple[list[tuple[Any, ...]], Sequence[Statement]]:
        """Return the rows to append and the statements that drop what is older than 48 h, for one transaction."""
        rows, self._rows = self._rows, []
        statements: list[Statement] = []
        if self._oldest is None and self._next:
            self._oldest = self._find_oldest() or ((rows[0][0], rows[0][1]) if rows else None)
        if self._oldest is not None and self._oldest[1] + KEPT_MS <= at_ms:
            bounds = [self._oldest[0] + FORGET_ROWS, at_ms - KEPT_MS]
            statements.append(("DELETE FROM exchange_idempotencykey WHERE n < %s AND at_ms <= %s", bounds))
            self._oldest = None
        return rows, statements

    def _find_oldest(self) -> tuple[int, int] | None:
        rows = self._store.fetch("SELECT n, at_ms FROM exchange_idempotencykey ORDER BY n LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else None
