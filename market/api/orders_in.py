"""From the bytes of a request to a command: strict decoding that names the field at fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import orjson
from django.utils.translation import gettext_lazy

from market.api.problems import Problem, shorten
from market.api.sentences import SENTENCES
from market.engine import signing
from market.engine.commands import GOOD_TILL_GATE, AmendOrder, PlaceIceberg, PlaceOrder, SignedOrder
from market.exchange import gateway
from market.exchange.units import PRICE_DIGITS, parse_at, parse_price
from market.grid import queries as grid
from market.households import signing as signatures

MAX_BATCH = 1_000
MAX_AT_MS = 253_402_300_799_999  # the last instant that has a name of four digits for its year
MAX_KEY_LENGTH = 64  # characters of an Idempotency-Key
CONTRACT_LENGTH = 17  # 2026-06-06T12:15Z
MAX_PRICE_CHARS = 24  # more digits than any price has
MAX_INTEGER = 2**53 - 1  # what a browser can hold; beyond it nothing inside is defined
LEGS = "legs["  # how the place of something within a basket's leg begins
_SIMPLE_PRICE = re.compile(r"([0-9]{1,7})\.([0-9]{4})", re.ASCII)


class OrderIn(msgspec.Struct, forbid_unknown_fields=True):
    """An order as a client sends it. Prices are texts: a JSON number would have passed through somebody's float."""

    contract: str
    side: str
    price: str
    energy_wh: int
    time_in_force: str = GOOD_TILL_GATE
    expires_at: Annotated[
        str | None,
        msgspec.Meta(description="only with gtd: an RFC 3339 instant in the future; at the gate the order ends anyway"),
    ] = None
    display_wh: Annotated[
        int | None,
        msgspec.Meta(
            description="iceberg: what the book shows at a time, from a hundredth of energy_wh to less than all"
        ),
    ] = None


class AmendIn(msgspec.Struct, forbid_unknown_fields=True):
    """A change of a resting order; what is absent stays."""

    price: str | None = None
    energy_wh: int | None = None


class BatchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Orders that are taken in this sequence; each gets an answer of its own."""

    orders: list[msgspec.Raw]


class _PlainBatch(msgspec.Struct, forbid_unknown_fields=True):
    """``BatchIn`` when all of its orders can be read: the usual case, decoded in one go."""

    orders: list[OrderIn]


_ORDER = msgspec.json.Decoder(OrderIn, strict=True)
_AMEND = msgspec.json.Decoder(AmendIn, strict=True)
_BATCH = msgspec.json.Decoder(BatchIn, strict=True)
_PLAIN_BATCH = msgspec.json.Decoder(_PlainBatch, strict=True)
_ORDERS = msgspec.json.Decoder(list[OrderIn], strict=True)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw], strict=True)

_UNKNOWN = re.compile(r"unknown field `(.*?)`", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`")
_PATH = re.compile(r" - at `\$\.?(.*?)`$")
_OUTSIDE = re.compile(r"^(Expected `.*?` (>=|<=|of length|matching)|Invalid enum value|Number out of range)")
_EXPECTED = re.compile(r"^Expected `(.*?)`(?:, got `(.*?)`)?")


_REQUIRED_QUOTES = 14  # of the four names and three texts that every order has; with a name more there are 16 or more


def _is_json(body: bytes | msgspec.Raw) -> bool:
    try:
        orjson.loads(bytes(body))
    except ValueError:
        return False
    return True


def problem_of(
    error: msgspec.MsgspecError | UnicodeDecodeError | RecursionError, body: bytes | msgspec.Raw = b"{}"
) -> Problem:
    """Return the problem for what the decoder did not accept.

    The decoder stops at the first thing that is wrong: whether the rest of ``body`` is JSON at all is asked first.
    """
    text = str(error)
    if not isinstance(error, msgspec.ValidationError) or not _is_json(body):
        return Problem(400, "malformed_json")
    place = _PATH.search(text)
    field = place.group(1) if place else ""
    inside = field + "." if field.startswith(LEGS) else ""
    if found := _UNKNOWN.search(text):
        name = shorten(found.group(1))
        return Problem(400, "unknown_field", inside + name, params={"name": name})
    if found := _MISSING.search(text):
        return Problem(400, "missing_field", inside + found.group(1))
    if field.endswith("price"):
        return Problem(400, "invalid_type", field, sentence=gettext_lazy(SENTENCES["invalid_price"][0]))
    if _OUTSIDE.search(text):
        return Problem(422, "invalid_value", field)
    if expected := _EXPECTED.search(text):
        return Problem(
            400, "invalid_type", field, params={"expected": expected.group(1), "was": expected.group(2) or "?"}
        )
    return Problem(400, "invalid_type", field)


def price_e4(text: str) -> int:
    """Return the price in 0.0001 currency per kWh; raise ``Problem`` naming ``price``."""
    simple = _SIMPLE_PRICE.fullmatch(text)
    if simple is not None:
        return int(simple[1]) * 10_000 + int(simple[2])
    try:
        return parse_price(text)
    except ValueError:
        pass
    # Why not? A number, but too fine or too large, is something else than no number at all.
    number = re.fullmatch(r"-?([0-9]+)(?:\.([0-9]+))?", text[:1000], re.ASCII)
    if number is None or len(text) > 1000:
        raise Problem(422, "invalid_price", "price")
    if len(number[2] or "") > PRICE_DIGITS:
        raise Problem(422, "price_off_tick", "price", params={"decimals": PRICE_DIGITS})
    raise Problem(422, "price_out_of_range", "price")


def energy_of(value: int) -> int:
    """Return an energy that a browser can hold; raise ``Problem`` naming ``energy_wh``."""
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise Problem(422, "energy_out_of_range", "energy_wh")
    return value


def expiry(text: str | None) -> int:
    """Return an order's expiry in ms, 0 for none; raise ``Problem`` naming ``expires_at``."""
    if text is None:
        return 0
    try:
        expires = parse_at(text)
    except (ValueError, OverflowError):
        raise Problem(422, "expiry_invalid", "expires_at") from None
    if not 0 < expires <= MAX_AT_MS:
        raise Problem(422, "expiry_invalid", "expires_at")
    return expires


def contract_named(text: str, field: str = "contract") -> str:
    """Return a text that may be a contract's name; raise ``Problem``."""
    if len(text) != CONTRACT_LENGTH or not text.isascii():
        raise Problem(422, "unknown_contract", field)
    return text


def side_of(text: str) -> str:
    """Return a side; raise ``Problem``."""
    if text != "buy" and text != "sell":
        raise Problem(422, "invalid_side", "side")
    return text


def force_of(text: str) -> str:
    """Return a text that may be a time in force; raise ``Problem``."""
    if len(text) != 3 or not text.isascii():
        raise Problem(422, "invalid_time_in_force", "time_in_force")
    return text


def place_order(order: OrderIn, account: int) -> PlaceOrder | PlaceIceberg:
    """Return the command for a decoded order; raise ``Problem``. What only the engine knows, the engine judges."""
    contract = order.contract
    if len(contract) != CONTRACT_LENGTH or not contract.isascii():
        raise Problem(422, "unknown_contract", "contract")
    expires = 0 if order.expires_at is None else expiry(order.expires_at)
    side = order.side
    if side != "buy" and side != "sell":
        raise Problem(422, "invalid_side", "side")
    tif = order.time_in_force
    if len(tif) != 3 or not tif.isascii():
        raise Problem(422, "invalid_time_in_force", "time_in_force")
    price, energy_wh = price_e4(order.price), energy_of(order.energy_wh)
    if order.display_wh is None:
        return PlaceOrder(account, contract, side, price, energy_wh, tif, expires)
    display_wh = order.display_wh
    if not -MAX_INTEGER <= display_wh <= MAX_INTEGER:
        raise Problem(422, "display_out_of_range", "display_wh")
    return PlaceIceberg(account, contract, side, price, energy_wh, tif, expires, display_wh)


def idempotency_key(text: str | None) -> str | None:
    """Return an Idempotency-Key header's value, None without one; raise ``Problem`` when it is malformed."""
    if text is None:
        return None
    if not (0 < len(text) <= MAX_KEY_LENGTH and text.isascii() and text.isprintable() and " " not in text):
        raise Problem(400, "invalid_idempotency_key", "Idempotency-Key")
    return text


def signed_order(order: signing.Order, signature: str, key: str | None) -> SignedOrder:
    """Return an order with the signature of its account's key, verified here, once; raise ``Problem``."""
    exchange = gateway.current()
    found = grid.rules(exchange)
    if key is not None and found is not None:
        known = signatures.signing_of(exchange, account=order.account, rules=found.rulebook_sha256)
        signed = signatures.sign_with(order, signature=signature, key=key, known=known)
        if signed is not None:
            return signed
    raise Problem(422, "signature_invalid", "Order-Signature")


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object; raise ``Problem`` when a name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = shorten(next(name for name in found if names.count(name) > 1))
        raise Problem(400, "malformed_json", name, params={"name": name})
    return found


_ORDER_NAMES = tuple(f'"{name}"'.encode() for name in OrderIn.__struct_fields__)
_AMEND_NAMES = tuple(f'"{name}"'.encode() for name in AmendIn.__struct_fields__)


def check_repeated(body: bytes, names: Iterable[bytes]) -> None:
    """Raise ``Problem`` when a name stands twice in a flat object: readers differ in which of the values counts.

    The thorough look is only for what cannot be cleared by counting: names that an escape may hide or a text contain.
    """
    if b"\\" in body or any(body.count(name) > 1 for name in names):
        json.loads(body, object_pairs_hook=unrepeated)


def decode_order(body: bytes) -> OrderIn:
    """Decode one order; raise ``Problem``."""
    try:
        order = _ORDER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, body) from None
    if body.count(b'"') != _REQUIRED_QUOTES:
        check_repeated(body, _ORDER_NAMES)
    return order


def decode_batch(body: bytes) -> list[OrderIn | Problem]:
    """Decode a batch: a list of orders, or an object with ``orders``. An order that cannot be read is its problem."""
    wrapped = body.lstrip(b" \t\r\n")[:1] == b"{"
    orders: list[OrderIn]
    try:
        try:
            orders = _PLAIN_BATCH.decode(body).orders if wrapped else _ORDERS.decode(body)
            if body.count(b'"') == _REQUIRED_QUOTES * len(orders) + 2 * wrapped:
                return _sized(orders)  # type: ignore[arg-type]
        except msgspec.ValidationError as error:
            if not _is_json(body):
                raise problem_of(error, body) from None
        raws = _BATCH.decode(body).orders if wrapped else _RAWS.decode(body)
        if wrapped and (b"\\" in body or body.count(b'"orders"') > 1):
            json.loads(body, object_pairs_hook=_check_wrapper)
        if len(raws) > MAX_BATCH:
            raise _size_problem()
        return _sized([_decode_item(raw) for raw in raws])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, body) from None


def _check_wrapper(pairs: list[tuple[str, Any]]) -> None:
    if [name for name, _ in pairs].count("orders") > 1:
        raise Problem(400, "malformed_json", "orders", params={"name": "orders"})


def _size_problem() -> Problem:
    return Problem(422, "batch_size", "orders", params={"limit": MAX_BATCH})


def _sized(items: list[OrderIn | Problem]) -> list[OrderIn | Problem]:
    if not 0 < len(items) <= MAX_BATCH:
        raise _size_problem()
    return items


def _decode_item(raw: msgspec.Raw) -> OrderIn | Problem:
    try:
        return decode_order(bytes(raw))
    except Problem as problem:
        return problem


def decode_amend(body: bytes, account: int, order: int) -> AmendOrder:
    """Decode a change of an order; raise ``Problem``."""
    try:
        change = _AMEND.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, body) from None
    check_repeated(body, _AMEND_NAMES)
    price = -1
    if change.price is not None:
        price = price_e4(change.price)
        if price < 0:  # -1 would mean "as it is"
            raise Problem(422, "price_out_of_range", "price")
    energy = -1
    if change.energy_wh is not None:
        energy = energy_of(change.energy_wh)
        if energy < 0:
            raise Problem(422, "energy_out_of_range", "energy_wh")
    if price == -1 and energy == -1:
        raise Problem(422, "nothing_to_change", "")
    return AmendOrder(account, order, price, energy)
