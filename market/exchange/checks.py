"""What may enter the queue at all: the engine judges values, this module keeps wrong Python types away from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args, get_type_hints

from ledger.core.rows import rows_root
from market.engine import commands
from market.engine.commands import (
    MAX_LEGS,
    Adjust,
    AdjustRow,
    Command,
    CommitReadings,
    Leg,
    PlaceBasket,
    Settle,
    SettleRow,
    Share,
    ShareRow,
    SignedOrder,
)
from market.engine.signing import KINDS

MAX_KEY_LENGTH = 255  # characters of an idempotency key, the "#i" of a batch item included
MAX_TEXT_LENGTH = 1_000  # characters; the engine's own bounds are far below

_PLAIN: dict[type, tuple[type, ...]] = {
    kind: tuple(get_type_hints(kind).values())
    for kind in get_args(Command)
    if kind not in (Settle, Adjust, Share, PlaceBasket, SignedOrder)
}
_ROW = tuple(get_type_hints(SettleRow).values())
_LEG = tuple(get_type_hints(Leg).values())
_WITH_ROWS = (CommitReadings, Settle, Adjust, Share)
_HAS_TEXT = {kind for kind, types in _PLAIN.items() if str in types}


def check_command(command: Command, rows: Sequence[bytes] = ()) -> None:
    """Raise ``TypeError`` unless each field has just its declared type, ``ValueError`` when rows and root disagree."""
    kind = type(command)
    expected = _PLAIN.get(kind)
    if expected is not None:
        if tuple(map(type, command)) != expected:
            raise TypeError(f"{kind.__name__}: expected {_names(expected)}, was {_names(tuple(map(type, command)))}")
        if kind in _HAS_TEXT:
            _check_texts(kind, command)
    elif kind is PlaceBasket:
        _check_basket(command)
    elif kind is SignedOrder:
        _check_signed(command)
    elif kind is Settle:
        _check_settle(command)
    elif kind is Adjust:
        _check_adjust(command)
    elif kind is Share:
        _check_share(command)
    else:
        raise TypeError(f"expected a command of {commands.__name__}, was {kind.__name__}")
    if kind in _WITH_ROWS:
        count = command.count if kind is CommitReadings else len(command.rows)
        if len(rows) != count:
            raise ValueError(f"{kind.__name__}: expected {count} salted rows, was {len(rows)}")
        if rows_root(list(rows)).hex() != command.root:
            raise ValueError(f"{kind.__name__}: the rows do not have the root {command.root}")
    elif rows:
        raise ValueError(f"{kind.__name__} commits to no rows")


def _check_texts(kind: type, values: Iterable[object]) -> None:
    for value in values:
        if type(value) is str and len(value) > MAX_TEXT_LENGTH:
            raise ValueError(f"{kind.__name__}: expected at most {MAX_TEXT_LENGTH} characters in a text")


def _check_signed(command: SignedOrder) -> None:
    if (type(command.account), *map(type, command[2:])) != (int, str, str, str) or type(command.order) not in KINDS:
        raise TypeError("SignedOrder: expected an account, an order and three texts")
    _check_texts(SignedOrder, command[2:])
    check_command(command.order)


def _check_basket(command: PlaceBasket) -> None:
    if (type(command.account), type(command.legs)) != (int, tuple):
        raise TypeError("PlaceBasket: expected an account and a tuple of legs")
    if len(command.legs) > MAX_LEGS:
        raise ValueError(f"PlaceBasket: expected at most {MAX_LEGS} legs, was {len(command.legs)}")
    for leg in command.legs:
        if type(leg) is not Leg or tuple(map(type, leg)) != _LEG:
            raise TypeError(f"PlaceBasket: expected legs of {_names(_LEG)}, was {leg!r:.200}")
        _check_texts(PlaceBasket, leg)


def _check_settle(command: Settle) -> None:
    if (type(command.contract), type(command.area), type(command.rows), type(command.root)) != (str, str, tuple, str):
        raise TypeError("Settle: expected texts and a tuple of rows")
    for row in command.rows:
        if type(row) is not SettleRow or tuple(map(type, row)) != _ROW:
            raise TypeError(f"Settle: expected rows of {_names(_ROW)}, was {row!r:.200}")


def _check_adjust(command: Adjust) -> None:
    if tuple(map(type, command)) != (str, str, int, tuple, str):
        raise TypeError("Adjust: expected texts, an entry's number and a tuple of rows")
    for change in command.rows:
        if type(change) is not AdjustRow or any(
            type(row) is not SettleRow or tuple(map(type, row)) != _ROW for row in change
        ):
            raise TypeError(f"Adjust: expected pairs of rows of {_names(_ROW)}, was {change!r:.200}")


def _check_share(command: Share) -> None:
    if tuple(map(type, command)) != (str, int, tuple, str):
        raise TypeError("Share: expected texts, an entry's number and a tuple of rows")
    for row in command.rows:
        if type(row) is not ShareRow or any(type(value) is not int for value in row):
            raise TypeError(f"Share: expected rows of integers, was {row!r:.200}")


def check_key(key: str | None) -> None:
    """Raise ``ValueError`` unless the idempotency key is None or 1 to 255 visible ASCII characters."""
    if key is not None and not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise ValueError(f"expected an idempotency key of 1 to {MAX_KEY_LENGTH} printable ASCII characters")


def _names(types: tuple[type, ...]) -> str:
    return ", ".join(kind.__name__ for kind in types)
