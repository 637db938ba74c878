"""What a search looks for, as fields of a URL: strictly read, and written so that the same search is the same text.

Prices are decimal texts (currency per kWh), energies integer Wh, instants RFC 3339 texts; one without an offset is in
the zone the caller names, which is how a browser's own field for dates writes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple
from urllib.parse import urlencode

from market.engine.contracts import contract_start_ms
from market.exchange.units import at_text, parse_price, price_text

TRADES, ORDERS, ENTRIES = "trades", "orders", "entries"
KINDS = (TRADES, ORDERS, ENTRIES)
SIDES = ("buy", "sell")
ORDER_TYPES = ("limit", "iceberg", "sweep", "block", "basket")
TRADE_TYPES = ("standing", "recalled")
ENTRY_TYPES = (
    "order", "amend", "cancel", "trade", "recall", "settle", "adjust", "final", "contract", "halt", "fund", "account",
    "agreement", "readings", "area", "capacity", "fee", "tariff", "params", "rulebook", "key", "snapshot", "seal", "genesis",
)  # fmt: skip
TYPES = {TRADES: TRADE_TYPES, ORDERS: ORDER_TYPES, ENTRIES: ENTRY_TYPES}
MAX_AREA_CHARS = 64
MAX_INTEGER = 2**53 - 1
MAX_YEAR = 2200  # later instants do not fit everywhere
FIELDS = (
    "kind", "account", "area", "contract", "side", "type", "from", "until", "price_from", "price_to", "wh_from", "wh_to",
    "order", "trade", "block", "hash",
)  # fmt: skip

_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BadFilter(ValueError):
    """A field that cannot be what it says: ``field`` names it, ``code`` is unknown_field, invalid_value or out_of_range."""

    def __init__(self, field: str, code: str = "invalid_value"):
        super().__init__(f"{field}: {code}")
        self.field = field
        self.code = code


class Filter(NamedTuple):
    """What to look for; ``None`` and "" look for nothing. ``until_ms`` is excluded, all other ends are included."""

    kind: str = TRADES
    account: int | None = None
    area: str = ""
    contract: str = ""
    side: str = ""
    type: str = ""
    from_ms: int | None = None
    until_ms: int | None = None
    price_from_e4: int | None = None
    price_to_e4: int | None = None
    wh_from: int | None = None
    wh_to: int | None = None
    order: int | None = None
    trade: int | None = None
    block: int | None = None
    hash: str = ""


def parse(values: Mapping[str, str], *, zone: tzinfo = UTC) -> Filter:
    """Return the search that these fields describe, empty ones left out; raise ``BadFilter``."""
    for name in values:
        if name not in FIELDS:
            raise BadFilter(name[:64], "unknown_field")
    given = {name: text.strip() for name, text in values.items() if text.strip()}
    kind = _one_of(given, "kind", KINDS) or TRADES
    found = Filter(
        kind=kind,
        account=_number(given, "account"),
        area=_area(given),
        contract=_contract(given),
        side=_one_of(given, "side", SIDES),
        type=_one_of(given, "type", TYPES[kind]),
        from_ms=_instant(given, "from", zone),
        until_ms=_instant(given, "until", zone),
        price_from_e4=_price(given, "price_from"),
        price_to_e4=_price(given, "price_to"),
        wh_from=_number(given, "wh_from"),
        wh_to=_number(given, "wh_to"),
        order=_number(given, "order"),
        trade=_number(given, "trade"),
        block=_number(given, "block"),
        hash=_hash(given),
    )
    _check_ends(found)
    return found


def fields_of(wanted: Filter) -> dict[str, str]:
    """Return the fields that describe a search, in their order, those that look for nothing left out."""
    values: dict[str, Any] = {
        "kind": wanted.kind,
        "account": wanted.account,
        "area": wanted.area,
        "contract": wanted.contract,
        "side": wanted.side,
        "type": wanted.type,
        "from": None if wanted.from_ms is None else at_text(wanted.from_ms),
        "until": None if wanted.until_ms is None else at_text(wanted.until_ms),
        "price_from": None if wanted.price_from_e4 is None else price_text(wanted.price_from_e4),
        "price_to": None if wanted.price_to_e4 is None else price_text(wanted.price_to_e4),
        "wh_from": wanted.wh_from,
        "wh_to": wanted.wh_to,
        "order": wanted.order,
        "trade": wanted.trade,
        "block": wanted.block,
        "hash": wanted.hash,
    }
    return {name: str(value) for name, value in values.items() if value not in (None, "")}


def query_of(wanted: Filter) -> str:
    """Return a search as the query of a URL: equal searches give equal texts."""
    return urlencode(fields_of(wanted))


def _one_of(given: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    text = given.get(name, "")
    if text and text not in known:
        raise BadFilter(name)
    return text


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) > MAX_INTEGER:
        raise BadFilter(name, "out_of_range")
    return int(text)


def _price(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        return parse_price(text)
    except ValueError:
        raise BadFilter(name) from None


def _area(given: Mapping[str, str]) -> str:
    text = given.get("area", "")
    if len(text) > MAX_AREA_CHARS or not text.isascii() or not text.isprintable():  # no area has such a name
        raise BadFilter("area")
    return text


def _contract(given: Mapping[str, str]) -> str:
    text = given.get("contract", "")
    if text:
        try:
            contract_start_ms(text)
        except ValueError:
            raise BadFilter("contract") from None
    return text


def _instant(given: Mapping[str, str], name: str, zone: tzinfo) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        if not 1970 < moment.year < MAX_YEAR:
            raise ValueError(text)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadFilter(name) from None


def _hash(given: Mapping[str, str]) -> str:
    text = given.get("hash", "").lower()
    if text and not _HASH.fullmatch(text):
        raise BadFilter("hash")
    return text


def _check_ends(found: Filter) -> None:
    """No range may end before it begins: it would look for nothing and not say so."""
    for low, high, name in (
        (found.from_ms, found.until_ms, "until"),
        (found.price_from_e4, found.price_to_e4, "price_to"),
        (found.wh_from, found.wh_to, "wh_to"),
    ):
        if low is not None and high is not None and high < low:
            raise BadFilter(name, "out_of_range")
