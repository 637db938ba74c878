"""Replay: the commands a ledger tells of, applied again, must give the entries it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from market.engine.commands import MAX_LEGS, CancelOrder, PlaceOrder, SignedOrder
from market.engine.engine import Engine
from market.engine.entries import (
    COMMITS_TO_ROWS,
    DERIVED_CANCELS,
    EXPIRED,
    SIGNED_FIELDS,
    VERSION,
    legs_of,
    time_ms,
    to_command,
    to_leaf,
)
from market.engine.events import OrderCancelled, OrderPlaced, Refused, Traded
from market.engine.trading import MARKET_OPERATOR

# What the journal adds to a seal's fields beside the salt that every entry has; not the engine's to know.
SEAL_FIELDS = ("prev", "root_before", "state", "totals", "rules")
AT_ONCE = 64  # leaves of an iterable that are taken together: few enough to stay in the processor's cache

Fields = Mapping[str, Any]
Rows = Callable[[int], Iterable[bytes | Mapping[str, Any]]]

# Plain orders, trades and cancellations are nearly all of a ledger. Their fields are taken out of the entry in one go
# and compared with those of the event; an entry with a field more or less than these goes the long way.
_HEAD = ("v", "type", "at", "seq")
_ORDER = (*_HEAD, "account", "area", "contract", "side", "price_e4", "energy_wh", "time_in_force")
_TRADE = (*_HEAD, "contract", "maker", "taker", "energy_wh", "buy_e4", "sell_e4")
_CANCEL = (*_HEAD, "order", "remaining_wh", "reason")
_order_of, _trade_of, _cancel_of = itemgetter(*_ORDER), itemgetter(*_TRADE), itemgetter(*_CANCEL)
_ORDER_SIZE, _TRADE_SIZE, _CANCEL_SIZE = len(_ORDER), len(_TRADE), len(_CANCEL)
_OTHERS_CANCELS = DERIVED_CANCELS | {EXPIRED}  # those that no cancellation of a single order starts
_new = tuple.__new__  # a NamedTuple without the cost of its keyword constructor


class Divergence(Exception):
    """An entry does not follow from the rules."""

    def __init__(self, seq: int, expected: object, was: object):
        super().__init__(f"entry {seq}: expected {expected}, was {was}")
        self.seq = seq
        self.expected = expected
        self.was = was


def engine_part(leaf: Fields) -> dict[str, Any]:
    """Return the engine's part of an entry. Most entries have one field of the journal's, only a seal has all."""
    fields = dict(leaf)
    fields.pop("salt", None)
    if fields.get("type") == "seal":
        for name in SEAL_FIELDS:
            fields.pop(name, None)
    return fields


def _no_rows(seq: int) -> Iterable[bytes]:
    return ()


class Replayer:
    """Brings an engine forward over entries that come piece by piece. After a ``Divergence`` it is of no use.

    ``rows(seq)`` gives the committed rows of a ``settle`` or ``adjust`` entry; ``each`` sees every event; ``begin`` sees
    time and entry of the first command at each new time before it is applied, ``signed`` sees every signed order and its
    entry before it is; both may raise a ``Divergence`` of their own.
    """

    def __init__(
        self,
        engine: Engine,
        rows: Rows = _no_rows,
        each: Callable[[Any], None] | None = None,
        begin: Callable[[int, Fields], None] | None = None,
        signed: Callable[[SignedOrder, Fields], None] | None = None,
    ):
        self.engine = engine
        self._rows = rows
        self._each = each
        self._begin = begin
        self._signed = signed
        self._expected: list[Any] = []  # what the command under way has made happen
        self._position = 0  # how much of that has been seen
        self._legs: list[Fields] = []  # of a linked order, while others are still to come
        self._at = ""
        self._at_ms = 0

    @property
    def idle(self) -> bool:
        """Whether all entries of the last command have been seen."""
        return self._position >= len(self._expected) and not self._legs

    def take(self, leaves: Sequence[Fields]) -> None:
        """Go on over the next entries, decoded; raise ``Divergence`` at the first that does not follow."""
        expected, position = self._expected, self._position
        ahead = len(expected) - position
        at, at_ms = self._at, self._at_ms
        apply = self._apply if self._each is not None else self.engine.apply
        for leaf in leaves:
            if ahead:
                event = expected[position]
                kind = type(event)
                if kind is Traded:
                    good = _is_trade(event, leaf, at)
                elif kind is OrderCancelled:
                    good = _is_cancel(event, leaf, at)
                else:
                    good = False
                if not good or event[1] != at_ms:
                    _compare(event, leaf)
                position += 1
                ahead -= 1
                continue
            if self._legs:
                self._take_leg(leaf)
                expected, position = self._expected, self._position
                ahead = max(0, len(expected) - position)
                continue
            if leaf.get("at") != at:
                self._see_time(leaf)
                at, at_ms = self._at, self._at_ms
            if leaf.get("type") == "order" and len(leaf) - ("salt" in leaf) == _ORDER_SIZE:
                fields = _fields_of(leaf)
                if fields is not None:  # a plain order: written out here, for it is most of a ledger
                    try:
                        expected = apply(_new(PlaceOrder, (fields[4], *fields[6:], 0)), at_ms)
                    except TypeError as error:
                        self._blame(leaf, error)
                        raise
                    event = expected[0] if expected else None
                    if (
                        type(event) is not OrderPlaced
                        or (VERSION, "order", at, event[0]) + event[2:9] != fields
                        or event[1] != at_ms
                        or event[9]
                    ):
                        self._check_first(expected, leaf)
                    position = 1
                    ahead = len(expected) - 1
                    continue
            expected = self._start(leaf, at, at_ms)
            position = 1 if expected else 0  # none yet: it begins a linked order
            ahead = len(expected) - position
        self._expected, self._position = expected, position

    def end(self) -> None:
        """The log ends here: raise ``Divergence`` when entries of the last command are missing."""
        if self._legs:
            self._apply_legs()
        if self._position < len(self._expected):
            event = self._expected[self._position]
            raise Divergence(event[0], to_leaf(event), "the end of the log")

    # --- commands ----------------------------------------------------------------------------------------------------

    def _see_time(self, leaf: Fields) -> None:
        try:
            self._at_ms = time_ms(leaf["at"])
        except (KeyError, ValueError, TypeError) as error:
            raise self._unknown(leaf, error) from error
        self._at = leaf["at"]
        if self._begin is not None:
            self._begin(self._at_ms, leaf)

    def _start(self, leaf: Fields, at: str, at_ms: int) -> list[Any]:
        """Apply the command that an entry begins and return its events, the first of which was compared."""
        if leaf.get("type") == "cancel":
            reason = leaf.get("reason")
            if type(reason) is str and reason not in _OTHERS_CANCELS and "order" in leaf:
                command = _new(CancelOrder, (MARKET_OPERATOR, leaf["order"], reason))
                try:
                    events = self._apply(command, at_ms)
                except TypeError as error:
                    self._blame(leaf, error)
                    raise
                if not events or events[0][1] != at_ms or not _is_cancel(events[0], leaf, at):
                    self._check_first(events, leaf)
                return events
        return self._start_any(leaf)

    def _start_any(self, leaf: Fields) -> list[Any]:
        try:
            legs = min(legs_of(leaf), MAX_LEGS)
        except (KeyError, ValueError, TypeError):
            legs = 1  # an entry of unknown form is told of below
        if legs > 1:
            self._expected, self._position, self._legs = [], 0, [leaf]
            return []
        return self._apply_begun([leaf])

    def _take_leg(self, leaf: Fields) -> None:
        if leaf.get("type") != "order":
            raise Divergence(self.engine.seq + len(self._legs), "another leg of the order", engine_part(leaf))
        self._legs.append(leaf)
        if len(self._legs) >= min(legs_of(self._legs[0]), MAX_LEGS):
            self._apply_legs()

    def _apply_legs(self) -> None:
        begun, self._legs = self._legs, []
        self._expected = self._apply_begun(begun)
        self._position = len(begun)

    def _apply_begun(self, begun: list[Fields]) -> list[Any]:
        """Apply the command that these entries tell of, compare them with its first events and return them all."""
        seq, leaf = self.engine.seq, begun[0]
        try:
            command = to_command(leaf, self._rows(seq) if leaf["type"] in COMMITS_TO_ROWS else (), begun)
            at_ms = time_ms(leaf["at"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._unknown(leaf, error) from error
        if command is None:
            raise Divergence(seq, "an entry that starts something", engine_part(leaf))
        if self._signed is not None and type(command) is SignedOrder:
            self._signed(command, leaf)
        try:
            events = self._apply(command, at_ms)
        except TypeError as error:
            for was in begun:
                self._blame(was, error)
            raise
        self._check_first(events, leaf)
        for event, was in zip(events[1:], begun[1:], strict=False):
            _compare(event, was)
        if len(begun) > len(events):
            extra = begun[len(events)]
            raise Divergence(self.engine.seq, "an entry that starts something", engine_part(extra))
        return events

    def _apply(self, command: Any, at_ms: int) -> list[Any]:
        """Apply a command and show its events to who wants to see them."""
        events: list[Any] = self.engine.apply(command, at_ms)
        if self._each is not None and not (events and type(events[0]) is Refused):
            for event in events:
                self._each(event)
        return events

    def _check_first(self, events: list[Any], leaf: Fields) -> None:
        """Raise ``Divergence`` unless something happened, and the entry says what."""
        if not events or type(events[0]) is Refused:
            raise Divergence(self.engine.seq, events[0] if events else "nothing to happen", engine_part(leaf))
        _compare(events[0], leaf)

    def _blame(self, leaf: Fields, error: TypeError) -> None:
        """The engine has stumbled: raise ``Divergence`` when the entry holds what none can hold."""
        if not all(type(value) in (int, str) for value in leaf.values()):
            raise self._unknown(leaf, error) from error

    def _unknown(self, leaf: Fields, error: Exception) -> Divergence:
        return Divergence(self.engine.seq, f"an entry of known form ({error!r})", engine_part(leaf))


def _fields_of(leaf: Fields) -> tuple[Any, ...] | None:
    """Return the fields of a plain order, ``None`` when it is none."""
    try:
        fields: tuple[Any, ...] = _order_of(leaf)
    except KeyError:
        return None
    return fields


def _is_trade(event: Any, leaf: Fields, at: str) -> bool:
    """Return whether the entry says what the trade does; ``False`` on any doubt."""
    try:
        return bool(
            _trade_of(leaf) == (VERSION, "trade", at, event[0]) + event[2:8]
            and len(leaf) - ("salt" in leaf) == _TRADE_SIZE
        )
    except KeyError:
        return False


def _is_cancel(event: Any, leaf: Fields, at: str) -> bool:
    """Return whether the entry says what the cancellation does; ``False`` on any doubt."""
    try:
        return bool(
            _cancel_of(leaf) == (VERSION, "cancel", at, event[0], event[2]) + event[5:]
            and len(leaf) - ("salt" in leaf) == _CANCEL_SIZE
            and type(event) is OrderCancelled
        )
    except KeyError:
        return False


def _compare(event: Any, leaf: Fields) -> None:
    """Compare an event with an entry field by field; raise ``Divergence`` when one differs, lacks or is too many."""
    expected, was = to_leaf(event), engine_part(leaf)
    if "sig" in was and was.get("type") == "order" and was.get("leg", 1) == 1:
        # The order was applied as a signed one (``to_command``); its event does not know by which signature.
        for name in SIGNED_FIELDS:
            was.pop(name, None)
    if was != expected:
        raise Divergence(event[0], expected, was)


def replay(
    engine: Engine,
    leaves: Iterable[bytes | Mapping[str, Any]],
    rows: Rows = _no_rows,
    each: Callable[[Any], None] | None = None,
) -> None:
    """Bring an engine forward over the leaves from ``engine.seq`` on, and compare every event with its leaf.

    ``rows(seq)`` gives the committed rows of a ``settle`` or ``adjust`` entry; ``each`` sees every event. Raises
    ``Divergence`` at the first entry that does not follow; the engine is of no use then. A last command whose entries are
    cut off is a divergence too: batches are written whole.
    """
    replayer = Replayer(engine, rows, each)
    coming = iter(leaves)
    while taken := list(islice(coming, AT_ONCE)):
        replayer.take(
            [json.loads(leaf) if isinstance(leaf, bytes | bytearray | memoryview) else leaf for leaf in taken]
        )
    replayer.end()
