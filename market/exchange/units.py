"""Between the integers inside and the texts outside: prices, money, instants. No float, no rounding."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

PRICE_DIGITS = 4
MONEY_DIGITS = 7
MAX_INTEGER = 2**53 - 1  # a browser can hold it

_DECIMAL = re.compile(r"(-?)([0-9]{1,16})(?:\.([0-9]{1,7}))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(value: int, digits: int) -> str:
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), 10**digits)
    return f"{sign}{whole}.{rest:0{digits}d}"


def _parse(text: str, digits: int) -> int:
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a decimal number with at most {digits} decimals, was {text!r:.40}")
    sign, whole, rest = match.groups(default="")
    if len(rest) > digits:
        raise ValueError(f"expected at most {digits} decimals, was {text!r:.40}")
    value = int(whole) * 10**digits + int(rest.ljust(digits, "0"))
    if value > MAX_INTEGER:
        raise ValueError(f"expected at most {_text(MAX_INTEGER, digits)}, was {text!r:.40}")
    return -value if sign else value


def price_text(price_e4: int) -> str:
    """Return a price as decimal text: 2850 -> "0.2850" (currency per kWh)."""
    return _text(price_e4, PRICE_DIGITS)


def money_text(amount_e7: int) -> str:
    """Return an amount as decimal text: 4275000 -> "0.4275000" (currency)."""
    return _text(amount_e7, MONEY_DIGITS)


def parse_price(text: str) -> int:
    """Return ``price_e4`` of a decimal text; ``ValueError`` on anything else, more than 4 decimals included."""
    return _parse(text, PRICE_DIGITS)


def parse_money(text: str) -> int:
    """Return ``amount_e7`` of a decimal text; ``ValueError`` on anything else, more than 7 decimals included."""
    return _parse(text, MONEY_DIGITS)


def kwh_text(energy_wh: int) -> str:
    """Return an energy in kWh as decimal text: 1500 -> "1.500"."""
    return _text(energy_wh, 3)


def at_text(at_ms: int) -> str:
    """Return an instant as RFC 3339 UTC text with milliseconds: "2026-06-06T12:15:00.000Z"."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parse_at(text: str) -> int:
    """Return ``at_ms`` of an RFC 3339 text with an offset; ``ValueError`` on anything else."""
    if not isinstance(text, str) or len(text) > 40:
        raise ValueError("expected an instant such as 2026-06-06T12:15:00Z")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"expected an instant with an offset, was {text!r}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
