"""What the owner of an account signs: the exact order, whose it is, which request it came with, and under which rules."""

from __future__ import annotations

import json

from market.engine.commands import PlaceBasket, PlaceBlock, PlaceIceberg, PlaceOrder, PlaceSweep

DOMAIN = "sunledger/order/v1\n"  # a signature for one purpose never fits another
KEY_DOMAIN = "sunledger/key/v2\n"
LOST, OPERATOR = "lost_device", "market_operator"
RESETS = (LOST, OPERATOR)  # why a key is changed that has not signed for it; an audit names every such change

# The market answers the same request the same way for so long. In contracts that live longer the engine remembers nonces.
ONCE_MS = 48 * 3_600_000

Order = PlaceOrder | PlaceIceberg | PlaceSweep | PlaceBlock | PlaceBasket
KINDS: dict[type, str] = {
    PlaceOrder: "order",
    PlaceIceberg: "iceberg",
    PlaceSweep: "sweep",
    PlaceBlock: "block",
    PlaceBasket: "basket",
}


def first_contract(order: Order) -> object:
    """Return the contract whose gate is the first after which an order cannot be placed any more; anything if it has none."""
    if isinstance(order, PlaceBasket):
        return getattr(order.legs[0], "contract", None) if type(order.legs) is tuple and order.legs else None
    return order.contract


def text(order: Order, account_id: str, nonce: str, rules: str) -> bytes:
    """Return the bytes that are signed for an order of the account with this id (32 hex digits).

    The domain, and JCS of one object: ``account``, ``kind``, ``nonce`` (hex SHA-256 of the Idempotency-Key), ``rules`` (hex
    SHA-256 of the rulebook) and the order's fields in the ledger's integers; times in ms, 0 for none. Legs of a basket
    have ``account`` (an index) only where it is another one than the basket's.
    """
    values: dict[str, object] = {"account": account_id, "kind": KINDS[type(order)], "nonce": nonce, "rules": rules}
    if isinstance(order, PlaceBasket):
        legs = [leg._asdict() for leg in order.legs]
        for leg in legs:
            if leg["account"] == order.account:
                del leg["account"]
        values["legs"] = legs
    else:
        values |= {name: value for name, value in order._asdict().items() if name != "account"}
    return DOMAIN.encode() + _canonical(values)


def key_text(account_id: str, public_key: str, *, before: str, changes: int, origin: str, rules: str) -> bytes:
    """Return the bytes that a new key signs to show that its holder registers it, and the key before to let it go.

    The domain, and JCS of one object: ``account`` (id), ``origin`` (of the log), ``rules`` (hex SHA-256 of the rulebook),
    ``before`` and ``public_key`` (hex, "" for none), and ``changes``, how often the account's key was changed in this way
    before: so no signature fits a second time.
    """
    return KEY_DOMAIN.encode() + _canonical(
        {
            "account": account_id, "before": before, "changes": changes, "origin": origin, "public_key": public_key,
            "rules": rules,
        }
    )  # fmt: skip


def _canonical(values: dict[str, object]) -> bytes:
    # ASCII texts and integers only: sorted keys without spaces are JCS.
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
